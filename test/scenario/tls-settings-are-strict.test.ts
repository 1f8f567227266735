// What openssl finds when it tries: TLS 1.2 and 1.3 and nothing older, only suites with forward secrecy and an AEAD, 1.3 alone where the config
// says so, no session tickets unless the config says so, no renegotiation, and the certificate that belongs to the SNI.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type TestPki, testPki } from "../support/certificates.ts";
import { Child, type Outcome, run } from "../support/child.ts";
import { type Daemon, IS_DENO, startDaemon } from "../support/daemon.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("openssl");

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  pki = await testPki();
  endpoint = await startEndpoint();
  const listener = (name: string, tls: string): string => `
  - name: ${name}
    address: 127.0.0.1:0
    tls:
      certificates:
        - { cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }
        - { cert: ${pki.databaseServer.certificatePath}, key: ${pki.databaseServer.keyPath} }
      client_auth: none
      ${tls}
    routes: [{ name: all, tls: terminate, backend: echo }]`;
  daemon = await startDaemon(`
listeners:${listener("default", "")}${listener("only-1.3", 'min_version: "1.3"')}${listener("with-alpn", "alpn: [h2, http/1.1]")}
${IS_DENO ? "" : listener("with-tickets", "session_tickets: true")}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

async function connect(listener: string, ...extra: string[]): Promise<Outcome> {
  return await run(await command(listener, { extra }));
}

async function command(listener: string, options: { sni?: string; extra?: readonly string[] }): Promise<string[]> {
  const to = await daemon.address(listener);
  return clientCommand({ to, ca: pki.authority.certificatePath, sni: "localhost", ...options });
}

/** What was negotiated: `TLSv1.3, TLS_AES_128_GCM_SHA256`; "" when nothing was. */
function negotiated({ stdout }: Outcome): string {
  const [, version = "", cipher = ""] = /^New, (\S+), Cipher is (\S+)$/m.exec(stdout) ?? [];
  return cipher === "(NONE)" ? "" : `${version} ${cipher}`;
}

// SECLEVEL=0 is openssl's leave to offer what it would itself refuse by now.
const ANYTHING = ["-cipher", "ALL:@SECLEVEL=0"];
/** Deno's library names what it misses in a hello of that age. */
const TOO_OLD = IS_DENO ? "SIGNATURE_ALGORITHMS_EXTENSION_REQUIRED" : "UNSUPPORTED_PROTOCOL";

describe.skipIf(missing !== "")(`openssl s_client ${missing}`.trim(), () => {
  test("TLS 1.3 and 1.2 are spoken", async () => {
    expect(negotiated(await connect("default"))).toMatch(/^TLSv1\.3 TLS_/);
    expect(negotiated(await connect("default", "-tls1_2"))).toMatch(/^TLSv1\.2 ECDHE-ECDSA-.*(GCM|CHACHA20)/);
  });

  test.each(["-tls1_1", "-tls1"])("%s is refused", async (version) => {
    expect(negotiated(await connect("default", version, ...ANYTHING))).toBe("");
    expect((await daemon.record(({ detail }) => detail === TOO_OLD)).close_reason).toBe("handshake_failed");
  });

  test.each([
    ["CBC", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA"],
    ["RSA key exchange", "AES128-GCM-SHA256:AES256-GCM-SHA384"],
    ["no encryption", "eNULL"],
    ["anonymous", "aNULL"],
  ])("%s is refused", async (_, suites) => {
    expect(negotiated(await connect("default", "-tls1_2", "-cipher", `${suites}:@SECLEVEL=0`))).toBe("");
  });

  test("1.2 is refused where min_version is 1.3", async () => {
    expect(negotiated(await connect("only-1.3", "-tls1_2"))).toBe("");
    expect(negotiated(await connect("only-1.3"))).toMatch(/^TLSv1\.3 /);
  });

  // On Deno they cannot be had for the asking, nor be kept from being given.
  test.skipIf(IS_DENO).each(["-tls1_2", "-tls1_3"])(
    "no session ticket is given by default, with %s",
    async (version) => {
      const text = async (listener: string): Promise<string> => {
        await using client = new Child(await command(listener, { extra: [version] }));
        client.write("an echo shows that all of the handshake has been read\n");
        await client.says("\nan echo shows");
        // What it has to say of tickets it may keep until its end.
        client.endInput();
        await client.exited;
        return client.stdout;
      };
      expect(await text("default")).not.toMatch(/session ticket/i);
      expect(await text("with-tickets")).toMatch(/session ticket/i);
    },
  );

  test("a client cannot renegotiate", async () => {
    const { stdout } = await connect("default", "-tls1_2");
    expect(stdout).toContain("Secure Renegotiation IS supported");
    const words = await command("default", { extra: ["-tls1_2"] });
    const outcome = await run(
      words.filter((word) => word !== "-nocommands"),
      { input: "R\n" },
    );
    expect(outcome.stderr).toMatch(/RENEGOTIATING[\s\S]*no renegotiation/);
  });

  test("the SNI picks the certificate, and the first is for everyone else", async () => {
    const presented = async (sni: string): Promise<string> => {
      const { stdout } = await run(await command("default", { sni }));
      return /-----BEGIN CERTIFICATE-----[\s\S]*END CERTIFICATE-----\n/.exec(stdout)?.[0] ?? "";
    };
    expect(await presented("one.db.test")).toBe(pki.databaseServer.certificatePem);
    expect(await presented("DB.test")).toBe(pki.databaseServer.certificatePem);
    expect(await presented("two.one.db.test")).toBe(pki.server.certificatePem);
    expect(await presented("localhost")).toBe(pki.server.certificatePem);
  });

  test("ALPN is answered by our preference, and only where it is configured", async () => {
    const agreed = async (listener: string): Promise<string> =>
      /^ALPN protocol: (.*)$/m.exec((await connect(listener, "-alpn", "http/1.1,h2")).stdout)?.[1] ?? "none";
    expect(await agreed("with-alpn")).toBe("h2");
    expect(await agreed("default")).toBe("none");
    const records = await daemon.record(({ alpn }) => alpn !== undefined);
    expect(records.alpn).toBe("h2");
  });
});
