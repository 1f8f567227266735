// The access log: one line for each connection, at its end. JSON lines have pino's shape (level, time, msg), so that every tool that reads the
// operational log reads them too; they are put together by hand, because at 20,000 connections a second a general serialiser is
// the most expensive thing in a connection's life. The text format resembles HAProxy's tcplog.

import { type Clock, Timer } from "../base/clock.ts";
import { type CloseReason, type CloseSide, isFailure, type Phase } from "./close-reason.ts";

/** One attempt at an endpoint. */
export interface TriedEndpoint {
  readonly endpoint: string;
  /** `connected`; the error or else the close reason that it came to nothing with; `cancelled`: the connection ended meanwhile. */
  readonly result: string;
  readonly ms: number;
}

/** What is known of an ended connection. Texts are "" and counts 0 where a connection did not come that far. */
export interface CloseRecord {
  /** Wall clock at accept, in ms since 1970. */
  readonly timeMs: number;
  /** The same as in the admin API and in the UNIQUE_ID that endpoints get. */
  readonly id: string;
  readonly listener: string;
  readonly route: string;
  readonly backend: string;
  readonly endpoint: string;
  readonly attempts: number;
  readonly downstream: string;
  readonly downstreamDirect: string;
  readonly local: string;
  readonly sni: string;
  readonly alpn: string;
  /** From the verified certificate; null when there was none. */
  readonly identity: {
    readonly uris: readonly string[];
    readonly dnsNames: readonly string[];
    readonly commonNames: readonly string[];
  } | null;
  /** What a certificate that was refused said of itself. */
  readonly refusedCertificate: string;
  /** SHA-256 of the client's certificate and of its public key, in hexadecimal. */
  readonly peerFingerprint: string;
  readonly peerSpkiFingerprint: string;
  readonly tlsVersion: string;
  readonly tlsCipher: string;
  readonly tlsResumed: boolean;
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly durationMs: number;
  readonly handshakeMs: number;
  readonly connectMs: number;
  /** Of the TLS that we speak to the endpoint. */
  readonly upstreamTlsVersion: string;
  readonly upstreamTlsCipher: string;
  /** The endpoint's certificate: its first URI name, or else its first DNS name. */
  readonly upstreamPeer: string;
  readonly closeReason: CloseReason;
  readonly closeSide: CloseSide;
  /** How far it had come. */
  readonly phase: Phase;
  readonly termination: string;
  /** For programs: the errno, the X.509 code or the reason of the TLS library. */
  readonly error: string;
  /** For people. */
  readonly detail: string;
  /** The attempts in their order; empty when the first one was taken, and when there was none. */
  readonly tried: readonly TriedEndpoint[];
  readonly policy: string;
  readonly policyRule: string;
}

/** Where finished lines go: see `LogSink` in the runtime seam. */
export interface LineSink {
  write(lines: string): void;
}

/** Lines are handed on together: when this much text has gathered, or when the first of them has waited this long. */
const FLUSH_CHARACTERS = 32 * 1024;
const FLUSH_MS = 200;
const PINO_INFO = 30;
const PINO_WARN = 40;

/** Which records become lines, and of what form. */
export interface AccessLogOptions {
  readonly format: "json" | "text";
  /** `warn`: only of connections that did not go well. Default: of all. */
  readonly level?: "info" | "warn";
  /** Of those that went well, the share that is written; from 0 to 1. Default 1. */
  readonly sample?: number;
  /** Which process wrote a JSON line. Default 0: there is one. */
  readonly worker?: number;
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** Formats records and hands them on in batches. */
export class AccessLog {
  readonly #sink: LineSink;
  readonly #format: (record: CloseRecord) => string;
  /** The share of those that went well. */
  readonly #sample: number;
  readonly #random: () => number;
  readonly #clock: Clock;
  readonly #flushing = new Timer(() => this.flush());
  #text = "";

  constructor(sink: LineSink, clock: Clock, options: AccessLogOptions) {
    const { format, level = "info", sample = 1, worker = 0, random = Math.random } = options;
    this.#sink = sink;
    this.#clock = clock;
    this.#sample = level === "info" ? sample : 0;
    this.#random = random;
    this.#format = format === "json" ? (record) => formatJson(record, worker) : formatText;
  }

  write(record: CloseRecord): void {
    if (this.#sample < 1 && wentWell(record) && this.#random() >= this.#sample) return;
    if (this.#text === "") this.#clock.arm(this.#flushing, FLUSH_MS);
    this.#text += this.#format(record);
    if (this.#text.length >= FLUSH_CHARACTERS) this.flush();
  }

  /** Hands on what has gathered. To be called before the process ends. */
  flush(): void {
    if (this.#text === "") return;
    this.#clock.disarm(this.#flushing);
    const lines = this.#text;
    this.#text = "";
    this.#sink.write(lines);
  }
}

/** Whether nothing went wrong: it ended well, and the first endpoint took it. Others are of level `warn`. */
export function wentWell({ closeReason, tried }: Pick<CloseRecord, "closeReason" | "tried">): boolean {
  return !isFailure(closeReason) && tried.length === 0;
}

/** One JSON object and a newline. Fields that say nothing of this connection are left out. */
export function formatJson(record: CloseRecord, worker = 0): string {
  const { identity } = record;
  const level = wentWell(record) ? PINO_INFO : PINO_WARN;
  let line = `{"level":${level},"time":${record.timeMs},"msg":"connection","id":"${record.id}"`;
  line += text("listener", record.listener);
  line += text("route", record.route);
  line += text("backend", record.backend);
  line += text("endpoint", record.endpoint);
  if (record.attempts > 0) line += `,"attempts":${record.attempts}`;
  line += text("downstream", record.downstream);
  if (record.downstreamDirect !== record.downstream) line += text("downstream_direct", record.downstreamDirect);
  line += text("local", record.local);
  line += text("sni", record.sni);
  line += text("alpn", record.alpn);
  if (identity !== null) {
    line += `,"identity":${JSON.stringify({ uri: identity.uris, dns: identity.dnsNames, cn: identity.commonNames })}`;
  }
  line += text("refused_certificate", record.refusedCertificate);
  line += text("peer_fingerprint", record.peerFingerprint);
  line += text("peer_spki_fingerprint", record.peerSpkiFingerprint);
  if (record.tlsVersion !== "") {
    line += `,"tls_version":"${record.tlsVersion}","tls_cipher":"${record.tlsCipher}","tls_resumed":${record.tlsResumed}`;
    line += `,"handshake_ms":${milliseconds(record.handshakeMs)}`;
  }
  if (record.attempts > 0) line += `,"connect_ms":${milliseconds(record.connectMs)}`;
  if (record.upstreamTlsVersion !== "") {
    line += `,"upstream_tls_version":"${record.upstreamTlsVersion}","upstream_tls_cipher":"${record.upstreamTlsCipher}"`;
    line += text("upstream_peer", record.upstreamPeer);
  }
  line += `,"bytes_up":${record.bytesUp},"bytes_down":${record.bytesDown},"duration_ms":${milliseconds(record.durationMs)}`;
  line += `,"close_reason":"${record.closeReason}","close_side":"${record.closeSide}","phase":"${record.phase}"`;
  line += `,"termination":"${record.termination}"`;
  line += text("error", record.error);
  line += text("detail", record.detail);
  if (record.tried.length > 0) line += `,"tried":${JSON.stringify(record.tried.map(rounded))}`;
  line += text("policy", record.policy);
  line += text("policy_rule", record.policyRule);
  if (worker > 0) line += `,"worker":${worker}`;
  return `${line}}\n`;
}

/**
 * `client [date] listener backend/endpoint Tc/Tt bytes_up/bytes_down termination reason side phase …`, close to HAProxy's tcplog, whose Tw
 * (queue) does not exist here and whose counters of other connections are metrics. Then what is known: `uid=` (the connection's), the version of TLS
 * `sni=` and `id=` (the client's), `rule=policy/rule`, `error=`, `tried=endpoint:result/ms,…`, and the detail in quotes.
 */
export function formatText(record: CloseRecord): string {
  const { identity } = record;
  const date = new Date(record.timeMs).toISOString();
  const peer =
    identity === null ? "" : ` id=${word(identity.uris[0] ?? identity.dnsNames[0] ?? identity.commonNames[0] ?? "-")}`;
  const version = record.tlsVersion === "" ? "" : ` ${record.tlsVersion}`;
  const sni = record.sni === "" ? "" : ` sni=${word(record.sni)}`;
  const rule = record.policy === "" ? "" : ` rule=${record.policy}/${record.policyRule}`;
  const error = record.error === "" ? "" : ` error=${record.error}`;
  const tried = record.tried.map(({ endpoint, result, ms }) => `${word(endpoint)}:${result}/${Math.round(ms)}`);
  const attempts = tried.length === 0 ? "" : ` tried=${tried.join(",")}`;
  const known = ["", record.error];
  const detail = [record.detail, record.refusedCertificate].filter((part) => !known.includes(part)).join("; ");
  return (
    `${record.downstream} [${date}] ${record.listener} ${record.backend || "<NOSRV>"}/${record.endpoint || "<NOSRV>"} ` +
    `${Math.round(record.connectMs)}/${Math.round(record.durationMs)} ${record.bytesUp}/${record.bytesDown} ` +
    `${record.termination} ${record.closeReason} ${record.closeSide} ${record.phase} uid=${record.id}` +
    `${version}${sni}${peer}${rule}${error}${attempts}${detail === "" ? "" : ` "${detail.replace(/["\\]|[^\x20-\x7e]/g, "'")}"`}\n`
  );
}

/** `,"key":"value"`, or nothing for "". Most values are plain, and quoting those is a copy. */
function text(key: string, value: string): string {
  if (value === "") return "";
  return NEEDS_ESCAPE.test(value) ? `,"${key}":${JSON.stringify(value)}` : `,"${key}":"${value}"`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must be found
const NEEDS_ESCAPE = /["\\\u0000-\u001f\u007f-\uffff]/;

function word(value: string): string {
  return value.replace(/[^\x21-\x7e]/g, "?");
}

function rounded({ endpoint, result, ms }: TriedEndpoint): TriedEndpoint {
  return { endpoint, result, ms: milliseconds(ms) };
}

function milliseconds(value: number): number {
  return Math.round(value * 1000) / 1000;
}
