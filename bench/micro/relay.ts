// What the relay's own work for a chunk costs: the `data` handler between two sockets that take everything and do nothing. No file, no socket and no other program.
// "unlimited" is what connections pay of which the config says nothing; the others are limited, so high that they are never held.
//
// Two cores, Bun 1.4.5, medians of 15 runs of 2,000,000 chunks, in ns, five times interleaved with the relay before it knew limits: before 7.7 to 7.8 (one 11.4),
// now unlimited 7.5 to 7.7 (one 11.2), max_bandwidth 27 to 33, both limits 43 to 54.
import { Clock, TICK_MS } from "../../src/base/clock.ts";
import type { Connection } from "../../src/proxy/connection.ts";
import { Leg, RELAYING } from "../../src/proxy/leg.ts";
import { BackendBandwidth } from "../../src/proxy/rate-limit-bandwidth.ts";
import { legHandlers } from "../../src/proxy/relay.ts";
import type { StreamSocket } from "../../src/runtime/runtime.ts";
import type { BackendSpec } from "../../src/snapshot/snapshot.ts";
import type { Micro } from "./micro.ts";

/** A tick each 25,000 chunks: a second of a million. */
const CHUNKS_PER_TICK = 25_000;
const CONNECTIONS = 64;
const TiB = 2 ** 40;
const chunk = new Uint8Array(1024);

class Sink {
  data: Leg;
  bytes = 0;

  constructor(data: Leg) {
    this.data = data;
  }

  write(bytes: Uint8Array): number {
    this.bytes += bytes.length;
    return bytes.length;
  }
}

/** As much of a connection as the handler looks at. */
class Joined {
  readonly clock: Clock;
  readonly downstream: Leg;
  readonly upstream: Leg;
  lastActivityMs = 0;
  ending = null;
  ended = false;

  constructor(clock: Clock) {
    this.clock = clock;
    this.downstream = new Leg(this as unknown as Connection);
    this.upstream = new Leg(this as unknown as Connection);
    for (const leg of [this.downstream, this.upstream]) {
      leg.flow = RELAYING;
      leg.socket = new Sink(leg) as unknown as StreamSocket<Leg>;
    }
  }

  other(leg: Leg): Leg {
    return leg === this.downstream ? this.upstream : this.downstream;
  }
}

function relayed(
  name: string,
  budget: number,
  limits: Pick<BackendSpec, "maxBandwidth" | "maxBackendBandwidth">,
): Micro {
  const clock = new Clock(1);
  const bandwidth = new BackendBandwidth((rate) => rate / 2);
  const spec = { name: "bench", ...limits } as BackendSpec;
  bandwidth.follow([spec]);
  const sockets: StreamSocket<Leg>[] = [];
  for (let count = 0; count < CONNECTIONS; count++) {
    const { downstream, upstream } = new Joined(clock);
    for (const leg of [downstream, upstream]) {
      bandwidth.meter(leg, spec, () => {});
      sockets.push(leg.socket as StreamSocket<Leg>);
    }
  }
  let count = 0;
  const call = (): void => {
    count += 1;
    if (count % CHUNKS_PER_TICK === 0) clock.advance(clock.nowMs + TICK_MS);
    legHandlers.data(sockets[count % sockets.length] as StreamSocket<Leg>, chunk);
  };
  return { name: `relay: a chunk, ${name}`, budget, call };
}

/** See micro.ts. The first has a compiler that has seen nothing of the others, as in a daemon without limits. */
export const MICRO: readonly Micro[] = [
  relayed("unlimited", 25, { maxBandwidth: 0, maxBackendBandwidth: 0 }),
  relayed("max_bandwidth", 80, { maxBandwidth: TiB, maxBackendBandwidth: 0 }),
  relayed("both limits", 120, { maxBandwidth: TiB, maxBackendBandwidth: TiB }),
];
