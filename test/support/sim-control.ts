// A control plane that is made up, for tests of the admin API.

import type { Control } from "../../src/control/control.ts";
import { privateMemory } from "../../src/snapshot/counts.ts";
import type { Answered, Heard, Question } from "../../src/snapshot/inspection.ts";
import { type BytesBlock, METERS_BYTES, Meters } from "../../src/snapshot/meters.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import type { Status } from "../../src/snapshot/status.ts";
import { snapshotSpec } from "./sim-snapshot.ts";
import { sampleStatus } from "./status-sample.ts";

/** What it says is the test's to change. */
export class SimControl implements Control {
  now: Status = sampleStatus();
  snapshot: Snapshot = snapshotSpec();
  readonly meters = new Meters(privateMemory(METERS_BYTES), 0);
  bytesBlocks: readonly BytesBlock[] = [];
  /** Why a reload is refused. */
  problems: readonly string[] = [];
  /** Reloads and drains that were asked for. */
  readonly calls: string[] = [];
  readonly asked: Question[] = [];
  readonly streams = { open: 0, dropped: 0 };
  answers: (question: Question) => Promise<readonly Answered<Question>[]> = async () => [];
  silent: readonly number[] = [];
  connectionsElsewhere = 0;
  onDrain: () => void = () => {};

  status(): Status {
    return this.now;
  }

  async ask<Q extends Question>(question: Q): Promise<Heard<Q>> {
    this.asked.push(question);
    const answers = (await this.answers(question)) as readonly Answered<Q>[];
    return { answers, silent: this.silent };
  }

  async reload(): Promise<readonly string[]> {
    this.calls.push("reload");
    return this.problems;
  }

  drain(): void {
    this.calls.push("drain");
    this.onDrain();
  }
}
