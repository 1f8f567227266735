// IP addresses as bytes and text. IPv4-mapped IPv6 (::ffff:a.b.c.d), which a dual-stack socket reports, is IPv4 here:
// a rule about 10.0.0.0/8 must hold whichever way the client was accepted.

/** 4 or 16 bytes, network order. */
export type IpBytes = Uint8Array;

/** The bytes of an IPv4 or IPv6 literal (no zone, no brackets), mapped IPv4 as 4 bytes; null when it is neither. */
export function parseIp(text: string): IpBytes | null {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

/** IPv4-mapped IPv6 as its 4 bytes; anything else as it is. For bytes that come from elsewhere than `parseIp`. */
export function unmapIp(bytes: IpBytes): IpBytes {
  return bytes.length === 16 && isMappedIpv4(bytes) ? bytes.slice(12) : bytes;
}

/** Whether the text is an IPv4 or IPv6 literal. */
export function isIp(text: string): boolean {
  return parseIp(text) !== null;
}

/** The canonical text: dotted quad, or RFC 5952 for IPv6. */
export function formatIp(bytes: IpBytes): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups: number[] = [];
  for (let index = 0; index < 16; index += 2)
    groups.push(((bytes[index] as number) << 8) | (bytes[index + 1] as number));
  const { start, length } = longestZeroRun(groups);
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
  if (length < 2) return text(groups);
  return `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

/** `10.0.0.1:443`, `[2001:db8::1]:443`. */
export function formatHostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether the address can only be reached from this host (127.0.0.0/8, ::1). */
export function isLoopbackIp(bytes: IpBytes): boolean {
  if (bytes.length === 4) return bytes[0] === 127;
  return bytes.every((byte, index) => byte === (index === 15 ? 1 : 0));
}

function parseIpv4(text: string): IpBytes | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  const bytes = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    // A leading zero means octal to some readers and decimal to others (RFC 6943, 3.1.1): refuse it.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    bytes[index] = Number(part);
  }
  return bytes;
}

function parseIpv6(text: string): IpBytes | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (head === null || tail === null) return null;
  const missing = 16 - head.length - tail.length;
  // "::" stands for at least one group (RFC 4291, 2.2).
  if (halves.length === 2 ? missing < 2 : missing !== 0) return null;
  const bytes = Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...tail]);
  return unmapIp(bytes);
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | null {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (mayEndInIpv4 && index === groups.length - 1 && group.includes(".")) {
      const quad = parseIpv4(group);
      if (quad === null) return null;
      bytes.push(...quad);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

function isMappedIpv4(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: -1, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (start + length < groups.length && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
