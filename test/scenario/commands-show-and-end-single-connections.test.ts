// An operator finds a connection by the commands of the program, looks at it, ends it, and is told why it and a client that was refused have ended.
// What a command prints arrives whole, however slow its reader is.

import { expect, test } from "bun:test";
import { join } from "node:path";
import type { CloseLine, ConnectionRow } from "../../src/snapshot/inspection.ts";
import { run } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, echo, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { sampleConnection } from "../support/top-sample.ts";

const SLOW_MS = 30_000;

test(
  "connections, one of them, its end, and why",
  async () => {
    await using endpoint = await startEndpoint(echo);
    await using daemon = await startDaemon(`
workers: 2
admin: { address: "unix:${join(temporaryDirectory("bunnel-commands-"), "admin.sock")}" }
listeners:
  - { name: edge, address: 127.0.0.1:0, backend: db }
  - { name: dead, address: 127.0.0.1:0, backend: none }
backends:
  db: { endpoints: ["${endpoint.address}"] }
  none: { endpoints: [127.0.0.1:1], connect_attempts: 1 }
`);
    const config = join(daemon.directory, "bunnel.yaml");
    const command = (...args: readonly string[]) => run(bunnel(...args, "-c", config));
    const client = await talking(await daemon.address("edge"));
    await talking(await daemon.address("edge"));
    const refused = await connectTo(await daemon.address("dead"));
    await eventually("the refused client was reset", () => refused.errorCode !== "");

    const listed = await command(
      "connections",
      "--json",
      "--listener",
      "edge",
      "--text",
      String(client.socket.localPort),
    );
    const rows = listed.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as ConnectionRow);
    expect(rows.map(({ downstream }) => downstream)).toEqual([`127.0.0.1:${client.socket.localPort}`]);
    const id = rows[0]?.id ?? "";
    expect((await command("connections")).stdout.split("\n").length).toBe(4);
    expect(await command("connections", "--backend", "none")).toEqual({
      exitCode: 0,
      stdout: "",
      stderr: "none of 2 connections is of that kind\n",
    });

    const shown = await command("connections", id);
    expect(shown.stdout).toMatch(new RegExp(`^connection  ${id}.*\nstate       relay; open for`));
    expect(shown.stdout).toMatch(/\ndownstream {2}127\.0\.0\.1:\d+ .*\n +ESTAB/);
    expect(shown.stdout).toContain(`\nupstream    ${endpoint.address} `);

    expect((await command("connections", "--close", id)).stdout).toStartWith(`closed ${id}`);
    await eventually("the client was reset", () => client.errorCode === "ECONNRESET");
    const again = await command("connections", "--close", id);
    expect([again.exitCode, again.stdout]).toEqual([1, ""]);
    expect(again.stderr).toContain(id);

    const ended = await eventually(
      "both ends are told of",
      async () => {
        const { stdout } = await command("closes");
        return stdout.split("\n").length === 3 && stdout;
      },
      SLOW_MS,
    );
    expect(ended).toMatch(
      new RegExp(`  127\\.0\\.0\\.1:\\d+  edge \\S+ db/${endpoint.address}  admin_closed: .*; id ${id}\n`),
    );
    expect(ended).toMatch(/ {2}dead \S+ none\S* {2}connect_refused: Every endpoint tried refused .*ECONNREFUSED.*\n/);
    const one = await command("closes", "--json", "--reason", "connect_refused");
    expect((JSON.parse(one.stdout) as CloseLine).close_reason).toBe("connect_refused");
  },
  SLOW_MS,
);

test(
  "a slow reader gets all of it, and one that leaves is no failure",
  async () => {
    const rows = Array.from({ length: 1000 }, (_, n) => sampleConnection({ id: `x-${n}` }));
    const answer = { connections: rows, matching: 1000, total: 1000 };
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => Response.json(answer) });
    try {
      const list = bunnel("connections", "--json", "--admin", `127.0.0.1:${server.port}`)
        .map((word) => `'${word}'`)
        .join(" ");
      const piped = (reader: string) => run(["bash", "-c", `${list} | ${reader}; echo "\${PIPESTATUS[0]}"`]);
      expect((await piped("(sleep 1; wc -l)")).stdout.trim().split(/\s+/)).toEqual(["1000", "0"]);
      expect(await piped("head -n 1 | wc -l")).toEqual({ exitCode: 0, stdout: "1\n0\n", stderr: "" });
    } finally {
      await server.stop(true);
    }
  },
  SLOW_MS,
);
