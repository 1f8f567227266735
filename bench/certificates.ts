// The certificates of a lab run: one CA, one server and one client certificate, all P-256, made by the openssl command
// line so that no contender's own code has a say in them.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Processes } from "./processes.ts";

/** A name that the server certificate is for. */
export const SERVER_NAME = "bench.test";

/** Paths of PEM files. The server certificate is for 127.0.0.1 and `SERVER_NAME`. */
export interface Certificates {
  readonly caFile: string;
  readonly serverCertificateFile: string;
  readonly serverKeyFile: string;
  /** Certificate and key in one file, as HAProxy wants them. */
  readonly serverBundleFile: string;
  readonly clientCertificateFile: string;
  readonly clientKeyFile: string;
  /** The same in one file. */
  readonly clientBundleFile: string;
}

/** Makes the certificates in `folder`. Fails with openssl's own words. */
export async function makeCertificates(folder: string, processes: Processes): Promise<Certificates> {
  const file = (name: string): string => join(folder, name);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const openssl = (args: readonly string[]) => processes.run(["openssl", "req", "-x509", ...newKey, ...args], 20);

  const authority = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
  await openssl(["-subj", "/CN=bench CA", "-keyout", file("ca.key"), "-out", file("ca.pem"), ...authority]);
  const issued = ["-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-addext", "basicConstraints=critical,CA:FALSE"];
  const server = [
    "-addext",
    `subjectAltName=IP:127.0.0.1,DNS:${SERVER_NAME}`,
    "-addext",
    "extendedKeyUsage=serverAuth",
  ];
  const client = ["-addext", "subjectAltName=URI:spiffe://bench/client", "-addext", "extendedKeyUsage=clientAuth"];
  const output = (name: string): string[] => ["-keyout", file(`${name}.key`), "-out", file(`${name}.pem`)];
  await openssl(["-subj", "/CN=bench server", ...output("server"), ...issued, ...server]);
  await openssl(["-subj", "/CN=bench client", ...output("client"), ...issued, ...client]);

  for (const name of ["server", "client"]) {
    const bundle = (await Bun.file(file(`${name}.pem`)).text()) + (await Bun.file(file(`${name}.key`)).text());
    writeFileSync(file(`${name}-bundle.pem`), bundle, { mode: 0o600 });
  }
  return {
    caFile: file("ca.pem"),
    serverCertificateFile: file("server.pem"),
    serverKeyFile: file("server.key"),
    serverBundleFile: file("server-bundle.pem"),
    clientCertificateFile: file("client.pem"),
    clientKeyFile: file("client.key"),
    clientBundleFile: file("client-bundle.pem"),
  };
}
