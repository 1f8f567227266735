// TLS on Deno, in both directions, by node:tls over a carrier. Deno's own behaviour is unsafe in several ways that are shut here, each with a test in
// test/conformance:
//  - its verification of servers lets in, beside our authorities, those of the public, and certificates that its library cannot read; revocation lists
//    are ignored in both directions: a peer is let in only when our own verification of what it presented (protocol/chain.ts) finds nothing, and
//    Deno's, too, but where authorities may vouch for some URIs only, of which Deno's cannot be asked;
//  - whether the peer has the key of a certificate is left open when the library cannot read it: `isReadable` asks the library itself;
//  - a refused client still gets its handshake ended, and a refused server our certificate: nothing is read before the verdict, and what a client of TLS 1.3
//    says after its hello waits for it in the carrier;
//  - a bare FIN looks like a close_notify: the framing of the ciphertext tells them apart.

import { Buffer } from "node:buffer";
import tls from "node:tls";
import { type Clock, Timer } from "../../base/clock.ts";
import { codeOf, messageOf } from "../../base/errors.ts";
import type { OriginateTlsOptions, StreamSocket, TerminateTlsOptions, TlsResult } from "../runtime.ts";
import { Carrier } from "./carrier.ts";
import { deno } from "./deno-api.ts";
import type { DenoSocket } from "./socket.ts";
import type { DenoClientContext, DenoServerContext } from "./tls-contexts.ts";
import { DenoTlsSocket, type SecuredOptions } from "./tls-socket.ts";

type Failure = Extract<TlsResult<unknown>, { ok: false }>["failure"];

/** How a handshake that has come to its end is judged: what was presented, and "" or why not. */
interface Verdict {
  readonly leaf: Uint8Array | null;
  readonly failure: "" | Failure;
  readonly detail: string;
}

const NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE";
/** A client without a certificate, as Deno reports it. */
const UNKNOWN_ISSUER = "UNABLE_TO_GET_ISSUER_CERT";
/** What Deno says where it has no other name. */
const NO_NAME = "SSLV3_ALERT_HANDSHAKE_FAILURE";
/** Chains do not end a handshake here, as it is for us to judge them. What does, and is called so, is the proof that the peer has the key of its certificate. */
const VERDICTS: readonly string[] = ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "DEPTH_ZERO_SELF_SIGNED_CERT"];
/** Deno's code for it is that of a certificate that has signed itself. */
const AUTHORITY = "it is an authority (CA=true)";
const LEAVES_KEPT = 1000;
/**
 * Whether the key is strong enough has been asked when the context was made; Deno's answer would be 0.3 ms of each handshake. It has no other use for
 * a list of ciphers.
 */
const KEY_IS_CHECKED = "DEFAULT:@SECLEVEL=0";
/** For the library to judge what came before an end. */
const LAST_WORDS_MS = 10;

/** Upgrades an accepted socket. See `Runtime.terminateTls`. */
export function terminateTls<S>(
  clock: Clock,
  socket: StreamSocket<unknown>,
  options: TerminateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const context = builtHere<DenoServerContext>(options.context);
  const { chainPem, keyPem, clientAuth, clientCaPem, minVersion, alpn } = context.identity;
  const securing = new Securing(clock, socket, { ...options, isGated: false });
  securing.begin((carrier) => {
    carrier.receive(options.initialData);
    const server = new tls.Server({
      cert: chainPem,
      key: keyPem,
      requestCert: clientAuth !== "none",
      // With true a refused client could not be named: it is refused below.
      rejectUnauthorized: false,
      ...(clientCaPem.length > 0 && { ca: [...clientCaPem] }),
      minVersion: `TLSv${minVersion}`,
      maxVersion: "TLSv1.3",
      ciphers: KEY_IS_CHECKED,
      ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
    });
    server.on("tlsClientError", (error) => securing.broken(error));
    server.on("secureConnection", (secured) => securing.judge(secured, () => judgeClient(context, secured)));
    server.emit("connection", carrier);
  });
  return securing.result;
}

/** Upgrades a dialled socket. See `Runtime.originateTls`. */
export function originateTls<S>(
  clock: Clock,
  socket: StreamSocket<unknown>,
  options: OriginateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const context = builtHere<DenoClientContext>(options.context);
  const { chainPem, keyPem, serverCaPem, minVersion, alpn } = context.identity;
  const { heard } = socket as DenoSocket<unknown>;
  const securing = new Securing(clock, socket, { ...options, isGated: true });
  if (heard !== "") {
    // Bytes from before the handshake are not authenticated.
    if (heard === "data") securing.fail("handshake", "SPOKE_FIRST");
    else securing.fail("closed", "");
    socket.terminate();
    return securing.result;
  }
  securing.begin((carrier) => {
    const secured = tls.connect({
      socket: carrier,
      ...(chainPem !== "" && { cert: chainPem, key: keyPem }),
      ca: [...serverCaPem],
      ciphers: KEY_IS_CHECKED,
      ...(options.serverName !== "" && { servername: options.serverName }),
      rejectUnauthorized: false,
      // Names are `accept`'s.
      checkServerIdentity: () => undefined,
      minVersion: `TLSv${minVersion}`,
      maxVersion: "TLSv1.3",
      ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
    });
    secured.on("error", (error) => securing.broken(error));
    secured.on("secureConnect", () => securing.judge(secured, () => judgeServer(options, context, secured)));
  });
  return securing.result;
}

/** See `Runtime.peerCertificate`. */
export function peerCertificate(socket: StreamSocket<unknown>): Uint8Array | null {
  return socket instanceof DenoTlsSocket ? socket.leaf : null;
}

function judgeClient(context: DenoServerContext, secured: tls.TLSSocket): Verdict {
  const { clientAuth } = context.identity;
  if (clientAuth === "none") return accepted(null);
  const leaf = leafOf(secured);
  if (leaf === null) {
    const isFine = clientAuth === "optional" && codeOfRefusal(secured) === UNKNOWN_ISSUER;
    return isFine ? accepted(null) : refused(NO_CERTIFICATE, null);
  }
  return judgeChain(context, leaf, secured);
}

function judgeServer(
  options: OriginateTlsOptions<unknown>,
  context: DenoClientContext,
  secured: tls.TLSSocket,
): Verdict {
  const leaf = leafOf(secured);
  if (leaf === null) return { leaf, failure: "handshake", detail: NO_CERTIFICATE };
  const verdict = judgeChain(context, leaf, secured);
  if (verdict.failure !== "") return verdict;
  if (secured.isSessionReused()) return refused("SESSION_REUSED", leaf);
  const fault = options.accept(leaf);
  if (fault !== "") return refused(fault, leaf);
  // A server may pass over what we offer (RFC 7301, 3.2), and then speak anything.
  if (context.identity.alpn.length > 0 && typeof secured.alpnProtocol !== "string")
    return { leaf, failure: "handshake", detail: "NO_APPLICATION_PROTOCOL" };
  return verdict;
}

/** Ours and Deno's verification have to agree; ours has the better words. */
function judgeChain(
  { verify }: DenoServerContext | DenoClientContext,
  leaf: Uint8Array,
  secured: tls.TLSSocket,
): Verdict {
  let verdict = verify([leaf]);
  // Getting at more than the leaf is slow, and rarely needed: a leaf that a configured CA has issued itself verifies without the intermediates that
  // the peer sent.
  if (verdict.fault !== "") verdict = verify(presentedBy(secured));
  const { fault, isCa, constrainsUris } = verdict;
  if (fault !== "") return refused(fault, leaf);
  if (!secured.authorized && !constrainsUris)
    return refused(isCa ? AUTHORITY : codeOfRefusal(secured) || "CERT_REJECTED", leaf);
  return isReadable(leaf) ? accepted(leaf) : refused("CERT_UNREADABLE", leaf);
}

const readable = new Map<string, boolean>();

/** Whether Deno's library can read a certificate: if not, it accepts whoever presents it, without proof of the key. */
function isReadable(leaf: Uint8Array): boolean {
  const base64 = Buffer.from(leaf).toString("base64");
  const known = readable.get(base64);
  if (known !== undefined) return known;
  let answer = true;
  try {
    // A client that is made with it as an authority reads it, and says so when it cannot.
    const pem = `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
    deno.createHttpClient({ caCerts: [pem] }).close();
  } catch {
    answer = false;
  }
  if (readable.size >= LEAVES_KEPT) readable.clear();
  readable.set(base64, answer);
  return answer;
}

/** DER of the peer's own certificate. */
function leafOf(secured: tls.TLSSocket): Uint8Array | null {
  const own = secured.getPeerX509Certificate();
  return own === undefined ? null : new Uint8Array(own.raw);
}

/** DER of what the peer has shown, its own certificate first; also of what Deno has found among our authorities. */
function presentedBy(secured: tls.TLSSocket): Uint8Array[] {
  // A peer may send the same one twice, and more behind it. One that has signed itself names itself as its issuer.
  const seen = new Set<tls.DetailedPeerCertificate>();
  let next: tls.DetailedPeerCertificate | undefined = secured.getPeerCertificate(true);
  while (next?.raw !== undefined && !seen.has(next)) {
    seen.add(next);
    next = next.issuerCertificate;
  }
  return Array.from(seen, ({ raw }) => new Uint8Array(raw));
}

/** Deno has a code here, not an Error as its types say. */
function codeOfRefusal({ authorizationError }: tls.TLSSocket): string {
  const error: unknown = authorizationError;
  return typeof error === "string" ? error : codeOf(error);
}

/** OpenSSL's name of what was wrong. Deno makes one up for its own library, and calls what that finds itself an alert of the peer's. */
function reasonOf(error: unknown): string {
  const message = messageOf(error);
  const name = codeOf(error).replace(/^ERR_SSL_/, "");
  if (VERDICTS.includes(name)) return "BAD_SIGNATURE";
  if (name !== NO_NAME || message.includes("fatal alert")) return name || message;
  const words = /^peer is incompatible: (\w+)/.exec(message)?.[1] ?? "";
  if (words === "NoCipherSuitesInCommon" || words === "NoKxGroupsInCommon") return "NO_SHARED_CIPHER";
  return words === "" ? "UNEXPECTED_MESSAGE" : words.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

function accepted(leaf: Uint8Array | null): Verdict {
  return { leaf, failure: "", detail: "" };
}

function refused(detail: string, leaf: Uint8Array | null): Verdict {
  return { leaf, failure: "certificate", detail };
}

interface SecuringOptions<S> extends Omit<SecuredOptions<S>, "leaf"> {
  readonly timeoutMs: number;
  readonly isGated: boolean;
}

/** A handshake under way, until there is a verdict. */
class Securing<S> {
  readonly result: Promise<TlsResult<S>>;
  readonly #resolve: (result: TlsResult<S>) => void;
  readonly #plain: DenoSocket<unknown>;
  readonly #options: SecuringOptions<S>;
  readonly #clock: Clock;
  readonly #deadline: Timer;
  #carrier: Carrier | null = null;
  #isSettled = false;

  constructor(clock: Clock, socket: StreamSocket<unknown>, options: SecuringOptions<S>) {
    const { promise, resolve } = Promise.withResolvers<TlsResult<S>>();
    this.result = promise;
    this.#resolve = resolve;
    this.#plain = socket as DenoSocket<unknown>;
    this.#options = options;
    this.#clock = clock;
    this.#deadline = new Timer(() => this.#giveUp("timeout", ""));
  }

  begin(start: (carrier: Carrier) => void): void {
    if (this.#plain.isDead) {
      this.fail("closed", "");
      return;
    }
    this.#clock.arm(this.#deadline, this.#options.timeoutMs);
    const carrier = new Carrier(this.#plain, this.#options);
    this.#carrier = carrier;
    carrier.on("error", () => this.#giveUp("closed", ""));
    carrier.onClose = () => this.#giveUp("closed", "");
    // The library does not always say that a handshake has been left. It may have something to say about what came before, so it goes first.
    carrier.onEnd = () => void setTimeout(() => this.#giveUp("closed", ""), LAST_WORDS_MS);
    try {
      start(carrier);
      carrier.wire.resume();
    } catch (thrown) {
      this.#giveUp("handshake", messageOf(thrown));
    }
  }

  /** The library has ended the handshake: the other side left, or something in it was wrong. */
  broken(error: unknown): void {
    const carrier = this.#carrier;
    // Its alert, which says why, may still be on its way: it goes ahead of the end.
    const isGone = codeOf(error) === "ECONNRESET" && (carrier === null || carrier.readableEnded);
    this.#giveUp(isGone ? "closed" : "handshake", isGone ? "" : reasonOf(error), { isOrderly: true });
  }

  /** From here on the socket is the caller's or it is dead. */
  judge(secured: tls.TLSSocket, judgement: () => Verdict): void {
    const carrier = this.#carrier;
    if (this.#isSettled || carrier === null) {
      secured.destroy();
      return;
    }
    let verdict: Verdict;
    try {
      verdict = judgement();
    } catch (thrown) {
      verdict = { leaf: null, failure: "handshake", detail: messageOf(thrown) };
    }
    const { leaf, failure, detail } = verdict;
    if (failure !== "") {
      this.#giveUp(failure, detail, { leaf });
      secured.destroy();
      return;
    }
    this.#settle({
      ok: true,
      socket: new DenoTlsSocket(secured, carrier, { ...this.#options, leaf }),
      peerCertificate: leaf,
      version: secured.getProtocol() ?? "",
      cipher: secured.getCipher().name,
      resumed: secured.isSessionReused(),
      alpn: typeof secured.alpnProtocol === "string" ? secured.alpnProtocol : "",
    });
    carrier.onEnd = () => {};
    carrier.openGate();
  }

  fail(failure: Failure, detail: string, peerCertificate: Uint8Array | null = null): void {
    if (!this.#isSettled) this.#settle({ ok: false, failure, detail, peerCertificate });
  }

  #giveUp(
    failure: Failure,
    detail: string,
    { leaf = null, isOrderly = false }: { readonly leaf?: Uint8Array | null; readonly isOrderly?: boolean } = {},
  ): void {
    if (this.#isSettled) return;
    this.fail(failure, detail, leaf);
    if (!isOrderly) {
      this.#plain.terminate();
      return;
    }
    // An alert of ours is written by the library in this turn or the next one.
    setImmediate(() => setImmediate(() => this.#leave()));
  }

  /** Ends our direction behind the alert; nobody waits for the peer's. */
  #leave(): void {
    const wire = this.#carrier?.wire;
    if (wire === undefined || wire.isDead) return;
    wire.raw.end(() => wire.terminate());
  }

  #settle(result: TlsResult<S>): void {
    this.#isSettled = true;
    this.#clock.disarm(this.#deadline);
    this.#resolve(result);
  }
}

function builtHere<T extends DenoServerContext | DenoClientContext>(context: object): T {
  if (!("verify" in context)) throw new TypeError("the context was built by this runtime");
  return context as T;
}
