// The status as a person reads it, most likely at night: what is wrong stands above what is in order, and in capitals.

import type { CertificateStatus, EndpointStatus, ListenerStatus, Status, WorkerStatus } from "../snapshot/status.ts";
import { CLOSE_REASONS } from "../telemetry/close-reason.ts";
import { printable } from "./printable.ts";
import { age, count, counted, milliseconds, moment, size } from "./quantities.ts";
import { type Column, table } from "./table.ts";

/** Rows of one list; what is beyond is counted. */
const MOST_ROWS = 20;
const LABEL_COLUMNS = 14;
const WORKER_COLUMNS = columns("WORKER", "PID", "STATE", "GENERATION", ">UP", ">RESTARTS", ">CONNECTIONS", ">LAG");
const LISTENER_COLUMNS = columns("LISTENER", "ADDRESS", ">CONNECTIONS", ">SINCE START", ">FAILED", ">UP", ">DOWN");
const ENDPOINT_COLUMNS = columns("BACKEND", "ENDPOINT", ">CONNECTIONS", ">SINCE START", ">CONNECT FAILURES", "HEALTH");
const POLICY_COLUMNS = columns("POLICY", "MODE", ">ALLOWED", ">DENIED", ">WOULD DENY");

/** Lines for a terminal. */
export function statusScreen(status: Status): readonly string[] {
  const { version, runtime, pid, uptime_s, started_at, connections } = status;
  return [
    row("bunnel", `${version} (${runtime}), pid ${pid}, up ${age(uptime_s)}, since ${moment(started_at)}`),
    row("state", stateOf(status)),
    ...configRows(status),
    row("connections", count(connections) + elsewhereOf(status)),
    ...droppedRows(status),
    "",
    ...workerTable(status),
    "",
    ...listenerTable(status),
    "",
    ...backendTable(status),
    ...policyTable(status),
  ];
}

function elsewhereOf({ connections_elsewhere: elsewhere }: Status): string {
  return elsewhere === 0 ? "" : `, ${count(elsewhere)} of them finished by processes from before an upgrade`;
}

function droppedRows({ access_log, telemetry }: Status): readonly string[] {
  const lines = access_log.dropped_lines_total;
  const spans = telemetry.dropped_spans_total;
  return [
    ...(lines === 0 ? [] : [row("access log", `${counted(lines, "LINE")} DROPPED`)]),
    ...(spans === 0 ? [] : [row("telemetry", `${counted(spans, "SPAN")} DROPPED`)]),
  ];
}

function stateOf({ state, workers, generation, worker_restarts }: Status): string {
  const isGood = (worker: WorkerStatus): boolean => state !== "serving" || worker.state === "serving";
  const good = workers.filter((worker) => isGood(worker) && worker.generation === generation).length;
  const all = workers.length === 1 ? "1 worker" : `${workers.length} workers`;
  const share =
    good === workers.length
      ? `${all} by generation ${generation}`
      : `ONLY ${good} OF ${all} by generation ${generation}`;
  const restarts = worker_restarts === 0 ? "" : `, ${counted(worker_restarts, "WORKER RESTART")}`;
  return `${state === "serving" ? state : state.toUpperCase()}, ${share}${restarts}`;
}

function configRows(status: Status): readonly string[] {
  const { config, generation } = status;
  const rows = [row("config", config.file ?? "the embedded default")];
  if (config.last_reload_at === null) rows.push(row("last reload", "none since the start"));
  else {
    const when = `${moment(config.last_reload_at)}, ${age(secondsSince(status, config.last_reload_at))} ago`;
    const { last_reload_ok: isOk, last_reload_problems: problems, last_reload_warnings: warnings } = config;
    const result = isOk
      ? `taken over ${when}${warnings.length === 0 ? "" : ", WITH WARNINGS:"}`
      : `REFUSED ${when}; generation ${generation} is still served:`;
    const told = [...problems, ...warnings].map((line) => row("", line));
    rows.push(row("last reload", result), ...folded(told, row("", "")));
  }
  const refused = config.certificate_sets_refused;
  const ever = refused === 0 ? "" : `, ${counted(refused, "set")} refused since the start`;
  if (config.certificate_problems.length === 0) rows.push(row("certificates", `as they lie on the disk${ever}`));
  else {
    rows.push(row("certificates", `NOT AS THEY LIE ON THE DISK${ever}; older ones are served, because:`));
    rows.push(
      ...folded(
        config.certificate_problems.map((problem) => row("", problem)),
        row("", ""),
      ),
    );
  }
  return [...rows, ...expiryRows(status)];
}

function workerTable({ workers, generation }: Status): readonly string[] {
  const isGood = (worker: WorkerStatus): boolean => worker.state === "serving" && worker.generation === generation;
  const rows = lastFirst(workers, isGood).map((worker) => [
    worker.worker === 0 ? "(all in one)" : String(worker.worker),
    worker.pid === 0 ? "-" : String(worker.pid),
    worker.state === "serving" ? worker.state : worker.state.toUpperCase(),
    `${worker.generation}${worker.generation === generation ? "" : ` (not ${generation})`}`,
    age(worker.uptime_s),
    count(worker.restarts),
    count(worker.connections),
    milliseconds(worker.event_loop_lag_ms),
  ]);
  return foldedTable(WORKER_COLUMNS, rows);
}

/** Connections of a listener that failed, were refused or were cut since the start. */
export function failedTotal({ closed }: ListenerStatus): number {
  let total = 0;
  for (const [reason, entry] of Object.entries(CLOSE_REASONS)) if (entry.level === "warn") total += closed[reason] ?? 0;
  return total;
}

function listenerTable({ listeners }: Status): readonly string[] {
  const rows = listeners.map((each) => [
    each.listener,
    each.address,
    count(each.connections),
    count(each.connections_total),
    count(failedTotal(each)),
    size(each.bytes_up),
    size(each.bytes_down),
  ]);
  return foldedTable(LISTENER_COLUMNS, rows);
}

function backendTable(status: Status): readonly string[] {
  const { backends } = status;
  const rows: string[][] = [];
  for (const { backend, endpoints, no_endpoint_total, overloads_total } of backends.slice(0, MOST_ROWS)) {
    const shown = endpoints.length > MOST_ROWS ? lastFirst(endpoints, isInOrder).slice(0, MOST_ROWS) : endpoints;
    for (const [index, endpoint] of shown.entries())
      rows.push([
        index === 0 ? backend : "",
        endpoint.endpoint,
        count(endpoint.connections),
        count(endpoint.connections_total),
        count(endpoint.connect_failures_total),
        healthOf(endpoint, status),
      ]);
    if (shown.length === 0) rows.push([backend, "NO ENDPOINT", "", "", "", ""]);
    if (no_endpoint_total > 0) rows.push(["", `${counted(no_endpoint_total, "TIME")} NO ENDPOINT`, "", "", "", ""]);
    if (overloads_total > 0) rows.push(["", `${counted(overloads_total, "TIME")} NO ROOM`, "", "", "", ""]);
    if (shown.length < endpoints.length) rows.push(["", more(endpoints.length - shown.length), "", "", "", ""]);
  }
  if (backends.length > MOST_ROWS) rows.push([more(backends.length - MOST_ROWS), "", "", "", "", ""]);
  return table(ENDPOINT_COLUMNS, rows);
}

function policyTable({ policies }: Status): readonly string[] {
  if (policies.length === 0) return [];
  const rows = policies.map(({ policy, mode, allowed_total, denied_total, shadow_denied_total }) => [
    policy,
    mode,
    count(allowed_total),
    count(denied_total),
    count(shadow_denied_total),
  ]);
  return ["", ...foldedTable(POLICY_COLUMNS, rows)];
}

/** Which certificate ends first; each that ends soon. */
function expiryRows({ certificates }: Status): readonly string[] {
  const soonest = certificates.toSorted((a, b) => a.days_left - b.days_left);
  const [first] = soonest;
  if (first === undefined) return [];
  const urgent = soonest.filter(needsRenewal);
  return folded(
    (urgent.length > 0 ? urgent : [first]).map((each) => row("", expiryOf(each))),
    row("", ""),
  );
}

/** Whether somebody has to see to it. */
export function needsRenewal({ renewal }: CertificateStatus): boolean {
  return renewal !== "in_time";
}

/** `/etc/bunnel/edge.pem (listener edge) ends in 30 days`; in capitals when somebody has to see to it. */
export function expiryOf(certificate: CertificateStatus): string {
  const { file, subject, days_left, used_by, role } = certificate;
  const what = `${role === "certificate" ? "" : `${role.replace("_", " ")} `}${file === "" ? subject : file} (${used_by})`;
  if (days_left < 0) return `${what} HAS EXPIRED`;
  const left = days_left < 1 ? "less than a day" : counted(Math.floor(days_left), "day");
  return `${what} ${needsRenewal(certificate) ? "EXPIRES IN" : "ends in"} ${left}`;
}

function isInOrder({ connect_failures_total, health, reason, ejected_until }: EndpointStatus): boolean {
  return connect_failures_total === 0 && health !== "down" && reason === "" && ejected_until === null;
}

/** `up`, `DOWN for 5m 3s: connect: ECONNREFUSED`, `-` when it is not known. */
export function healthOf({ health, health_since, reason, ejected_until }: EndpointStatus, status: Status): string {
  const since = health_since === null ? "" : ` for ${age(secondsSince(status, health_since))}`;
  const why = reason === "" ? "" : `: ${health === "down" ? "" : "last probe failed: "}${reason}`;
  const state = health === "down" ? "DOWN" : health === "unknown" ? "-" : health;
  return `${ejectionOf(ejected_until, status)}${state}${since}${why}`;
}

function ejectionOf(until: string | null, status: Status): string {
  if (until === null) return "";
  const left = -secondsAfter(status, until);
  return left > 0 ? `EJECTED for another ${age(left)}; ` : "EJECTED, to be tried; ";
}

/** Those that are in order last, else as they were. */
function lastFirst<T>(values: readonly T[], isFine: (value: T) => boolean): readonly T[] {
  return [...values.filter((value) => !isFine(value)), ...values.filter(isFine)];
}

/** By their heads; numbers, which stand at the right, begin with `>`. */
function columns(...heads: readonly string[]): readonly Column[] {
  return heads.map((head) => (head.startsWith(">") ? { head: head.slice(1), right: true } : { head }));
}

function foldedTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const lines = table(columns, rows.slice(0, MOST_ROWS));
  return rows.length > MOST_ROWS ? [...lines, more(rows.length - MOST_ROWS)] : lines;
}

function folded(lines: readonly string[], indent: string): readonly string[] {
  if (lines.length <= MOST_ROWS) return lines;
  return [...lines.slice(0, MOST_ROWS), `${indent}${more(lines.length - MOST_ROWS)}`];
}

function more(number: number): string {
  return `… and ${count(number)} more (--json shows all)`;
}

function row(label: string, value: string): string {
  return `${label.padEnd(LABEL_COLUMNS)}${printable(value)}`;
}

/** By the clock of the daemon. */
export function secondsSince(status: Status, iso: string): number {
  return Math.max(0, secondsAfter(status, iso));
}

/** Below 0 when it is still to come. By the clock of the daemon, whose status it is. */
function secondsAfter({ started_at, uptime_s }: Status, iso: string): number {
  return Date.parse(started_at) / 1000 + uptime_s - Date.parse(iso) / 1000;
}
