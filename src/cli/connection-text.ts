// Live connections as a person reads them: many in a table, or one in full.

import type { ConnectionDetail, ConnectionRow, LegDetail } from "../snapshot/inspection.ts";
import { printable } from "./printable.ts";
import { age, count, counted, milliseconds, moment, size } from "./quantities.ts";
import { type Column, table } from "./table.ts";

const LABEL_COLUMNS = 12;

const COLUMNS: readonly Column[] = [
  { head: "ID" },
  { head: "AGE", right: true },
  { head: "IDLE", right: true, spare: 3 },
  { head: "PHASE", spare: 2 },
  { head: "CLIENT", least: 15 },
  { head: "LISTENER", least: 8, spare: 7 },
  { head: "BACKEND", least: 8, spare: 5 },
  { head: "ENDPOINT", least: 15, spare: 6 },
  { head: "UP", right: true, spare: 8 },
  { head: "DOWN", right: true, spare: 8 },
  { head: "IDENTITY", least: 12, keep: "end", spare: 4 },
  { head: "SNI", least: 12, spare: 9 },
];

/** A line for each, below a head, in so many columns. */
export function connectionTable(rows: readonly ConnectionRow[], width: number): readonly string[] {
  const cells = rows.map((row) => [
    row.id,
    age(row.age_ms / 1000),
    age(row.idle_ms / 1000),
    row.phase,
    row.downstream,
    row.listener,
    row.backend,
    row.endpoint,
    size(row.bytes_up),
    size(row.bytes_down),
    row.identity,
    row.sni,
  ]);
  return table(COLUMNS, cells, width);
}

/** All that is known of one. What does not apply to it is left out. */
export function connectionScreen(detail: ConnectionDetail): readonly string[] {
  const { id, phase, age_ms, idle_ms, started_at, worker, listener, route, policy, policy_rule } = detail;
  const { backend, endpoint, attempts, bytes_up, bytes_down, legs } = detail;
  const lines = [
    row("connection", `${id}${worker === 0 ? "" : `, in worker ${worker}`}`),
    row("state", `${phase}; open for ${age(age_ms / 1000)}, since ${moment(started_at)}; last byte ${ago(idle_ms)}`),
    row("client", clientOf(detail)),
    row("listener", route === "" ? listener : `${listener}, route ${route}`),
    ...tlsRows(detail),
  ];
  if (policy !== "") lines.push(row("policy", policy_rule === "" ? policy : `${policy}, ${policy_rule}`));
  if (backend !== "") {
    const tries = attempts > 1 ? `, taken at attempt ${attempts}` : "";
    lines.push(row("endpoint", `${endpoint === "" ? "none yet" : endpoint} of ${backend}${tries}`));
  }
  if (detail.upstream_tls_version !== "") {
    const peer = detail.upstream_peer === "" ? "" : ` with ${detail.upstream_peer}`;
    lines.push(row("", `${detail.upstream_tls_version}${peer}`));
  }
  lines.push(row("bytes", `${size(bytes_up)} up, ${size(bytes_down)} down (${count(bytes_up)}, ${count(bytes_down)})`));
  lines.push(row("ends", timersOf(detail)), "", ...legLines("downstream", legs.downstream));
  if (legs.upstream !== null) lines.push("", ...legLines("upstream", legs.upstream));
  return lines;
}

function clientOf({ downstream, downstream_direct }: ConnectionDetail): string {
  return downstream_direct === "" || downstream_direct === downstream
    ? downstream
    : `${downstream}, by ${downstream_direct}`;
}

function tlsRows(detail: ConnectionDetail): readonly string[] {
  const { sni, alpn, tls_version, tls_cipher, tls_resumed, names, peer_fingerprint } = detail;
  const lines: string[] = [];
  const asked = [sni === "" ? "" : `SNI ${sni}`, alpn === "" ? "" : `ALPN ${alpn}`];
  const tls = tls_version === "" ? "" : `${tls_version} ${tls_cipher}${tls_resumed ? ", resumed" : ""}`;
  const said = [tls, ...asked].filter((part) => part !== "");
  if (said.length > 0) lines.push(row("tls", said.join(", ")));
  if (names === null) return lines;
  const all = [
    ...names.uri.map((name) => `uri ${name}`),
    ...names.dns.map((name) => `dns ${name}`),
    ...names.cn.map((name) => `cn ${name}`),
  ];
  for (const [index, name] of all.entries()) lines.push(row(index === 0 ? "identity" : "", name));
  if (peer_fingerprint !== "") lines.push(row("", `sha256 ${peer_fingerprint}`));
  return lines;
}

function timersOf({ timers }: ConnectionDetail): string {
  const limits = [
    ["if no byte moves (idle_timeout)", timers.idle_timeout_in_ms],
    ["whatever happens (max_lifetime)", timers.max_lifetime_in_ms],
    ["as its certificate expires", timers.certificate_expires_in_ms],
  ] as const;
  const said = limits.flatMap(([what, ms]) => (ms === null ? [] : [`in ${age(ms / 1000)} ${what}`]));
  return said.length === 0 ? "when its client or endpoint ends it" : said.join("; ");
}

function legLines(name: string, leg: LegDetail): readonly string[] {
  const state = [
    leg.ended ? "has ended its direction" : "",
    leg.paused ? "NOT READ: the other side does not take what it sends" : "",
    leg.pending_bytes === 0 ? "" : `${size(leg.pending_bytes)} wait for the other side`,
  ].filter((part) => part !== "");
  const lines = [row(name, `${leg.remote} – ${leg.local}`)];
  if (state.length > 0) lines.push(row("", state.join(", ")));
  if (leg.tcp === null) return lines;
  const { tcp } = leg;
  const rtt = `round trip ${milliseconds(tcp.rtt_ms)} ± ${milliseconds(tcp.rtt_variance_ms)}`;
  const sent = `${counted(tcp.retransmits_total, "segment")} sent again, ${count(tcp.unacknowledged)} not acknowledged`;
  lines.push(row("", `${tcp.state}, ${rtt}, ${sent}, window ${count(tcp.congestion_window)} × ${count(tcp.mss)} B`));
  return lines;
}

function ago(ms: number): string {
  return ms < 1000 ? "just now" : `${age(ms / 1000)} ago`;
}

function row(label: string, value: string): string {
  return `${label.padEnd(LABEL_COLUMNS)}${printable(value)}`.trimEnd();
}
