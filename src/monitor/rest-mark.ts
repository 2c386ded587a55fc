/**
 * Until when everything of a source is known to be looked at and judged. What went or came later may be unjudged when
 * the daemon is killed, however often that happens: the next start asks more of it. What came earlier needs no question.
 * The mark is a wall time, and clocks are set back: one that something was registered before, after it was noted, is taken
 * back, and none is noted of a look in which the clock went back.
 */
import { messageOf } from "../base/errors.js";
import type { SharedParts } from "./context.js";

/** A clock that goes back by less than this is not noticed: the mark keeps that distance, ms. */
const SET_BACK_MS = 50;
/** Everything came later. */
const DISTRUSTED = "0";

type RestParts = Pick<SharedParts, "clock" | "registry" | "pauses" | "log">;

export class RestMark {
  readonly #shared: RestParts;
  readonly #source: string;
  readonly #isAtRest: () => boolean;
  /** When the newest look through all folders began that is complete, wall ms. */
  #lookedSinceMs: number | undefined;
  /** Something was registered since the mark was written, so that it has to move. */
  #hasNews = true;
  #writing: Promise<void> | undefined;
  /** As it is noted, wall ms; undefined: there is none that is trusted. */
  #notedMs: number | undefined;
  /** The furthest that the wall clock was ahead of the steady one, ms. */
  #aheadMs = -Infinity;
  /** The clock went back since the last look that was told, so that the next may have begun before. */
  #isTainted = false;

  /** `isAtRest`: nothing waits for a look or a verdict. */
  constructor(shared: RestParts, source: string, isAtRest: () => boolean) {
    this.#shared = shared;
    this.#source = source;
    this.#isAtRest = isAtRest;
    this.#wasSetBack(); // from now on
  }

  /**
   * Reads what the runs before left; to be called before anything is registered. A mark in the future is none: the clock
   * was set back since, so that what came later may look earlier, also when it is right again.
   */
  async read(): Promise<void> {
    const text = await this.#shared.registry.readNote(noteOf(this.#source));
    const timeMs = Number(text ?? DISTRUSTED);
    if (timeMs > 0) this.#notedMs = timeMs;
    if (timeMs > this.#shared.clock.nowMs()) this.#distrust();
  }

  /** The mark that counts now, wall ms; undefined: no run came to rest, or the clock was set back since. */
  get trustedMs(): number | undefined {
    return this.#notedMs;
  }

  /** All folders are as a look found them that began at that time, wall ms; what differed is marked. */
  looked(sinceMs: number): void {
    const mayHaveBegunBefore = this.#wasSetBack() || this.#isTainted;
    this.#isTainted = false;
    this.#lookedSinceMs = mayHaveBegunBefore ? undefined : sinceMs - SET_BACK_MS;
  }

  /** Something is registered under that wall time, ms. */
  registered(atMs: number): void {
    this.#hasNews = true;
    const isBefore = atMs < Math.max(this.#notedMs ?? -Infinity, this.#lookedSinceMs ?? -Infinity);
    if (this.#wasSetBack() || isBefore) this.#distrust();
  }

  /** Call now and then: moves the mark when what the last look found is judged, once for each look. */
  update(): void {
    const sinceMs = this.#lookedSinceMs;
    if (sinceMs === undefined || this.#writing !== undefined || !this.#isAtRest()) return;
    this.#lookedSinceMs = undefined;
    const writing = this.#write(sinceMs).finally(() => {
      if (this.#writing === writing) this.#writing = undefined;
    });
    this.#writing = writing;
  }

  async stop(): Promise<void> {
    await this.#writing;
  }

  #wasSetBack(): boolean {
    const { clock } = this.#shared;
    const aheadMs = clock.nowMs() - clock.monotonicMs();
    const isBack = aheadMs < this.#aheadMs - SET_BACK_MS;
    this.#aheadMs = isBack ? aheadMs : Math.max(this.#aheadMs, aheadMs);
    return isBack;
  }

  #distrust(): void {
    this.#isTainted = true;
    this.#lookedSinceMs = undefined;
    this.#notedMs = undefined;
    const before = this.#writing ?? Promise.resolve();
    const writing = before
      .then(() => this.#note(DISTRUSTED))
      .finally(() => {
        if (this.#writing === writing) this.#writing = undefined;
      });
    this.#writing = writing;
  }

  /** Never rejects: the next look notes another. */
  async #note(text: string): Promise<void> {
    const { registry, log } = this.#shared;
    try {
      await registry.writeNote(noteOf(this.#source), text);
      this.#notedMs = text === DISTRUSTED ? undefined : Number(text);
    } catch (error) {
      this.#hasNews = true;
      log.error("watch.mark_failed", { source: this.#source, message: messageOf(error) });
    }
  }

  /** Never rejects: a mark that stays where it was only means that the next start asks of more, and the next look moves it. */
  async #write(sinceMs: number): Promise<void> {
    const { registry, pauses, log } = this.#shared;
    const hadNews = this.#hasNews;
    this.#hasNews = false;
    try {
      await registry.flush(); // the verdicts first
      if (hadNews) await this.#note(String(sinceMs));
      await pauses.judged(this.#source, sinceMs);
    } catch (error) {
      this.#hasNews ||= hadNews;
      log.error("watch.mark_failed", { source: this.#source, message: messageOf(error) });
    }
  }
}

function noteOf(source: string): string {
  return `settled:${source}`;
}
