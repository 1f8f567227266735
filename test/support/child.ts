// Programs that a scenario starts: what they printed, what they were told, and that none of them outlives its test, not even one
// that failed. A child is stopped by its own pid and by nothing wider. (What a test that timed out has left, `bun test` kills itself.)

import { eventually } from "./eventually.ts";

export interface ChildOptions {
  readonly cwd?: string;
  /** Beside the environment of the test. `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What a program that has ended said. */
export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running program. To be declared with `await using`: it is killed when its scope ends. */
export class Child implements AsyncDisposable {
  stdout = "";
  stderr = "";
  readonly command: readonly string[];
  readonly exited: Promise<number>;
  readonly #process: Bun.Subprocess<"pipe", "pipe", "pipe">;

  constructor(command: readonly string[], options: ChildOptions = {}) {
    this.command = command;
    this.#process = Bun.spawn([...command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const printed = Promise.all([
      drain(this.#process.stdout, (text) => {
        this.stdout += text;
      }),
      drain(this.#process.stderr, (text) => {
        this.stderr += text;
      }),
    ]);
    this.exited = this.#process.exited.then(async (exitCode) => {
      await printed;
      return exitCode;
    });
  }

  get pid(): number {
    return this.#process.pid;
  }

  get hasExited(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  /** What it printed, for the message of a failure. */
  get story(): string {
    const state = this.hasExited ? `exit ${this.#process.exitCode ?? this.#process.signalCode}` : "running";
    return `${this.command.join(" ")} (${state})\n--- stdout\n${this.stdout}\n--- stderr\n${this.stderr}`;
  }

  /** Hands `text` to its standard input. */
  write(text: string | Uint8Array): void {
    try {
      this.#process.stdin.write(text);
      void this.#process.stdin.flush();
    } catch (thrown) {
      // One that has ended meanwhile reads no more: what it made of that is for the test to say.
      if ((thrown as { readonly code?: unknown }).code !== "EPIPE") throw thrown;
    }
  }

  endInput(): void {
    void this.#process.stdin.end();
  }

  signal(name: NodeJS.Signals): void {
    if (!this.hasExited) this.#process.kill(name);
  }

  /** Waits until its standard output or standard error holds `text`; fails when it exits without. */
  async says(text: string): Promise<void> {
    await this.comesTo(`"${text}" was said`, () => this.stdout.includes(text) || this.stderr.includes(text));
  }

  /** As `eventually`, and fails as soon as it has ended and all that it printed does not make `probe` true. */
  comesTo<T>(what: string, probe: () => T | Promise<T>, patienceMs?: number): Promise<NonNullable<T>> {
    const ending = async (): Promise<T> => {
      // What it printed at last is read after its end.
      await this.exited;
      const value = await probe();
      if (value) return value;
      throw new Error(`it ended before ${what}: ${this.story}`);
    };
    return eventually(
      () => `${what}: ${this.story}`,
      async () => (await probe()) || (this.hasExited ? await ending() : undefined),
      patienceMs,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGKILL");
    await this.exited;
  }
}

/** Runs a program to its end. `input` is all that its standard input holds; `patienceMs` is as of `eventually`. */
export async function run(
  command: readonly string[],
  { input = "", patienceMs, ...options }: ChildOptions & { readonly input?: string; readonly patienceMs?: number } = {},
): Promise<Outcome> {
  await using child = new Child(command, options);
  if (input !== "") child.write(input);
  child.endInput();
  await eventually(
    () => `this ended: ${child.story}`,
    () => child.hasExited,
    patienceMs,
  );
  return { exitCode: await child.exited, stdout: child.stdout, stderr: child.stderr };
}

async function drain(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
  // Latin-1 keeps every byte, also of a chunk that ends in the middle of a character.
  const decoder = new TextDecoder("latin1");
  for await (const chunk of stream) take(decoder.decode(chunk));
}
