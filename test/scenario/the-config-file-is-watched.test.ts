// With `watch_config: true` a config that is written anew is served without a signal, and nobody on a listener that stays is cut. One that is broken is told of once,
// with its places, and the old one is served until it is mended. `watch_config: false` ends it.

import { expect, test } from "bun:test";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected } from "../support/live-clients.ts";
import { unusedPort } from "../support/servers.ts";
import { startEndpoint } from "../support/tcp.ts";

const RELOADED = "config reloaded";
const REFUSED = "reload refused: the old config is still served";

/** As careful tools do it: the file is whole, or the old one. */
function replace(daemon: Daemon, text: string): void {
  const path = join(daemon.directory, "bunnel.yaml");
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function told(daemon: Daemon, message: string): readonly Record<string, unknown>[] {
  return daemon.log.filter(({ msg }) => msg === message);
}

async function untilTold(daemon: Daemon, message: string, times: number): Promise<void> {
  await eventually(
    () => `"${message}" was told ${times} times: ${daemon.child.story}`,
    () => told(daemon, message).length >= times,
  );
}

test("a changed config file is served, a broken one is told of once and mended, and watching can be switched off", async () => {
  await using first = await startEndpoint();
  await using second = await startEndpoint();
  const port = await unusedPort();
  const to = `127.0.0.1:${port}`;
  const body = (endpoint: string, watch = true): string => `workers: 0
admin: { address: off }
watch_config: ${watch}
access_log: { output: ./access.log }
listeners: [{ name: in, address: "${to}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint}"] } }
`;
  await using daemon = await startDaemon(`watch_config: true
listeners: [{ name: in, address: "${to}", backend: echo }]
backends: { echo: { endpoints: ["${first.address}"] } }
`);
  const old = await connected({ to });
  await old.echo();

  replace(daemon, body(second.address));
  await untilTold(daemon, RELOADED, 1);
  const young = await connected({ to });
  await Promise.all([young.echo(), old.echo()]);
  expect([first.peers.length, second.peers.length]).toEqual([1, 1]);

  replace(daemon, body(first.address).replace("backend: echo", "backend: ecco"));
  await untilTold(daemon, REFUSED, 1);
  expect(String(told(daemon, REFUSED)[0]?.problem)).toContain('there is no backend "ecco"; did you mean "echo"?');
  const meanwhile = await connected({ to });
  await meanwhile.echo();
  expect(second.peers.length).toBe(2);

  // In place, and with the wrong endpoint nowhere in it.
  writeFileSync(join(daemon.directory, "bunnel.yaml"), body(first.address));
  await untilTold(daemon, RELOADED, 2);
  await Promise.all([old, young, meanwhile].map((client) => client.echo()));
  expect(told(daemon, REFUSED)).toHaveLength(1);

  replace(daemon, body(first.address, false));
  await untilTold(daemon, RELOADED, 3);
  replace(daemon, "this is no config at all");
  // A certificate set is looked at by the same clock, but there is none here; SIGHUP shows that the file was not read before.
  daemon.child.signal("SIGHUP");
  await untilTold(daemon, REFUSED, 2);
  expect(told(daemon, RELOADED)).toHaveLength(3);
  for (const client of [old, young, meanwhile]) client.close();
  await daemon.recorded(3);
}, 20_000);
