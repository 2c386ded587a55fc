/** Chance with a seed: the same seed gives the same choices, whatever the machine does meanwhile. */
export class Chance {
  #state: number;

  /** `seed`: a whole number. */
  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 2_654_435_761) >>> 0;
  }

  /** From 0 to below 1. */
  share(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `from` to `to`, both included. */
  whole(from: number, to: number): number {
    return from + Math.floor(this.share() * (to - from + 1));
  }

  /** One of a list; undefined for an empty one. */
  oneOf<T>(values: readonly T[]): T | undefined {
    return values[Math.floor(this.share() * values.length)];
  }

  /** One of a list, as often as its weight says. */
  weighted<T extends { readonly weight: number }>(values: readonly T[]): T | undefined {
    let rest = this.share() * values.reduce((sum, { weight }) => sum + weight, 0);
    return values.find(({ weight }) => (rest -= weight) < 0) ?? values.at(-1);
  }
}
