// Follows the record framing of received TLS bytes, to answer one question that Bun does not: when the stream ended, had the peer said
// close_notify? Bun reports a bare FIN and a close_notify alike, but a cut stream must never look complete (RFC 8446, 6.1).
//
// In TLS 1.2 an alert shows as record type 21. In TLS 1.3 it is encrypted as type 23 with a length of 19: two bytes of alert, one of
// inner type, sixteen of tag (all suites of RFC 8446, B.4 but CCM_8, which no context here offers). So application data of
// exactly two bytes that is cut by a FIN passes for a close_notify, and a peer that pads its alerts is taken for one that cut the stream.

const HEADER_BYTES = 5;
const TYPE_ALERT = 21;
const TYPE_APPLICATION_DATA = 23;
const ENCRYPTED_ALERT_BYTES = 19;

/** Fed with all received bytes in order, from the first record on. */
export class TlsRecords {
  /** Bytes of the current record's payload still to come. */
  #left = 0;
  /** Bytes of the header collected so far, when a chunk ended inside one. */
  #headerBytes = 0;
  #type = 0;
  #length = 0;
  #lastWasAlert = false;

  /** Walks the headers in `bytes`: one step for each record, not for each byte. */
  feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, bytes.length - at);
        this.#left -= taken;
        at += taken;
      } else {
        this.#headerByte(bytes[at] as number);
        at++;
      }
    }
  }

  /** Whether the stream stands at the end of an alert record. */
  get endsInAlert(): boolean {
    return this.#left === 0 && this.#headerBytes === 0 && this.#lastWasAlert;
  }

  #headerByte(value: number): void {
    if (this.#headerBytes === 0) this.#type = value;
    else if (this.#headerBytes === 3) this.#length = value << 8;
    else if (this.#headerBytes === 4) this.#length |= value;
    this.#headerBytes++;
    if (this.#headerBytes < HEADER_BYTES) return;
    this.#headerBytes = 0;
    this.#left = this.#length;
    this.#lastWasAlert =
      this.#type === TYPE_ALERT || (this.#type === TYPE_APPLICATION_DATA && this.#length === ENCRYPTED_ALERT_BYTES);
  }
}
