import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { randomBytes, X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { type CertificateDetails, readCertificateDetails } from "../../../src/protocol/certificate-details.ts";
import { pemBytes } from "../../../src/protocol/pem.ts";
import { type RevocationList, readRevocationList } from "../../../src/protocol/revocation-list.ts";
import { createRevocationList } from "../../../src/tls-tools/tls-tools.ts";
import { ascii, type Bytes, element, octets, sequence } from "../../support/certificate-bytes.ts";
import { testPki } from "../../support/certificates.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

const pki = await testPki();
const THIS_UPDATE = element(0x17, ascii("260101000000Z"));
const NEXT_UPDATE = element(0x17, ascii("270101000000Z"));
const TRUE = element(0x01, [0xff]);
const ALGORITHM = sequence(element(0x06, [0x2b, 0x65, 0x70]));

describe("lists of the test authority", () => {
  test("hold the one that was revoked, and are about its issuer", () => {
    const list = read(derOf(pki.revocationList.pem));
    const revoked = detailsOf(pki.revoked.certificatePem);
    const client = detailsOf(pki.client.certificatePem);
    expect(list.isRevoked(revoked.serial)).toBe(true);
    expect(list.isRevoked(client.serial)).toBe(false);
    expect(list.issuer).toBe(revoked.issuer);
    expect(list.issuer).not.toBe(detailsOf(pki.viaIntermediate.certificatePem).issuer);
    expect(list.authorityKeyId).toBe(detailsOf(pki.authority.certificatePem).subjectKeyId);
    expect(list).toMatchObject({ revokedCount: 1, problem: "" });
    // It was made when the suite began.
    expect(Math.abs(list.nextUpdateMs - Date.now() - 86_400_000)).toBeLessThan(3_600_000);
    expect(list.thisUpdateMs).toBeLessThan(Date.now());
  });

  test("one without entries", () => {
    const list = read(derOf(pki.intermediateRevocationList.pem));
    expect(list).toMatchObject({ revokedCount: 0, problem: "" });
    expect(list.issuer).toBe(detailsOf(pki.viaIntermediate.certificatePem).issuer);
  });

  test("serials as certificates have them, whatever their first bit", async () => {
    const serials = ["01", "7f", "80", "ff00", "0102030405060708090a0b0c0d0e0f1011121314"];
    const pem = await createRevocationList(pki.authority, { revokedSerials: serials, nextUpdate: new Date(4e12) });
    const list = read(derOf(pem));
    for (const serial of serials) expect(list.isRevoked(serial)).toBe(true);
    for (const other of ["", "1", "0", "00", "0080", "-80", "81"]) expect(list.isRevoked(other)).toBe(false);
    // Past 2050 the time is a GeneralizedTime.
    expect(list.nextUpdateMs).toBe(4e12);
  });
});

describe("lists of openssl", () => {
  test("say what openssl prints of them", () => {
    const directory = temporaryDirectory("bunnel-crl-");
    const config = join(directory, "ca.cnf");
    const index = ["01", "0BAD", "DEADBEEF"].map(
      (serial) => `R\t300101000000Z\t250101000000Z\t${serial}\tunknown\t/CN=x`,
    );
    writeFileSync(join(directory, "index.txt"), `${index.join("\n")}\n`);
    writeFileSync(join(directory, "number"), "0A\n");
    writeFileSync(
      config,
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${directory}/index.txt\ncrlnumber=${directory}/number\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always,issuer:always\n`,
    );
    const { certificatePath, keyPath } = pki.authority;
    const pem = execFileSync(
      "openssl",
      ["ca", "-gencrl", "-config", config, "-cert", certificatePath, "-keyfile", keyPath, "-crldays", "7"],
      { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
    );
    const list = read(derOf(pem));
    const printed = execFileSync("openssl", ["crl", "-noout", "-lastupdate", "-nextupdate"], {
      input: pem,
      encoding: "utf8",
    });
    expect(list.thisUpdateMs).toBe(Date.parse(/lastUpdate=(.*)/.exec(printed)?.[1] ?? ""));
    expect(list.nextUpdateMs).toBe(Date.parse(/nextUpdate=(.*)/.exec(printed)?.[1] ?? ""));
    expect(list.authorityKeyId).toBe(detailsOf(pki.authority.certificatePem).subjectKeyId);
    expect(["01", "0bad", "deadbeef", "02"].map((serial) => list.isRevoked(serial))).toEqual([true, true, true, false]);
    expect(list).toMatchObject({ revokedCount: 3, problem: "", issuer: detailsOf(pki.client.certificatePem).issuer });
  });
});

describe("lists made by hand", () => {
  test("the first version, without end and entries", () => {
    expect(read(crl({ version: [], nextUpdate: [] }))).toMatchObject({
      ...{ issuer: "3000", authorityKeyId: "", revokedCount: 0, problem: "", thisUpdateMs: Date.UTC(2026, 0) },
      nextUpdateMs: Number.POSITIVE_INFINITY,
    });
  });

  test("entries with extensions, without, and twice", () => {
    const reason = sequence(sequence(element(0x06, [0x55, 0x1d, 0x15]), octets(element(0x0a, [1]))));
    const list = read(crl({ entries: [entry([1], reason), entry([2]), entry([2])] }));
    expect(list.revokedCount).toBe(2);
    expect([list.isRevoked("01"), list.isRevoked("02"), list.isRevoked("03")]).toEqual([true, true, false]);
  });

  test("an empty list of entries", () => {
    expect(read(crl({ entries: [] })).revokedCount).toBe(0);
  });

  test.each([
    ["is a delta list, which tells changes only", extension([0x55, 0x1d, 0x1b], element(0x02, [1]), true)],
    ["is an indirect list, of more issuers than its own", scope(element(0x84, [0xff]))],
    ["is about some reasons only", scope(element(0x83, [1, 0x40]))],
    ["is about certificates of users only", scope(element(0x81, [0xff]))],
    ["is about certificates of authorities only", scope(element(0x82, [0xff]))],
    ["is about attribute certificates only", scope(element(0x85, [0xff]))],
    ["", scope(element(0xa0, element(0xa0, element(0x86, ascii("http://a"))), []))],
    ["has a scope that is not known", scope(element(0x86, [0xff]))],
    ["", scope(element(0x84, [0]))],
    ["", scope()],
    ["has a critical extension that is not known", extension([0x2a, 3, 4], [], true)],
    ["", extension([0x2a, 3, 4], [])],
    ["", extension([0x55, 0x1d, 0x14], element(0x02, [1]), true)],
  ])("%j", (problem, one) => {
    expect(read(crl({ extensions: [one] })).problem).toBe(problem);
  });

  test.each([
    ["", [0x55, 0x1d, 0x15], element(0x0a, [1]), true],
    ["", [0x2a, 3, 4], [], false],
    ["has an entry with a critical extension that is not known", [0x2a, 3, 4], [], true],
    // The issuer of the certificate: that of an indirect list that does not say that it is one.
    ["has an entry with a critical extension that is not known", [0x55, 0x1d, 0x1d], sequence(), true],
  ] as const)("%j of an entry", (problem, id, content, isCritical) => {
    const list = read(crl({ entries: [entry([1], sequence(extension(id, content, isCritical))), entry([2])] }));
    expect([list.problem, list.isRevoked("01"), list.isRevoked("02")]).toEqual([problem, true, true]);
  });

  test.each([
    ["an unknown version", crl({ version: element(0x02, [2]) })],
    ["extensions in the first version", crl({ version: [], extensions: [scope()] })],
    ["a serial that is padded", crl({ entries: [entry([0, 1])] })],
    ["an empty serial", crl({ entries: [entry([])] })],
    ["an entry without date", crl({ entries: [sequence(element(0x02, [1]))] })],
    ["an entry with more in it", crl({ entries: [entry([1], sequence(), sequence())] })],
    ["a date that is none", crl({ nextUpdate: element(0x17, ascii("261301000000Z")) })],
    ["a scope that is no list", crl({ extensions: [extension([0x55, 0x1d, 0x1c], TRUE)] })],
    ["a certificate", new Uint8Array(new X509Certificate(pki.client.certificatePem).raw)],
  ])("%s is malformed", (_, der) => {
    expect(readRevocationList(der)).toBeNull();
  });
});

test("100,000 entries are read in a moment", () => {
  const serials = Array.from({ length: 100_000 }, () => Uint8Array.of(0x40, ...randomBytes(15)));
  const der = crl({ entries: serials.map((serial) => entry(serial)) });
  const started = performance.now();
  const list = read(der);
  const took = performance.now() - started;
  expect(list.revokedCount).toBe(100_000);
  expect(serials.every((serial) => list.isRevoked(serial.toHex()))).toBe(true);
  expect(list.isRevoked("41".repeat(16))).toBe(false);
  // Some 100 ms on an idle core.
  expect(took).toBeLessThan(2000);
});

describe("anything a file may hold", () => {
  const original = derOf(pki.revocationList.pem);

  test("prefixes, longer ones, random bytes", () => {
    for (let length = 0; length < original.length; length++)
      expect(readRevocationList(original.subarray(0, length))).toBeNull();
    expect(readRevocationList(Uint8Array.of(...original, 0))).toBeNull();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(readRevocationList(bytes)).toBeNull();
      }),
    );
  });

  test("edited lists never throw", () => {
    const edit = fc.record({
      at: fc.nat(original.length - 1),
      remove: fc.constantFrom(0, 1, 1, 1, 2, 5),
      insert: fc.uint8Array({ maxLength: 3 }),
    });
    let read = 0;
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let der = original;
        for (const { at, remove, insert } of edits)
          der = Uint8Array.of(...der.subarray(0, at), ...insert, ...der.subarray(at + remove));
        const list = readRevocationList(der);
        if (list === null) return;
        read++;
        expect(list.isRevoked("none")).toBe(false);
        expect(list.nextUpdateMs).not.toBeNaN();
      }),
      { numRuns: 3000 },
    );
    expect(read).toBeGreaterThan(50);
  });
});

interface Fields {
  readonly version?: Bytes;
  readonly nextUpdate?: Bytes;
  readonly entries?: readonly Uint8Array[];
  readonly extensions?: readonly Uint8Array[];
}

/** A list of version 2 that nobody signed, whose issuer has an empty name. */
function crl({ version = element(0x02, [1]), nextUpdate = NEXT_UPDATE, entries, extensions }: Fields): Uint8Array {
  const signed = sequence(
    ...[version, ALGORITHM, sequence(), THIS_UPDATE, nextUpdate],
    entries === undefined ? [] : element(0x30, ...[Buffer.concat(entries)]),
    extensions === undefined ? [] : element(0xa0, sequence(...extensions)),
  );
  return sequence(signed, ALGORITHM, element(0x03, new Uint8Array(65)));
}

function entry(serial: Bytes, ...rest: Uint8Array[]): Uint8Array {
  return sequence(element(0x02, serial), THIS_UPDATE, ...rest);
}

function extension(id: Bytes, content: Bytes, isCritical = false): Uint8Array {
  return sequence(element(0x06, id), isCritical ? TRUE : [], octets(content));
}

function scope(...fields: Bytes[]): Uint8Array {
  return extension([0x55, 0x1d, 0x1c], sequence(...fields), true);
}

function read(der: Uint8Array): RevocationList {
  const list = readRevocationList(der);
  if (list === null) throw new Error(`malformed: ${der.subarray(0, 500).toHex()}`);
  return list;
}

function derOf(pem: string): Uint8Array {
  return pemBytes(pem) ?? new Uint8Array(0);
}

function detailsOf(pem: string): CertificateDetails {
  const details = readCertificateDetails(new Uint8Array(new X509Certificate(pem).raw));
  if (details === null) throw new Error("malformed certificate");
  return details;
}
