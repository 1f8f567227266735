// bunnel on Deno, and the least that a proxy costs there: Deno's own node:net with one stream piped into the other.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { bunnel } from "./bunnel.ts";
import type { Contender } from "./contender.ts";

const ROOT = join(import.meta.dir, "../..");
const DENO = join(ROOT, "node_modules/.bin/deno");
/** As README.md has them. */
const PERMISSIONS = ["--allow-net", "--allow-read", "--allow-write", "--allow-env", "--allow-sys=uid,hostname"];

/** Deno is a development dependency. */
function missing(): string | undefined {
  return existsSync(DENO) ? undefined : "deno is not installed: npm ci";
}

/** This project on its second runtime, which can give out no session tickets. */
export const bunnelOnDeno: Contender = {
  ...bunnel,
  name: "bunnel-deno",
  about: "this project on Deno, with the same config",
  missing,
  serves: ({ terminates }) => terminates?.tickets !== true,
  onDemand: true,
  prepare: (input) =>
    bunnel.prepare(input).map(([, ...program]) => [DENO, "run", "--no-prompt", ...PERMISSIONS, ...program]),
};

/** The floor there. */
export const minimalDeno: Contender = {
  name: "deno-minimal",
  about: "bench/contenders/minimal-deno.ts: node:net and node:tls of Deno, one stream piped into the other",
  role: "floor",
  missing,
  serves: ({ originates, sni, terminates }) =>
    originates !== true && sni === undefined && terminates?.tickets !== true && terminates?.suite === undefined,
  onDemand: true,
  prepare: ({ listeners, certificates: files }) => {
    const options = listeners.map(({ port, endpoints, terminates }) => ({
      port,
      targets: endpoints,
      ...(terminates && {
        tls: { cert: files.serverCertificateFile, key: files.serverKeyFile, ca: files.caFile },
      }),
    }));
    const program = join(import.meta.dir, "minimal-deno.ts");
    return [[DENO, "run", "--no-prompt", "--allow-net", "--allow-read", program, JSON.stringify(options)]];
  },
};
