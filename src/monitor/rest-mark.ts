/**
 * Until when everything of a source is known to be looked at and judged. What went or came later may be unjudged when
 * the daemon is killed, however often that happens: the next start asks more of it. What came earlier needs no question.
 */
import { messageOf } from "../base/errors.js";
import type { SharedParts } from "./context.js";

export class RestMark {
  readonly #shared: SharedParts;
  readonly #source: string;
  readonly #isAtRest: () => boolean;
  /** When the newest look through all folders began that is complete, wall ms. */
  #lookedSinceMs: number | undefined;
  /** Something was registered since the mark was written, so that it has to move. */
  #hasNews = true;
  #writing: Promise<void> | undefined;

  /** `isAtRest`: nothing waits for a look or a verdict. */
  constructor(shared: SharedParts, source: string, isAtRest: () => boolean) {
    this.#shared = shared;
    this.#source = source;
    this.#isAtRest = isAtRest;
  }

  /**
   * As the runs before left it, wall ms; undefined: no run came to rest, or the clock was set back since, so that what
   * came later may look earlier.
   */
  async read(): Promise<number | undefined> {
    const text = await this.#shared.registry.readNote(noteOf(this.#source));
    const timeMs = Number(text ?? Number.NaN);
    return timeMs <= this.#shared.clock.nowMs() ? timeMs : undefined;
  }

  /** All folders are as a look found them that began at that time, wall ms; what differed is marked. */
  looked(sinceMs: number): void {
    this.#lookedSinceMs = sinceMs;
  }

  registered(): void {
    this.#hasNews = true;
  }

  /** Call now and then: moves the mark when what the last look found is judged, once for each look. */
  update(): void {
    const sinceMs = this.#lookedSinceMs;
    if (sinceMs === undefined || this.#writing !== undefined || !this.#isAtRest()) return;
    this.#lookedSinceMs = undefined;
    this.#writing = this.#write(sinceMs).finally(() => (this.#writing = undefined));
  }

  async stop(): Promise<void> {
    await this.#writing;
  }

  /** Never rejects: a mark that stays where it was only means that the next start asks of more, and the next look moves it. */
  async #write(sinceMs: number): Promise<void> {
    const { registry, pauses, log } = this.#shared;
    const hadNews = this.#hasNews;
    this.#hasNews = false;
    try {
      await registry.flush(); // the verdicts first
      if (hadNews) await registry.writeNote(noteOf(this.#source), String(sinceMs));
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
