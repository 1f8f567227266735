// TLS towards an endpoint, on an upstream leg that has just connected: nothing is sent to an endpoint that is not the one that was meant.

import { isIp } from "../base/ip.ts";
import { Recent } from "../base/recent.ts";
import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { describeRefused, printable, refusalCode, refusalReason } from "../protocol/leaf.ts";
import { ServerVerifier } from "../protocol/server-verifier.ts";
import type { ClientContext, Runtime, StreamSocket } from "../runtime/runtime.ts";
import type { EndpointSpec, OriginationSpec } from "../snapshot/snapshot.ts";
import type { Connection } from "./connection.ts";
import { Ending, errorIn } from "./ending.ts";
import { KNOWN_BYTES } from "./identity.ts";
import type { Leg } from "./leg.ts";
import { legHandlers } from "./relay.ts";

/** What a finished handshake with an endpoint tells. */
export interface UpstreamTls {
  readonly version: string;
  readonly cipher: string;
  /** The first URI name of the endpoint's certificate, or else its first DNS name. */
  readonly peer: string;
}

/** Each is about 2 KiB. */
const LEAVES_AT_MOST = 256;

/** The built TLS context of a backend that speaks TLS, and who its endpoints have to be. */
export class Origination {
  readonly spec: OriginationSpec;
  readonly context: ClientContext;
  readonly #verifier: ServerVerifier;
  readonly #sha256: Runtime["sha256"];
  /** What the last certificates of endpoints say, by their digest: endpoints present the same few again and again. */
  readonly #leaves = new Recent<CertificateDetails>(LEAVES_AT_MOST);

  constructor(runtime: Pick<Runtime, "clientContext" | "sha256">, spec: OriginationSpec) {
    this.spec = spec;
    this.context = runtime.clientContext(spec);
    this.#verifier = new ServerVerifier(spec);
    this.#sha256 = runtime.sha256;
  }

  /** What a leaf (DER) says; null when it cannot be read. */
  read(leaf: Uint8Array): CertificateDetails | null {
    const digest = this.#sha256(leaf);
    const known = this.#leaves.get(digest);
    if (known !== undefined) return known;
    const details = readCertificateDetails(leaf);
    if (details !== null && leaf.length <= KNOWN_BYTES) this.#leaves.put(digest, details);
    return details;
  }

  /** "" when a leaf (DER) is of the endpoint that was meant, or why it is not. */
  judge(leaf: Uint8Array, serverName: string): string {
    return this.#verifier.judge(this.read(leaf), serverName);
  }

  /** The name that an endpoint is asked for, and that its certificate is for unless patterns say otherwise. */
  serverName(endpoint: EndpointSpec): string {
    return this.spec.serverName === "" ? endpoint.host : this.spec.serverName;
  }
}

/** Secures a plain socket of the upstream leg. Null when that is done; on an Ending the socket has been aborted. */
export async function originate(
  connection: Connection,
  origination: Origination,
  endpoint: EndpointSpec,
  socket: StreamSocket<Leg>,
): Promise<Ending | null> {
  const { listener, upstream, backend } = connection;
  const { runtime } = listener.worker;
  const serverName = origination.serverName(endpoint);
  const result = await runtime.originateTls(socket, {
    context: origination.context,
    // An address is no server name (RFC 6066, 3).
    serverName: isIp(serverName) ? "" : serverName,
    accept: (leaf) => origination.judge(leaf, serverName),
    handlers: legHandlers,
    data: upstream,
    timeoutMs: backend?.spec.connectTimeoutMs ?? 0,
  });
  if (result.ok) {
    upstream.socket = result.socket;
    upstream.isTls = true;
    const names = result.peerCertificate === null ? null : origination.read(result.peerCertificate);
    const { version, cipher } = result;
    connection.upstreamTls = { version, cipher, peer: names?.uris[0] ?? names?.dnsNames[0] ?? "" };
    if (origination.spec.onExpiry === "close" && names !== null) connection.expireAt(names.notAfterMs);
    return null;
  }
  upstream.socket = null;
  const said = describeRefused(result.peerCertificate);
  const reason = refusalReason(result.detail, result.peerCertificate, origination.spec.trustDomains);
  const detail = printable(`${endpoint.name}: ${reason}${said === "" ? "" : `; ${said}`}`);
  switch (result.failure) {
    case "certificate":
      return new Ending("upstream_certificate_rejected", detail, refusalCode(result.detail));
    case "timeout":
      return new Ending("upstream_handshake_timeout", endpoint.name);
    case "closed":
      return new Ending("upstream_handshake_failed", `${endpoint.name}: the endpoint left during the handshake`);
    default:
      return new Ending("upstream_handshake_failed", detail, errorIn(result.detail));
  }
}
