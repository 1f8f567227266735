// The openssl command on either end of a connection. Its client and its server are other people's TLS, and can be made to do what a
// library in this process cannot: be killed with their TLS session open.

import type { CertificateFiles } from "./certificates.ts";
import { Child } from "./child.ts";
import { eventually } from "./eventually.ts";

export interface ClientOptions {
  /** `127.0.0.1:PORT`. */
  readonly to: string;
  /** File of the authority that the server's certificate must verify against. */
  readonly ca: string;
  /** Default: none is sent. */
  readonly sni?: string;
  /** Default: none is shown. */
  readonly certificate?: CertificateFiles;
  readonly extra?: readonly string[];
}

/** `openssl s_client`, which sends its standard input and prints what it receives, and nothing else. Ends when its input does. */
export function opensslClient(options: ClientOptions): Child {
  return new Child([...clientCommand(options), "-quiet", "-no_ign_eof"]);
}

/** The same, telling all about the session; for `run`. */
export function clientCommand({ to, ca, sni, certificate, extra = [] }: ClientOptions): string[] {
  return [
    ...["openssl", "s_client", "-connect", to, "-CAfile", ca, "-verify_return_error", "-nocommands"],
    ...(sni === undefined ? ["-noservername"] : ["-servername", sni]),
    ...(certificate === undefined ? [] : ["-cert", certificate.certificatePath, "-key", certificate.keyPath]),
    ...(certificate === undefined ? [] : ["-cert_chain", certificate.certificatePath]),
    ...extra,
  ];
}

/** `openssl s_server` on a free loopback port, and its address. It serves one connection at a time, and `extra` says how. */
export async function opensslServer(
  certificate: CertificateFiles,
  extra: readonly string[],
): Promise<{ readonly child: Child; readonly address: string }> {
  const identity = ["-cert", certificate.certificatePath, "-key", certificate.keyPath];
  const child = new Child(["openssl", "s_server", "-accept", "127.0.0.1:0", ...identity, ...extra]);
  try {
    const [, address = ""] = await eventually(
      () => `it accepted connections: ${child.story}`,
      () => /^ACCEPT (\S+)$/m.exec(child.stdout),
    );
    return { child, address };
  } catch (thrown) {
    await child[Symbol.asyncDispose]();
    throw thrown;
  }
}
