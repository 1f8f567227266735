// What is told of certificates that end: by who uses them, once each, and not a whole bundle of the world's authorities.

import { expect, test } from "bun:test";
import { loadConfig } from "../../../src/config/load.ts";
import type { Expiring } from "../../../src/control/findings.ts";
import { servedCertificates } from "../../../src/control/served-certificates.ts";

const loaded = loadConfig(
  `listeners:
  - { name: edge, address: "127.0.0.1:1", backend: db }
  - { name: other, address: "127.0.0.1:2", backend: db }
backends: { db: { endpoints: ["127.0.0.1:3"] } }`,
  { file: "f.yaml", environment: {} },
);
if (!loaded.ok) throw new Error("the config is good");
const { config } = loaded;

function expiring(overrides: Partial<Expiring>): Expiring {
  const validity = { notBeforeMs: 0, notAfterMs: 1000 };
  return {
    what: "a certificate",
    role: "certificate",
    file: "a.pem",
    subject: "CN=a",
    names: [],
    ...validity,
    ...overrides,
  };
}

test("each user has its own, and one that it names twice is one", () => {
  const a = expiring({ names: ["a.test"] });
  const found = [
    { section: "listeners", entry: 1, expiring: a },
    { section: "listeners", entry: 1, expiring: a },
    { section: "listeners", entry: 0, expiring: a },
    { section: "backends", entry: "db", expiring: expiring({ role: "intermediate", subject: "CN=i" }) },
  ];
  const certificates = servedCertificates(found, config);
  expect(certificates.map(({ usedBy, role, subject }) => [usedBy, role, subject])).toEqual([
    ["listener other", "certificate", "CN=a"],
    ["listener edge", "certificate", "CN=a"],
    ["backend db", "intermediate", "CN=i"],
  ]);
  expect(certificates[0]).toMatchObject({ file: "a.pem", names: ["a.test"], notAfterMs: 1000 });
});

test("of authorities of one name in one file, the one that lasts longest counts, and ten are told: those that end first", () => {
  const authorities = Array.from({ length: 30 }, (_, index) => [
    expiring({ role: "authority", subject: `CN=${index}`, notAfterMs: 5000 - index }),
    expiring({ role: "authority", subject: `CN=${index}`, notAfterMs: 10 }),
  ]).flat();
  const list = expiring({ role: "revocation_list", what: "a revocation list", notAfterMs: 7 });
  const found = [...authorities, expiring({ notAfterMs: 90_000 }), list].map((each) => ({
    ...{ section: "listeners", entry: 0, expiring: each },
  }));
  const told = servedCertificates(found, config).map(({ role, notAfterMs }) => [role, notAfterMs]);
  expect<unknown>(told).toEqual([
    ["certificate", 90_000],
    ["revocation_list", 7],
    ...Array.from({ length: 9 }, (_, index) => ["authority", 4971 + index]),
  ]);
});
