// Whether what became of a connection is right: judged when its record is written and again when all is quiet, from what the
// parties did and saw and what the links know, never from the proxy's own state.

import { TICK_MS } from "../../src/base/clock.ts";
import type { BackendSpec, ListenerSpec, Snapshot } from "../../src/snapshot/snapshot.ts";
import type { CloseRecord } from "../../src/telemetry/access-log.ts";
import type { SimLink } from "../support/sim-link.ts";
import type { Schedule } from "../support/sim-schedule.ts";
import type { Party } from "./party.ts";
import { LISTENERS } from "./scripts.ts";
import type { Case } from "./world.ts";

/** Deadlines come up to one tick late, and the time they count from is known to one tick. */
const SLACK_MS = 3 * TICK_MS;

export class Judge {
  /** When a drain cuts what remains; infinite while nothing drains. */
  drainDueMs = Number.POSITIVE_INFINITY;
  readonly #schedule: Schedule;
  readonly #snapshot: Snapshot;
  readonly #backend: BackendSpec;

  constructor(schedule: Schedule, snapshot: Snapshot) {
    this.#schedule = schedule;
    this.#snapshot = snapshot;
    this.#backend = snapshot.backends[0] as BackendSpec;
  }

  /** At the moment of the record. `open`: other connections of its source on its listener. */
  atRecord(one: Case, record: CloseRecord, open: number): void {
    const { client, server } = one;
    const bytesUp = server?.link?.takenBytes ?? 0;
    const bytesDown = client.link?.takenBytes ?? 0;
    if (record.bytesUp !== bytesUp) this.#wrong(one, `bytes_up is ${record.bytesUp}, but ${bytesUp} were taken`);
    if (record.bytesDown !== bytesDown)
      this.#wrong(one, `bytes_down is ${record.bytesDown}, but ${bytesDown} were taken`);
    if (!this.#isDue(one, record, open))
      this.#wrong(one, `${record.closeReason} (${record.detail}) was not called for`);
    if (this.#schedule.nowMs > this.drainDueMs + SLACK_MS) this.#wrong(one, "it outlived the drain");
    if (server !== null && client.connectedMs >= 0) this.#checkSilence(one, record, server);
  }

  /** When nothing is on its way any more. */
  atTheEnd(one: Case): void {
    const { client, server, records, script } = one;
    const accepted = client.connectedMs >= 0;
    if (records.length !== (accepted ? 1 : 0)) this.#wrong(one, `${records.length} records`);
    const [record] = records;
    if (record === undefined) {
      if (!accepted && this.drainDueMs === Number.POSITIVE_INFINITY) this.#wrong(one, "it was never accepted");
      return;
    }
    if (script.isCalm && !this.#calmReasons(script.listener).includes(record.closeReason))
      this.#wrong(one, `a calm connection ended with ${record.closeReason} (${record.detail})`);
    if (server === null) {
      if (client.fins > 0) this.#wrong(one, "a client that nobody was dialled for got a clean FIN");
      return;
    }
    if (record.closeReason === "completed") this.#checkCompleted(one, record, server);
    this.#checkDelivery(one, { from: client, to: server }, record);
    this.#checkDelivery(one, { from: server, to: client }, record);
  }

  #calmReasons(listener: number): readonly string[] {
    const reasons = ["completed"];
    if (listener === LISTENERS.limited) reasons.push("limit_reached");
    if (this.#hasEndpointLimits) reasons.push("no_endpoint");
    if (this.#mayOverload) reasons.push("backend_overload");
    if (this.#backend.maxLifetimeMs > 0) reasons.push("lifetime_exceeded");
    if (this.drainDueMs !== Number.POSITIVE_INFINITY) reasons.push("drain_timeout", "drain_idle");
    return reasons;
  }

  get #hasEndpointLimits(): boolean {
    return this.#backend.endpoints.some(({ maxConnections }) => maxConnections > 0);
  }

  get #mayOverload(): boolean {
    const { maxConnections, maxPendingConnects, queueSize } = this.#backend;
    return maxConnections > 0 || maxPendingConnects > 0 || (this.#hasEndpointLimits && queueSize > 0);
  }

  #checkCompleted(one: Case, record: CloseRecord, server: Party): void {
    const { client } = one;
    // A client that cut its TLS stream after it had the whole answer.
    const unsaidEnd = record.detail !== "";
    const directions = unsaidEnd
      ? [{ from: server, to: client }]
      : [
          { from: server, to: client },
          { from: client, to: server },
        ];
    for (const { from, to } of directions) {
      if (!from.finished) this.#wrong(one, `completed, but ${from.name} never finished`);
      if (!to.isPatient) continue;
      if (to.received !== from.sent)
        this.#wrong(one, `completed, but ${to.name} got ${to.received} of ${from.sent} bytes`);
      if (to.fins !== 1) this.#wrong(one, `completed, but ${to.name} got ${to.fins} FINs`);
      if (to.resets > 0 && !unsaidEnd) this.#wrong(one, `completed, but ${to.name} was reset`);
    }
  }

  /** A stream that had ended in order before anything broke is delivered whole, and so are bytes that outlived the reset behind them. */
  #checkDelivery(one: Case, { from, to }: { from: Party; to: Party }, record: CloseRecord): void {
    if (!["completed", "downstream_reset", "upstream_reset"].includes(record.closeReason)) return;
    if (!to.isPatient || from.brokeWhileHeld || to.brokeWhileHeld) return;
    const [source, sink] = [from.link as SimLink, to.link as SimLink];
    // It read too slowly for the time that what is left of a broken connection gets.
    if (sink.abandonedFull) return;
    // Nor does what is left of it get more time than a connection may have at all.
    const { maxLifetimeMs } = this.#backend;
    if (maxLifetimeMs > 0 && record.durationMs >= maxLifetimeMs - TICK_MS) return;
    if (source.endTold && (to.received !== from.sent || to.fins !== 1))
      this.#wrong(
        one,
        `${from.name} had ended in order, but ${to.name} got ${to.received} of ${from.sent} bytes and ${to.fins} FINs`,
      );
    if (source.swallowed && source.abandonedBytes > 0)
      this.#wrong(one, `${source.abandonedBytes} bytes of ${from.name} could still be read when its link was given up`);
    const streamBytes = source.toldBytes - from.preamble.header.length;
    if (from.broke && sink.takenBytes < streamBytes)
      this.#wrong(
        one,
        `${to.name} was sent ${sink.takenBytes} of the ${streamBytes} bytes that ${from.name} sent before it broke`,
      );
  }

  /** Silence ends a relay when its limit has passed, and not before. */
  #checkSilence(one: Case, record: CloseRecord, server: Party): void {
    const { client } = one;
    const [down, up] = [client.link as SimLink, server.link as SimLink];
    const { nowMs } = this.#schedule;
    const isHalfClosed = down.endTold || up.endTold;
    const { idleTimeoutMs, halfCloseIdleTimeoutMs } = this.#backend;
    const limit =
      isHalfClosed && halfCloseIdleTimeoutMs > 0 ? Math.min(idleTimeoutMs, halfCloseIdleTimeoutMs) : idleTimeoutMs;
    const movedMs = Math.max(down.lastMovedMs, up.lastMovedMs, server.connectedMs);
    // Of what happens in the kernel the proxy knows only what its last look and this one tell: that can cost one more limit.
    const consumedMs = Math.max(down.lastConsumedMs, up.lastConsumedMs);
    const waits = consumedMs > movedMs || down.unconsumedBytes > 0 || up.unconsumedBytes > 0;
    const seenMs = waits ? Math.max(movedMs, consumedMs) + limit : movedMs;
    const dueMs = Math.max(seenMs + limit, down.endToldMs, up.endToldMs);
    if (record.closeReason === "idle_timeout" && nowMs < movedMs + limit - TICK_MS)
      this.#wrong(one, `idle_timeout after ${Math.round(nowMs - movedMs)} ms of silence instead of ${limit}`);
    const broke = isBroken(down) || isBroken(up);
    if (!broke && nowMs > dueMs + SLACK_MS)
      this.#wrong(one, `${record.closeReason} after ${Math.round(nowMs - movedMs)} ms of silence, over ${limit}`);
    const { maxLifetimeMs } = this.#backend;
    const ageMs = nowMs - client.connectedMs;
    if (
      !broke &&
      maxLifetimeMs > 0 &&
      ageMs > Math.max(maxLifetimeMs, server.connectedMs - client.connectedMs) + SLACK_MS
    )
      this.#wrong(one, `${record.closeReason} at an age of ${Math.round(ageMs)} ms, over ${maxLifetimeMs}`);
  }

  /** Whether anything happened that calls for this reason. */
  #isDue(one: Case, record: CloseRecord, open: number): boolean {
    const { client, server, script, lastDial } = one;
    const down = client.link;
    const up = server?.link ?? null;
    const nowMs = this.#schedule.nowMs;
    const ageMs = nowMs - client.connectedMs;
    const { peekTimeoutMs, handshakeTimeoutMs, maxConnectionsPerSource } = this.#snapshot.listeners[
      script.listener
    ] as ListenerSpec;
    switch (record.closeReason) {
      case "completed":
        return client.link?.endTold === true || (client.wasCut && server?.link?.endTold === true);
      case "downstream_reset":
        return isBroken(down);
      case "upstream_reset":
        return isBroken(up);
      case "downstream_truncated":
        return client.wasCut;
      case "downstream_left":
        return down?.endTold === true && server === null;
      case "idle_timeout":
        return server !== null;
      case "lifetime_exceeded":
        return this.#backend.maxLifetimeMs > 0 && ageMs >= this.#backend.maxLifetimeMs - TICK_MS;
      case "drain_timeout":
        return nowMs >= this.drainDueMs - TICK_MS;
      case "drain_idle": {
        const movedMs = Math.max(down?.lastMovedMs ?? 0, up?.lastMovedMs ?? 0);
        const { drainTimeoutMs } = this.#snapshot;
        const beganMs = this.drainDueMs - drainTimeoutMs;
        // What has moved in a tick bears the time of its beginning.
        if (movedMs > beganMs + TICK_MS || nowMs < movedMs + 5000 - TICK_MS) return false;
        return nowMs >= beganMs + drainTimeoutMs / 4 - TICK_MS && nowMs < this.drainDueMs;
      }
      case "limit_reached":
        return maxConnectionsPerSource > 0 && open >= maxConnectionsPerSource;
      case "source_denied":
        return script.flaw === "untrusted";
      case "peek_timeout":
        return (
          (script.flaw === "silent" || script.flaw === "partial" || client.broke) && ageMs >= peekTimeoutMs - TICK_MS
        );
      case "malformed_header":
      case "not_tls":
        return ["garbage", "silent", "partial"].includes(script.flaw);
      case "no_route":
        // Noise may complete a hello that was cut.
        return script.flaw === "unknown_name" || script.flaw === "partial" || script.flaw === "silent";
      case "handshake_timeout":
        return (script.flaw === "silent_handshake" || client.broke) && ageMs >= handshakeTimeoutMs - TICK_MS;
      case "handshake_failed":
        return script.flaw === "bad_handshake" || isBroken(down) || client.wasCut || client.finished;
      case "certificate_rejected":
        return script.flaw === "bad_certificate";
      case "policy_denied":
        return script.flaw === "denied";
      case "no_endpoint":
        return this.#hasEndpointLimits;
      case "backend_overload":
        return this.#mayOverload;
      case "connect_refused":
        return lastDial?.kind === "fails" && lastDial.code !== "ETIMEDOUT";
      case "connect_timeout":
        return (
          lastDial?.kind === "silence" ||
          (lastDial?.kind === "fails" && lastDial.code === "ETIMEDOUT") ||
          (lastDial !== null && lastDial.afterMs > this.#backend.connectTimeoutMs - TICK_MS)
        );
      default:
        return false;
    }
  }

  #wrong({ client, script }: Case, text: string): void {
    this.#schedule.violation(`${client.name} (listener ${script.listener}): ${text}`);
  }
}

function isBroken(link: SimLink | null): boolean {
  return link !== null && (link.resetArrived || link.closeTold === "timed_out");
}
