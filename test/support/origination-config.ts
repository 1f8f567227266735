// A config with nothing in it but TLS towards endpoints: what most scenarios of origination need.

import type { TestPki } from "./certificates.ts";

/** A plain listener on a port of its own, and a backend of the same name. */
export interface OriginationRow {
  readonly name: string;
  readonly endpoints: readonly string[];
  /** Fields of `backends.NAME.tls` beside our certificate and the authority: YAML in flow style. */
  readonly tls: string;
  /** Fields of `backends.NAME`: the same, with a comma after each. */
  readonly more?: string;
}

/** The text of the config. We show the certificate of `client`, and `authority` vouches for endpoints. */
export function originationConfig(
  { client, authority }: Pick<TestPki, "client" | "authority">,
  rows: readonly OriginationRow[],
): string {
  const own = `cert: ${client.certificatePath}, key: ${client.keyPath}, ca: [${authority.certificatePath}]`;
  const listeners = rows.map(({ name }) => `  - { name: ${name}, address: 127.0.0.1:0, backend: ${name} }\n`);
  const backends = rows.map(
    ({ name, endpoints, tls, more = "" }) =>
      `  ${name}: { ${more}endpoints: ${JSON.stringify(endpoints)}, tls: { ${own}${tls === "" ? "" : `, ${tls}`} } }\n`,
  );
  return `listeners:\n${listeners.join("")}backends:\n${backends.join("")}`;
}
