// What a close means, in words: the meaning of its reason comes from the daemon's own table, and what the codes of TLS, X.509 and the kernel say of this
// one is said here. Pure: no page is needed.

/** @import { CloseLine } from "../../snapshot/inspection.ts" */
/** @import { CLOSE_REASONS } from "../../telemetry/close-reason.ts" */

/** @typedef {{ readonly side: string, readonly termination: string, readonly level: string, readonly meaning: string }} Meaning */
/** @typedef {Readonly<Record<string, Meaning>>} Meanings As `CLOSE_REASONS` has them. */
/** @typedef {{ readonly endpoint: string, readonly result: string, readonly ms: number | null }} Tried */

/** By code: what it says in a few words, and what to look at. */
const CODES = /** @type {Readonly<Record<string, readonly [words: string, advice: string]>>} */ ({
  PEER_DID_NOT_RETURN_A_CERTIFICATE: [
    "the client sent no certificate",
    "Give the client a certificate and its key (curl: --cert and --key). A client that has one may not send it when no authority of the listener's client_ca signed it.",
  ],
  CERT_HAS_EXPIRED: ["the certificate has expired", "Issue a new one, and look at the clocks of both hosts."],
  CERT_NOT_YET_VALID: ["the certificate is not valid yet", "Look at the clocks of both hosts."],
  CERT_REVOKED: ["the certificate is on a revocation list", "It was withdrawn on purpose: issue a new one."],
  CRL_HAS_EXPIRED: [
    "the revocation list itself is out of date",
    "Fetch a current list; until then nobody it covers is let in.",
  ],
  UNABLE_TO_GET_CRL: [
    "an authority of the chain has no revocation list here",
    "Add the list of every authority in the chain.",
  ],
  DEPTH_ZERO_SELF_SIGNED_CERT: [
    "the certificate is self-signed",
    "Have it issued by an authority that is trusted here.",
  ],
  SELF_SIGNED_CERT_IN_CHAIN: [
    "its authority is not among those trusted here",
    "Add that authority's root to the trusted ones, or use a certificate of one that is.",
  ],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: [
    "no authority trusted here signed it, or an intermediate is missing",
    "Have the peer send its whole chain, or add its authority to the trusted ones.",
  ],
  UNABLE_TO_GET_ISSUER_CERT: ["an intermediate certificate is missing", "Have the peer send its whole chain."],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ["its authority is not among those trusted here", "Add it to the trusted ones."],
  INVALID_PURPOSE: [
    "the certificate is not for this purpose (extended key usage)",
    "Issue one for client authentication.",
  ],
  INVALID_CA: ["a certificate in the chain may not sign others", "Look at the chain that the peer sends."],
  CERT_SIGNATURE_FAILURE: ["the signature of the certificate is wrong", "Look at the chain that the peer sends."],
  UNSUPPORTED_PROTOCOL: [
    "only TLS versions that are off here were offered",
    "The listener wants TLS 1.2 or newer (min_version).",
  ],
  NO_SHARED_CIPHER: ["no cipher suite in common", "The peer offers only old suites."],
  NO_APPLICATION_PROTOCOL: ["no application protocol (ALPN) in common", "Compare alpn here with what the peer offers."],
  HTTP_REQUEST: ["it spoke plain HTTP to a TLS listener", "Use https://."],
  IP_ADDRESS_MISMATCH: [
    "the certificate is not for that address",
    "Compare the names in the certificate with what is expected.",
  ],
  HOSTNAME_MISMATCH: [
    "the certificate is not for that name",
    "Compare the names in the certificate with what is expected.",
  ],
  URI_MISMATCH: [
    "no URI name of the certificate is expected",
    "Compare the names in the certificate with what is expected.",
  ],
  PERMITTED_VIOLATION: [
    "its authority may not vouch for such a name",
    "Use a certificate of the authority of that domain.",
  ],
  EXCLUDED_VIOLATION: [
    "its authority may not vouch for such a name",
    "Use a certificate of the authority of that domain.",
  ],
  ECONNREFUSED: ["the connection was refused", "Nothing listens at the endpoint's address: is its program running?"],
  ECONNRESET: ["the other side reset the connection", ""],
  EPIPE: ["the other side had gone", ""],
  ETIMEDOUT: ["there was no answer", "Look at the network and at firewalls on the way."],
  EHOSTUNREACH: ["the host cannot be reached", "Look at the network between here and the endpoint."],
  ENETUNREACH: ["there is no route to its network", "Look at the routes of this host."],
  EMFILE: ["this process has no descriptors left", "Raise its limit (LimitNOFILE)."],
  EADDRNOTAVAIL: ["no local port is free, or the source address is not ours", "Look at net.ipv4.ip_local_port_range."],
});

/**
 * "certificate rejected".
 * @param {string} reason
 */
export function reasonWords(reason) {
  return reason.replaceAll("_", " ");
}

/**
 * A field of a record as text; "" when it has none.
 * @param {CloseLine} line
 * @param {string} name
 */
export function field(line, name) {
  const value = line[name];
  return value === undefined || value === null ? "" : String(value);
}

/**
 * The endpoints that were tried, with what came of each.
 * @param {CloseLine} line
 * @returns {readonly Tried[]}
 */
export function triedOf({ tried }) {
  if (!Array.isArray(tried)) return [];
  return tried.map((each) => ({
    endpoint: String(each?.endpoint ?? ""),
    result: String(each?.result ?? ""),
    ms: typeof each?.ms === "number" ? each.ms : null,
  }));
}

/**
 * A text with the codes in it said in words.
 * @param {string} text
 */
export function inWords(text) {
  return text.replace(CODE, (code) => known(code)?.[0] ?? code);
}

/** What codes look like: names of the TLS library and of errno. */
const CODE = /\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|\bE[A-Z]{3,}\b/g;

/** @param {string} code */
function known(code) {
  return Object.hasOwn(CODES, code) ? CODES[code] : undefined;
}

/**
 * Why this one ended, in a few words, without its reason; "" when there is nothing to add to that.
 * @param {CloseLine} line
 */
export function why(line) {
  const said = field(line, "detail") || field(line, "error") || triedOf(line).at(-1)?.result || "";
  return inWords(said) || whatWasAsked(line);
}

/**
 * The same as sentences: what the reason means, what this one's codes say, and what to look at.
 * @param {CloseLine} line
 * @param {Meanings} meanings
 * @returns {{ readonly meaning: string, readonly here: string, readonly advice: string }}
 */
export function explain(line, meanings) {
  const reason = field(line, "close_reason");
  const meaning = Object.hasOwn(meanings, reason) ? (meanings[reason]?.meaning ?? "") : "";
  const said = `${field(line, "error")} ${field(line, "detail")} ${triedOf(line).at(-1)?.result ?? ""}`;
  const advices = [...said.matchAll(CODE)].map(([code]) => known(code)?.[1] ?? "");
  const here = why(line);
  return {
    meaning,
    here: here === "" ? "" : `${here.charAt(0).toUpperCase()}${here.slice(1)}.`,
    advice: advices.find((each) => each !== "") ?? adviceOn(line),
  };
}

/** @param {CloseLine} line */
function whatWasAsked(line) {
  const [sni, alpn, backend] = [field(line, "sni"), field(line, "alpn"), field(line, "backend")];
  switch (field(line, "close_reason")) {
    case "no_route":
      return `it asked for ${sni === "" ? "no name (no SNI)" : sni}${alpn === "" ? "" : ` by ${alpn}`}`;
    case "no_endpoint":
      return `backend ${backend} has no endpoint that may be used now`;
    default:
      return "";
  }
}

/** @param {CloseLine} line */
function adviceOn(line) {
  switch (/** @type {keyof typeof CLOSE_REASONS | ""} */ (field(line, "close_reason"))) {
    case "policy_denied":
    case "policy_revoked":
      return "If it should be let in, add its name (below) to an allow rule of the policy; `bunnel explain` shows what would happen.";
    case "no_route":
      return "Compare the name it asked for with the match of the listener's routes.";
    case "no_endpoint":
      return "Look at the endpoints of the backend below: which are down or ejected, and why.";
    case "not_tls":
      return "The client spoke plain text where TLS is expected, or to the wrong port.";
    case "malformed_header":
      return "The listener requires a PROXY header: is the client the load balancer that sends one?";
    case "source_denied":
      return "If it should be let in, add its address to allow_sources.";
    default:
      return "";
  }
}
