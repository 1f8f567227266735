// Where access-log lines go. Writing to a pipe whose reader has stalled, or to a full disk, must not stop the relay, so one asynchronous
// write is in flight at a time and lines gather behind it up to a limit; beyond it they are dropped and counted.
//
// Several processes write to the same target, and every line has to stay whole:
// - A pipe takes at most PIPE_BUF bytes of a write as one (pipe(7)), and a stream socket, such as journald's, is much the same: they are given
//   whole lines in pieces of that size. A line that is longer by itself may be torn.
// - A file is opened for appending, and takes a write of any size as one, unless the disk is full: then it takes a part, which may end within a
//   line. What remains of that line is dropped, and nothing is written behind half a line without a newline between, whoever has left it there.

import { closeSync, constants, fstatSync, openSync, readSync, write } from "node:fs";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { LogFile, LogSink } from "../logs.ts";

/** Text kept while a write is in flight: some 8,000 lines. */
const LIMIT_BYTES = 4 * 1024 * 1024;
const PIPE_BUF = 4096;
const NEWLINE = 10;
/** O_NONBLOCK: a FIFO that nobody reads is refused (ENXIO), and does not stop the process until somebody does. */
const APPENDING = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
const RETRY_MS = 10;
/** How long a file has to end within a line, without growing, until we believe that nobody is writing the rest of it. */
const END_LOOK_MS = 50;
const LOOKS_AT_END = 20;
/** How long the end of the process may wait for a reader that has stalled. */
const FLUSH_MS = 2000;

/** A file by its descriptor. */
export class DescriptorFile implements LogFile {
  readonly descriptor: number;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

/** A sink on a descriptor. */
class DescriptorSink implements LogSink {
  droppedLines = 0;
  #descriptor: number;
  /** For looking at the end of a file; -1 where the target is none, or may not be read. */
  #reading: number;
  /** Bytes of a write that others cannot write into. */
  #atOnce: number;
  #isFile: boolean;
  /** Where to go on once the write that is in flight has ended; -1 = here. */
  #next = -1;
  /** A write of ours was cut short and the end of the file cannot be looked at. */
  #isTorn = false;
  #gathered: string[] = [];
  #gatheredBytes = 0;
  #writing = false;
  #idle: (() => void)[] = [];

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
    this.#isFile = fstatSync(descriptor).isFile();
    this.#atOnce = this.#isFile ? LIMIT_BYTES : PIPE_BUF;
    this.#reading = this.#isFile ? openForReading(descriptor) : -1;
  }

  write(lines: string): void {
    if (this.#gatheredBytes + lines.length > LIMIT_BYTES) {
      this.droppedLines += countLines(lines);
      return;
    }
    this.#gathered.push(lines);
    this.#gatheredBytes += lines.length;
    if (!this.#writing) this.#writeGathered();
  }

  moveTo(file: LogFile): void {
    // Two moves during one write: nothing has been written to the file between.
    if (this.#next >= 0) closeSync(this.#next);
    this.#next = (file as DescriptorFile).descriptor;
    if (!this.#writing) this.#move();
  }

  #move(): void {
    const before = [this.#descriptor, this.#reading];
    this.#descriptor = this.#next;
    this.#next = -1;
    this.#isTorn = false;
    this.#isFile = fstatSync(this.#descriptor).isFile();
    this.#atOnce = this.#isFile ? LIMIT_BYTES : PIPE_BUF;
    this.#reading = this.#isFile ? openForReading(this.#descriptor) : -1;
    // Standard output and error belong to others, too.
    for (const descriptor of before) if (descriptor > 2) closeSync(descriptor);
  }

  flush(): Promise<void> {
    if (!this.#writing) return Promise.resolve();
    return new Promise((resolve) => {
      const tooLong = setTimeout(resolve, FLUSH_MS);
      this.#idle.push(() => {
        clearTimeout(tooLong);
        resolve();
      });
    });
  }

  #writeGathered(): void {
    const bytes = Buffer.from(this.#gathered.join(""));
    this.#gathered = [];
    this.#gatheredBytes = 0;
    this.#writing = true;
    this.#writeFrom(bytes, 0);
  }

  /** `offset` is where a line begins. */
  #writeFrom(bytes: Buffer, offset: number): void {
    if (offset >= bytes.length) {
      this.#finished();
      return;
    }
    if (this.#isFile) this.#lookAtEnd((isWithinLine) => this.#writeLines(bytes, offset, isWithinLine));
    else this.#writeLines(bytes, offset, false);
  }

  #writeLines(bytes: Buffer, offset: number, isWithinLine: boolean): void {
    const end = endOfPiece(bytes, offset, this.#atOnce);
    const lines = bytes.subarray(offset, end);
    const ahead = isWithinLine ? 1 : 0;
    const piece = isWithinLine ? Buffer.concat([Buffer.of(NEWLINE), lines]) : lines;
    this.#writePiece(piece, 0, (written) => this.#wrote(bytes, offset, end, Math.max(written - ahead, 0)));
  }

  /** Tells how much was written in the end: all of it, unless the target is broken or full. */
  #writePiece(piece: Buffer, offset: number, done: (written: number) => void): void {
    write(this.#descriptor, piece, offset, piece.length - offset, null, (error, written) => {
      // A non-blocking pipe that is full says EAGAIN; its reader is given a moment.
      if (error !== null && codeOf(error) === "EAGAIN")
        setTimeout(() => this.#writePiece(piece, offset, done), RETRY_MS);
      else if (error !== null) done(offset);
      // Of a file the rest is not for us to append: another process may have written meanwhile.
      else if (offset + written < piece.length && !this.#isFile) this.#writePiece(piece, offset + written, done);
      else done(offset + written);
    });
  }

  /** Of the piece from `offset` to `end` so many bytes were written. */
  #wrote(bytes: Buffer, offset: number, end: number, written: number): void {
    const reached = offset + written;
    if (written > 0) this.#isTorn = bytes[reached - 1] !== NEWLINE;
    if (reached === end) this.#writeFrom(bytes, end);
    else if (written > 0 && this.#isFile) {
      // What was begun cannot be taken back; the lines after it may still find room.
      const next = this.#isTorn ? bytes.indexOf(NEWLINE, reached) + 1 : reached;
      if (this.#isTorn) this.droppedLines++;
      this.#writeFrom(bytes, next);
    } else {
      this.droppedLines += countLines(bytes.toString("latin1", reached));
      this.#finished();
    }
  }

  /**
   * Tells whether the file ends within a line because somebody's write was cut short. The write of another process that is under way looks the
   * same, but not for long.
   */
  #lookAtEnd(tell: (isWithinLine: boolean) => void, sizeBefore = -1, looks = 0): void {
    const size = this.#sizeWithinLine();
    if (size < 0 || size === sizeBefore || looks === LOOKS_AT_END) tell(size >= 0 && size === sizeBefore);
    else setTimeout(() => this.#lookAtEnd(tell, size, looks + 1), END_LOOK_MS);
  }

  /** The size of a file that ends within a line; -1 of one that does not, and 0 of one that cannot be looked at and that we left so. */
  #sizeWithinLine(): number {
    try {
      const { size } = fstatSync(this.#reading);
      const last = new Uint8Array(1);
      if (size === 0 || readSync(this.#reading, last, 0, 1, size - 1) === 0) return -1;
      return last[0] === NEWLINE ? -1 : size;
    } catch {
      return this.#isTorn ? 0 : -1;
    }
  }

  #finished(): void {
    this.#writing = false;
    if (this.#next >= 0) this.#move();
    if (this.#gathered.length > 0) {
      this.#writeGathered();
      return;
    }
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

/** See `Runtime.openLogSink`. */
export function openLogSink(target: string): LogSink {
  if (target === "stdout") return new DescriptorSink(1);
  if (target === "stderr") return new DescriptorSink(2);
  return new DescriptorSink(openLogFile(target).descriptor);
}

/** See `Runtime.openLogFile`. */
export function openLogFile(path: string): DescriptorFile {
  try {
    return new DescriptorFile(openSync(path, APPENDING, 0o640));
  } catch (thrown) {
    throw new ProxyError(codeOf(thrown), `cannot open the log file ${path}: ${why(thrown)}`);
  }
}

/** Node's own words repeat the path. */
function why(thrown: unknown): string {
  const code = codeOf(thrown);
  if (code === "ENOENT") return "ENOENT: its directory does not exist";
  return messageOf(thrown).replace(/, open '.*'$/, "");
}

/** The end of the last whole line that begins at `offset` or later and lies within so many bytes; of the first line, when that is longer. */
function endOfPiece(bytes: Buffer, offset: number, limit: number): number {
  if (bytes.length - offset <= limit) return bytes.length;
  const last = bytes.lastIndexOf(NEWLINE, offset + limit - 1);
  const end = last >= offset ? last : bytes.indexOf(NEWLINE, offset);
  return end < 0 ? bytes.length : end + 1;
}

/** A descriptor of the same file, to be read; -1 when we may not. */
function openForReading(descriptor: number): number {
  try {
    const reading = openSync(`/proc/self/fd/${descriptor}`, constants.O_RDONLY);
    if (fstatSync(reading).isFile()) return reading;
    closeSync(reading);
  } catch {
    // A file that we may write and not read is looked after by what we know of our own writes.
  }
  return -1;
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}
