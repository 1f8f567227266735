// A process that writes numbered lines through a log sink, as a worker does: `log-writer.ts TARGET NAME COUNT`. Each line has its name, its number,
// and a padding whose length follows from the number, so that whoever reads it knows whether it is whole. Prints how many were dropped on
// standard error. With a COUNT of 0 it writes a batch for each line of standard input.

import { openLogSink } from "../../src/runtime/node/log-sink.ts";

const [target = "stdout", name = "", count = "0"] = process.argv.slice(2);
const sink = openLogSink(target);
const BATCH = 100;

function batch(from: number, lines: number): string {
  let text = "";
  for (let number = from; number < from + lines; number++)
    text += `${name} ${number} ${"x".repeat((number * 7919) % 900)} end\n`;
  return text;
}

let written = 0;
if (count === "0") {
  for await (const _ of console) {
    sink.write(batch(written, BATCH));
    written += BATCH;
    await sink.flush();
    console.error(`dropped ${sink.droppedLines} of ${written}`);
  }
} else {
  for (; written < Number(count); written += BATCH) {
    sink.write(batch(written, BATCH));
    // Not after each: what gathers meanwhile is written in one go.
    if (written % (10 * BATCH) === 0) await sink.flush();
  }
}
await sink.flush();
console.error(`dropped ${sink.droppedLines} of ${written}`);
