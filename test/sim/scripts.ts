// What the clients and servers of a simulated world will do, drawn by chance. Half of the clients are calm: nothing about
// them calls for any end but an orderly one.

import type { Schedule } from "../support/sim-schedule.ts";
import { NO_PREAMBLE, type Plan, type Preamble } from "./party.ts";

/** Indexes of the world's listeners, each with another way to treat first bytes. */
export const LISTENERS = { opaque: 0, passthrough: 1, terminate: 2, behindProxy: 3, limited: 4 } as const;

/** Why a client is not to reach a relay; "" when it is. */
export type Flaw =
  | ""
  | "silent"
  | "partial"
  | "garbage"
  | "unknown_name"
  | "untrusted"
  | "bad_certificate"
  | "bad_handshake"
  | "silent_handshake"
  | "denied";

export interface ClientScript {
  readonly listener: number;
  /** Where the socket comes from, and for whom. */
  readonly ip: string;
  readonly source: string;
  readonly plan: Plan;
  readonly preamble: Preamble;
  readonly flaw: Flaw;
  readonly isCalm: boolean;
}

const SOURCES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const OUTSIDE = "10.9.0.1";

/** A client; with `fixed` a calm one of that source and listener. */
export function drawClient(
  schedule: Schedule,
  fixed: { readonly listener: number; readonly source: string } | null = null,
): ClientScript {
  const isCalm = fixed !== null || schedule.chance(0.5);
  const listener = fixed?.listener ?? schedule.pick(Object.values(LISTENERS));
  const flaw = isCalm || schedule.chance(0.7) ? "" : drawFlaw(schedule, listener);
  const source = fixed?.source ?? (flaw === "denied" ? OUTSIDE : schedule.pick(SOURCES));
  const behindProxy = listener === LISTENERS.behindProxy;
  let plan = isCalm ? calmPlan(schedule, "finish") : wildPlan(schedule, listener === LISTENERS.terminate);
  if (flaw !== "" && schedule.chance(0.7)) plan = { ...plan, bursts: [], ending: "stay" };
  return {
    listener,
    ip: !behindProxy ? source : flaw === "untrusted" ? OUTSIDE : "10.1.0.7",
    source,
    plan,
    preamble: drawPreamble(schedule, listener, source, flaw),
    flaw,
    isCalm,
  };
}

/** A server for a client: a calm one if the client is. */
export function drawServerPlan(schedule: Schedule, client: ClientScript): Plan {
  return client.isCalm ? calmPlan(schedule, schedule.pick(["finish", "answer"])) : wildPlan(schedule, false);
}

function drawFlaw(schedule: Schedule, listener: number): Flaw {
  switch (listener) {
    case LISTENERS.passthrough:
      return schedule.pick(["silent", "partial", "garbage", "unknown_name"] as const);
    case LISTENERS.terminate:
      return schedule.pick([
        "silent",
        "garbage",
        "bad_certificate",
        "bad_handshake",
        "silent_handshake",
        "denied",
      ] as const);
    case LISTENERS.behindProxy:
      return schedule.pick(["silent", "partial", "garbage", "untrusted"] as const);
    default:
      return "";
  }
}

function drawPreamble(schedule: Schedule, listener: number, source: string, flaw: Flaw): Preamble {
  if (flaw === "silent") return NO_PREAMBLE;
  const garbage = new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n");
  if (flaw === "garbage") return { ...NO_PREAMBLE, streamed: garbage };
  const cut = (bytes: Uint8Array): Uint8Array =>
    flaw === "partial" ? bytes.subarray(0, schedule.integer(1, bytes.length - 1)) : bytes;
  const hello = clientHello(flaw === "unknown_name" ? "a.elsewhere" : "a.example");
  switch (listener) {
    case LISTENERS.passthrough:
      return { ...NO_PREAMBLE, streamed: cut(hello) };
    case LISTENERS.behindProxy:
      return { ...NO_PREAMBLE, header: cut(new TextEncoder().encode(`PROXY TCP4 ${source} 10.1.0.9 4711 443\r\n`)) };
    case LISTENERS.terminate: {
      const outcome =
        flaw === "bad_certificate"
          ? "certificate"
          : flaw === "bad_handshake"
            ? "handshake"
            : flaw === "silent_handshake"
              ? "silence"
              : "secured";
      return { ...NO_PREAMBLE, handshake: { hello, outcome, delayMs: schedule.random() * 200, certificate: null } };
    }
    default:
      return NO_PREAMBLE;
  }
}

function calmPlan(schedule: Schedule, ending: Plan["ending"]): Plan {
  return {
    bursts: drawBursts(schedule, 300),
    ending,
    endDelayMs: schedule.pick([0, 0, schedule.random() * 500]),
    breaks: null,
    stall: schedule.chance(0.2) ? { afterMs: schedule.random() * 500, forMs: schedule.random() * 1500 } : null,
  };
}

function wildPlan(schedule: Schedule, isTls: boolean): Plan {
  const ending = schedule.pick(["finish", "answer", "leave", "stay", isTls ? "cut" : "leave"] as const);
  const noticedAfterMs = schedule.chance(0.5) ? schedule.random() * 4000 : null;
  return {
    bursts: drawBursts(schedule, schedule.pick([10, 300, 2500])),
    ending,
    endDelayMs: schedule.random() * 1000,
    breaks: schedule.chance(0.4)
      ? {
          afterMs: schedule.random() * schedule.pick([50, 500, 3000]),
          how: schedule.chance(0.75) ? "reset" : "vanish",
          noticedAfterMs,
        }
      : null,
    stall: schedule.chance(0.3)
      ? { afterMs: schedule.random() * 800, forMs: schedule.chance(0.4) ? null : schedule.random() * 4000 }
      : null,
  };
}

function drawBursts(schedule: Schedule, delayMs: number): { delayMs: number; bytes: number }[] {
  const largest = schedule.pick([1, 200, 5000, 5000, 120_000]);
  return Array.from({ length: schedule.integer(0, 4) }, () => ({
    delayMs: schedule.chance(0.4) ? 0 : schedule.random() * delayMs,
    bytes: schedule.integer(1, largest),
  }));
}

/** The least that asks for a name (RFC 8446, 4.1.2; RFC 6066, 3). */
export function clientHello(sni: string): Uint8Array {
  const name = [...new TextEncoder().encode(sni)];
  const u16 = (value: number): number[] => [value >> 8, value & 0xff];
  const list = [0, ...u16(name.length), ...name];
  const extension = [...u16(0), ...u16(list.length + 2), ...u16(list.length), ...list];
  const body = [
    3,
    3,
    ...new Array<number>(32).fill(7),
    0,
    ...u16(2),
    0x13,
    0x01,
    1,
    0,
    ...u16(extension.length),
    ...extension,
  ];
  return Uint8Array.from([22, 3, 1, ...u16(body.length + 4), 1, 0, ...u16(body.length), ...body]);
}
