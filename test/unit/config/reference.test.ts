// The schema documents itself: this fails for a field that says nothing, and for a reference page that was not written anew.

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { fieldEntries, referencePage } from "../../../src/config/reference.ts";
import { configJsonSchema } from "../../../src/config/schema.ts";

const root = join(import.meta.dir, "../../..");

test("config/reference.md is what `npm run reference` writes", () => {
  expect(readFileSync(join(root, "config/reference.md"), "utf8").trimEnd()).toBe(referencePage().trimEnd());
});

describe("every field", () => {
  const written = writtenFields();
  for (const { path, description, allowed } of fieldEntries()) {
    test(path, () => {
      expect(description).not.toBe("");
      expect(allowed).not.toBe("");
      // In an example or a golden config.
      expect(written).toContain(path);
    });
  }
});

test("the JSON Schema refuses unknown fields and holds no word of its own making that a reader would stumble on", () => {
  const schema = configJsonSchema();
  expect(schema.additionalProperties).toBe(false);
  expect(schema.required).toEqual(["listeners", "backends"]);
  expect(JSON.stringify(schema)).not.toContain('"later"');
});

function writtenFields(): Set<string> {
  const fields = new Set<string>();
  for (const directory of ["config", "test/golden/config"]) {
    for (const name of readdirSync(join(root, directory)).filter((file) => file.endsWith(".yaml"))) {
      const isGood =
        directory === "config" || readdirSync(join(root, directory)).includes(name.replace(".yaml", ".snapshot.json"));
      if (isGood) collect(parse(readFileSync(join(root, directory, name), "utf8")), "", fields);
    }
  }
  return fields;
}

function collect(value: unknown, path: string, fields: Set<string>): void {
  if (Array.isArray(value)) {
    for (const entry of value) {
      if (typeof entry === "object") fields.add(`${path}[]`);
      collect(entry, `${path}[]`, fields);
    }
  } else if (typeof value === "object" && value !== null) {
    for (const [key, child] of Object.entries(value)) {
      const named = path === "policies" || path === "backends";
      const below = named ? `${path}.NAME` : path === "" ? key : `${path}.${key}`;
      fields.add(below);
      collect(child, below, fields);
    }
  }
}
