import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { readCertificate } from "../../../src/protocol/certificate.ts";
import {
  type CertificateDetails,
  EXTENDED_KEY_USAGE,
  readCertificateDetails,
} from "../../../src/protocol/certificate-details.ts";
import {
  ascii,
  attribute,
  type Bytes,
  COMMON_NAME,
  certificate,
  element,
  octets,
  opensslCertificate,
  sequence,
  UTF8,
} from "../../support/certificate-bytes.ts";
import { testPki } from "../../support/certificates.ts";

const pki = await testPki();
const ISSUED = Object.entries(pki).flatMap(([name, made]) =>
  typeof made === "object" && "certificatePath" in made ? [[name, derOf(made.certificatePem)] as const] : [],
);

const SUBJECT_KEY_ID = [0x55, 0x1d, 0x0e];
const KEY_USAGE = [0x55, 0x1d, 0x0f];
const BASIC_CONSTRAINTS = [0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID = [0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGES = [0x55, 0x1d, 0x25];
const TRUE = element(0x01, [0xff]);

describe("issued certificates", () => {
  test.each(ISSUED)("%s: names as ever, and what the platform and openssl say", (_, der) => {
    const details = read(der);
    expect(details).toMatchObject(readCertificate(der) ?? {});
    const platform = new X509Certificate(der);
    expect(details.isCa).toBe(platform.ca);
    expect(Buffer.from(details.spki).equals(platform.publicKey.export({ type: "spki", format: "der" }))).toBe(true);
    const printed = opensslText(der);
    expect(details.authorityKeyId).toBe(keyId(printed, "Authority"));
    expect(details.subjectKeyId).toBe(keyId(printed, "Subject"));
    expect(details.keyUsage?.digitalSignature).toBe(printed.includes("Digital Signature"));
    expect(details.keyUsage?.keyCertSign).toBe(printed.includes("Certificate Sign"));
    expect(details.keyUsage?.crlSign).toBe(printed.includes("CRL Sign"));
    expect(details.extendedKeyUsages.includes(EXTENDED_KEY_USAGE.SERVER_AUTH)).toBe(
      printed.includes("TLS Web Server Authentication"),
    );
    expect(details.extendedKeyUsages.includes(EXTENDED_KEY_USAGE.CLIENT_AUTH)).toBe(
      printed.includes("TLS Web Client Authentication"),
    );
    expect(details).toMatchObject({ signatureAlgorithm: "ecdsa-with-SHA256", keyAlgorithm: "EC256" });
  });

  test("the issuer of one is the subject of another, byte for byte", () => {
    const root = read(derOf(pki.authority.certificatePem));
    const middle = read(derOf(pki.intermediate.certificatePem));
    const leaf = read(derOf(pki.viaIntermediate.certificatePem));
    expect(root.issuer).toBe(root.subjectDer);
    expect(middle.issuer).toBe(root.subjectDer);
    expect(leaf.issuer).toBe(middle.subjectDer);
    expect(leaf.authorityKeyId).toBe(middle.subjectKeyId);
    expect(read(derOf(pki.otherAuthority.certificatePem)).subjectDer).not.toBe(root.subjectDer);
  });

  test("the issuer is its DER, whole", () => {
    const der = opensslCertificate({ subject: ["CN=web"] });
    expect(read(der).issuer).toBe("300e310c300a06035504030c03776562");
    expect(read(der).subjectDer).toBe("300e310c300a06035504030c03776562");
  });

  test("the public key is a copy", () => {
    const der = derOf(pki.client.certificatePem);
    const { spki } = read(der);
    const before = spki.toHex();
    der.fill(0);
    expect(spki.toHex()).toBe(before);
    expect(spki.buffer.byteLength).toBe(spki.length);
  });
});

describe("algorithms", () => {
  test.each([
    ["rsa:1024", "sha256", "RSA1024", "RSA-SHA256"],
    ["rsa:2048", "sha384", "RSA2048", "RSA-SHA384"],
    ["rsa:2050", "sha512", "RSA2050", "RSA-SHA512"],
    ["ed25519", "", "ED25519", "ED25519"],
    ["ed448", "", "ED448", "ED448"],
    ["ec:P-256", "sha256", "EC256", "ecdsa-with-SHA256"],
    ["ec:P-384", "sha384", "EC384", "ecdsa-with-SHA384"],
    ["ec:P-521", "sha512", "EC521", "ecdsa-with-SHA512"],
    ["ec:secp256k1", "sha256", "EC256", "ecdsa-with-SHA256"],
    ["ec:brainpoolP384r1", "sha384", "EC384", "ecdsa-with-SHA384"],
  ])("%s signing with %s", (key, digest, keyAlgorithm, signatureAlgorithm) => {
    const [kind = "", curve] = key.split(":");
    const options = curve === undefined || kind === "rsa" ? [key] : ["ec", "-pkeyopt", `ec_paramgen_curve:${curve}`];
    expect(read(selfSigned([...options, ...(digest === "" ? [] : [`-${digest}`])]))).toMatchObject({
      keyAlgorithm,
      signatureAlgorithm,
    });
  });

  test("RSA-PSS, in the signature and in the key", () => {
    const der = selfSigned(["rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-sigopt", "rsa_padding_mode:pss"]);
    expect(read(der)).toMatchObject({ keyAlgorithm: "RSA2048", signatureAlgorithm: "RSASSA-PSS" });
  });

  test("one that nobody here knows is its number", () => {
    const der = certificate({});
    const other = Buffer.from(der.toHex().replaceAll("06032b6570", "06032b6579"), "hex");
    expect(read(other)).toMatchObject({ keyAlgorithm: "1.3.101.121", signatureAlgorithm: "1.3.101.121" });
  });
});

describe("extensions", () => {
  test("without any", () => {
    for (const der of [certificate({}), certificate({ version: [] })])
      expect(read(der)).toMatchObject({
        ...{ isCa: false, keyUsage: null, extendedKeyUsages: [], authorityKeyId: "", subjectKeyId: "" },
      });
  });

  test.each([
    ["an authority", sequence(TRUE), true],
    ["an authority of limited depth", sequence(TRUE, element(0x02, [0])), true],
    ["no authority", sequence(), false],
    ["no authority, written out", sequence(element(0x01, [0])), false],
    ["an authority in BER", sequence(element(0x01, [1])), true],
  ])("%s", (_, content, isCa) => {
    expect(readWith(extension(BASIC_CONSTRAINTS, content))?.isCa).toBe(isCa);
    expect(readWith(extension(BASIC_CONSTRAINTS, content, true))?.isCa).toBe(isCa);
  });

  test.each([
    [0x80, [true, false, false]],
    [0x04, [false, true, false]],
    [0x02, [false, false, true]],
    [0x06, [false, true, true]],
    [0x79, [false, false, false]],
  ])("key usage 0x%x", (bits, [digitalSignature = false, keyCertSign = false, crlSign = false]) => {
    const usage = extension(KEY_USAGE, element(0x03, [0, bits]));
    expect(readWith(usage)?.keyUsage).toEqual({ digitalSignature, keyCertSign, crlSign });
  });

  test("extended key usages, an unknown one too", () => {
    const list = [
      [0x2b, 6, 1, 5, 5, 7, 3, 1],
      [0x2a, 3, 4],
    ].map((id) => element(0x06, id));
    expect(readWith(extension(EXTENDED_KEY_USAGES, sequence(...list)))?.extendedKeyUsages).toEqual([
      EXTENDED_KEY_USAGE.SERVER_AUTH,
      "1.2.3.4",
    ]);
  });

  test("an authority key identifier without key", () => {
    const issuer = element(0xa1, element(0xa4, sequence()));
    const serial = element(0x82, [1]);
    expect(readWith(extension(AUTHORITY_KEY_ID, sequence(issuer, serial)))?.authorityKeyId).toBe("");
    expect(readWith(extension(AUTHORITY_KEY_ID, sequence(element(0x80, [0xab]), issuer, serial)))?.authorityKeyId).toBe(
      "ab",
    );
  });

  test.each([
    ["basicConstraints that are no list", extension(BASIC_CONSTRAINTS, TRUE)],
    ["basicConstraints with more in them", extension(BASIC_CONSTRAINTS, sequence(TRUE, TRUE))],
    ["something after basicConstraints", extension(BASIC_CONSTRAINTS, [...sequence(), 0])],
    ["a boolean of no bytes", extension(BASIC_CONSTRAINTS, sequence(element(0x01)))],
    ["an empty key usage", extension(KEY_USAGE, element(0x03, [0]))],
    ["a key usage of another type", extension(KEY_USAGE, octets([0x80]))],
    ["no extended key usage at all", extension(EXTENDED_KEY_USAGES, sequence())],
    ["an extended key usage that is no identifier", extension(EXTENDED_KEY_USAGES, sequence(element(0x06, [0x80])))],
    ["a subject key identifier that is no string", extension(SUBJECT_KEY_ID, TRUE)],
    ["nothing in an authority key identifier", extension(AUTHORITY_KEY_ID)],
  ])("%s is malformed", (_, one) => {
    expect(readCertificate(certificate({ extensions: [one] }))).not.toBeNull();
    expect(readWith(one)).toBeNull();
  });

  test("an extension that is there twice is malformed, since readers differ in which they believe", () => {
    const leaf = extension(BASIC_CONSTRAINTS, sequence());
    const authority = extension(BASIC_CONSTRAINTS, sequence(TRUE));
    expect(readWith(leaf, authority)).toBeNull();
    expect(readWith(leaf)).not.toBeNull();
  });
});

describe("anything a peer may send", () => {
  test("random bytes and prefixes never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(readCertificateDetails(bytes)).toBeNull();
      }),
    );
    const der = derOf(pki.client.certificatePem);
    for (let length = 0; length < der.length; length++)
      expect(readCertificateDetails(der.subarray(0, length))).toBeNull();
  });

  const edit = fc.record({
    at: fc.nat(),
    remove: fc.constantFrom(0, 1, 1, 1, 2, 5),
    insert: fc.uint8Array({ maxLength: 3 }),
  });

  test("edited certificates never throw, and are authorities only if the platform says so", () => {
    let both = 0;
    fc.assert(
      fc.property(fc.nat(ISSUED.length - 1), fc.array(edit, { minLength: 1, maxLength: 3 }), (which, edits) => {
        let der = ISSUED[which]?.[1] ?? new Uint8Array(0);
        for (const { at, remove, insert } of edits) {
          const start = at % der.length;
          der = Uint8Array.of(...der.subarray(0, start), ...insert, ...der.subarray(start + remove));
        }
        const details = readCertificateDetails(der);
        if (details === null) return;
        const isCa = platformIsCa(der);
        if (isCa === null) return;
        both++;
        expect(details.isCa || !isCa).toBe(true);
      }),
      { numRuns: 3000 },
    );
    expect(both).toBeGreaterThan(100);
  });
});

function read(der: Uint8Array): CertificateDetails {
  const details = readCertificateDetails(der);
  if (details === null) throw new Error(`malformed: ${der.toHex()}`);
  return details;
}

function readWith(...extensions: Uint8Array[]): CertificateDetails | null {
  const subject = [attribute(COMMON_NAME, UTF8, ascii("web"))];
  return readCertificateDetails(certificate({ subject, extensions }));
}

function extension(id: Bytes, content: Bytes = [], isCritical = false): Uint8Array {
  return sequence(element(0x06, id), isCritical ? TRUE : [], octets(content));
}

function derOf(pem: string): Uint8Array {
  return new Uint8Array(new X509Certificate(pem).raw);
}

/** Null when the platform cannot read it, or finds an extension in it broken. */
function platformIsCa(der: Uint8Array): boolean | null {
  try {
    return new X509Certificate(der).ca;
  } catch {
    return null;
  }
}

function opensslText(der: Uint8Array): string {
  return execFileSync("openssl", ["x509", "-inform", "DER", "-noout", "-text"], { input: der, encoding: "utf8" });
}

function keyId(printed: string, whose: "Authority" | "Subject"): string {
  const id = new RegExp(`X509v3 ${whose} Key Identifier:\\s*([0-9A-F:]+)`).exec(printed)?.[1] ?? "";
  return id.replaceAll(":", "").toLowerCase();
}

/** A self-signed certificate; the options say which key (`-newkey`) and digest. */
function selfSigned(options: readonly string[]): Uint8Array {
  const [key = "", ...rest] = options;
  const command = ["req", "-x509", "-batch", "-subj", "/CN=web", "-nodes", "-keyout", "/dev/null", "-outform", "DER"];
  return new Uint8Array(
    execFileSync("openssl", [...command, "-newkey", key, ...rest], { stdio: ["ignore", "pipe", "ignore"] }),
  );
}
