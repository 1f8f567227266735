import { expect, test } from "bun:test";
import { loadConfig } from "../../../src/config/load.ts";
import { formatPath } from "../../../src/config/problems.ts";
import { refusedPlaces } from "../../../src/control/platform-limits.ts";
import { refusals } from "../../../src/runtime/deno/limits.ts";

function refusedIn(text: string): string[] {
  const loaded = loadConfig(text, { file: "f", environment: {} });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return refusedPlaces(loaded.config, refusals).map(({ path }) => formatPath(path));
}

const BACKEND = "backends: { b: { endpoints: ['127.0.0.1:2'] } }";
const OPAQUE = `listeners: [{ name: a, address: '127.0.0.1:1', backend: b }]\n${BACKEND}`;

test("each option that the platform cannot honour is refused at its place", () => {
  const all = `workers: 2
user: nobody
pid_file: ./x.pid
admin: { address: '127.0.0.1:3', tls: { cert: a, key: b } }
telemetry: { otlp: { endpoint: 'http://127.0.0.1:1/v1/traces' } }
listeners:
  - { name: a, address: 'systemd:web', allow_plaintext: true, backend: b }
  - name: t
    address: 127.0.0.1:1
    tls: { certificates: [{ cert: a, key: b }], client_auth: none, session_tickets: true }
    routes: [{ name: r, tls: terminate, backend: b, terminate: { session_tickets: true } }]
${BACKEND}`;
  expect(refusedIn(all).sort()).toEqual([
    "admin.tls",
    "listeners[0].address",
    "listeners[1].routes[0].terminate.session_tickets",
    "listeners[1].tls.session_tickets",
    "pid_file",
    "telemetry.otlp",
    "user",
    "workers",
  ]);
});

test("what one process can do is not", () => {
  for (const workers of ["auto", 0, 1]) expect(refusedIn(`workers: ${workers}\n${OPAQUE}`)).toEqual([]);
  expect(refusedIn(OPAQUE)).toEqual([]);
});
