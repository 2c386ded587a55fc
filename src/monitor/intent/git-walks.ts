/**
 * Git's walks through what it needs, one at a time for each repository. In a large one that takes minutes: others are not
 * kept waiting for their verdicts meanwhile, those who asked ask again.
 */
import type { Clock } from "../../base/clock.js";
import type { BytePath } from "../../base/paths.js";
import { type MissingObjects, missingObjects } from "./git-objects.js";

/** A round of verdicts waits so long for an answer, ms. */
const WAIT_MS = 2000;
/** An answer is good for so long, ms. */
const FRESH_MS = 10_000;

interface Walk {
  readonly beganMs: number;
  readonly answer: Promise<MissingObjects>;
  /** When it came to its end, wall ms. */
  endedMs?: number;
}

export class GitWalks {
  readonly #walk: typeof missingObjects;
  readonly #walks = new Map<BytePath, Walk>();

  constructor(walk: typeof missingObjects = missingObjects) {
    this.#walk = walk;
  }

  /**
   * What a repository needs and does not find, looked for after `sinceMs` (wall); `busy`: ask again. `unknown`: git did not
   * answer in its time.
   */
  async ask(git: BytePath, sinceMs: number, clock: Clock, signal: AbortSignal): Promise<MissingObjects | "busy"> {
    const walk = this.#walkSince(git, sinceMs, clock, signal);
    if (walk === undefined) return "busy";
    const waited = clock.sleep(WAIT_MS, signal).then(() => "busy" as const);
    return await Promise.race([walk.answer, waited]);
  }

  /** Undefined: one that began before is under way. */
  #walkSince(git: BytePath, sinceMs: number, clock: Clock, signal: AbortSignal): Walk | undefined {
    const nowMs = clock.nowMs();
    for (const [each, { endedMs }] of this.#walks)
      if (endedMs !== undefined && Math.abs(nowMs - endedMs) > FRESH_MS) this.#walks.delete(each);
    const last = this.#walks.get(git);
    if (last !== undefined && last.beganMs >= sinceMs) return last;
    if (last !== undefined && last.endedMs === undefined) return undefined;
    const answer = this.#walk(git, signal);
    const walk: Walk = { beganMs: nowMs, answer };
    this.#walks.set(git, walk);
    const end = (): void => void (walk.endedMs = clock.nowMs());
    answer.then(end, end);
    return walk;
  }
}
