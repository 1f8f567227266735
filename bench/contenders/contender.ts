// What a contender is: a proxy that is compared, with the configuration that makes it do the same job as the others: one worker,
// one thread, least-connections over the same endpoints where it can balance, the same certificates, TLS 1.2 and up with no
// tickets and no session cache, and no log unless its name says so. Everything else is the program's default.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Certificates } from "../certificates.ts";
import type { Placement, Processes, RunningProcess } from "../processes.ts";
import type { Role } from "../results.ts";

/**
 * What a proxy listens for: plain TCP to one of the services; mTLS that it terminates, without and with session tickets; plain TCP
 * that becomes mTLS; TLS that goes through by SNI; and one of two hops to the iperf service.
 */
export type ListenerName =
  | "http"
  | "iperf"
  | "ping"
  | "redis"
  | "postgres"
  | "mtls"
  | "mtls-tickets"
  | "originate"
  | "sni"
  | "two-hop";

/** One listener of a contender: its own port and the endpoint ports behind it, all on 127.0.0.1. */
export interface BenchListener {
  readonly name: ListenerName;
  readonly port: number;
  readonly endpoints: readonly number[];
  /** Present: terminate TLS here and require a client certificate of the lab's CA. */
  readonly terminates?: {
    /** The only TLS 1.3 suite. Without it the program chooses, and BoringSSL always does. */
    readonly suite?: string;
    /** True: clients may resume sessions. */
    readonly tickets?: boolean;
  };
  /** True: speak TLS 1.3 to the endpoints, show the client certificate, and accept only `SERVER_NAME` of the lab's CA. */
  readonly originates?: boolean;
  /** Only TLS for this server name goes to the endpoints, untouched. */
  readonly sni?: string;
}

/** What a contender is started with. */
export interface ContenderInput {
  /** A folder of its own for configuration and logs; it exists. */
  readonly folder: string;
  readonly listeners: readonly BenchListener[];
  readonly certificates: Certificates;
  /** The most connections that it must hold at once. */
  readonly connections: number;
}

/** A command line, program first. */
export type CommandLine = readonly string[];

/** A program under test. */
export interface Contender {
  readonly name: string;
  /** One line for the report: what this row is. */
  readonly about: string;
  readonly role: Role;
  /** Why it cannot run on this machine, or undefined when it can. */
  readonly missing: () => string | undefined;
  /** Whether it can do what a listener asks for. Default: everything. */
  readonly serves?: (listener: BenchListener) => boolean;
  /** Writes the configuration and gives the command lines that serve it in the foreground, mostly one. */
  readonly prepare: (input: ContenderInput) => readonly CommandLine[];
  /** True: it makes a process for each connection, so its process tree is never the same. */
  readonly forks?: boolean;
  /** True: only run where asked for by the workload (see `Workload.extraContenders`). */
  readonly extra?: boolean;
  /** True: only run when named by `--contender`. */
  readonly onDemand?: boolean;
}

/** More than any usual workload opens; few enough for HAProxy, which wants 2.5 descriptors for each when it splices. */
export const USUAL_CONNECTIONS = 4096;

/** Why `program` cannot be run, or undefined. */
export function missingProgram(program: string): string | undefined {
  return Bun.which(program) === null ? `${program} is not installed` : undefined;
}

/** For `serves`: plain TCP that is relayed as it comes. */
export function isPlain({ terminates, originates, sni }: BenchListener): boolean {
  return terminates === undefined && originates !== true && sni === undefined;
}

/** Starts the processes of a contender, whose folder is made if need be. They may not listen yet when this returns. */
export function startContender(
  contender: Contender,
  input: ContenderInput,
  { processes, place }: { readonly processes: Processes; readonly place: keyof Placement },
): RunningProcess[] {
  mkdirSync(input.folder, { recursive: true });
  return contender.prepare(input).map((command) => processes.start({ name: contender.name, command, place }));
}

/** Writes a file of lines into the contender's folder and gives its path. */
export function writeConfig(folder: string, name: string, lines: readonly string[]): string {
  const file = join(folder, name);
  writeFileSync(file, `${lines.join("\n")}\n`);
  return file;
}

/** The command lines and files that a contender is set up with, as text. Paths of certificates are as in `certificates`. */
export function describeSetup(contender: Contender, input: Omit<ContenderInput, "folder">): string {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-setup-"));
  try {
    const commands = contender.prepare({ ...input, folder });
    const files = readdirSync(folder).filter((name) => /\.(yaml|cfg|conf|c)$/.test(name));
    const parts = [
      ...commands.map((command) => `$ ${command.map((word) => (/[\s{]/.test(word) ? `'${word}'` : word)).join(" ")}\n`),
      ...files.sort().map((name) => `# ${name}\n${readFileSync(join(folder, name), "utf8")}`),
    ];
    const root = join(import.meta.dir, "../..");
    return parts.join("\n").replaceAll(folder, ".").replaceAll(process.execPath, "bun").replaceAll(`${root}/`, "");
  } finally {
    rmSync(folder, { recursive: true });
  }
}
