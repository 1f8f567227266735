import { describe, expect, test } from "bun:test";
import { readCertificateDetails } from "../../../src/protocol/certificate-details.ts";
import { refusalCode } from "../../../src/protocol/leaf.ts";
import { pemBytes, splitPem } from "../../../src/protocol/pem.ts";
import { ServerVerifier } from "../../../src/protocol/server-verifier.ts";
import { testPki } from "../../support/certificates.ts";

describe("refusalCode", () => {
  test("of what the TLS library says in a code is that", () => {
    expect(refusalCode("CERT_HAS_EXPIRED")).toBe("CERT_HAS_EXPIRED");
    expect(refusalCode("an authority in its chain: CERT_REVOKED")).toBe("CERT_REVOKED");
  });

  test("of what it says in words is OpenSSL's name for it", () => {
    expect(refusalCode("permitted subtree violation")).toBe("PERMITTED_VIOLATION");
    expect(refusalCode("excluded subtree violation")).toBe("EXCLUDED_VIOLATION");
    expect(refusalCode("no authority vouches for it")).toBe("UNABLE_TO_GET_ISSUER_CERT_LOCALLY");
  });

  test("of anything else is a code, too", () => {
    expect(refusalCode("")).toBe("CERT_REJECTED");
    expect(refusalCode("a DNS name holds a comma")).toBe("CERT_REJECTED");
  });

  test("of what is wrong with the names of an endpoint's certificate", async () => {
    const { server } = await testPki();
    const leaf = readCertificateDetails(
      splitPem(server.certificatePem, "CERTIFICATE").map(pemBytes)[0] ?? new Uint8Array(),
    );
    expect(leaf).not.toBeNull();
    const verdict = (names: Partial<ConstructorParameters<typeof ServerVerifier>[0]>, serverName: string): string =>
      refusalCode(
        new ServerVerifier({ verifyDns: [], verifyUri: [], trustDomains: [], ...names }).judge(leaf, serverName),
      );
    expect(verdict({}, "elsewhere.test")).toBe("HOSTNAME_MISMATCH");
    expect(verdict({}, "192.0.2.99")).toBe("IP_ADDRESS_MISMATCH");
    expect(verdict({ verifyDns: ["elsewhere.test"] }, "")).toBe("HOSTNAME_MISMATCH");
    expect(verdict({ verifyUri: ["spiffe://elsewhere/x"] }, "")).toBe("URI_MISMATCH");
    expect(verdict({ trustDomains: ["elsewhere"] }, "")).toMatch(/^(INVALID_SVID|CERT_REJECTED)$/);
  });
});
