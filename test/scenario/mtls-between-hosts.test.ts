// Two hosts with a daemon each: an application that knows nothing of TLS reaches one on the other host, and nothing but TLS 1.3 crosses the cable
// between them. config/mtls-between-hosts.md does what it says, command by command; a cable that is pulled and put back costs time and nothing
// else; redis and PostgreSQL cannot tell that anybody stands between.

import { afterAll, describe, expect, test } from "bun:test";
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { eventually } from "../support/eventually.ts";
import { missingPrograms, type ProgramName } from "../support/programs.ts";
import { program } from "../support/servers.ts";
import { Capture, type Host, missingForTwoHosts, TwoHosts } from "../support/two-hosts.ts";
import { missingLine, readWalkThrough, type Step } from "../support/walk-through.ts";

const CONFIG = join(import.meta.dir, "../../config");
const TIMEOUT_MS = 120_000;
const TLS_PORT = 9443;
const noHosts = missingForTwoHosts();
const page = readWalkThrough(readFileSync(join(CONFIG, "mtls-between-hosts.md"), "utf8"));

function skipReason(...names: readonly ProgramName[]): string {
  return [noHosts, missingPrograms(...names)].filter(Boolean).join(", ");
}

test("the page shows the configs that lie beside it", () => {
  const shown = page.filter(({ kind }) => kind === "config").map(({ text }) => text);
  expect(shown).toEqual(
    ["mtls-outbound.yaml", "mtls-inbound.yaml"].map((name) => readFileSync(join(CONFIG, name), "utf8")),
  );
});

describe("the walk-through", () => {
  const missing = skipReason("redis-server", "redis-cli", "openssl", "tcpdump", "tshark");
  test.skipIf(missing !== "")(
    `works as written, and only TLS 1.3 crosses the cable ${missing}`.trim(),
    async () => {
      await using hosts = new TwoHosts();
      await using cable = await new Capture(hosts.b).started();
      await using loopback = await new Capture(hosts.b, "lo").started();
      await follow(hosts, page);

      // What went to host A, and above all what did not.
      const certificates = await hosts.a.run(["ls", "bunnel/certs"]);
      expect(certificates.stdout).toBe("ca.pem\nhost-a.key\nhost-a.pem\n");
      const authorityKey = readFileSync(join(hosts.b.directory, "bunnel/ca/ca.key"), "utf8").split("\n")[1] ?? "";
      expect((await hosts.a.run(["grep", "-r", authorityKey, "."])).stdout).toBe("");

      await cable.stop();
      await loopback.stop();
      for (const payload of ["hello from A", "after the renewal", "greeting"]) {
        // The control: it is found where it may be.
        expect([payload, readFileSync(loopback.path).includes(payload)]).toEqual([payload, true]);
        expect([payload, readFileSync(cable.path).includes(payload)]).toEqual([payload, false]);
      }
      await expectOnlyTls13(cable.path);
    },
    TIMEOUT_MS,
  );
});

describe("a cable that is pulled", () => {
  const missing = skipReason();
  test.skipIf(missing !== "")(
    `and put back after three seconds costs no byte ${missing}`.trim(),
    async () => {
      await using hosts = new TwoHosts();
      await connect(hosts, [[7000, TLS_PORT]]);
      await using receiver = hosts.b.start([process.execPath, "-e", RECEIVER]);
      await hosts.b.accepts(7000);
      await using sender = hosts.a.start([process.execPath, "-e", SENDER]);
      const received = (): number => Number(receiver.stdout.trimEnd().split("\n").at(-1));
      await eventually("bytes arrived", () => received() > 10_000_000);
      hosts.pull();
      // Not to wait for anything: this is how long the cable is out. In the first second what had crossed it may still arrive.
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      const soonAfter = received();
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      expect(received()).toBe(soonAfter);
      expect(soonAfter).toBeLessThan(TRANSFER_BYTES);
      hosts.plug();
      await eventually(
        () => `the transfer ended: ${sender.story}\n${receiver.story}`,
        () => sender.hasExited,
        20_000,
      );
      await sender.exited;
      const [sent, confirmed] = sender.stdout.trimEnd().split("\n").slice(-2);
      expect(confirmed).toBe(`${TRANSFER_BYTES} ${sent}`);
    },
    TIMEOUT_MS,
  );
});

describe("applications", () => {
  const missingRedis = skipReason("redis-server", "redis-cli");
  test.skipIf(missingRedis !== "")(
    `redis: small talk, large values, many clients ${missingRedis}`.trim(),
    async () => {
      await using hosts = new TwoHosts();
      await connect(hosts, [[6379, TLS_PORT]]);
      await using _redis = hosts.b.start(["redis-server", "--bind", "127.0.0.1", "--save", ""]);
      await hosts.b.accepts(6379);
      const large = "0123456789abcdef".repeat(1 << 20);
      expect((await hosts.a.run(["redis-cli", "-x", "SET", "large"], { input: large })).stdout).toBe("OK\n");
      const queries = [
        ["GET", "large"],
        ["STRLEN", "large"],
        ["EVAL", "return {1, 'two', {'three'}}", "0"],
        ["NO-SUCH-COMMAND"],
      ];
      for (const query of queries) {
        const [through, direct] = [
          await hosts.a.run(["redis-cli", ...query]),
          await hosts.b.run(["redis-cli", ...query]),
        ];
        expect(through.stdout === direct.stdout).toBe(true);
      }
      expect((await hosts.b.run(["redis-cli", "GET", "large"])).stdout).toBe(`${large}\n`);
      const count = [
        "EVAL",
        "for i = 1, 1000 do redis.call('INCR', 'count') end return redis.call('GET', 'count')",
        "0",
      ];
      await Promise.all(Array.from({ length: 20 }, () => hosts.a.run(["redis-cli", ...count])));
      expect((await hosts.a.run(["redis-cli", "GET", "count"])).stdout).toBe("20000\n");
    },
    TIMEOUT_MS,
  );

  const missingPostgres = skipReason("postgres", "psql");
  test.skipIf(missingPostgres !== "")(
    `PostgreSQL: queries, COPY both ways, errors, a cancelled query ${missingPostgres}`.trim(),
    async () => {
      await using hosts = new TwoHosts();
      await connect(hosts, [[5432, TLS_PORT]]);
      await using _postgres = await startPlainPostgres(hosts.b);
      const psql = (host: Host, query: string, input = ""): ReturnType<Host["run"]> =>
        host.run(["psql", "--no-psqlrc", "--tuples-only", "--no-align", "-c", query], {
          input,
          env: {
            PGHOST: "127.0.0.1",
            PGUSER: "client",
            PGDATABASE: "postgres",
            PGSSLMODE: "disable",
            PGCONNECT_TIMEOUT: "4",
          },
        });
      expect((await psql(hosts.a, "CREATE TABLE numbers (n int, t text)")).stdout).toBe("CREATE TABLE\n");
      const rows = Array.from({ length: 100_000 }, (_, n) => `${n}\t${"x".repeat(n % 50)}\n`).join("");
      expect((await psql(hosts.a, "COPY numbers FROM STDIN", rows)).stdout).toBe("COPY 100000\n");
      for (const query of [
        "COPY (SELECT * FROM numbers ORDER BY n) TO STDOUT",
        "SELECT count(*), sum(n), max(length(t)) FROM numbers",
        "SELECT inet_client_addr(), current_user",
        "SELECT 1/0",
        "SET statement_timeout = 50; SELECT pg_sleep(60)",
      ]) {
        const [through, direct] = [await psql(hosts.a, query), await psql(hosts.b, query)];
        expect([query, through.exitCode, through.stdout === direct.stdout, through.stderr]).toEqual([
          query,
          direct.exitCode,
          true,
          direct.stderr,
        ]);
      }
    },
    TIMEOUT_MS,
  );
});

/** Does what the page says, as somebody with a terminal on each host would. */
async function follow(hosts: TwoHosts, steps: readonly Step[]): Promise<void> {
  using a = hosts.a.shell();
  using b = hosts.b.shell();
  for (const { kind, host, text, until, prints } of steps) {
    const [place, shell] = host === "host-a" ? [hosts.a, a] : [hosts.b, b];
    if (kind === "config") {
      writeFileSync(join(place.directory, "bunnel/bunnel.yaml"), text);
      continue;
    }
    let printed = "";
    const isRight = async (): Promise<boolean> => {
      // A look that finds nothing yet is no failure.
      printed = await shell.type(until ? `{ ${text.trimEnd()}; } || :` : text);
      return missingLine(printed, prints) === null && (!until || printed !== "");
    };
    const complaint = (): string =>
      `${host} printed "${missingLine(printed, prints)}" for:\n${text}It printed:\n${printed}\n${logsOf(hosts)}`;
    if (until) await eventually(complaint, isRight, 20_000);
    else if (!(await isRight())) throw new Error(`not so: ${complaint()}`);
  }
}

function logsOf(hosts: TwoHosts): string {
  const log = (host: Host): string => {
    try {
      return readFileSync(join(host.directory, "bunnel/bunnel.log"), "utf8");
    } catch {
      return "(no log)";
    }
  };
  return `--- log of host A\n${log(hosts.a)}\n--- log of host B\n${log(hosts.b)}`;
}

/** Every byte in both directions of every connection belongs to a TLS record, every handshake is for 1.3, and there is nothing else. */
async function expectOnlyTls13(path: string): Promise<void> {
  const tshark = async (...parameters: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await run([
      "tshark",
      "-r",
      path,
      "-d",
      `tcp.port==${TLS_PORT},tls`,
      ...parameters,
    ]);
    if (exitCode !== 0) throw new Error(stderr);
    return stdout;
  };
  expect(await tshark("-Y", `!(tcp.port==${TLS_PORT}) && !arp && !icmpv6`)).toBe("");
  const fields = ["-T", "fields", "-e"];
  const versions = await tshark("-Y", "tls.handshake.type==2", ...fields, "tls.handshake.extensions.supported_version");
  const hellos = versions.trim().split("\n");
  expect(hellos.length).toBeGreaterThan(5);
  expect([...new Set(hellos)]).toEqual(["0x0304"]);

  const streams = [...new Set((await tshark("-Y", "tcp", ...fields, "tcp.stream")).trim().split("\n"))];
  const followed = await tshark("-q", ...streams.flatMap((stream) => ["-z", `follow,tcp,raw,${stream}`]));
  const found = followed.split("Follow: tcp,raw").slice(1);
  expect(found).toHaveLength(streams.length);
  for (const stream of found) {
    const lines = stream.split("\n").filter((line) => /^\t?[0-9a-f]+$/.test(line));
    for (const isAnswer of [false, true]) {
      const sent = lines.filter((line) => line.startsWith("\t") === isAnswer).map((line) => line.trim());
      expect(recordFault(Buffer.from(sent.join(""), "hex"))).toBe("");
    }
  }
}

/** Where a stream stops being TLS records (RFC 8446, 5.1 and 5.2), or "". The last may be cut, as it is by a reset. */
function recordFault(bytes: Buffer): string {
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
    const [type = 0, major, minor = 0] = bytes.subarray(at, at + 3);
    const length = bytes.readUInt16BE(at + 3);
    if (type < 20 || type > 23 || major !== 3 || minor > 3 || length > 16_384 + 256)
      return `no record at ${at}: ${bytes.subarray(at, at + 16).toString("hex")}`;
  }
  return "";
}

/** A daemon on each host, and certificates as the walk-through makes them: from loopback ports of A to the same ports of B's loopback. */
async function connect(hosts: TwoHosts, ports: readonly (readonly [plain: number, tls: number])[]): Promise<void> {
  const { a, b } = hosts;
  await follow(
    hosts,
    page.slice(
      0,
      page.findIndex(({ kind }) => kind === "config"),
    ),
  );
  const write = (host: Host, config: object): void =>
    writeFileSync(join(host.directory, "bunnel/bunnel.yaml"), JSON.stringify(config));
  const named = <T>(value: (plain: number, tls: number) => T): Record<string, T> =>
    Object.fromEntries(ports.map(([plain, tls]) => [`port-${plain}`, value(plain, tls)]));
  write(a, {
    listeners: ports.map(([plain]) => ({
      name: `port-${plain}`,
      address: `127.0.0.1:${plain}`,
      backend: `port-${plain}`,
    })),
    backends: named((_, tls) => ({
      endpoints: [`${b.address}:${tls}`],
      tls: {
        cert: "certs/host-a.pem",
        key: "certs/host-a.key",
        ca: ["certs/ca.pem"],
        verify: { uri: ["spiffe://mesh.internal/host-b"] },
      },
    })),
  });
  write(b, {
    listeners: ports.map(([plain, tls]) => ({
      name: `port-${plain}`,
      address: `${b.address}:${tls}`,
      tls: { certificates: [{ cert: "certs/host-b.pem", key: "certs/host-b.key" }], client_ca: ["certs/ca.pem"] },
      routes: [{ name: "only", tls: "terminate", policy: "host-a", backend: `port-${plain}` }],
    })),
    policies: { "host-a": { rules: [{ action: "allow", uri: ["spiffe://mesh.internal/host-a"] }] } },
    backends: named((plain) => ({ endpoints: [`127.0.0.1:${plain}`] })),
  });
  // They live until the hosts are no more.
  for (const host of [b, a]) host.start(["bunnel", "run", "-c", "bunnel/bunnel.yaml"]);
  for (const [plain, tls] of ports) {
    await b.accepts(tls, b.address);
    await a.accepts(plain);
  }
}

const TRANSFER_BYTES = 200 * (1 << 20);

/** Prints how many bytes have come by a connection, and answers their number and SHA-256. Who only looks whether it listens may end late. */
const RECEIVER = `
Bun.listen({ hostname: "127.0.0.1", port: 7000, allowHalfOpen: true, socket: {
  open(socket) { socket.data = { count: 0, hash: new Bun.CryptoHasher("sha256") }; },
  data({ data }, chunk) { data.count += chunk.length; data.hash.update(chunk); console.log(data.count); },
  end(socket) { socket.end(socket.data.count + " " + socket.data.hash.digest("hex") + "\\n"); },
} });`;

/** Sends at a pace that leaves time to pull a cable: 200 MiB in some two seconds. Prints the SHA-256 of it all, and the answer. */
const SENDER = `
const { connect } = await import("node:net");
const hash = new Bun.CryptoHasher("sha256");
const socket = connect({ port: 7000, host: "127.0.0.1", allowHalfOpen: true });
socket.on("data", (chunk) => process.stdout.write(chunk));
for (let n = 0; n < 200; n++) {
  const chunk = crypto.getRandomValues(Buffer.alloc(1 << 20).subarray(0, 65536));
  const whole = Buffer.alloc(1 << 20, chunk);
  hash.update(whole);
  if (!socket.write(whole)) await new Promise((resolve) => socket.once("drain", resolve));
  await Bun.sleep(10);
}
console.log(hash.digest("hex"));
socket.end();`;

const postgresDirectory = mkdtempSync(join(tmpdir(), "bunnel-two-hosts-postgres-"));
afterAll(() => rmSync(postgresDirectory, { recursive: true, force: true }));

/** PostgreSQL without TLS on a host's loopback, with a role `client` that needs no password. */
async function startPlainPostgres(host: Host): Promise<AsyncDisposable> {
  const { stdout } = await run(["id", "-u", "postgres"]);
  const owner = Number(stdout);
  chownSync(postgresDirectory, owner, owner);
  const as = ["setpriv", `--reuid=${owner}`, `--regid=${owner}`, "--clear-groups"];
  const postgres = program("postgres");
  const data = join(postgresDirectory, "data");
  const initdb = [join(postgres, "../initdb"), "-D", data, "-U", "client", "-A", "trust", "-N", "--locale=C"];
  const made = await run([...as, ...initdb], { cwd: postgresDirectory });
  if (made.exitCode !== 0) throw new Error(`initdb failed: ${made.stderr}`);
  const settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"];
  const server = host.start([...as, postgres, "-D", data, ...settings], { cwd: postgresDirectory });
  await host.accepts(5432);
  return {
    async [Symbol.asyncDispose]() {
      // Immediate shutdown: SIGKILL would leave its shared memory behind.
      server.signal("SIGQUIT");
      await server.exited;
    },
  };
}
