/**
 * Silences: "do not tell me of this for a while". Kept in the state database, each with an end, which moves with the clock
 * when that is set: a silence is as long as was asked for.
 */
import type { Clock } from "../base/clock.js";
import { randomHex } from "../base/ids.js";
import { type Bucket, entriesBelow, writeDurably } from "./bucket.js";
import { HoldfastError } from "../base/errors.js";
import { WallJumps } from "../base/wall-jumps.js";
import { numberOr, parseObject } from "./record.js";

const PREFIX = "silence!";
/** Most silences at a time. */
export const SILENCES_MAX = 200;

export interface Silence {
  readonly id: string;
  /** A condition, or `*` for all. */
  readonly condition: string;
  /** A source, or `*` for all. */
  readonly source: string;
  /** Wall ms. */
  readonly untilMs: number;
  readonly by: string;
  readonly reason: string;
}

export class Silences {
  readonly #bucket: Bucket;
  readonly #silences = new Map<string, Silence>();

  readonly #jumps: WallJumps;

  private constructor(bucket: Bucket, clock: Clock) {
    this.#bucket = bucket;
    this.#jumps = new WallJumps(clock);
  }

  static async open(bucket: Bucket, clock: Clock): Promise<Silences> {
    const silences = new Silences(bucket, clock);
    for await (const [key, text] of entriesBelow(bucket, PREFIX)) {
      const silence = parseSilence(text, clock.nowMs());
      if (silence === undefined) await writeDurably(bucket, [{ type: "del", key }]);
      else silences.#silences.set(silence.id, silence);
    }
    return silences;
  }

  /** Adds a silence; LIMIT_REACHED when there are too many. */
  async add(silence: Omit<Silence, "id">, nowMs: number): Promise<Silence> {
    await this.#forgetEnded(nowMs);
    if (this.#silences.size >= SILENCES_MAX)
      throw new HoldfastError("LIMIT_REACHED", `there are ${String(SILENCES_MAX)} silences already`);
    const added = { ...silence, id: `silence_${randomHex(5)}` };
    const value = JSON.stringify({ ...added, leftMs: silence.untilMs - nowMs });
    await writeDurably(this.#bucket, [{ type: "put", key: PREFIX + added.id, value }]);
    this.#silences.set(added.id, added);
    return added;
  }

  /** Ends a silence; NOT_FOUND when there is none of that id. */
  async remove(id: string): Promise<void> {
    if (!this.#silences.delete(id)) throw new HoldfastError("NOT_FOUND", `there is no silence ${id}`);
    await writeDurably(this.#bucket, [{ type: "del", key: PREFIX + id }]);
  }

  /** When the silence over this condition and source ends, or undefined when there is none. */
  silentUntilMs(condition: string, source: string, nowMs: number): number | undefined {
    const ends = this.list(nowMs)
      .filter((silence) => covers(silence.condition, condition) && covers(silence.source, source))
      .map((silence) => silence.untilMs);
    return ends.length === 0 ? undefined : Math.max(...ends);
  }

  /** Those that have not ended. */
  list(nowMs: number): readonly Silence[] {
    this.#follow();
    return [...this.#silences.values()].filter((silence) => silence.untilMs > nowMs);
  }

  #follow(): void {
    const jumpMs = this.#jumps.take();
    if (jumpMs === 0) return;
    for (const [id, silence] of this.#silences)
      this.#silences.set(id, { ...silence, untilMs: silence.untilMs + jumpMs });
  }

  async #forgetEnded(nowMs: number): Promise<void> {
    this.#follow();
    const ended = [...this.#silences.values()].filter((silence) => silence.untilMs <= nowMs);
    for (const { id } of ended) this.#silences.delete(id);
    await writeDurably(
      this.#bucket,
      ended.map(({ id }) => ({ type: "del", key: PREFIX + id })),
    );
  }
}

function covers(pattern: string, name: string): boolean {
  return pattern === "*" || pattern === name;
}

/** After a start it is not longer than it was when it was asked for, whatever the clock says. */
function parseSilence(text: string, nowMs: number): Silence | undefined {
  const value = parseObject(text);
  if (value === undefined) return undefined;
  const { id, condition, source, by, reason } = value;
  if (typeof id !== "string" || typeof condition !== "string" || typeof source !== "string") return undefined;
  return {
    id,
    condition,
    source,
    untilMs: Math.min(numberOr(value["untilMs"], 0), nowMs + numberOr(value["leftMs"], Infinity)),
    by: typeof by === "string" ? by : "",
    reason: typeof reason === "string" ? reason : "",
  };
}
