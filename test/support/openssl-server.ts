// The openssl command as an endpoint: a TLS server of other people's making, which lets in only whoever has a certificate of the test's authority.

import { type CertificateFiles, testPki } from "./certificates.ts";
import { Child } from "./child.ts";

/** A running `openssl s_server`, which serves one connection at a time. To be declared with `await using`. */
export class OpensslServer implements AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  readonly child: Child;

  constructor(address: string, child: Child) {
    this.address = address;
    this.child = child;
  }

  /** All that it has said. */
  get output(): string {
    return this.child.stdout + this.child.stderr;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}

/**
 * Starts it with a certificate and waits until it listens. `extra` parameters say what it does: `-rev` answers each line reversed and ends in order
 * at a line `CLOSE`, `-msg` tells every message.
 */
export async function startOpensslServer(
  shown: CertificateFiles,
  extra: readonly string[] = [],
): Promise<OpensslServer> {
  const { authority } = await testPki();
  const child = new Child([
    ...["openssl", "s_server", "-accept", "127.0.0.1:0", "-Verify", "2", "-verify_return_error"],
    ...["-CAfile", authority.certificatePath, "-cert", shown.certificatePath, "-key", shown.keyPath, ...extra],
  ]);
  await child.says("ACCEPT 127.0.0.1:");
  return new OpensslServer(/ACCEPT ([\d.]+:\d+)/.exec(child.stdout)?.[1] ?? "", child);
}
