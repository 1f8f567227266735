import { expect, test } from "bun:test";
import { crc32c } from "../../../src/protocol/crc32c.ts";

// RFC 3720, B.4, and the check value of the CRC catalogue. (The RFC prints the bytes in wire order, least significant first.)
test.each([
  ["nothing", [], 0],
  ["32 bytes of zeros", new Array<number>(32).fill(0), 0x8a9136aa],
  ["32 bytes of ones", new Array<number>(32).fill(0xff), 0x62a8ab43],
  ["32 bytes that count up", Array.from({ length: 32 }, (_, index) => index), 0x46dd794e],
  ["32 bytes that count down", Array.from({ length: 32 }, (_, index) => 31 - index), 0x113fdb5c],
  ["an iSCSI Read (10) command", iscsiRead(), 0xd9963a56],
  ["123456789", [...Buffer.from("123456789")], 0xe3069283],
])("%s", (_, bytes, expected) => expect(crc32c(Uint8Array.from(bytes))).toBe(expected));

function iscsiRead(): number[] {
  return [
    ...[0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0],
    ...[0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0],
  ];
}
