// The same for TLS 1.2 (RFC 5246): a client that says what it is told to. One suite (ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), one curve (P-256); it verifies
// nothing of the server. Its key exchange, of which nothing is to be tried here, goes ahead of its proof by itself.

import { createCipheriv, createDecipheriv, createECDH, randomBytes, sign } from "node:crypto";
import type net from "node:net";
import { eventually } from "./eventually.ts";
import { connected, follow, hmac, MESSAGE, type ProofOptions, sha256, sized, uint } from "./tls-by-hand.ts";

const SERVER_HELLO = 2;
const SERVER_KEY_EXCHANGE = 12;
const CERTIFICATE_REQUEST = 13;
const SERVER_HELLO_DONE = 14;
const CLIENT_KEY_EXCHANGE = 16;

const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;

const VERSION = 0x0303;
const HEADER_BYTES = 5;
const EXPLICIT_BYTES = 8;
const TAG_BYTES = 16;
const ECDSA_P256_SHA256 = 0x0403;
const NOTHING = Buffer.alloc(0);

/** A connection whose server has said that it is the client's turn. */
export class ByHand12 {
  readonly #socket: net.Socket;
  readonly #ecdh = createECDH("prime256v1");
  readonly #random = randomBytes(32);
  #received: Buffer = NOTHING;
  #pending: Buffer = NOTHING;
  #transcript: Buffer = NOTHING;
  #serverRandom: Buffer = NOTHING;
  #serverKey: Buffer = NOTHING;
  #master: Buffer = NOTHING;
  /** Keys and salts of the client and of the server; empty before the key exchange. */
  #keys: Buffer = NOTHING;
  /** Records that were encrypted, in both directions; -1: none is yet. */
  #sentRecords = -1;
  #readRecords = -1;
  /** Whether the server has asked for a certificate. */
  wasAsked = false;
  /** Application data of the server. */
  text = "";
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

  /** Connects, and waits for the server's `ServerHelloDone`. */
  static async connect(to: string): Promise<ByHand12> {
    const client = new ByHand12(await connected(to));
    client.#sayHello();
    await eventually("the server has said its part", () => client.#isReady);
    return client;
  }

  /** Says a message that is right in form, whatever is in it. */
  say(type: number, body: Buffer): void {
    if (this.#keys.length === 0 && type !== MESSAGE.CERTIFICATE) this.#exchangeKeys();
    const message = Buffer.concat([uint(1, type), sized(3, body)]);
    this.#transcript = Buffer.concat([this.#transcript, message]);
    this.#send(HANDSHAKE, message);
  }

  /** Shows these certificates (DER), in this order. */
  show(certificates: readonly Uint8Array[]): void {
    this.say(MESSAGE.CERTIFICATE, sized(3, Buffer.concat(certificates.map((der) => sized(3, Buffer.from(der))))));
  }

  /** Proves to have this key (PEM). */
  prove(keyPem: string, { scheme = ECDSA_P256_SHA256, transcript }: ProofOptions = {}): void {
    if (this.#keys.length === 0) this.#exchangeKeys();
    const proof = sign("sha256", transcript ?? this.#transcript, keyPem);
    this.say(MESSAGE.CERTIFICATE_VERIFY, Buffer.concat([uint(2, scheme), sized(2, proof)]));
  }

  /** Ends the handshake. `spoil`: a bit of it is wrong. */
  finish(spoil = false): void {
    if (this.#keys.length === 0) this.#exchangeKeys();
    const proof = expand(this.#master, "client finished", sha256(this.#transcript), 12);
    if (spoil) proof.writeUInt8(proof.readUInt8(0) ^ 1, 0);
    this.#send(CHANGE_CIPHER_SPEC, uint(1, 1));
    this.#sentRecords = 0;
    this.say(MESSAGE.FINISHED, proof);
  }

  /** Sends application data. `early`: in plain text. */
  speak(text: string, { early = false }: { readonly early?: boolean } = {}): void {
    if (!early && this.#sentRecords < 0) this.#sentRecords = 0;
    this.#send(APPLICATION_DATA, Buffer.from(text));
  }

  /** What the server has said to us until now, once it has said something or left. */
  async answer(): Promise<string> {
    await eventually("the server has answered or left", () => this.text !== "" || this.#hasEnded);
    return this.text;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #sayHello(): void {
    const extensions = [
      [0, sized(2, Buffer.concat([uint(1, 0), sized(2, Buffer.from("localhost"))]))],
      [10, sized(2, uint(2, 23))],
      [11, sized(1, uint(1, 0))],
      [13, sized(2, Buffer.concat([uint(2, ECDSA_P256_SHA256), uint(2, 0x0804)]))],
      [0xff01, sized(1, NOTHING)],
    ] as const;
    const all = extensions.map(([id, value]) => Buffer.concat([uint(2, id), sized(2, value)]));
    const suites = sized(2, uint(2, 0xc02b));
    const body = [uint(2, VERSION), this.#random, sized(1, NOTHING), suites, sized(1, uint(1, 0))];
    this.#transcript = Buffer.concat([uint(1, 1), sized(3, Buffer.concat([...body, sized(2, Buffer.concat(all))]))]);
    this.#send(HANDSHAKE, this.#transcript);
  }

  #exchangeKeys(): void {
    const share = this.#ecdh.generateKeys();
    const message = Buffer.concat([uint(1, CLIENT_KEY_EXCHANGE), sized(3, sized(1, share))]);
    this.#transcript = Buffer.concat([this.#transcript, message]);
    this.#send(HANDSHAKE, message);
    const shared = this.#ecdh.computeSecret(this.#serverKey);
    this.#master = expand(shared, "master secret", Buffer.concat([this.#random, this.#serverRandom]), 48);
    this.#keys = expand(this.#master, "key expansion", Buffer.concat([this.#serverRandom, this.#random]), 40);
  }

  #send(type: number, bytes: Buffer): void {
    if (this.#socket.destroyed) return;
    const content = this.#sentRecords < 0 || this.#keys.length === 0 ? bytes : this.#seal(type, bytes);
    this.#socket.write(Buffer.concat([uint(1, type), uint(2, VERSION), sized(2, content)]));
  }

  #seal(type: number, bytes: Buffer): Buffer {
    const sequence = uint64(this.#sentRecords++);
    const nonce = Buffer.concat([this.#keys.subarray(32, 36), sequence]);
    const cipher = createCipheriv("aes-128-gcm", this.#keys.subarray(0, 16), nonce);
    cipher.setAAD(Buffer.concat([sequence, uint(1, type), uint(2, VERSION), uint(2, bytes.length)]));
    return Buffer.concat([sequence, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
  }

  #open(type: number, content: Buffer): Buffer {
    const nonce = Buffer.concat([this.#keys.subarray(36, 40), content.subarray(0, EXPLICIT_BYTES)]);
    const length = uint(2, content.length - EXPLICIT_BYTES - TAG_BYTES);
    const decipher = createDecipheriv("aes-128-gcm", this.#keys.subarray(16, 32), nonce);
    decipher.setAAD(Buffer.concat([uint64(this.#readRecords++), uint(1, type), uint(2, VERSION), length]));
    decipher.setAuthTag(content.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(content.subarray(EXPLICIT_BYTES, -TAG_BYTES)), decipher.final()]);
  }

  #take(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    while (this.#received.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + this.#received.readUInt16BE(3);
      if (this.#received.length < end) return;
      const type = this.#received.readUInt8(0);
      const content = this.#received.subarray(HEADER_BYTES, end);
      this.#received = this.#received.subarray(end);
      this.#hear(type, this.#readRecords < 0 ? content : this.#open(type, content));
    }
  }

  #hear(type: number, content: Buffer): void {
    if (type === CHANGE_CIPHER_SPEC) this.#readRecords = 0;
    else if (type === APPLICATION_DATA) this.text += content.toString("latin1");
    else if (type === ALERT) this.#hasEnded = true;
    else if (!this.#isReady) {
      this.#pending = Buffer.concat([this.#pending, content]);
      while (this.#pending.length >= 4) {
        const end = 4 + this.#pending.readUIntBE(1, 3);
        if (this.#pending.length < end) return;
        this.#heed(this.#pending.subarray(0, end));
        this.#pending = this.#pending.subarray(end);
      }
    }
  }

  #heed(message: Buffer): void {
    this.#transcript = Buffer.concat([this.#transcript, message]);
    const type = message.readUInt8(0);
    if (type === SERVER_HELLO) this.#serverRandom = message.subarray(6, 38);
    // The kind of curve, its number, and the share behind its length.
    if (type === SERVER_KEY_EXCHANGE) this.#serverKey = message.subarray(8, 8 + message.readUInt8(7));
    if (type === CERTIFICATE_REQUEST) this.wasAsked = true;
    if (type === SERVER_HELLO_DONE) this.#isReady = true;
  }
}

/** The PRF (5). */
function expand(secret: Buffer, label: string, seed: Buffer, length: number): Buffer {
  const all = Buffer.concat([Buffer.from(label), seed]);
  const blocks: Buffer[] = [];
  for (let a = hmac(secret, all); blocks.length * 32 < length; a = hmac(secret, a))
    blocks.push(hmac(secret, Buffer.concat([a, all])));
  return Buffer.concat(blocks).subarray(0, length);
}

function uint64(value: number): Buffer {
  return Buffer.concat([uint(4, 0), uint(4, value)]);
}
