import { expect, test } from "bun:test";
import fc from "fast-check";
import { hostNameProblem } from "../../../src/protocol/host-name.ts";

test.each(["a", "localhost", "db.internal", "DB.Internal", "_srv.db_1.x", "1.a", "xn--bcher-kva.example"])(
  "%p is a host name",
  (name) => expect(hostNameProblem(name)).toBe(""),
);

test.each([
  ["", "is empty"],
  ["a..b", "has an empty label"],
  [".a", "has an empty label"],
  ["a.", "has an empty label"],
  ["-a", "hyphen"],
  ["a-.b", "hyphen"],
  ["a b", "0x20"],
  ["a\0", "0x00"],
  ["\u212A.b", "0x212a"],
  ["10.0.0.1", "IP address"],
  ["2001:db8::1", "IP address"],
  ["10.0.0", "ends in a number"],
  ["a.1", "ends in a number"],
  [`${"a".repeat(64)}.b`, "63"],
  ["a.".repeat(127), "253"],
])("%p %s", (name, problem) => expect(hostNameProblem(name)).toContain(problem));

test("agrees with a regular expression", () => {
  const label = "(?!-)[A-Za-z0-9_-]{1,63}(?<!-)";
  const shape = new RegExp(`^(?=.{1,253}$)(?!(.*\\.)?[0-9]+$)${label}(\\.${label})*$`);
  const near = fc.string({ unit: fc.constantFrom(..."aZ09.-_ *"), maxLength: 12 });
  const long = fc
    .array(fc.nat(70), { minLength: 1, maxLength: 8 })
    .map((sizes) => sizes.map((n) => "a".repeat(n)).join("."));
  fc.assert(
    fc.property(fc.oneof(near, long), (name) => (hostNameProblem(name) === "") === shape.test(name)),
    { numRuns: 3000 },
  );
});
