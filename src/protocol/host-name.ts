// What a DNS host name may look like, in one place: for the name that a client asks for (SNI) and for what an operator
// writes in a pattern. Letters, digits, hyphens (RFC 1123, 2.1) and, because internal names have them, underscores.

import { isIp } from "../base/ip.ts";

/** The longest name in text without its final dot (RFC 1035, 3.1: 255 octets on the wire). */
const NAME_MAX_LENGTH = 253;
const LABEL_MAX_LENGTH = 63;

const HYPHEN = 0x2d;
const DOT = 0x2e;

/**
 * What keeps `name` from being a host name, as the end of a sentence that begins with the name ("has an empty label"); ""
 * when it is one, in either case and without a final dot. The text never repeats the name, so it is safe to log.
 */
export function hostNameProblem(name: string): string {
  if (name === "") return "is empty";
  if (name.length > NAME_MAX_LENGTH) return `is longer than ${NAME_MAX_LENGTH} characters`;
  let labelStart = 0;
  let numeric = true; // the label being read, and at the end the last one
  for (let index = 0; index <= name.length; index++) {
    const code = index < name.length ? name.charCodeAt(index) : DOT;
    if (code === DOT) {
      const problem = labelProblem(name, labelStart, index);
      if (problem !== "") return problem;
      labelStart = index + 1;
      if (index < name.length) numeric = true;
    } else if (!isLabelCode(code)) {
      return isIp(name) ? "is an IP address" : `holds the character 0x${code.toString(16).padStart(2, "0")}`;
    } else if (!isDigit(code)) numeric = false;
  }
  // No top-level name is all digits, which is how names and addresses are told apart (RFC 1123, 2.1).
  if (numeric) return isIp(name) ? "is an IP address" : "ends in a number";
  return "";
}

/** Whether the character may stand in a label (a hyphen only inside it). */
export function isLabelCode(code: number): boolean {
  return (
    isDigit(code) ||
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x41 && code <= 0x5a) ||
    code === HYPHEN ||
    code === 0x5f
  );
}

function labelProblem(name: string, start: number, end: number): string {
  if (start === end) return "has an empty label";
  if (end - start > LABEL_MAX_LENGTH) return `has a label of more than ${LABEL_MAX_LENGTH} characters`;
  if (name.charCodeAt(start) === HYPHEN || name.charCodeAt(end - 1) === HYPHEN)
    return "has a label that begins or ends with a hyphen";
  return "";
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}
