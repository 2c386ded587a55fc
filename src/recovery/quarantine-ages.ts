/**
 * How old what the quarantine keeps of closed incidents is, counted from look to look and kept beside it. Between two
 * looks counts what the wall says, but no more than a day: so neither a clock that is set a year ahead nor one that a
 * start finds there makes anything old, and what time went by while nobody looked is given to the bytes.
 */
import { readFile } from "node:fs/promises";
import { writeFileDurably } from "../base/atomic-file.js";
import { isMapping } from "./parameters.js";

/** Of the time between two looks, which are an hour apart, this counts at most, ms. */
const GAP_MS_MAX = 86_400_000;

interface Ages {
  /** When the last look was, wall ms. */
  readonly atMs: number;
  readonly closedMs: ReadonlyMap<string, number>;
}

export class QuarantineAges {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** Ages of what is kept of closed incidents now, ms. What is met first is of age 0. */
  async at(closed: readonly string[], nowMs: number): Promise<ReadonlyMap<string, number>> {
    const before = await this.#read();
    const gapMs = Math.min(Math.max(0, nowMs - (before?.atMs ?? nowMs)), GAP_MS_MAX);
    return new Map(
      closed.map((name) => {
        const ageMs = before?.closedMs.get(name);
        return [name, ageMs === undefined ? 0 : ageMs + gapMs];
      }),
    );
  }

  /** Notes what the look at that time found; whatever it does not name is forgotten. */
  async note(ages: ReadonlyMap<string, number>, nowMs: number): Promise<void> {
    if (ages.size === 0 && (await this.#read()) === undefined) return;
    const content = { at_ms: nowMs, closed_ms: Object.fromEntries(ages) };
    await writeFileDurably(this.#file, `${JSON.stringify(content)}\n`);
  }

  /** Undefined when there is none, or none that can be read: then all begins anew, and is kept longer. */
  async #read(): Promise<Ages | undefined> {
    const text = await readFile(this.#file, "utf8").catch(() => "");
    const content = parsed(text);
    if (!isMapping(content) || typeof content["at_ms"] !== "number" || !isMapping(content["closed_ms"]))
      return undefined;
    const ages = Object.entries(content["closed_ms"]).filter((age): age is [string, number] => isAge(age[1]));
    return { atMs: content["at_ms"], closedMs: new Map(ages) };
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isAge(value: unknown): value is number {
  return typeof value === "number" && value >= 0;
}
