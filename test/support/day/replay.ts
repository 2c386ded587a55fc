/**
 * Plays a day (deeds.ts) before the real watcher, judge and healer, the pauses between the deeds left out: what of the
 * work is taken for a loss, what alarm there is, and whether each loss that nobody meant comes back.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HealingBench } from "../healing-bench.js";
import { hasProgram } from "../requirements.js";
import { type Activity, LOSSES, MORNING, WORK } from "./deeds.js";

export interface Deed {
  /** Of the day, seconds. */
  readonly atS: number;
  readonly who: Activity["who"] | "nobody";
  readonly what: string;
  readonly script: string;
  readonly paused: string | undefined;
  readonly isSlow: boolean;
  /** Of a loss: what has to come back, below `keep`. */
  readonly lost: readonly string[];
}

export interface DayCount {
  readonly deeds: number;
  /** Files that were lost or damaged as planned. */
  readonly lost: number;
  /** Of them, those that hold again what they held in the morning. */
  readonly healed: number;
  /** Work that was taken for a loss or for damage. */
  readonly falseRestores: readonly string[];
  /** Incidents of many files, and whatever was held for a person or could not be healed. */
  readonly falseAlarms: readonly string[];
  readonly faults: readonly string[];
}

const HOUR_S = 3600;
const NUMBERS = 24;
const LIMIT_MS = 120_000;

/** All deeds of a day in their order; the same for the same seed. `losses` are spread over it. */
export function dayOf(seed: number, losses: number): readonly Deed[] {
  const chance = chanceOf(seed);
  const deeds: Deed[] = [];
  for (const { who, what, needs = [], paused, isSlow = false, ...activity } of WORK) {
    if (!needs.every(hasProgram)) continue;
    for (let time = 0; time < activity.times; time += 1) {
      const atS = (activity.fromHour + chance() * (activity.untilHour - activity.fromHour)) * HOUR_S;
      const [number, choice] = [String(100 + deeds.length), String(1 + Math.floor(chance() * NUMBERS))];
      const script = activity.script.replaceAll("{n}", number).replaceAll("{k}", choice);
      deeds.push({ atS, who, what, script, paused, isSlow, lost: [] });
    }
  }
  for (let index = 0; index < losses; index += 1) {
    const loss = LOSSES[index % LOSSES.length];
    if (loss === undefined) break;
    const numbered = (text: string): string => text.replaceAll("{i}", String(index + 1));
    const [script, lost] = [numbered(loss.script), loss.paths.map(numbered)];
    deeds.push({
      atS: chance() * 24 * HOUR_S,
      who: "nobody",
      what: loss.what,
      script,
      paused: undefined,
      isSlow: false,
      lost,
    });
  }
  return deeds.sort((a, b) => a.atS - b.atS);
}

/** Plays the deeds one after another, `gapMs` between them. */
export async function replayDay(
  deeds: readonly Deed[],
  options: { readonly actors: boolean; readonly gapMs: number; readonly onDeed?: (deed: Deed) => void },
): Promise<DayCount> {
  await using bench = await HealingBench.create({ actors: options.actors });
  const { watch } = bench;
  const root = watch.folder.at("home");
  mkdirSync(root);
  await run(MORNING, root);
  const lost = deeds.flatMap((deed) => deed.lost.map((path) => join(root, "keep", path)));
  const good = new Map(lost.map((path) => [path, readFileSync(path, "utf8")]));
  await watch.protect({
    rules: [
      { match: "home/admin/log/**", mode: "growing" },
      { match: "home/dev/downloads/**", mode: "mirror" },
      { match: "home/dev/project/build/**", mode: "mirror" },
    ],
  });
  await watch.quiet(400, LIMIT_MS);
  watch.clear();
  for (const deed of deeds) {
    options.onDeed?.(deed);
    await carryOut(bench, deed, root);
    await delay(options.gapMs);
  }
  await watch.quiet(600, LIMIT_MS); // longer than the grace
  await bench.healer.idle();
  await watch.quiet(400, LIMIT_MS);
  const massLosses = watch.events("mass.loss");
  const told = [...watch.losses, ...massLosses.flatMap(({ losses }) => losses)];
  return {
    deeds: deeds.length,
    lost: lost.length,
    healed: lost.filter((path) => textOf(path) === good.get(path)).length,
    falseRestores: told.filter(({ path }) => !good.has(path)).map(({ kind, path }) => `${kind} ${path}`),
    falseAlarms: [...massLosses.map(({ losses }) => `one event of ${String(losses.length)}`), ...bench.notHealed],
    faults: watch.faults,
  };
}

async function carryOut({ watch }: HealingBench, { script, paused }: Deed, root: string): Promise<void> {
  if (paused === undefined) {
    await run(script, root);
    return;
  }
  const path = watch.folder.bytes(join("home", paused));
  await watch.monitor.pause(path, LIMIT_MS, "told beforehand");
  await run(script, root);
  await watch.monitor.resume(path);
}

async function run(script: string, cwd: string): Promise<void> {
  const child = spawn("bash", ["-ec", script], { cwd, stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`ended with ${String(code)}: ${script.slice(0, 200)}`);
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // it did not come back
  }
}

/** Numbers from 0 to 1 that are the same for the same seed. */
function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
