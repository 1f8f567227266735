// GET /api/v1/events: what happens, as it happens (server-sent events). One timer serves all streams, each event is serialised once for all of them,
// and without a stream there is no timer. A client that does not read is disconnected, so that nothing piles up here.

import type { Control } from "../control/control.ts";
import type { CloseFilter } from "../snapshot/inspection.ts";
import type { Status } from "../snapshot/status.ts";
import { Problem } from "./problem.ts";
import { isOtherService, tickBetween } from "./tick.ts";

const TICK_MS = 1000;
/** Ticks between two comments, which keep proxies in between from closing a silent connection. */
const TICKS_A_COMMENT = 15;
const MOST_STREAMS = 64;
/** Bytes that may wait for a reader. */
const MOST_WAITING_BYTES = 1024 * 1024;
/** Of one event. */
const MOST_CLOSES = 50;
/** After how long a browser comes back. */
const RETRY_MS = 2000;
/** Processes whose records are followed; some of them have ended. */
const MOST_FOLLOWED = 256;

const FAILED: CloseFilter = { listener: "", backend: "", reason: "", text: "", failed: true };
const TEXT = new TextEncoder();

type Stream = ReadableStreamDefaultController<Uint8Array>;

/** All who watch. */
export class EventStreams {
  readonly #control: Control;
  readonly #onDefect: (thrown: unknown) => void;
  readonly #tickMs: number;
  readonly #streams = new Set<Stream>();
  #timer: ReturnType<typeof setInterval> | null = null;
  #ticks = 0;
  /** As it was told last. */
  #told: Status | null = null;
  /** The last record of each process that was told. */
  #followed: Readonly<Record<string, number>> = {};
  /** The workers who did not answer the last question, as they were told. */
  #silent = "";
  /** Whether a question for records waits for its answer. */
  #asking = false;

  /** `tickMs`: the time between two ticks. Default: a second. */
  constructor(control: Control, onDefect: (thrown: unknown) => void, tickMs = TICK_MS) {
    this.#control = control;
    this.#onDefect = onDefect;
    this.#tickMs = tickMs;
  }

  /** A new stream, as an answer. Throws a Problem when there are as many as may be. */
  open(): Response {
    if (this.#streams.size >= MOST_STREAMS)
      throw new Problem(503, `${MOST_STREAMS} event streams are open already, and no more may be`);
    let ours: Stream;
    const body = new ReadableStream<Uint8Array>(
      {
        start: (stream) => {
          ours = stream;
          this.#join(stream);
        },
        cancel: () => this.#leave(ours),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: MOST_WAITING_BYTES }),
    );
    return new Response(body, { headers: EVENT_HEADERS });
  }

  /** Ends all of them. */
  close(): void {
    for (const stream of [...this.#streams]) {
      this.#leave(stream);
      stream.close();
    }
  }

  #join(stream: Stream): void {
    const status = this.#control.status();
    stream.enqueue(TEXT.encode(`retry: ${RETRY_MS}\n\n${written("status", status)}`));
    this.#streams.add(stream);
    this.#control.streams.open = this.#streams.size;
    if (this.#timer !== null) return;
    this.#told = status;
    this.#timer = setInterval(() => this.#tick(), this.#tickMs);
    // What has ended before is no news.
    void this.#tellCloses(0);
  }

  #leave(stream: Stream): void {
    this.#streams.delete(stream);
    this.#control.streams.open = this.#streams.size;
    if (this.#streams.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#told = null;
  }

  #tick(): void {
    try {
      const status = this.#control.status();
      const before = this.#told;
      this.#told = status;
      if (before === null || isOtherService(before, status)) this.#send(written("status", status));
      else this.#send(written("tick", tickBetween(before, status, new Date().toISOString())));
      if (++this.#ticks % TICKS_A_COMMENT === 0) this.#send(":\n\n");
      void this.#tellCloses(MOST_CLOSES);
    } catch (thrown) {
      this.#onDefect(thrown);
    }
  }

  /** The connections that have failed since the last tick, up to a limit for each process. */
  async #tellCloses(limit: number): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const { answers, silent } = await this.#control.ask({
        ask: "closes",
        after: this.#followed,
        filter: FAILED,
        limit,
      });
      const last = Object.fromEntries(answers.map(({ answer }) => [answer.process, answer.last]));
      const isCrowded = Object.keys(this.#followed).length >= MOST_FOLLOWED;
      this.#followed = isCrowded ? last : { ...this.#followed, ...last };
      const closes = answers.flatMap(({ answer }) => answer.closes);
      closes.sort((a, b) => (a.ended_at < b.ended_at ? 1 : -1));
      // Also those who have just fallen silent, or speak again.
      const isNews = closes.length > 0 || silent.join() !== this.#silent;
      this.#silent = silent.join();
      if (isNews) this.#send(written("closes", { closes: closes.slice(0, MOST_CLOSES), silent_workers: silent }));
    } catch (thrown) {
      this.#onDefect(thrown);
    } finally {
      this.#asking = false;
    }
  }

  #send(text: string): void {
    const bytes = TEXT.encode(text);
    for (const stream of [...this.#streams]) {
      // One event may be larger than what may wait, but not be put on top of it.
      if ((stream.desiredSize ?? 0) > 0) stream.enqueue(bytes);
      else this.#drop(stream);
    }
  }

  #drop(stream: Stream): void {
    this.#leave(stream);
    this.#control.streams.dropped++;
    stream.error(new Error("the reader is too slow"));
  }
}

/** Nothing in between may keep it back to make it smaller. */
const EVENT_HEADERS = { "Content-Type": "text/event-stream", "X-Accel-Buffering": "no" };

function written(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
