// The load generator, a process of its own so that neither the test nor what is under test slows it: `bun generator.ts OPTIONS`, with LoadOptions as JSON. The pace is that of the
// clock: late answers do not slow it. It ends after its time, or when a line comes on standard input or that is closed, with a summary.

import { prepareTarget, type Target } from "./client.ts";
import type { Failure, FailureKind, Latency, LoadOptions, ReportLine } from "./report.ts";
import { Exchange, randomPayload, Stream } from "./traffic.ts";

const TICK_MS = 2;
const LOOK_MS = 50;
const EXAMPLES_OF_A_KIND = 5;
/** Failures that are told line by line; all are counted. */
const MOST_TOLD = 2000;
const MOST_SAMPLES = 1_000_000;

const options = JSON.parse(process.argv[2] ?? "{}") as LoadOptions;
const { perSecond, seconds, streamIntervalMs = 50, streamPatienceMs = 5000, timeoutMs = 10_000 } = options;
const { maxPayloadBytes = 256 * 1024, maxOpen = 4000, exchanges = Number.POSITIVE_INFINITY } = options;
const targets = options.targets.map(prepareTarget);

const open = new Set<Exchange>();
const streams = new Set<Stream>();
const unready = new Set<Stream>();
const connectSamples: number[] = [];
const exchangeSamples: number[] = [];
const failed: Partial<Record<FailureKind, number>> = {};
const examples: Failure[] = [];
const counted = { due: 0, attempted: 0, ok: 0, skipped: 0, failures: 0, streamsOk: 0, exchangedBytes: 0 };
let longestStreamGapMs = 0;
let streamedBytes = 0;
let ownLagMs = 0;
let stopping = false;

function tell(line: ReportLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function countFailure(failure: Failure): void {
  const ofKind = (failed[failure.kind] ?? 0) + 1;
  failed[failure.kind] = ofKind;
  if (ofKind <= EXAMPLES_OF_A_KIND) examples.push(failure);
  if (++counted.failures <= MOST_TOLD) tell(failure);
}

function targetOf(index: number): Target {
  return targets[index % targets.length] as Target;
}

function startExchange(): void {
  if (open.size >= maxOpen) {
    counted.skipped++;
    return;
  }
  const id = ++counted.attempted;
  open.add(new Exchange({ id, target: targetOf(id), payload: randomPayload(maxPayloadBytes), done: exchangeDone }));
}

function exchangeDone(exchange: Exchange, failure: Failure | null): void {
  open.delete(exchange);
  const { connectMs, receivedBytes } = exchange.client;
  if (connectMs > 0 && connectSamples.length < MOST_SAMPLES) connectSamples.push(connectMs);
  counted.exchangedBytes += receivedBytes;
  if (failure !== null) {
    countFailure(failure);
    return;
  }
  counted.ok++;
  if (exchangeSamples.length < MOST_SAMPLES) exchangeSamples.push(performance.now() - exchange.startedAt);
}

function startStream(id: number): void {
  const stream = new Stream({ id, target: targetOf(id), patienceMs: streamPatienceMs, ready, done: streamDone });
  streams.add(stream);
  unready.add(stream);
}

function ready(stream: Stream): void {
  if (!unready.delete(stream) || unready.size > 0) return;
  tell({ event: "ready", streamPorts: [...streams].map(({ client }) => client.localPort) });
}

function streamDone(stream: Stream, failure: Failure | null): void {
  streams.delete(stream);
  streamedBytes += stream.client.receivedBytes;
  longestStreamGapMs = Math.max(longestStreamGapMs, stream.longestGapMs);
  if (failure === null) counted.streamsOk++;
  else countFailure(failure);
  ready(stream);
}

/** p99 of nothing is 0. */
function latency(samples: number[]): Latency {
  samples.sort((a, b) => a - b);
  const at = (share: number): number => {
    const sample = samples[Math.min(samples.length - 1, Math.floor(samples.length * share))];
    return Math.round((sample ?? 0) * 100) / 100;
  };
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

const startedAt = performance.now();
let tickedAt = startedAt;
let pulse = 0;

/** Begins what is due by the clock. */
function tick(): void {
  const now = performance.now();
  ownLagMs = Math.max(ownLagMs, now - tickedAt - TICK_MS);
  tickedAt = now;
  if (stopping) return;
  const due = Math.min(exchanges, Math.floor(((now - startedAt) / 1000) * perSecond));
  for (; counted.due < due; counted.due++) startExchange();
  // Streams take turns within their interval, so that not all of them send at once.
  const slot = Math.floor((now - startedAt) / TICK_MS);
  const slots = Math.max(1, Math.round(streamIntervalMs / TICK_MS));
  for (const stream of streams) if (isTurn(stream.client.id % slots, slot, slots)) stream.pulse();
  pulse = slot;
  if (now - startedAt > seconds * 1000) void stop();
}

/** Whether a turn lies between the last tick and this one. */
function isTurn(turn: number, slot: number, slots: number): boolean {
  const since = (((slot - turn) % slots) + slots) % slots;
  return since < slot - pulse;
}

function look(): void {
  const now = performance.now();
  for (const exchange of open) {
    if (now - exchange.startedAt < timeoutMs) break;
    exchange.client.fail("timed_out", "");
  }
}

async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  const ran = performance.now() - startedAt;
  for (const stream of streams) stream.stop();
  const until = performance.now() + timeoutMs;
  while ((open.size > 0 || streams.size > 0) && performance.now() < until)
    await new Promise((resolve) => setTimeout(resolve, 5));
  for (const { client } of [...open, ...streams]) client.fail("timed_out", "after the stop");
  const { attempted, ok, skipped, streamsOk, exchangedBytes } = counted;
  tell({
    ...{ event: "summary", seconds: Math.round(ran) / 1000, attempted, ok, failed, examples, skipped },
    ...{ connectMs: latency(connectSamples), exchangeMs: latency(exchangeSamples) },
    ...{ longestStreamGapMs: Math.round(longestStreamGapMs), streams: options.streams, streamsOk },
    ...{ exchangedBytes, streamedBytes, ownLagMs: Math.round(ownLagMs) },
  });
  process.exit(0);
}

for (let id = 1; id <= options.streams; id++) startStream(id);
if (options.streams === 0) tell({ event: "ready", streamPorts: [] });
setInterval(tick, TICK_MS);
setInterval(look, LOOK_MS);
process.stdin.on("data", () => void stop());
process.stdin.on("end", () => void stop());
