// Who a client is: read once for each certificate, kept for a bounded number of them, and never across rules that judge it differently.

import { describe, expect, test } from "bun:test";
import { Ending } from "../../../src/proxy/ending.ts";
import { Identities, type Identity } from "../../../src/proxy/identity.ts";
import { ascii, uri, withSan } from "../../support/certificate-bytes.ts";
import { SimWorker } from "../../support/sim-worker.ts";

const { runtime } = new SimWorker();
const identities = (...trustDomains: string[]): Identities => new Identities(runtime, { trustDomains });

function named(certificate: Uint8Array, readBy: Identities): Identity {
  const identity = readBy.read(certificate);
  if (identity instanceof Ending) throw new Error(identity.detail);
  return identity;
}

describe("an identity", () => {
  test("is one object for all connections with the same certificate, and another for another", () => {
    const clients = identities();
    const web = named(withSan(uri("spiffe://prod/web")), clients);
    expect(web.uris).toEqual(["spiffe://prod/web"]);
    expect(web.fingerprint).toBe(runtime.sha256(withSan(uri("spiffe://prod/web"))));
    expect(named(withSan(uri("spiffe://prod/web")).slice(), clients)).toBe(web);
    expect(named(withSan(uri("spiffe://prod/api")), clients).uris).toEqual(["spiffe://prod/api"]);
    expect(named(withSan(uri("spiffe://prod/web")), clients)).toBe(web);
  });

  test("is judged by the trust domains of its own route", () => {
    const noSvid = withSan(uri("https://web.test/"));
    expect(named(noSvid, identities()).uris).toEqual(["https://web.test/"]);
    expect(identities("prod").read(noSvid)).toBeInstanceOf(Ending);
  });

  test("is refused as often as it is shown", () => {
    const prod = identities("prod");
    for (let time = 0; time < 3; time++)
      expect(prod.read(withSan(uri("https://web.test/")))).toMatchObject({ reason: "certificate_rejected" });
    expect(prod.read(ascii("no certificate"))).toMatchObject({ error: "CERT_REJECTED" });
  });

  test("of the last 1,024 certificates is kept, and the oldest goes first", () => {
    const clients = identities();
    const nth = (n: number): Identity => named(withSan(uri(`spiffe://prod/n${n}`)), clients);
    const [first, second] = [nth(0), nth(1)];
    for (let n = 2; n < 1024; n++) nth(n);
    expect([nth(0) === first, nth(1) === second]).toEqual([true, true]);
    nth(1024);
    expect(nth(1)).toBe(second);
    expect(nth(0)).not.toBe(first);
    expect(nth(0)).toEqual(first);
  });

  test("of a certificate with very many names is not kept", () => {
    const clients = identities();
    const names = Array.from({ length: 400 }, (_, index) => uri(`https://web.test/${index}`));
    const many = named(withSan(...names), clients);
    expect(many.uris.length).toBe(400);
    expect(named(withSan(...names), clients)).not.toBe(many);
  });
});
