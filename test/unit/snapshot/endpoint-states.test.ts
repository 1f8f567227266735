import { expect, test } from "bun:test";
import { EndpointStates, STATE_CELLS } from "../../../src/snapshot/endpoint-states.ts";

const SLOTS = 4;

function newStates(): EndpointStates {
  return new EndpointStates(new Int32Array(SLOTS * STATE_CELLS));
}

test("everything is nothing at first, and after it was cleared", () => {
  const states = newStates();
  const told = (): unknown[] => [
    states.health(1),
    states.ejectedUntilS(1),
    states.failures(1),
    states.ejections(1),
    states.backSinceS(1),
    states.latencyUs(1),
    states.latencyAtMs(1),
  ];
  const nothing = ["unknown", 0, 0, 0, 0, 0, 0];
  expect(told()).toEqual(nothing);
  states.setHealth(1, "down");
  states.setEjectedUntilS(1, 1_800_000_000.2);
  states.addFailure(1);
  states.setEjections(1, 3);
  states.setBackSinceS(1, 1_800_000_001);
  states.setLatency(1, 1500, 2 ** 31 + 7);
  // Times are whole seconds, and never earlier than what was said.
  expect(told()).toEqual(["down", 1_800_000_001, 1, 3, 1_800_000_001, 1500, 7]);
  states.clear(1);
  expect(told()).toEqual(nothing);
});

test("slots do not disturb each other", () => {
  const states = newStates();
  states.setHealth(0, "down");
  states.setHealth(2, "up");
  expect([0, 1, 2, 3].map((slot) => states.health(slot))).toEqual(["down", "unknown", "up", "unknown"]);
});

test("failures are counted in a row", () => {
  const states = newStates();
  expect([states.addFailure(3), states.addFailure(3)]).toEqual([1, 2]);
  states.clearFailures(3);
  expect([states.failures(3), states.addFailure(3)]).toEqual([0, 1]);
});

test("times reach into the next decades", () => {
  const states = newStates();
  const in2060 = Date.UTC(2060, 0, 1) / 1000;
  states.setEjectedUntilS(0, in2060);
  expect(states.ejectedUntilS(0)).toBe(in2060);
});

test("a change of health, of an ejection or of a return is seen by a look at one number; what is written again is none", () => {
  const states = newStates();
  const changes: (() => void)[] = [
    () => states.setHealth(1, "down"),
    () => states.setEjectedUntilS(0, 1_800_000_000),
    () => states.setBackSinceS(2, 1_800_000_000),
    () => states.clear(1),
  ];
  for (const change of changes) {
    const before = states.changes;
    change();
    expect(states.changes).not.toBe(before);
  }
  const before = states.changes;
  states.setHealth(1, "unknown");
  states.setEjectedUntilS(0, 1_800_000_000);
  states.addFailure(0);
  states.setLatency(0, 5, 5);
  expect(states.changes).toBe(before);
});
