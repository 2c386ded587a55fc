/** Silences: "do not tell me of this for a while". Kept in the state database, each with an end. */
import { randomHex } from "../base/ids.js";
import { type Bucket, entriesBelow, writeDurably } from "./bucket.js";
import { HoldfastError } from "../base/errors.js";
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

  private constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  static async open(bucket: Bucket): Promise<Silences> {
    const silences = new Silences(bucket);
    for await (const [key, text] of entriesBelow(bucket, PREFIX)) {
      const silence = parseSilence(text);
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
    await writeDurably(this.#bucket, [{ type: "put", key: PREFIX + added.id, value: JSON.stringify(added) }]);
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
    return [...this.#silences.values()].filter((silence) => silence.untilMs > nowMs);
  }

  async #forgetEnded(nowMs: number): Promise<void> {
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

function parseSilence(text: string): Silence | undefined {
  const value = parseObject(text);
  if (value === undefined) return undefined;
  const { id, condition, source, by, reason } = value;
  if (typeof id !== "string" || typeof condition !== "string" || typeof source !== "string") return undefined;
  return {
    id,
    condition,
    source,
    untilMs: numberOr(value["untilMs"], 0),
    by: typeof by === "string" ? by : "",
    reason: typeof reason === "string" ? reason : "",
  };
}
