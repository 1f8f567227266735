// A client of TLS 1.3 (RFC 8446) that says what it is told to, message by message, also what no library would: a signature by another key, a chain in
// another order, nothing where something has to be. One suite (TLS_AES_128_GCM_SHA256), one curve (P-256); it verifies nothing of the server.

import { createCipheriv, createDecipheriv, createECDH, createHash, createHmac, randomBytes, sign } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { eventually } from "./eventually.ts";

/** Types of handshake messages. */
export const MESSAGE = { CERTIFICATE: 11, CERTIFICATE_VERIFY: 15, FINISHED: 20 } as const;
const SERVER_HELLO = 2;
const CERTIFICATE_REQUEST = 13;

const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;

const HASH_BYTES = 32;
const KEY_BYTES = 16;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const HEADER_BYTES = 5;
const ECDSA_P256_SHA256 = 0x0403;
const NOTHING = Buffer.alloc(0);

/** How one `CertificateVerify` is to differ from what it ought to be. */
export interface ProofOptions {
  readonly scheme?: number;
  /** Default: that of a client. */
  readonly context?: string;
  /** Default: all that was said so far. */
  readonly transcript?: Buffer;
}

/** A connection whose server has said all of its flight, to which the client has answered nothing yet. */
export class ByHand {
  readonly #socket: net.Socket;
  readonly #ecdh = createECDH("prime256v1");
  #received: Buffer = NOTHING;
  /** Of the server's handshake: what is not a whole message yet. */
  #pending: Buffer = NOTHING;
  #transcript: Buffer = NOTHING;
  #handshake: Buffer = NOTHING;
  #reading: Direction | null = null;
  #writing: Direction | null = null;
  #clientSecret: Buffer = NOTHING;
  #applicationSecrets: readonly [client: Buffer, server: Buffer] = [NOTHING, NOTHING];
  /** Whether the server has asked for a certificate. */
  wasAsked = false;
  /** Application data of the server. */
  text = "";
  /** The description of an alert of the server's, or -1. */
  alert = -1;
  #isReady = false;
  #hasEnded = false;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    follow(socket, {
      take: (bytes) => this.#take(bytes),
      ended: () => {
        this.#hasEnded = true;
      },
    });
  }

  /** Connects, and waits for the server's `Finished`. */
  static async connect(to: string): Promise<ByHand> {
    const client = new ByHand(await connected(to));
    client.#sayHello();
    await eventually("the server has said its part", () => client.#isReady);
    return client;
  }

  /** Says a message that is right in form, whatever is in it. */
  say(type: number, body: Buffer): void {
    const message = Buffer.concat([Buffer.from([type]), sized(3, body)]);
    this.#transcript = Buffer.concat([this.#transcript, message]);
    this.#send(HANDSHAKE, message);
  }

  /** Shows these certificates (DER), in this order. */
  show(certificates: readonly Uint8Array[], context: Buffer = NOTHING): void {
    const entries = certificates.map((der) => Buffer.concat([sized(3, Buffer.from(der)), sized(2, NOTHING)]));
    this.say(MESSAGE.CERTIFICATE, Buffer.concat([sized(1, context), sized(3, Buffer.concat(entries))]));
  }

  /** Proves to have this key (PEM). */
  prove(keyPem: string, options: ProofOptions = {}): void {
    const { scheme = ECDSA_P256_SHA256, context = "TLS 1.3, client CertificateVerify" } = options;
    const { transcript = this.#transcript } = options;
    const signed = Buffer.concat([Buffer.alloc(64, " "), Buffer.from(`${context}\0`), sha256(transcript)]);
    this.say(MESSAGE.CERTIFICATE_VERIFY, Buffer.concat([uint(2, scheme), sized(2, sign("sha256", signed, keyPem))]));
  }

  /** Ends the handshake. `spoil`: a bit of it is wrong. */
  finish(spoil = false): void {
    const proof = hmac(expand(this.#clientSecret, "finished", NOTHING, HASH_BYTES), sha256(this.#transcript));
    if (spoil) proof.writeUInt8(proof.readUInt8(0) ^ 1, 0);
    this.say(MESSAGE.FINISHED, proof);
  }

  /** Sends application data, under the keys of after the handshake, or, `early`, under those of the handshake. */
  speak(text: string, { early = false }: { readonly early?: boolean } = {}): void {
    if (!early) this.#writing = directionOf(this.#applicationSecrets[0]);
    this.#send(APPLICATION_DATA, Buffer.from(text));
  }

  /** What the server has said to us until now, once it has said something or left. */
  async answer(): Promise<string> {
    await eventually("the server has answered or left", () => this.text !== "" || this.#hasEnded);
    return this.text;
  }

  /** Whether it has gone, or says that it goes. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #sayHello(): void {
    const name = Buffer.from("localhost");
    const extensions = [
      [0, sized(2, Buffer.concat([uint(1, 0), sized(2, name)]))],
      [10, sized(2, uint(2, 23))],
      [13, sized(2, Buffer.concat([uint(2, ECDSA_P256_SHA256), uint(2, 0x0804)]))],
      [43, sized(1, uint(2, 0x0304))],
      [51, sized(2, Buffer.concat([uint(2, 23), sized(2, this.#ecdh.generateKeys())]))],
    ] as const;
    const body = Buffer.concat([
      uint(2, 0x0303),
      randomBytes(32),
      sized(1, NOTHING),
      sized(2, uint(2, 0x1301)),
      sized(1, uint(1, 0)),
      sized(2, Buffer.concat(extensions.map(([id, value]) => Buffer.concat([uint(2, id), sized(2, value)])))),
    ]);
    const message = Buffer.concat([uint(1, 1), sized(3, body)]);
    this.#transcript = message;
    this.#send(HANDSHAKE, message);
  }

  #send(type: number, bytes: Buffer): void {
    if (this.#socket.destroyed) return;
    const record = this.#writing?.seal(type, bytes) ?? Buffer.concat([uint(1, type), uint(2, 0x0301), sized(2, bytes)]);
    this.#socket.write(record);
  }

  #take(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + this.#received.readUInt16BE(3);
      if (this.#received.length < end) return;
      const record = this.#received.subarray(0, end);
      this.#received = this.#received.subarray(end);
      const outer = record.readUInt8(0);
      if (outer === APPLICATION_DATA && this.#reading !== null) this.#hear(...this.#reading.open(record));
      else this.#hear(outer, record.subarray(HEADER_BYTES));
    }
  }

  #hear(type: number, content: Buffer): void {
    if (type === APPLICATION_DATA) this.text += content.toString("latin1");
    else if (type === ALERT) {
      this.alert = content.readUInt8(1);
      // close_notify or a fault: either way it says no more.
      this.#hasEnded = true;
    } else if (type === HANDSHAKE && !this.#isReady) {
      this.#pending = Buffer.concat([this.#pending, content]);
      while (this.#pending.length >= 4) {
        const end = 4 + this.#pending.readUIntBE(1, 3);
        if (this.#pending.length < end) return;
        const message = this.#pending.subarray(0, end);
        this.#pending = this.#pending.subarray(end);
        this.#transcript = Buffer.concat([this.#transcript, message]);
        this.#heed(message);
      }
    }
  }

  #heed(message: Buffer): void {
    const type = message.readUInt8(0);
    if (type === CERTIFICATE_REQUEST) this.wasAsked = true;
    if (type === SERVER_HELLO) {
      const shared = this.#ecdh.computeSecret(keyShareIn(message));
      const early = hmac(Buffer.alloc(HASH_BYTES), Buffer.alloc(HASH_BYTES));
      this.#handshake = hmac(derived(early, "derived", NOTHING), shared);
      this.#clientSecret = derived(this.#handshake, "c hs traffic", this.#transcript);
      this.#reading = directionOf(derived(this.#handshake, "s hs traffic", this.#transcript));
      this.#writing = directionOf(this.#clientSecret);
    }
    if (type === MESSAGE.FINISHED) {
      const master = hmac(derived(this.#handshake, "derived", NOTHING), Buffer.alloc(HASH_BYTES));
      const [client, server] = ["c ap traffic", "s ap traffic"].map((label) =>
        derived(master, label, this.#transcript),
      );
      this.#applicationSecrets = [client as Buffer, server as Buffer];
      this.#reading = directionOf(server as Buffer);
      this.#isReady = true;
    }
  }
}

/** Keys of one direction (7.3), and how many records went by. */
class Direction {
  readonly #key: Buffer;
  readonly #iv: Buffer;
  #records = 0;

  constructor(key: Buffer, iv: Buffer) {
    this.#key = key;
    this.#iv = iv;
  }

  seal(type: number, bytes: Buffer): Buffer {
    const inner = Buffer.concat([bytes, uint(1, type)]);
    const header = Buffer.concat([uint(1, APPLICATION_DATA), uint(2, 0x0303), uint(2, inner.length + TAG_BYTES)]);
    const cipher = createCipheriv("aes-128-gcm", this.#key, this.#nonce()).setAAD(header);
    return Buffer.concat([header, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
  }

  open(record: Buffer): [type: number, content: Buffer] {
    const decipher = createDecipheriv("aes-128-gcm", this.#key, this.#nonce()).setAAD(record.subarray(0, HEADER_BYTES));
    decipher.setAuthTag(record.subarray(-TAG_BYTES));
    const padded = Buffer.concat([decipher.update(record.subarray(HEADER_BYTES, -TAG_BYTES)), decipher.final()]);
    let end = padded.length;
    while (end > 0 && padded[end - 1] === 0) end--;
    return [padded[end - 1] ?? 0, padded.subarray(0, end - 1)];
  }

  #nonce(): Buffer {
    const nonce = Buffer.from(this.#iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(IV_BYTES - 4) ^ this.#records++) >>> 0, IV_BYTES - 4);
    return nonce;
  }
}

function directionOf(secret: Buffer): Direction {
  return new Direction(expand(secret, "key", NOTHING, KEY_BYTES), expand(secret, "iv", NOTHING, IV_BYTES));
}

/** The share of the key in a `ServerHello`. */
function keyShareIn(message: Buffer): Buffer {
  const random = 4 + 2;
  const sessionId = random + 32;
  let at = sessionId + 1 + message.readUInt8(sessionId) + 2 + 1 + 2;
  while (at < message.length) {
    const length = message.readUInt16BE(at + 2);
    if (message.readUInt16BE(at) === 51) return message.subarray(at + 8, at + 4 + length);
    at += 4 + length;
  }
  throw new Error("the server has no share of the key");
}

/** HKDF-Expand-Label (7.1), of no more than one block. */
function expand(secret: Buffer, label: string, context: Buffer, length: number): Buffer {
  const info = Buffer.concat([uint(2, length), sized(1, Buffer.from(`tls13 ${label}`)), sized(1, context), uint(1, 1)]);
  return hmac(secret, info).subarray(0, length);
}

/** Derive-Secret (7.1). */
function derived(secret: Buffer, label: string, transcript: Buffer): Buffer {
  return expand(secret, label, sha256(transcript), HASH_BYTES);
}

/** HMAC of SHA-256. */
export function hmac(key: Buffer, bytes: Buffer): Buffer {
  return createHmac("sha256", key).update(bytes).digest();
}

/** Its hash. */
export function sha256(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes).digest();
}

/** A number in so many bytes. */
export function uint(size: number, value: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
}

/** Bytes behind their length. */
export function sized(size: number, bytes: Buffer): Buffer {
  return Buffer.concat([uint(size, bytes.length), bytes]);
}

/** A TCP connection to `HOST:PORT`. */
export async function connected(to: string): Promise<net.Socket> {
  const [host = "", port] = to.split(":");
  const socket = net.connect({ host, port: Number(port) });
  await once(socket, "connect");
  return socket;
}

/** Tells of what comes, and of the end, in whatever way it comes. */
export function follow(
  socket: net.Socket,
  { take, ended }: { readonly take: (bytes: Buffer) => void; readonly ended: () => void },
): void {
  socket.on("data", take);
  socket.on("error", () => {});
  for (const event of ["close", "end"]) socket.on(event, ended);
}
