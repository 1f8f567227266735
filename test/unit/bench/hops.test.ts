// Which processes a contender is made of: the ways through them lead to the endpoint, and what is claimed of the mTLS between
// two daemons holds.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates, SERVER_NAME } from "../../../bench/certificates.ts";
import { EVERY_LISTENER, layOut, PORTS_AT_MOST, TWO_HOP_SUITE } from "../../../bench/hops.ts";
import { Processes } from "../../../bench/processes.ts";

const PORTS = {
  http: [2001, 2002],
  https: [2003, 2004],
  iperf: 2005,
  ping: 2006,
  redis: 2007,
  postgres: 2008,
  status: 2009,
} as const;
const FREE = Array.from({ length: PORTS_AT_MOST }, (_, index) => 1001 + index);

test.each([EVERY_LISTENER, ["originate"], ["two-hop"]] as const)(
  "%s: every listener has a port of its own",
  (...names) => {
    const ports = layOut(names, PORTS, FREE).flatMap((listeners) => listeners.map(({ port }) => port));
    expect(new Set(ports).size).toBe(ports.length);
    expect(ports.every((port) => FREE.includes(port))).toBe(true);
  },
);

test("two hops: the first originates to where the second terminates", () => {
  const [near, far] = layOut(["two-hop"], PORTS, FREE);
  expect(near?.[0]?.originates).toBe(true);
  expect(near?.[0]?.endpoints).toEqual([far?.[0]?.port ?? -1]);
  expect(far?.[0]?.terminates).toBeDefined();
  expect(far?.[0]?.endpoints).toEqual([PORTS.iperf]);
});

test("two ends that cannot choose agree on the suite that the others are told to use", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-hops-"));
  const agreed = Promise.withResolvers<unknown>();
  try {
    const files = await makeCertificates(folder, new Processes(folder));
    const ca = Bun.file(files.caFile);
    const cert = Bun.file(files.serverCertificateFile);
    const tls = { cert, key: Bun.file(files.serverKeyFile), ca, requestCert: true, rejectUnauthorized: true };
    using listener = Bun.listen({ hostname: "127.0.0.1", port: 0, tls, socket: { data() {} } });
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: listener.port,
      tls: {
        cert: Bun.file(files.clientCertificateFile),
        key: Bun.file(files.clientKeyFile),
        ca,
        rejectUnauthorized: true,
        serverName: SERVER_NAME,
      },
      socket: {
        data() {},
        handshake: (opened) => agreed.resolve(opened.getCipher()),
        close: () => agreed.reject(new Error("the connection was closed")),
      },
    });
    expect(await agreed.promise).toMatchObject({ name: TWO_HOP_SUITE });
    socket.end();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
