// Whom a probe goes to and what it says there: put together once for each endpoint of a snapshot, so that a probe itself has nothing left to build.

import type { Address } from "../../base/address.ts";
import { formatHostPort, isIp } from "../../base/ip.ts";
import { readCertificateDetails } from "../../protocol/certificate-details.ts";
import { encodeProxyV1, encodeProxyV2 } from "../../protocol/proxy-protocol-out.ts";
import { ServerVerifier } from "../../protocol/server-verifier.ts";
import type { ClientContext, Runtime } from "../../runtime/runtime.ts";
import type { BackendSpec, EndpointSpec, HealthSpec, OriginationSpec } from "../../snapshot/snapshot.ts";
import { type Answer, ExpectedBytes, HttpAnswer, httpRequest } from "./answer.ts";

/** What one probe needs to know. */
export interface ProbeTarget {
  readonly address: Address;
  /** Of the whole probe. */
  readonly timeoutMs: number;
  /** A PROXY header that goes before everything else; empty for none. */
  readonly header: Uint8Array;
  /** Null: the probe is plain. */
  readonly tls: ProbeTls | null;
  /** What is asked; empty for nothing. */
  readonly request: Uint8Array;
  /** Judges the answer; null when the probe expects none. */
  readonly answer: (() => Answer) | null;
}

/** TLS as the backend speaks it. */
export interface ProbeTls {
  readonly context: ClientContext;
  /** "" for none: an address is no server name (RFC 6066, 3). */
  readonly sni: string;
  readonly trustDomains: readonly string[];
  /** As `accept` of OriginateTlsOptions. */
  accept(leaf: Uint8Array): string;
}

/** A backend's TLS, built once for all of its endpoints. */
export interface BackendTls {
  readonly spec: OriginationSpec;
  readonly context: ClientContext;
  readonly verifier: ServerVerifier;
}

const NOTHING = new Uint8Array(0);
/** Whoever reads it takes the connection for the proxy's own. Without addresses there is nothing that could fail to fit. */
const V1_HEADER = encodeProxyV1(null, null);
const V2_HEADER = encodeProxyV2({ source: null, destination: null, tlvs: [], crc32c: false }) ?? NOTHING;

/** Throws ProxyError `BAD_TLS_MATERIAL`. */
export function backendTls(runtime: Pick<Runtime, "clientContext">, spec: OriginationSpec): BackendTls {
  return { spec, context: runtime.clientContext(spec), verifier: new ServerVerifier(spec) };
}

/** The target for an endpoint. `tls` is the backend's; null when it has none. */
export function probeTarget(backend: BackendSpec, endpoint: EndpointSpec, tls: BackendTls | null): ProbeTarget {
  const health = backend.health as HealthSpec;
  const { http } = health;
  const address = addressOf(endpoint, health.port);
  return {
    address,
    timeoutMs: health.timeoutMs,
    header: health.port === 0 ? headerOf(backend) : NOTHING,
    tls: health.type === "tcp" || tls === null ? null : tlsOf(tls, endpoint),
    request: bytesOf(http === null ? health.send : httpRequest(http, http.host || hostOf(endpoint, address, tls))),
    answer: answerTo(health),
  };
}

function answerTo({ http, expect }: HealthSpec): (() => Answer) | null {
  if (http !== null) return () => new HttpAnswer(http);
  return expect === "" ? null : () => new ExpectedBytes(expect);
}

function addressOf({ address }: EndpointSpec, port: number): Address {
  return port === 0 || address.kind === "unix" ? address : { ...address, port };
}

function headerOf({ sendProxyProtocol }: BackendSpec): Uint8Array {
  if (sendProxyProtocol === "off") return NOTHING;
  return sendProxyProtocol === "v1" ? V1_HEADER : V2_HEADER;
}

function tlsOf({ spec, context, verifier }: BackendTls, endpoint: EndpointSpec): ProbeTls {
  const name = spec.serverName === "" ? endpoint.host : spec.serverName;
  const { trustDomains } = spec;
  return {
    context,
    sni: isIp(name) ? "" : name,
    trustDomains,
    accept: (leaf) => verifier.judge(readCertificateDetails(leaf), name),
  };
}

function hostOf({ host }: EndpointSpec, address: Address, tls: BackendTls | null): string {
  if (tls !== null && tls.spec.serverName !== "") return tls.spec.serverName;
  return address.kind === "unix" ? "localhost" : formatHostPort(host, address.port);
}

/** Of a text with one character for each byte. */
function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
