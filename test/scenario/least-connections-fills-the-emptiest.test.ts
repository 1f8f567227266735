// Least connections is exact: every connection goes to the endpoint that has the fewest for its weight at that moment, whatever listener it came
// to; who leaves makes room that the next one takes; and an endpoint at its own limit is passed over.

import { describe, expect, test } from "bun:test";
import type { Peer } from "../conformance/peers.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, type Endpoint, hold, startEndpoint } from "../support/tcp.ts";

interface Placed {
  readonly client: Peer;
  /** Which endpoint. */
  readonly at: number;
}

/** Connects, and finds out where that went. */
async function place(address: string, endpoints: readonly Endpoint[]): Promise<Placed> {
  const before = endpoints.map(({ peers }) => peers.length);
  const client = await connectTo(address);
  const at = await eventually("an endpoint got it", () => {
    const index = endpoints.findIndex(({ peers }, n) => peers.length > (before[n] as number));
    return index < 0 ? null : { index };
  });
  return { client, at: at.index };
}

const openAt = (endpoints: readonly Endpoint[]): number[] =>
  endpoints.map(({ peers }) => peers.filter(({ closed }) => !closed).length);

async function threeEndpoints(): Promise<[AsyncDisposableStack, Endpoint[]]> {
  const stack = new AsyncDisposableStack();
  const endpoints: Endpoint[] = [];
  for (let index = 0; index < 3; index++) endpoints.push(stack.use(await startEndpoint(hold)));
  return [stack, endpoints];
}

describe("each connection goes to the emptiest", () => {
  test("over two listeners, as some leave", async () => {
    const [stack, endpoints] = await threeEndpoints();
    await using _ = stack;
    await using daemon = await startDaemon(`
listeners:
  - { name: a, address: 127.0.0.1:0, backend: all }
  - { name: b, address: 127.0.0.1:0, backend: all }
backends: { all: { endpoints: [${endpoints.map(({ address }) => `"${address}"`).join(", ")}] } }
`);
    const listeners = [await daemon.address("a"), await daemon.address("b")] as const;
    const placed: Placed[] = [];
    for (let index = 0; index < 12; index++) {
      placed.push(await place(listeners[index % 2] as string, endpoints));
      const open = openAt(endpoints);
      expect(Math.max(...open) - Math.min(...open)).toBeLessThanOrEqual(1);
    }
    // All of the second endpoint's clients leave: the next four go there and nowhere else.
    const leaving = placed.filter(({ at }) => at === 1);
    for (const { client } of leaving) client.socket.resetAndDestroy();
    await daemon.recorded(leaving.length);
    const next: number[] = [];
    for (let index = 0; index < 4; index++) next.push((await place(listeners[index % 2] as string, endpoints)).at);
    expect(next).toEqual([1, 1, 1, 1]);
    expect(openAt(endpoints)).toEqual([4, 4, 4]);
  });

  test("for its weight, and past those at their limit", async () => {
    const [stack, endpoints] = await threeEndpoints();
    await using _ = stack;
    const [one, two, limited] = endpoints.map(({ address }) => address);
    await using daemon = await startDaemon(`
listeners: [{ name: a, address: 127.0.0.1:0, backend: all }]
backends:
  all:
    endpoints:
      - "${one}"
      - { address: "${two}", weight: 2 }
      - { address: "${limited}", weight: 10, max_connections: 3 }
`);
    const address = await daemon.address("a");
    for (let index = 0; index < 12; index++) await place(address, endpoints);
    expect(openAt(endpoints)).toEqual([3, 6, 3]);
  });
});
