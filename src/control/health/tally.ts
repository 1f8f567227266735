// From single probes to a state: an endpoint goes down after `fall` failures in a row, and comes up after `rise` successes in a row.

/** What probes in a row have made of one endpoint. */
export class Tally {
  /** Null until a probe has decided. */
  isUp: boolean | null;
  /** Probes in a row that speak against the state. */
  #against = 0;
  readonly #rise: number;
  readonly #fall: number;
  #firstDecides: boolean;

  /** `isUp` is the state to begin with. With `firstDecides`, or without a state, the first probe alone says what it is. */
  constructor({ rise, fall }: { rise: number; fall: number }, isUp: boolean | null, firstDecides = false) {
    this.#rise = rise;
    this.#fall = fall;
    this.isUp = isUp;
    this.#firstDecides = firstDecides || isUp === null;
  }

  /** Whether a probe has had its say, or none is needed. */
  get isDecided(): boolean {
    return !this.#firstDecides;
  }

  /** Counts a probe. Whether the state is another one now. */
  count(succeeded: boolean): boolean {
    const decides = this.#firstDecides;
    this.#firstDecides = false;
    if (succeeded === this.isUp) {
      this.#against = 0;
      return false;
    }
    this.#against++;
    if (!decides && this.#against < (this.isUp ? this.#fall : this.#rise)) return false;
    this.isUp = succeeded;
    this.#against = 0;
    return true;
  }
}
