// What the proxy's own work for a short connection costs, from its accept to its record: sockets are objects that take everything and do nothing, so no system call
// and nothing of the runtime's sockets is in it.
// The least of many batches is what the work takes when nobody disturbs it; garbage collection is in the median.
import { OneProcess } from "../../src/cli/one-process.ts";
import type { Leg } from "../../src/proxy/leg.ts";
import type {
  BoundSocket,
  Dial,
  DialOptions,
  ListeningSocket,
  ListenOptions,
  StreamSocket,
} from "../../src/runtime/runtime.ts";
import { SimRuntime } from "../../test/support/sim-runtime.ts";
import { Schedule } from "../../test/support/sim-schedule.ts";
import { backendSpec, endpointSpec, snapshotSpec } from "../../test/support/sim-snapshot.ts";
import { cpuSamples, type Micro } from "./micro.ts";

const BATCHES = 41;
const BATCH = 20_000;
/** Connections that are open at once. */
const AT_ONCE = 32;
const request = new Uint8Array(64);

/** Takes everything. Closes once both directions have ended, as Bun's does. */
class Sink {
  data: Leg | undefined = undefined;
  readonly remoteAddress = "127.0.0.1";
  readonly remotePort = 40_000;
  readonly localAddress = "127.0.0.1";
  readonly localPort = 1000;
  hasShutDown = false;

  write(bytes: Uint8Array): number {
    return bytes.length;
  }

  shutdown(): void {
    this.hasShutDown = true;
  }

  close(): void {
    handlers.close(this.asStream, "clean");
  }

  terminate(): void {
    this.close();
  }

  pause(): void {}

  resume(): void {}

  /** The peer sends FIN. */
  end(): void {
    handlers.end(this.asStream);
    if (this.hasShutDown && this.data?.closed === false) this.close();
  }

  get asStream(): StreamSocket<Leg> {
    return this as unknown as StreamSocket<Leg>;
  }
}

let handlers: ListenOptions<Leg>["handlers"];
let accept: (socket: StreamSocket<Leg>) => void;

class SinkRuntime extends SimRuntime {
  override preciseNowMs(): number {
    return performance.now();
  }

  override endOrderly(): void {}

  override listen<S>(options: ListenOptions<S>): ListeningSocket {
    ({ handlers, accept } = options as unknown as ListenOptions<Leg>);
    const socket: BoundSocket = options.socket;
    return { address: socket.address as never, pause() {}, resume() {}, hasWaiting: () => false, close() {} };
  }

  override dial<S>({ data }: DialOptions<S>): Dial<S> {
    const socket = new Sink();
    socket.data = data as Leg;
    return { result: Promise.resolve({ ok: true, socket: socket as unknown as StreamSocket<S> }), cancel() {} };
  }
}

async function serveSome(): Promise<void> {
  const clients: Sink[] = [];
  for (let count = 0; count < AT_ONCE; count++) {
    const client = new Sink();
    accept(client.asStream);
    handlers.data(client.asStream, request);
    clients.push(client);
  }
  // By then every one of them is dialled, and relays.
  await new Promise((resolve) => setImmediate(resolve));
  for (const client of clients) {
    const { upstream } = (client.data as Leg).connection;
    const server = upstream.socket as unknown as Sink;
    handlers.data(server.asStream, request);
    server.end();
    client.end();
  }
}

const runtime = new SinkRuntime({
  schedule: new Schedule(1),
  quirks: {} as never,
  dialled: () => {
    throw new Error("nobody is dialled");
  },
});
const { worker } = new OneProcess({
  runtime,
  snapshot: snapshotSpec({ backends: [backendSpec({ endpoints: [endpointSpec(0), endpointSpec(1)] })] }),
  accessLog: null,
});

async function served(): Promise<readonly number[]> {
  const samples = await cpuSamples({ times: BATCHES, count: BATCH }, async (connections) => {
    for (let count = 0; count < connections; count += AT_ONCE) await serveSome();
  });
  if (worker.connectionCount > 0) throw new Error(`${worker.connectionCount} connections were not ended`);
  return samples;
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  { name: "worker: a short connection, from accept to record", budget: 5000, samples: served },
];
