import { describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { type CertificateNames, readCertificate } from "../../../src/protocol/certificate.ts";
import {
  ascii,
  attribute,
  type Bytes,
  COMMON_NAME,
  certificate,
  element,
  latin1,
  ORGANIZATION,
  octets,
  opensslCertificate,
  SAN_ID,
  san,
  sequence,
  UNIT,
  UTF8,
  uri,
  utf8,
  withSan,
  withSubject,
  withSubjectSets,
} from "../../support/certificate-bytes.ts";
import { ODD_NAMES, testPki } from "../../support/certificates.ts";

const pki = await testPki();
const ISSUED = Object.entries(pki).flatMap(([name, made]) =>
  typeof made === "object" && "certificatePath" in made ? [[name, derOf(made.certificatePem)] as const] : [],
);

describe("issued certificates", () => {
  test("there are some", () => {
    expect(ISSUED.length).toBeGreaterThan(15);
  });

  test.each(ISSUED)("%s: what the platform's reader says too", (_, der) => {
    const names = read(der);
    expectSameAsPlatform(names, der);
    const alternatives = [...names.dnsNames, ...names.uris, ...names.ips];
    if (names.suspicious === "") expect(alternatives.toSorted()).toEqual(platformAlternatives(der).toSorted());
  });

  test("a client", () => {
    const names = read(derOf(pki.client.certificatePem));
    expect(names).toMatchObject({ subject: "CN=client", commonNames: ["client"], organizationalUnits: [] });
    expect(names).toMatchObject({ uris: ["spiffe://bunnel.test/client"], dnsNames: [], ips: [], suspicious: "" });
  });

  test("a server without subject", () => {
    const names = read(derOf(pki.server.certificatePem));
    expect(names).toMatchObject({ subject: "", commonNames: [], uris: [], suspicious: "" });
    expect(names).toMatchObject({ dnsNames: ["localhost"], ips: ["127.0.0.1", "::1"] });
  });

  test("odd names come whole, and are suspicious", () => {
    const names = read(derOf(pki.oddNames.certificatePem));
    expect(names.uris).toEqual(ODD_NAMES);
    expect(names.suspicious).toBe("a URI name holds a control character");
  });

  test("commas and quotes alone are nothing to suspect", () => {
    const text = "spiffe://bunnel.test/odd, URI:spiffe://bunnel.test/client";
    expect(read(withSan(uri(text)))).toMatchObject({ uris: [text], suspicious: "" });
  });

  test("every prefix is malformed, and so is any byte after the end", () => {
    for (const [, der] of ISSUED) {
      for (let length = 0; length < der.length; length++) expect(readCertificate(der.subarray(0, length))).toBeNull();
      expect(readCertificate(Uint8Array.of(...der, 0))).toBeNull();
    }
  });

  test("a view into a larger buffer is read by its own bounds", () => {
    const der = derOf(pki.client.certificatePem);
    const buffer = new Uint8Array(der.length + 20).fill(0x30);
    buffer.set(der, 10);
    expect(readCertificate(buffer.subarray(10, 10 + der.length))).toEqual(readCertificate(der));
  });
});

describe("certificates from openssl", () => {
  test("several common names and units, in the order of the certificate; the subject most specific first", () => {
    const names = readAsOpensslDoes(
      opensslCertificate({ subject: ["O=Acme, Inc", "OU=eng", "OU=web team", "CN=one", "CN=two"] }),
    );
    expect(names.commonNames).toEqual(["one", "two"]);
    expect(names.organizationalUnits).toEqual(["eng", "web team"]);
    expect(names.subject).toBe("CN=two,CN=one,OU=web team,OU=eng,O=Acme\\, Inc");
    expect(names.suspicious).toBe("");
  });

  test("two attributes in one set", () => {
    const names = read(opensslCertificate({ subject: ["O=Acme", "CN=web", "+OU=eng"] }));
    expect(names).toMatchObject({
      subject: "CN=web+OU=eng,O=Acme",
      commonNames: ["web"],
      organizationalUnits: ["eng"],
    });
  });

  // The masks are the B_ASN1_… constants of openssl/asn1.h.
  test.each([
    ["UTF8String", "0x2000", 0x0c, "Zoë 東京 🐰"],
    ["BMPString", "0x0800", 0x1e, "Zoë 東京"],
    ["TeletexString", "0x0004", 0x14, "Zoë"],
    ["PrintableString", "0x0002", 0x13, "Zoe"],
  ])("a common name as %s", (_, mask, tag, text) => {
    const der = opensslCertificate({ subject: [`CN=${text}`], mask });
    expect(hasBytes(der, [0x55, 0x04, 0x03, tag])).toBe(true);
    expect(read(der)).toMatchObject({ commonNames: [text], suspicious: "", subject: `CN=${text}` });
  });

  test("dates from 2050 on are GeneralizedTime", () => {
    const der = opensslCertificate({ subject: ["CN=long"], days: 20_000 });
    expect(hasBytes(der, [0x18, 0x0f, 0x32, 0x30])).toBe(true);
    const names = readAsOpensslDoes(der);
    expect(names.notAfterMs - names.notBeforeMs).toBe(20_000 * 86_400_000);
  });

  test("alternative names of all types", () => {
    const all =
      "DNS:WWW.Acme.Test,DNS:*.acme.test,URI:spiffe://Acme/Web,IP:10.0.0.1,IP:2001:db8::1,IP:::ffff:10.0.0.2," +
      "email:a@acme.test,RID:1.2.3.4,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:user@acme,dirName:dn";
    const names = readAsOpensslDoes(
      opensslCertificate({ subject: ["CN=all"], extensions: [`subjectAltName=critical,${all}`] }),
    );
    expect(names).toMatchObject({ dnsNames: ["www.acme.test", "*.acme.test"], uris: ["spiffe://Acme/Web"] });
    expect(names).toMatchObject({ ips: ["10.0.0.1", "2001:db8::1", "::ffff:a00:2"], suspicious: "" });
  });

  test.each([
    ["a newline", "spiffe://acme/web\nURI:spiffe://acme/admin", "a URI name holds a control character"],
    ["a NUL", "spiffe://acme/admin\0.evil", "a URI name holds a NUL"],
    ["a comma", "spiffe://acme/web, URI:spiffe://acme/admin", ""],
  ])("%s in an alternative name", (_, text, suspicious) => {
    const der = opensslCertificate({
      subject: ["CN=web"],
      extensions: [`subjectAltName=DER:${sequence(uri(text)).toHex()}`],
    });
    expect(readAsOpensslDoes(der)).toMatchObject({ uris: [text], suspicious });
  });

  test("the first version, without extensions", () => {
    const der = opensslCertificate({ subject: ["CN=first"], extensions: [] });
    expect(hasBytes(der, [0xa0, 0x03, 0x02, 0x01])).toBe(false);
    expect(readAsOpensslDoes(der)).toMatchObject({ commonNames: ["first"], uris: [], suspicious: "" });
  });

  test("a subject with what there usually is, under RSA", () => {
    const subject = [
      "C=DE",
      "ST=Berlin",
      "L=Berlin",
      "O=Acme",
      "serialNumber=42",
      "CN=rsa",
      "emailAddress=a@acme.test",
    ];
    const extensions = [
      "basicConstraints=critical,CA:FALSE",
      "keyUsage=critical,digitalSignature",
      "subjectAltName=DNS:rsa",
    ];
    const names = readAsOpensslDoes(opensslCertificate({ subject, extensions, key: "rsa:2048" }));
    expect(names.subject).toBe("emailAddress=a@acme.test,CN=rsa,serialNumber=42,O=Acme,L=Berlin,ST=Berlin,C=DE");
    expect(names.dnsNames).toEqual(["rsa"]);
  });

  test("subjects that need escapes, as openssl escapes them", () => {
    for (const text of ["# 1", "1 # 2 ", " a", 'a"b+c;d<e>f', "a\\\\b", "a=b", "a\\nb", "a,b", "Zoë"])
      readAsOpensslDoes(opensslCertificate({ subject: [`O="${text.replaceAll('"', '\\"')}"`, "CN=web"] }));
  });
});

describe("subjects", () => {
  test.each([
    ["plain", "plain"],
    ["a@b-c.d:e/f_g*h", "a@b-c.d:e/f_g*h"],
    ["", ""],
    [" ", "\\ "],
    ["  ", "\\ \\ "],
    ["#a#", "\\#a#"],
    ["a ", "a\\ "],
    ["a,b+c", "a\\,b\\+c"],
    ["a\nb\0", "a\\0ab\\00"],
    // A right-to-left override, and a zero-width space.
    ["a\u202eb\u200b", "a\\e2\\80\\aeb\\e2\\80\\8b"],
    ["a\u2028b", "a\\e2\\80\\a8b"],
    ["\ufeffa", "\\ef\\bb\\bfa"],
    ["東京 🐰", "東京 🐰"],
  ])("%j is written %s", (text, written) => {
    expect(read(withSubject(attribute(ORGANIZATION, UTF8, utf8(text)))).subject).toBe(`O=${written}`);
  });

  test("no text of a peer makes a second line or a second attribute", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const { subject, commonNames } = read(withSubject(attribute(COMMON_NAME, UTF8, utf8(text))));
        expect(subject).not.toMatch(/\p{Cc}|\p{Zl}|\p{Zp}/u);
        expect(unescapeValue(subject.slice("CN=".length))).toBe(text);
        expect(subject.replace(/\\./g, "")).not.toMatch(/[,+;"<>]/);
        expect(commonNames).toEqual([text]);
      }),
    );
  });

  test.each([
    ["an unknown type", [0x2a, 0x03, 0x04], utf8("x"), "1.2.3.4=#0c0178"],
    ["a type of the second root with a large arc", [0x69, 0x84, 0x80, 0x00], utf8("x"), "2.25.65536=#0c0178"],
    ["a type of the first root", [0x09, 0x01], utf8("x"), "0.9.1=#0c0178"],
  ])("%s is written in numbers, its value in hexadecimal", (_, type, value, written) => {
    expect(read(withSubject(attribute(type, UTF8, value))).subject).toBe(written);
  });

  test("a value that is no text is written in hexadecimal", () => {
    expect(read(withSubject(attribute(ORGANIZATION, 0x02, [0x05]))).subject).toBe("O=#020105");
    const long = new Uint8Array(200).fill(0xff);
    expect(read(withSubject(attribute(ORGANIZATION, UTF8, long))).subject).toBe(`O=#0c81c8${"ff".repeat(200)}`);
  });

  test.each([
    ["an empty set", withSubjectSets(element(0x31))],
    ["an attribute without value", withSubjectSets(element(0x31, sequence(element(0x06, COMMON_NAME))))],
    ["an attribute with two values", withSubject(sequence(element(0x06, COMMON_NAME), element(UTF8), element(UTF8)))],
    ["a value with the tag that ends contents in BER", withSubject(attribute(COMMON_NAME, 0x00, []))],
    ["a value with a tag of several bytes", withSubject(attribute(COMMON_NAME, 0x1f, []))],
    ["an empty type", withSubject(attribute([], UTF8, []))],
    ["a type that ends within an arc", withSubject(attribute([0x2a, 0x83], UTF8, []))],
    ["a type with an arc not in its shortest form", withSubject(attribute([0x2a, 0x80, 0x03], UTF8, []))],
    ["a type longer than any", withSubject(attribute(new Uint8Array(10_000).fill(0x81), UTF8, []))],
  ])("%s is malformed", (_, der) => {
    expect(readCertificate(der)).toBeNull();
  });
});

describe("text types", () => {
  test.each([
    ["UniversalString", 0x1c, [0, 0, 0, 0x5a, 0, 1, 0xf4, 0x30], "Z🐰"],
    ["NumericString", 0x12, ascii("12 3"), "12 3"],
    ["VisibleString", 0x1a, ascii("a@b"), "a@b"],
    ["IA5String", 0x16, ascii("a@b"), "a@b"],
    ["PrintableString with what is not in its alphabet", 0x13, ascii("*_@"), "*_@"],
    ["TeletexString as ISO 8859-1", 0x14, [0xe9, 0xff], "éÿ"],
    ["UTF8String with a byte order mark, which stays", UTF8, utf8("\ufeffroot"), "\ufeffroot"],
  ])("%s", (_, tag, value, text) => {
    expect(read(withSubject(attribute(COMMON_NAME, tag, value)))).toMatchObject({
      commonNames: [text],
      suspicious: "",
    });
    expect(read(withSubject(attribute(UNIT, tag, value)))).toMatchObject({
      organizationalUnits: [text],
      suspicious: "",
    });
  });

  test.each([
    ["UTF-8 cut short", UTF8, [0x61, 0xc3]],
    ["UTF-8 in too many bytes", UTF8, [0xc0, 0x80]],
    ["a surrogate in UTF-8", UTF8, [0xed, 0xa0, 0x80]],
    ["PrintableString beyond ASCII", 0x13, [0x61, 0xe9]],
    ["IA5String beyond ASCII", 0x16, [0x61, 0xe9]],
    ["BMPString of an odd length", 0x1e, [0, 0x61, 0]],
    ["a surrogate in BMPString", 0x1e, [0xd8, 0x3d, 0xdc, 0x30]],
    ["the first surrogate", 0x1e, [0xd8, 0x00]],
    ["the last surrogate", 0x1c, [0, 0, 0xdf, 0xff]],
    ["UniversalString beyond Unicode", 0x1c, [0, 0x11, 0, 0]],
    ["UniversalString of a wrong length", 0x1c, [0, 0, 0x61]],
    ["INTEGER", 0x02, [0x05]],
    ["a constructed UTF8String", 0x2c, element(UTF8, ascii("a"))],
  ])("%s is no common name, and suspicious", (_, tag, value) => {
    const common = read(withSubject(attribute(COMMON_NAME, tag, value)));
    expect(common).toMatchObject({ commonNames: [], suspicious: "a common name is not text" });
    const unit = read(withSubject(attribute(UNIT, tag, value)));
    expect(unit).toMatchObject({ organizationalUnits: [], suspicious: "an organizational unit is not text" });
    expect(unit.subject).toStartWith("OU=#");
  });

  test.each([
    ["a NUL", "admin\0", "holds a NUL"],
    ["a newline", "a\nb", "holds a control character"],
    ["an escape", "a\x1b[31m", "holds a control character"],
    ["a delete", "a\x7f", "holds a control character"],
    ["a control of C1", "a\u0085b", "holds a control character"],
    ["a line separator", "a\u2028b", "holds a control character"],
  ])("%s is suspicious in a name", (_, text, reason) => {
    const common = read(withSubject(attribute(COMMON_NAME, UTF8, utf8(text))));
    expect(common).toMatchObject({ commonNames: [text], suspicious: `a common name ${reason}` });
    const unit = read(withSubject(attribute(UNIT, UTF8, utf8(text))));
    expect(unit).toMatchObject({ organizationalUnits: [text], suspicious: `an organizational unit ${reason}` });
    // Nobody is known by these; they are shown only, and escaped there.
    expect(read(withSubject(attribute(ORGANIZATION, UTF8, utf8(text)))).suspicious).toBe("");
  });

  test("a control character is found in a BMPString too", () => {
    expect(read(withSubject(attribute(COMMON_NAME, 0x1e, [0, 0x61, 0, 0]))).suspicious).toBe(
      "a common name holds a NUL",
    );
  });
});

describe("alternative names", () => {
  test.each([
    ["a DNS name", 0x82],
    ["a URI name", 0x86],
    ["an e-mail name", 0x81],
  ])("%s with a NUL, another control character, or beyond ASCII", (what, tag) => {
    const reason = (bytes: Bytes): string => read(withSan(element(tag, bytes))).suspicious;
    expect(reason(ascii("a\0.test"))).toBe(`${what} holds a NUL`);
    expect(reason(ascii("a\r.test"))).toBe(`${what} holds a control character`);
    expect(reason([0x61, 0xe9])).toBe(`${what} holds a byte that is not ASCII`);
    expect(reason([0x61, 0x85])).toBe(`${what} holds a byte that is not ASCII`);
    expect(reason(ascii("a.test"))).toBe("");
  });

  test("the reason is the first one, and a good name after it does not clear it", () => {
    const names = read(withSan(uri("a\0"), uri("b\n"), uri("c")));
    expect(names).toMatchObject({ uris: ["a\0", "b\n", "c"], suspicious: "a URI name holds a NUL" });
  });

  test.each([
    ["an address of five bytes", withSan(element(0x87, [1, 2, 3, 4, 5]))],
    ["an address of none", withSan(element(0x87))],
    ["an unknown type", withSan(element(0x89, ascii("a")))],
    ["a constructed URI", withSan(element(0xa6, element(0x16, ascii("a"))))],
    ["none at all", withSan()],
    ["something after the list", certificate({ extensions: [san(sequence(uri("a")), uri("b"))] })],
    [
      "after the list what would be an extension one level up",
      certificate({ extensions: [san(sequence(uri("a")), sequence(element(0x06, [0x55, 0x1d, 0x0f]), octets()))] }),
    ],
    ["two lists", certificate({ extensions: [san(sequence(uri("a"))), san(sequence(uri("b")))] })],
    ["the same list twice", certificate({ extensions: [san(sequence(uri("a"))), san(sequence(uri("a")))] })],
    [
      "something after the extension's value",
      certificate({ extensions: [sequence(SAN_ID, octets(sequence(uri("a"))), uri("b"))] }),
    ],
    ["a name longer than the list", certificate({ extensions: [san([0x30, 0x03, 0x86, 0x05, 0x61])] })],
  ])("%s: malformed", (_, der) => {
    expect(readCertificate(der)).toBeNull();
  });
});

describe("fields", () => {
  test.each([
    [[0x00], "00"],
    [[0x01], "01"],
    [[0x7f, 0xff], "7fff"],
    [[0x00, 0xff], "ff"],
    [[0xff], "-01"],
    [[0x80], "-80"],
    [[0xff, 0x00], "-0100"],
  ])("serial %p is %s", (bytes, serial) => {
    expect(read(certificate({ serial: bytes })).serial).toBe(serial);
  });

  test.each([[[]], [[0x00, 0x01]], [[0xff, 0x80]]])("serial %p is malformed", (bytes) => {
    expect(readCertificate(certificate({ serial: bytes }))).toBeNull();
  });

  test.each([
    [0x17, "491231235959Z", "2049-12-31T23:59:59Z"],
    [0x17, "500101000000Z", "1950-01-01T00:00:00Z"],
    [0x17, "000229000000Z", "2000-02-29T00:00:00Z"],
    [0x18, "20500101000000Z", "2050-01-01T00:00:00Z"],
    [0x18, "99991231235959Z", "9999-12-31T23:59:59Z"],
    [0x18, "20261121120000Z", "2026-11-21T12:00:00Z"],
    [0x18, "00000101000000Z", "0000-01-01T00:00:00Z"],
  ])("time %i %s is %s", (tag, text, iso) => {
    const names = read(certificate({ notBefore: element(tag, ascii(text)), notAfter: element(tag, ascii(text)) }));
    expect(names.notBeforeMs).toBe(Date.parse(iso));
    expect(names.notAfterMs).toBe(Date.parse(iso));
  });

  test.each([
    [0x17, "2611211200Z"], // without seconds
    [0x17, "261121120000"],
    [0x17, "261121120000+0100"],
    [0x17, "20261121120000Z"],
    [0x18, "261121120000Z"],
    [0x18, "20261121120000.5Z"],
    [0x18, "20261121120000z"],
    [0x17, "261321120000Z"],
    [0x17, "260021120000Z"],
    [0x17, "260230120000Z"],
    [0x17, "250229120000Z"],
    [0x17, "261100120000Z"],
    [0x17, "261121240000Z"],
    [0x17, "261121126000Z"],
    [0x17, "261121120060Z"],
    [0x17, "26112112000 Z"],
    [0x17, "2611-1120000Z"],
    [0x17, ""],
    [0x16, "261121120000Z"],
  ])("time %i %j is malformed", (tag, text) => {
    expect(readCertificate(certificate({ notBefore: element(tag, ascii(text)) }))).toBeNull();
    expect(readCertificate(certificate({ notAfter: element(tag, ascii(text)) }))).toBeNull();
  });

  test.each([
    ["the hand-made certificate of these tests", {}, true],
    [
      "the second version, with unique identifiers",
      { version: [1], extras: [element(0x81, [0]), element(0x82, [0])] },
      true,
    ],
    ["an unknown version", { version: [3] }, false],
    ["a version of two bytes", { version: [0, 2] }, false],
    ["the first version, written out", { version: [0] }, false],
    ["the first version with extensions", { version: [], extensions: [san(sequence(uri("a")))] }, false],
    ["the second version with extensions", { version: [1], extensions: [san(sequence(uri("a")))] }, false],
    ["an empty list of extensions", { extensions: [] }, false],
    [
      "a criticality that is neither",
      { extensions: [sequence(SAN_ID, element(0x01, [1]), octets(sequence(uri("a"))))] },
      false,
    ],
    [
      "a criticality written out",
      { extensions: [sequence(SAN_ID, element(0x01, [0]), octets(sequence(uri("a"))))] },
      true,
    ],
    ["the first version with a unique identifier", { version: [], extras: [element(0x81, [0])] }, false],
    ["an unknown field", { extras: [element(0xa4, [])] }, false],
  ])("%s", (_, fields, isGood) => {
    expect(readCertificate(certificate(fields)) !== null).toBe(isGood);
  });

  test("lengths are definite, in the shortest form, and within what is there", () => {
    const body = certificate({}).subarray(3);
    const length = body.length;
    expect(length).toBeWithin(0x80, 0x100);
    const withLength = (...bytes: number[]): Uint8Array => Uint8Array.of(0x30, ...bytes, ...body);
    expect(readCertificate(withLength(0x81, length))).not.toBeNull();
    for (const wrong of [
      [0x80],
      [0x82, 0, length],
      [0x83, 0, 0, length],
      [0x84, 0, 0, 0, length],
      [0x85, 1, 0, 0, 0, length],
      [0xff, length],
      [0x81, length + 1],
      [0x81, length - 1],
      [0x83, 0xff, 0xff, 0xff],
    ])
      expect(readCertificate(withLength(...wrong))).toBeNull();
    expect(readCertificate(Uint8Array.of(0x30, 0x80, ...body, 0, 0))).toBeNull();
  });

  test("nothing, one byte, tags of several bytes, the end-of-contents mark", () => {
    for (const bytes of [[], [0x30], [0x30, 0x00], [0x3f, 0x81, 0x00], [0x00, 0x00], [0x1f, 0x1f, 0x00]])
      expect(readCertificate(Uint8Array.from(bytes))).toBeNull();
  });
});

describe("anything a peer may send", () => {
  test("random bytes never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(readCertificate(bytes)).toBeNull();
      }),
    );
  });

  const edit = fc.record({
    at: fc.nat(),
    remove: fc.constantFrom(0, 1, 1, 1, 2, 5),
    insert: fc.uint8Array({ maxLength: 3 }),
  });

  test("edited certificates never throw, and what is read of them is what the platform reads", () => {
    let both = 0;
    fc.assert(
      fc.property(fc.nat(ISSUED.length - 1), fc.array(edit, { minLength: 1, maxLength: 3 }), (which, edits) => {
        let der = ISSUED[which]?.[1] ?? new Uint8Array(0);
        for (const { at, remove, insert } of edits) {
          const start = at % der.length;
          der = Uint8Array.of(...der.subarray(0, start), ...insert, ...der.subarray(start + remove));
        }
        const names = readCertificate(der);
        if (names === null || !isReadByPlatform(der)) return;
        both++;
        expectSameAsPlatform(names, der);
      }),
      { numRuns: 3000 },
    );
    expect(both).toBeGreaterThan(100);
  });

  test("a byte changed anywhere in a client's certificate", () => {
    const der = derOf(pki.client.certificatePem);
    const original = read(der);
    for (let at = 0; at < der.length; at++) {
      for (const change of [0x01, 0x20, 0x80, 0xff]) {
        const edited = Uint8Array.from(der);
        edited[at] = (edited[at] ?? 0) ^ change;
        const names = readCertificate(edited);
        if (names === null) continue;
        // The identity is never another one without the bytes of that identity in the certificate.
        for (const name of names.uris)
          if (!original.uris.includes(name)) expect(hasBytes(edited, latin1(name))).toBe(true);
        if (isReadByPlatform(edited)) expectSameAsPlatform(names, edited);
      }
    }
  });

  test("a certificate as large as TLS lets through takes no longer than its size", () => {
    const many = Array.from({ length: 20_000 }, () => uri("a\0"));
    const arcs = Array.from({ length: 1000 }, () =>
      attribute(new Uint8Array(60).fill(0x7f), UTF8, ascii(",".repeat(20))),
    );
    const started = performance.now();
    expect(read(certificate({ subject: arcs, extensions: [san(sequence(...many))] })).uris.length).toBe(20_000);
    expect(readCertificate(withSubject(attribute(new Uint8Array(100_000).fill(0xff), UTF8, [])))).toBeNull();
    expect(readCertificate(certificate({ serial: new Uint8Array(100_000).fill(0x80) }))).not.toBeNull();
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

/** The reverse of RFC 4514, 2.4. */
function unescapeValue(written: string): string {
  const bytes: number[] = [];
  for (const [part, pair, character] of written.matchAll(/\\([0-9a-f]{2})|\\(.)|[^\\]/gsu))
    bytes.push(...(pair === undefined ? utf8(character ?? part) : [Number.parseInt(pair, 16)]));
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

function hasBytes(bytes: Uint8Array, wanted: Bytes): boolean {
  return Buffer.from(bytes).includes(Uint8Array.from(wanted));
}

function read(der: Uint8Array): CertificateNames {
  const names = readCertificate(der);
  if (names === null) throw new Error(`malformed: ${der.toHex()}`);
  return names;
}

function derOf(pem: string): Uint8Array {
  return new Uint8Array(new X509Certificate(pem).raw);
}

/** The names that the platform lists, of those types that `readCertificate` does. Only for names that it need not quote. */
function platformAlternatives(der: Uint8Array): string[] {
  const text = new X509Certificate(der).subjectAltName ?? "";
  return text === "" ? [] : text.split(", ").map((name) => name.replace(/^.*?:/, "").replace("0:0:0:0:0:0:0:1", "::1"));
}

function isReadByPlatform(der: Uint8Array): boolean {
  try {
    return new X509Certificate(der).validFrom !== undefined;
  } catch {
    return false;
  }
}

function expectSameAsPlatform(names: CertificateNames, der: Uint8Array): void {
  const platform = new X509Certificate(der);
  expect(names.serial).toBe(platform.serialNumber.toLowerCase());
  expect(names.notBeforeMs).toBe(Date.parse(platform.validFrom));
  expect(names.notAfterMs).toBe(Date.parse(platform.validTo));
  const common = platform.toLegacyObject().subject?.CN;
  if (names.suspicious === "") expect(names.commonNames).toEqual(common === undefined ? [] : [common].flat());
}

/** Reads it, and compares with what `openssl x509` prints. */
function readAsOpensslDoes(der: Uint8Array): CertificateNames {
  const names = read(der);
  const options = [
    "-nameopt",
    "RFC2253,-esc_msb,utf8",
    "-noout",
    "-subject",
    "-serial",
    "-dates",
    "-dateopt",
    "iso_8601",
  ];
  const printed = execFileSync("openssl", ["x509", "-inform", "DER", ...options], { input: der, encoding: "utf8" });
  const lines = new Map(printed.split("\n").map((line) => [line.replace(/=.*/, ""), line.replace(/^.*?=/, "")]));
  expect(names.subject.replace(/\\[0-9a-f]{2}/g, (pair) => pair.toUpperCase())).toBe(lines.get("subject") ?? "");
  expect(names.serial).toBe(lines.get("serial")?.toLowerCase() ?? "");
  expect(names.notBeforeMs).toBe(Date.parse(lines.get("notBefore") ?? ""));
  expect(names.notAfterMs).toBe(Date.parse(lines.get("notAfter") ?? ""));
  return names;
}
