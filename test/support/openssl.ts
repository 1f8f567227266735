// The openssl command as a client: other people's TLS, which can be made to do what a library in this process cannot, such as to be killed
// with its TLS session open.

import type { CertificateFiles } from "./certificates.ts";
import { Child } from "./child.ts";

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
