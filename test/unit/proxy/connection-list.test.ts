// The list of connections: what a Set of them would do, checked against one.

import { edenGC, fullGC, heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import type { Connection } from "../../../src/proxy/connection.ts";
import { ConnectionList } from "../../../src/proxy/connection-list.ts";

function connection(id: number): Connection {
  return { id, place: -1 } as Connection;
}

describe("a list of connections", () => {
  test("keeps the order in which they came while others go", () => {
    const list = new ConnectionList();
    const set = new Set<Connection>();
    let seed = 7;
    for (let id = 1; id <= 5000; id++) {
      const newcomer = connection(id);
      list.add(newcomer);
      set.add(newcomer);
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      // Mostly young ones go, and at times nearly all do.
      const leaving = [...set].slice(id % 1000 === 0 ? 3 : -1 - (seed % 3));
      for (const each of leaving) {
        list.delete(each);
        set.delete(each);
      }
      if (id % 97 === 0) expect([...list]).toEqual([...set]);
      expect(list.size).toBe(set.size);
    }
  });

  test("can be gone through while they come and go: whoever stays is met once", () => {
    const list = new ConnectionList();
    const all = Array.from({ length: 1000 }, (_, index) => connection(index + 1));
    for (const each of all) list.add(each);
    const met: number[] = [];
    const gone = new Set<Connection>();
    for (const each of list) {
      met.push(each.id);
      // Two go for each that is met, one before and one behind it; and one comes now and then.
      for (const leaving of [all[each.id - 2], all[all.length - each.id]]) {
        if (leaving === undefined || gone.has(leaving) || leaving === each) continue;
        gone.add(leaving);
        list.delete(leaving);
      }
      if (each.id % 10 === 0 && all.length < 1100) {
        const newcomer = connection(all.length + 1);
        all.push(newcomer);
        list.add(newcomer);
      }
    }
    expect(met).toEqual([...new Set(met)].sort((a, b) => a - b));
    for (const each of list) expect(met).toContain(each.id);
  });

  test("keeps nothing of those that have gone from an eden collection", () => {
    const list = new ConnectionList();
    let nextId = 1;
    const some = (): void => {
      const newcomers = Array.from({ length: 32 }, () => connection(nextId++));
      for (const each of newcomers) list.add(each);
      for (const each of newcomers) list.delete(each);
    };
    // What is held from the beginning has grown old by then.
    some();
    fullGC();
    const before = objects();
    for (let round = 0; round < 10; round++) {
      for (let count = 0; count < 10; count++) some();
      edenGC();
    }
    // Of 3200. With a Set it is nearly all of them.
    expect(objects() - before).toBeLessThan(500);
  });
});

function objects(): number {
  return heapStats().objectTypeCounts.Object ?? 0;
}
