/**
 * How many lost files come back when no backup can be read: `node dist/bench/recovery.js [--cases N]`. For each place
 * where bytes may still be, real programs lay the trace, the file is deleted, and the real chain heals it; the repository
 * knows the file's digest, but every stored byte of it is damaged. Prints the share that came back whole beside the goal.
 */
import { readFileSync } from "node:fs";
import { systemClock } from "../src/base/clock.js";
import type { BytePath } from "../src/base/paths.js";
import { recoveryStrategies } from "../src/daemon/plugins.js";
import type { VersionReader } from "../src/recovery/ports.js";
import type { LinkReader } from "../src/recovery/link-pins.js";
import type { ChainStep } from "../src/recovery/strategy.js";
import { MemoryVersions, NEVER, RecoveryRig } from "../test/support/recovery-rig.js";
import { TempFolder } from "../test/support/temp-folder.js";
import { machineText, median, numberOption, print } from "./harness.js";
import { type Field, type Loss, SOURCES, type Source, lose, pinsFor } from "./recovery-sources.js";

const CASES = numberOption("cases", 20);
const GOAL_PERCENT = 90;

/** A repository that remembers everything and can give nothing back. */
class RuinedVersions extends MemoryVersions implements VersionReader {
  // eslint-disable-next-line require-yield, @typescript-eslint/require-await -- it never gives a byte
  override async *readContent(): AsyncIterable<Buffer> {
    throw new Error("the chunk is damaged");
  }
}

interface Score {
  readonly cases: number;
  readonly byItself: number;
  readonly byPerson: number;
  readonly tookMs: readonly number[];
  readonly by: ReadonlySet<string>;
}

async function measure(source: Source): Promise<Score> {
  await using folder = await TempFolder.create("bench-recovery");
  const closing: (() => Promise<void>)[] = [];
  const versions = new RuinedVersions();
  const watched: BytePath[] = [];
  const holder: { pins?: Field["pins"]; links?: LinkReader } = {};
  const pinReader = { pinOf: (path: BytePath) => holder.pins?.pinOf(path) };
  const linkReader = { linkOf: (from: string, path: BytePath) => holder.links?.linkOf(from, path) };
  const strategies = recoveryStrategies(versions, systemClock, pinReader, linkReader);
  await using rig = await RecoveryRig.create(folder, { strategies, reader: versions });
  const register = rig.register.bind(rig);
  rig.register = (path) => {
    versions.keep(path);
    return register(path);
  };
  const pins = pinsFor(rig, watched, folder.path);
  holder.pins = pins;
  const field: Field = {
    rig,
    pins,
    watched,
    cases: CASES,
    useLinks: (links) => (holder.links = links),
    at: (name) => folder.at(name),
    defer: (close) => closing.push(close),
  };
  try {
    await source.open?.(field);
    rig.policy = { ...rig.policy, accept: "newer_valid", chain: chainFor(folder, source, rig) };
    await rig.start();
    return await lossesOf(source, field);
  } finally {
    await pins[Symbol.asyncDispose]();
    for (const close of closing.reverse()) await close();
  }
}

/** The chain that holds where none is configured, with the homes of the bench. */
function chainFor(folder: TempFolder, source: Source, rig: RecoveryRig): readonly ChainStep[] {
  const names = ["latest_backup", "fs_snapshots", "git_history", "temp_files", "sqlite_wal", "manual_recovery"];
  const chain = names.map((strategy) => ({
    strategy,
    parameters: strategy === "temp_files" ? { homes: [folder.at("home")] } : {},
  }));
  rig.policy = { ...rig.policy, chain };
  return source.chain?.(rig) ?? chain;
}

async function lossesOf(source: Source, field: Field): Promise<Score> {
  const tookMs: number[] = [];
  const by = new Set<string>();
  let byItself = 0;
  let byPerson = 0;
  for (let index = 0; index < CASES; index += 1) {
    const loss = await source.make(field, index);
    await lose(loss);
    const startMs = performance.now();
    await field.rig.lose(loss.path);
    tookMs.push(performance.now() - startMs);
    const [incident] = await field.rig.healer.incidents({ onlyOpen: false, limit: 1 });
    if (isBack(loss)) byItself += 1;
    else if (incident !== undefined) {
      await field.rig.healer.approve(incident.id, NEVER).catch(() => undefined);
      if (isBack(loss)) byPerson += 1;
    }
    const closed = incident === undefined ? undefined : await field.rig.healer.incident(incident.id);
    if (closed?.taken !== undefined) by.add(closed.taken.strategy);
    await loss.end?.();
  }
  return { cases: CASES, byItself, byPerson, tookMs, by };
}

function isBack(loss: Loss): boolean {
  try {
    return readFileSync(loss.file).equals(loss.expected);
  } catch {
    return false;
  }
}

print(await machineText());
print("");
print(`no backup can be read; ${String(CASES)} losses each; goal ${String(GOAL_PERCENT)} % back, byte for byte`);
print("");
print("source                               back  by itself  by a word   p50 ms  found by");
let isGoalMet = true;
for (const source of SOURCES) {
  const label = source.name.padEnd(34);
  if (source.missing !== undefined) {
    print(`${label} skipped: ${source.missing}`);
    continue;
  }
  const { cases, byItself, byPerson, tookMs, by } = await measure(source);
  const share = ((byItself + byPerson) / cases) * 100;
  isGoalMet &&= share >= GOAL_PERCENT;
  const figures = [`${share.toFixed(0)} %`.padStart(6), String(byItself).padStart(10), String(byPerson).padStart(10)];
  print(`${label} ${figures.join(" ")} ${median(tookMs).toFixed(1).padStart(8)}  ${[...by].join(", ")}`);
}
print("");
print(isGoalMet ? "the goal is met by every source that could be tried" : "the goal is NOT met");
process.exitCode = isGoalMet ? 0 : 1;
