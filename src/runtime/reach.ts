// Whether an address takes connections, asked without having one: what a probe needs that has nothing to say.

import type { Address } from "../base/address.ts";

export interface ReachOptions {
  /** A "tcp" host must be an IP literal. */
  readonly address: Address;
  readonly timeoutMs: number;
  /**
   * "" when a connection could be made, else as `code` of a DialResult. Once, never before `reach` has returned, and not after `cancel`.
   * Nothing is open by then. Must not throw.
   */
  reached(code: string): void;
}

/** An attempt under way. */
export interface Reach {
  /** Gives up. Harmless once it is settled. */
  cancel(): void;
}
