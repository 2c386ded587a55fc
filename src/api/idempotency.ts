/**
 * `Idempotency-Key`: the same key with the same request gets the first answer again instead of doing the work twice,
 * also while the first is still running. Kept in memory, bounded, for a day.
 */
import { createHash } from "node:crypto";
import type { Clock } from "../base/clock.js";
import { HoldfastError } from "../base/errors.js";
import { API_LIMITS } from "./contract.js";
import type { Answer } from "./route.js";

const KEPT_MS = 86_400_000;
const KEY_CHARS_MAX = 255;

interface Remembered {
  readonly fingerprint: string;
  readonly answer: Promise<Answer>;
  readonly atMs: number;
}

export class IdempotencyMemory {
  readonly #clock: Clock;
  /** Oldest first. */
  readonly #entries = new Map<string, Remembered>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Does the work once per key and caller. A failed attempt is forgotten. Throws USAGE when a key is used for another request. */
  async run(key: string, request: readonly unknown[], work: () => Promise<Answer>): Promise<Answer> {
    if (key.length > KEY_CHARS_MAX)
      throw new HoldfastError("USAGE", "the Idempotency-Key is longer than 255 characters");
    this.#forgetOld();
    const fingerprint = createHash("sha256").update(JSON.stringify(request)).digest("hex");
    const known = this.#entries.get(key);
    if (known !== undefined) {
      if (known.fingerprint === fingerprint) return await known.answer;
      throw new HoldfastError("USAGE", "this Idempotency-Key was used for another request", {
        hint: "Make a new key.",
      });
    }
    const answer = work();
    this.#entries.set(key, { fingerprint, answer, atMs: this.#clock.monotonicMs() });
    try {
      return await answer;
    } catch (error) {
      this.#entries.delete(key);
      throw error;
    }
  }

  #forgetOld(): void {
    const limitMs = this.#clock.monotonicMs() - KEPT_MS;
    for (const [key, entry] of this.#entries) {
      if (entry.atMs > limitMs && this.#entries.size < API_LIMITS.idempotencyKeysMax) break;
      this.#entries.delete(key);
    }
  }
}
