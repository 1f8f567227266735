// The part of the seam that log lines go through: a file that is open, and a sink that never makes anybody wait.

/** A file that log lines are appended to, open. */
export interface LogFile {
  /** Gives up this hold. */
  close(): void;
}

/**
 * Takes log text without ever making the caller wait: what the target does not take at once is kept up to a limit, and what is beyond the limit
 * is dropped and counted.
 */
export interface LogSink {
  /** Whole lines, with their final newline. */
  write(lines: string): void;
  /** Lines dropped since the start because the target was too slow or failed. */
  readonly droppedLines: number;
  /**
   * Goes on in another file, which is the sink's from now on. What is being written goes to the file before, whole; what has gathered behind it, and
   * all that is written from now on, to the new one.
   */
  moveTo(file: LogFile): void;
  /** Resolves once all that was taken has been written, or has failed. */
  flush(): Promise<void>;
}
