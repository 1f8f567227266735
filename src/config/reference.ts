// config/reference.md: every field of the config on one page, generated from the schema, so that it cannot lag
// behind. `npm run reference` writes it and a test says when that was forgotten.

import { configJsonSchema } from "./schema.ts";

/** A field as the page shows it. */
export interface FieldEntry {
  /** `listeners[].tls.min_version`, `backends.NAME.balance`. */
  readonly path: string;
  readonly description: string;
  /** What may be written: values, a kind, a range. */
  readonly allowed: string;
  /** As YAML; "required" where there is none, "" where leaving the field out has its own meaning. */
  readonly defaultText: string;
  /** A map or a list of maps, whose fields have entries of their own. */
  readonly isSection: boolean;
}

/** The little of JSON Schema that the config's uses. */
interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly allowed?: string;
  readonly kind?: string;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node;
  readonly additionalProperties?: Node | false;
  readonly anyOf?: readonly Node[];
}

/** Every field, parents before children, in the order of the schema. */
export function fieldEntries(): FieldEntry[] {
  const entries: FieldEntry[] = [];
  // zod's type leaves every keyword open; what configSchema makes of them is the subset above.
  collect(configJsonSchema() as Node, "", entries);
  return entries;
}

/** The page, as Markdown. */
export function referencePage(): string {
  const entries = fieldEntries();
  const sections = ["", ...entries.filter((entry) => entry.isSection).map((entry) => entry.path)];
  const parts = sections.map((section) => {
    const own = entries.find((entry) => entry.path === section);
    const fields = entries.filter((entry) => parentOf(entry.path) === section);
    const rows = fields.map((entry) => {
      const cells = [`\`${leafOf(entry.path)}\``, allowedCell(entry), defaultCell(entry), entry.description];
      return `| ${cells.map(escapeCell).join(" | ")} |`;
    });
    const head = own === undefined ? [] : [`## \`${section}\``, "", own.description, ""];
    return [...head, "| field | allowed | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
  });
  return `${INTRODUCTION}\n${parts.join("\n\n")}\n`;
}

const INTRODUCTION = `# Configuration reference

<!-- Generated from src/config/schema.ts by \`npm run reference\`. Do not edit. -->

One YAML 1.2 file. \`bunnel check -c FILE\` says everything that is wrong with it, with line and column; \`bunnel schema\` prints a JSON
Schema for editors.

- Durations are numbers with a unit: \`250ms\` \`10s\` \`5m\` \`24h\` \`7d\`.
- Unknown fields are errors. So are fields that would have no effect.
- \`\${NAME}\` in a value is replaced by that environment variable, which must be set; \`$\${\` stands for \`\${\`. Without quotes the result is
  read as if it had been written there (\`max_connections: \${LIMIT}\` is a number); in quotes it stays text.
- File paths are relative to the config file.
- A listener with \`backend: NAME\` and no \`routes\` passes everything on as opaque bytes.
- A route with \`tls: terminate\` takes the listener's \`tls\`; fields in the route's own \`terminate\` replace those of the listener as a whole.
- Plaintext to or from another host must be allowed by \`allow_plaintext\`: on the listener for \`tls: none\`, on the backend for
  \`tls: none\` and \`tls: terminate\`. \`tls: passthrough\` carries TLS and needs neither.
- Opaque routes (\`tls: none\`) can share a port with the others. Put one before the routes that need a ClientHello, with a \`match.source\`, and
  its bytes are not waited for; put one after them, and it takes what is no TLS, or TLS that no route before it matches. A protocol in which
  the server speaks first then has to wait for \`peek_timeout\`: give such a protocol a listener of its own.
`;

function collect(node: Node, path: string, entries: FieldEntry[]): void {
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const required = node.required?.includes(key) === true;
    add(child, path === "" ? key : `${path}.${key}`, { required, entries });
  }
}

function add(node: Node, path: string, { required, entries }: { required: boolean; entries: FieldEntry[] }): void {
  const list = node.type === "array" ? node.items : undefined;
  const named = typeof node.additionalProperties === "object" ? node.additionalProperties : undefined;
  const inner = list?.anyOf?.find((option) => option.properties !== undefined) ?? list ?? named ?? node;
  const isSection = inner.properties !== undefined;
  const suffix = list === undefined ? (named === undefined ? "" : ".NAME") : "[]";
  const description = [node.description, inner === node ? undefined : inner.description].filter(Boolean).join(" ");
  entries.push({
    path: isSection ? path + suffix : path,
    description,
    allowed: allowedOf(node),
    defaultText: node.default === undefined ? (required ? "required" : "") : yamlOf(node.default),
    isSection,
  });
  if (isSection) collect(inner, path + suffix, entries);
}

function allowedOf(node: Node): string {
  if (node.allowed !== undefined) return node.allowed;
  if (node.const !== undefined) return String(node.const);
  if (node.enum !== undefined) return node.enum.map((value) => yamlOf(value)).join(", ");
  if (node.type === "boolean") return "true, false";
  if (node.anyOf !== undefined) return node.anyOf.map(allowedOf).join(", or ");
  if (node.type === "array") return `list of: ${node.items === undefined ? "values" : allowedOf(node.items)}`;
  if (node.type === "object") return node.properties === undefined ? "a map by name" : "fields below";
  return "a name";
}

function yamlOf(value: unknown): string {
  if (typeof value === "string") return /^[\d.]+$/.test(value) ? `"${value}"` : value;
  return JSON.stringify(value);
}

function allowedCell(entry: FieldEntry): string {
  if (!entry.isSection) return entry.allowed;
  const name = entry.path.replace(/[^A-Za-z]+/g, "-").toLowerCase();
  const shape = entry.path.endsWith("[]") ? "list of maps" : entry.path.endsWith(".NAME") ? "maps by name" : "map";
  return `${shape}, [below](#${name.replace(/^-|-$/g, "")})`;
}

function defaultCell(entry: FieldEntry): string {
  return entry.isSection && entry.defaultText === "{}" ? "" : entry.defaultText;
}

function parentOf(path: string): string {
  const own = path.replace(/(\[\]|\.NAME)$/, "");
  const dot = own.lastIndexOf(".");
  return dot < 0 ? "" : own.slice(0, dot);
}

function leafOf(path: string): string {
  return path.slice(parentOf(path).length).replace(/^\./, "");
}

function escapeCell(text: string): string {
  return text.replaceAll("|", "\\|");
}
