// How connections ended, as a person reads it: what, to whom, why in words, and what led to it.

import type { CloseLine } from "../snapshot/inspection.ts";
import { CLOSE_REASONS, type CloseReason } from "../telemetry/close-reason.ts";
import { folded, printable } from "./printable.ts";
import { milliseconds, moment } from "./quantities.ts";

/** A terminal narrower than this gets lines as for this one, and breaks them itself. */
const LEAST_COLUMNS = 30;

/**
 * One line, `when  client  listener → backend/endpoint  reason: meaning; …`; in a terminal of so many columns folded into as many as it takes,
 * the further ones indented.
 */
export function closeLines(close: CloseLine, width: number): readonly string[] {
  const head = [moment(close.ended_at), clientOf(close), pathOf(close)].filter((part) => part !== "").join("  ");
  return folded(printable(`${head}  ${verdictOf(close).join("; ")}`), Math.max(width, LEAST_COLUMNS));
}

/** Who the client was: its address, and its name where a certificate told one. */
export function clientOf(close: CloseLine): string {
  return text(close, "downstream") || "(unknown)";
}

/** `listener → backend/endpoint`, as far as it came. */
export function pathOf(close: CloseLine): string {
  const [backend, endpoint] = [text(close, "backend"), text(close, "endpoint")];
  const to = endpoint === "" ? backend : `${backend}/${endpoint}`;
  return to === "" ? text(close, "listener") : `${text(close, "listener")} → ${to}`;
}

/** Reason with its meaning, then what is known beyond it: detail, rule, attempts, names. */
function verdictOf(close: CloseLine): readonly string[] {
  const reason = text(close, "close_reason");
  const meaning = meaningOf(reason);
  return [meaning === "" ? reason : `${reason}: ${meaning.replace(/\.$/, "")}`, ...causesOf(close), ...namesOf(close)];
}

/** The meaning of a close reason in a sentence; "" of one that this version does not know. */
function meaningOf(reason: string): string {
  return isReason(reason) ? CLOSE_REASONS[reason].meaning : "";
}

/** What it came to, in a few words: the detail, or else the rule or the attempts, or else what the reason means. */
export function causeOf(close: CloseLine): string {
  return causesOf(close)[0] ?? meaningOf(text(close, "close_reason"));
}

function causesOf(close: CloseLine): readonly string[] {
  const [detail, error] = [text(close, "detail"), text(close, "error")];
  const [policy, rule] = [text(close, "policy"), text(close, "policy_rule")];
  // A denial's detail is a sentence about its rule.
  const isDenial = /^policy_/.test(text(close, "close_reason"));
  return [
    detail === "" || error === "" || detail.includes(error) ? detail || error : `${detail} (${error})`,
    policy === "" || isDenial
      ? ""
      : `policy ${policy}${rule === "" ? "" : `: ${rule === "default" ? "no rule matches" : rule}`}`,
    triedOf(close),
  ].filter((part) => part !== "");
}

function namesOf(close: CloseLine): readonly string[] {
  const parts = [
    ["certificate", text(close, "refused_certificate")],
    ["identity", identityOf(close)],
    ["sni", text(close, "sni")],
    ["id", text(close, "id")],
  ];
  return parts.filter(([, value]) => value !== "").map((part) => part.join(" "));
}

/** The first name of the client's verified certificate; "" when there was none. */
export function identityOf(close: CloseLine): string {
  const { identity } = close;
  if (typeof identity !== "object" || identity === null) return "";
  const { uri, dns, cn } = identity as Partial<Record<"uri" | "dns" | "cn", unknown>>;
  const first = [uri, dns, cn].flatMap((names) => (Array.isArray(names) ? names : []))[0];
  return typeof first === "string" ? first : "";
}

/** A field of the record as text; "" when it has none. */
export function text(close: CloseLine, field: string): string {
  const value = close[field];
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

/** `tried 10.0.0.1:5432 ECONNREFUSED after 0.3 ms, …`. */
function triedOf({ tried }: CloseLine): string {
  if (!Array.isArray(tried) || tried.length === 0) return "";
  const attempts = tried.map((attempt: Readonly<Record<string, unknown>>) => {
    const after = typeof attempt.ms === "number" ? ` after ${milliseconds(attempt.ms)}` : "";
    return `${attempt.endpoint} ${attempt.result}${after}`;
  });
  return `tried ${attempts.join(", ")}`;
}

function isReason(reason: string): reason is CloseReason {
  return Object.hasOwn(CLOSE_REASONS, reason);
}
