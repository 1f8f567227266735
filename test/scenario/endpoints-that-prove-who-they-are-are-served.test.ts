// Endpoints that prove who they are, by any of the ways that a config can ask for, are served over TLS: they are shown our certificate, asked for by
// the right name or none, and told apart by nothing else. Whom we do not serve stands in endpoints-must-prove-who-they-are.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { type EndpointCertificates, endpointCertificates } from "../support/endpoint-certificates.ts";
import { eventually } from "../support/eventually.ts";
import { originationConfig } from "../support/origination-config.ts";
import { missingPrograms } from "../support/programs.ts";
import { connectTo } from "../support/tcp.ts";
import { startTlsEndpoint, type TlsEndpoint, type TlsEndpointOptions } from "../support/tls-endpoint.ts";

const SPIFFE = "spiffe://bunnel.test/endpoint";
const missing = missingPrograms("openssl");

let pki: TestPki;
let made: EndpointCertificates;

beforeAll(async () => {
  if (missing !== "") return;
  pki = await testPki();
  made = await endpointCertificates();
});

interface Good {
  readonly name: string;
  readonly shown: () => KeyPair | Promise<KeyPair>;
  readonly tls?: string;
  readonly endpoint?: TlsEndpointOptions | (() => TlsEndpointOptions);
  /** What the endpoint must have seen beside our certificate. */
  readonly sees?: { readonly sni?: string; readonly alpn?: string; readonly version?: string };
  /** `localhost:PORT` instead of the endpoint's address. */
  readonly byName?: boolean;
}

const GOOD: readonly Good[] = [
  { name: "host-of-the-address", shown: () => made.issue(), byName: true, sees: { sni: "localhost" } },
  {
    name: "server-name",
    shown: () => made.issue({ dns: ["db.test"] }),
    tls: "server_name: db.test",
    sees: { sni: "db.test" },
  },
  {
    name: "server-name-in-capitals",
    shown: () => made.issue({ dns: ["db.test"] }),
    tls: "server_name: DB.Test",
    sees: { sni: "db.test" },
  },
  {
    name: "wildcard",
    shown: () => made.issue({ dns: ["*.db.test"] }),
    tls: "server_name: a.db.test",
    sees: { sni: "a.db.test" },
  },
  { name: "address", shown: () => made.issue({ dns: [], ip: ["127.0.0.1"] }), sees: { sni: "" } },
  {
    name: "address-6",
    shown: () => made.issue({ dns: [], ip: ["::1"] }),
    endpoint: { host: "::1" },
    sees: { sni: "" },
  },
  {
    name: "address-as-server-name",
    shown: () => made.issue({ dns: [], ip: ["192.0.2.7"] }),
    tls: "server_name: 192.0.2.7",
    sees: { sni: "" },
  },
  { name: "verify-dns", shown: () => made.issue({ dns: ["one.db.test"] }), tls: 'verify: { dns: ["*.db.test"] }' },
  {
    name: "verify-uri",
    shown: () => made.issue({ dns: [], uri: SPIFFE }),
    tls: 'verify: { uri: ["spiffe://bunnel.test/**"] }',
  },
  {
    name: "verify-uri-by-another-sni",
    shown: () => made.issue({ dns: [], uri: SPIFFE }),
    tls: `server_name: db.test, verify: { uri: ["${SPIFFE}"] }`,
    sees: { sni: "db.test" },
  },
  {
    name: "verify-both",
    shown: () => made.issue({ dns: ["db.test"], uri: SPIFFE }),
    tls: `verify: { dns: [db.test], uri: ["${SPIFFE}"] }`,
  },
  {
    name: "unix-socket-by-server-name",
    shown: () => made.issue({ dns: ["db.test"] }),
    tls: "server_name: db.test",
    endpoint: () => ({ path: `${made.directory}/name.sock` }),
    sees: { sni: "db.test" },
  },
  {
    name: "unix-socket-by-uri",
    shown: () => made.issue({ dns: [], uri: SPIFFE }),
    tls: `verify: { uri: ["${SPIFFE}"] }`,
    endpoint: () => ({ path: `${made.directory}/uri.sock` }),
    sees: { sni: "" },
  },
  {
    name: "alpn",
    shown: () => made.issue(),
    tls: "server_name: localhost, alpn: [postgresql, h2]",
    endpoint: { alpn: ["h2"] },
    sees: { alpn: "h2" },
  },
  {
    name: "tls-1-2",
    shown: () => made.issue(),
    tls: 'server_name: localhost, min_version: "1.2"',
    endpoint: { version: "TLSv1.2" },
    sees: { version: "TLSv1.2" },
  },
  {
    name: "tls-1-3-where-1-2-would-do",
    shown: () => made.issue(),
    tls: 'server_name: localhost, min_version: "1.2"',
    sees: { version: "TLSv1.3" },
  },
  { name: "clean-crl", shown: () => made.issue(), tls: "server_name: localhost, crl: [CRL]" },
];

describe.skipIf(missing !== "")(`a good endpoint ${missing}`.trim(), () => {
  const endpoints = new Map<string, TlsEndpoint>();
  let daemon: Daemon;

  beforeAll(async () => {
    const rows = [];
    for (const { name, shown, tls = "", endpoint: options = {}, byName } of GOOD) {
      const endpoint = await startTlsEndpoint(await shown(), {
        clientCa: pki.authority.certificatePem,
        ...(typeof options === "function" ? options() : options),
      });
      endpoints.set(name, endpoint);
      const address = byName === true ? `localhost:${endpoint.port}` : endpoint.address;
      rows.push({ name, endpoints: [address], tls: tls.replace("CRL", made.crlPath) });
    }
    daemon = await startDaemon(originationConfig(pki, rows));
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    for (const endpoint of endpoints.values()) await endpoint[Symbol.asyncDispose]();
  });

  for (const { name, sees = {} } of GOOD) {
    test(name.replaceAll("-", " "), async () => {
      const endpoint = endpoints.get(name) as TlsEndpoint;
      const client = await connectTo(await daemon.address(name));
      client.socket.write("question");
      const session = await endpoint.session(0);
      await eventually("it arrived", () => session.text === "question");
      const { shown, sni, alpn, version } = session;
      const defaults = { sni, alpn: "", version: "TLSv1.3" };
      expect({ shown, sni, alpn, version }).toEqual({ shown: "client", ...defaults, ...sees });
      session.socket.end("answer");
      await eventually("the answer came, and the end", () => client.text === "answer" && client.ended);
      client.socket.end();
      const record = await daemon.record(({ listener }) => listener === name);
      expect([record.close_reason, record.attempts]).toEqual(["completed", 1]);
    });
  }
});
