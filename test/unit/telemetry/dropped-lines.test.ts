import { expect, test } from "bun:test";
import { watchDroppedLines } from "../../../src/telemetry/dropped-lines.ts";
import type { Log } from "../../../src/telemetry/log.ts";
import { eventually } from "../../support/eventually.ts";

test("dropped lines are told once for each time that it happens, with how many they were", async () => {
  const said: string[] = [];
  const log = {
    warn: (text: string) => said.push(text.slice(0, 34)),
    info: ({ lines }: { lines: number }) => said.push(`over: ${lines}`),
  } as unknown as Log;
  const sink = { droppedLines: 5 };
  let counted = 0;
  const dropped = (lines: number): void => {
    counted += lines;
  };
  const stop = watchDroppedLines(sink, { log, dropped, lookMs: 20 });
  for (const [round, lines] of [30, 4].entries()) {
    const dropping = setInterval(() => {
      if (sink.droppedLines < 5 + (round === 0 ? 30 : 34)) sink.droppedLines++;
    }, 1);
    await eventually("it was said to be over", () => said.includes(`over: ${lines}`));
    clearInterval(dropping);
  }
  sink.droppedLines += 3;
  stop();
  expect(counted).toBe(37);
  expect(said).toEqual([
    "access-log lines are being dropped",
    "over: 30",
    "access-log lines are being dropped",
    "over: 4",
  ]);
});
