/**
 * Git's walks through what it needs, one at a time for each repository and a few in all. In a large one that takes minutes:
 * others are not kept waiting for their verdicts meanwhile, those who asked ask again.
 */
import type { Clock } from "../../base/clock.js";
import { Semaphore } from "../../base/concurrency.js";
import type { BytePath } from "../../base/paths.js";
import { type MissingObjects, missingObjects } from "./git-objects.js";

/** A round of verdicts waits so long for an answer, ms. */
const WAIT_MS = 2000;
/** An answer is good for so long, ms. */
const FRESH_MS = 10_000;
/** Programs of git at once, each of which reads much; others wait in order, one for each repository at most. */
const WALKS_MAX = 4;

interface Walk {
  /** Wall ms; Infinity while it waits for its turn, as it will see whatever was missed until then. */
  beganMs: number;
  readonly answer: Promise<MissingObjects>;
  /** When it came to its end, wall ms. */
  endedMs?: number;
}

export class GitWalks {
  readonly #walk: typeof missingObjects;
  readonly #walks = new Map<BytePath, Walk>();
  readonly #lanes = new Semaphore(WALKS_MAX);

  constructor(walk: typeof missingObjects = missingObjects) {
    this.#walk = walk;
  }

  /**
   * What repositories need and do not find, each looked for after the wall time beside it; `busy`: ask again. `unknown`: git
   * did not answer in its time. All are asked at once, so that one that takes long holds up no other.
   */
  async ask(
    sinceMs: ReadonlyMap<BytePath, number>,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<BytePath, MissingObjects | "busy">> {
    if (sinceMs.size === 0) return new Map();
    const waited = clock.sleep(WAIT_MS, signal).then(() => "busy" as const);
    const answer = async ([git, askedMs]: readonly [BytePath, number]) => {
      const walk = this.#walkSince(git, askedMs, clock, signal);
      return [git, walk === undefined ? "busy" : await Promise.race([walk.answer, waited])] as const;
    };
    return new Map(await Promise.all([...sinceMs].map(answer)));
  }

  /** Undefined: one that began before is under way. */
  #walkSince(git: BytePath, sinceMs: number, clock: Clock, signal: AbortSignal): Walk | undefined {
    const nowMs = clock.nowMs();
    for (const [each, { endedMs }] of this.#walks)
      if (endedMs !== undefined && Math.abs(nowMs - endedMs) > FRESH_MS) this.#walks.delete(each);
    const last = this.#walks.get(git);
    if (last !== undefined && last.beganMs >= sinceMs) return last;
    if (last !== undefined && last.endedMs === undefined) return undefined;
    const begin = async (): Promise<MissingObjects> => {
      signal.throwIfAborted(); // while it waited
      walk.beganMs = clock.nowMs();
      return await this.#walk(git, signal);
    };
    const walk: Walk = { beganMs: Infinity, answer: this.#lanes.run(begin) };
    this.#walks.set(git, walk);
    walk.answer.then(
      () => (walk.endedMs = clock.nowMs()),
      () => this.#walks.delete(git), // who asked was stopped: others that ask begin another
    );
    return walk;
  }
}
