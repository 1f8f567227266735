// The files of the dashboard, as they are served.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Admin, startAdmin } from "../../../src/admin/admin.ts";
import { OPEN_ACCESS } from "../../../src/control/admin-access.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import { CLOSE_REASONS } from "../../../src/telemetry/close-reason.ts";
import { SimControl } from "../../support/sim-control.ts";

const FOLDER = join(import.meta.dir, "../../../src/admin/dashboard");

let admin: Admin;

beforeEach(async () => {
  const control = new SimControl();
  const address = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  admin = await startAdmin({
    access: OPEN_ACCESS,
    address,
    control,
    runtime,
    onDefect: (thrown) => console.error(thrown),
  });
});
afterEach(() => admin.close());

function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  const { port } = admin.address as { port: number };
  return fetch(`http://127.0.0.1:${port}${path}`, { headers: { "Accept-Encoding": "identity", ...headers } });
}

/** All that the page loads, and what that loads. */
async function loaded(): Promise<readonly string[]> {
  const found = new Set<string>();
  const open = ["/"];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    const text = await (await get(path)).text();
    const named = [...text.matchAll(/(?:href|src)="(\/assets\/[^"]+)"/g), ...text.matchAll(/from "\.\/([^"]+)"/g)];
    for (const [, name = ""] of named) {
      const asset = name.startsWith("/") ? name : `/assets/${name}`;
      if (!found.has(asset)) open.push(asset);
      found.add(asset);
    }
  }
  return [...found];
}

describe("the dashboard", () => {
  test("is a page that may load what comes from here only", async () => {
    const answer = await get("/");
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    const policy = answer.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
    expect(policy).not.toContain("unsafe");
    const page = await answer.text();
    expect(page).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=|https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
  });

  test("has every file that it names, in less than 150 KB with what it asks for at first", async () => {
    const names = await loaded();
    expect(names.length).toBeGreaterThan(15);
    let bytes = 0;
    for (const path of ["/", ...names]) {
      const answer = await get(path, { "Accept-Encoding": "gzip" });
      expect([path, answer.status]).toEqual([path, 200]);
      bytes += Number(answer.headers.get("content-length"));
    }
    expect(bytes).toBeGreaterThan(20_000);
    expect(bytes).toBeLessThan(100_000);
    const served = new Set(names.map((name) => name.slice("/assets/".length)));
    const unused = readdirSync(FOLDER).filter((name) => /\.(js|css)$/.test(name) && !served.has(name));
    expect(unused).toEqual([]);
  });

  test("is compressed for whoever takes that only, and not sent again to whoever has it", async () => {
    const plain = await get("/assets/main.js");
    expect(plain.headers.get("content-encoding")).toBe(null);
    expect(await plain.text()).toBe(readFileSync(join(FOLDER, "main.js"), "utf8"));
    const packed = await get("/assets/main.js", { "Accept-Encoding": "gzip, br" });
    expect(await packed.text()).toBe(readFileSync(join(FOLDER, "main.js"), "utf8"));
    const tag = plain.headers.get("etag") ?? "";
    const again = await get("/assets/main.js", { "If-None-Match": tag });
    expect([again.status, await again.text()]).toEqual([304, ""]);
  });

  test("has the meanings of the close reasons from their table", async () => {
    const answer = await get("/assets/close-reasons.json");
    expect(await answer.json()).toEqual(CLOSE_REASONS);
  });

  test("serves no other file", async () => {
    for (const name of [
      "tsconfig.json",
      "index.html",
      "..%2Fapp.ts",
      "..%2f..%2fmain.ts",
      "none.js",
      "constructor",
      "%00.js",
    ])
      expect([name, (await get(`/assets/${name}`)).status]).toEqual([name, 404]);
  });

  test("makes nothing from markup and keeps its files short", () => {
    for (const name of readdirSync(FOLDER).filter((each) => each.endsWith(".js"))) {
      const text = readFileSync(join(FOLDER, name), "utf8");
      expect([name, text.startsWith("// ")]).toEqual([name, true]);
      expect([name, text.match(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|DOMParser/)]).toEqual([
        name,
        null,
      ]);
      expect([name, text.split("\n").length <= 300]).toEqual([name, true]);
    }
  });
});
