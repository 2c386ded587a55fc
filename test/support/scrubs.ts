/**
 * Many scrubs of files that are written to all the while, and of some whose content changed under the same stat, as a
 * failing disk does it: what is called rotten, and what the healer does about it. The watcher, the judge and the healer
 * are the real ones; the repository is one in memory.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { systemClock } from "../../src/base/clock.js";
import { pathBytes } from "../../src/base/paths.js";
import { unseenStoresMs } from "../../src/engine/rot.js";
import { lookAt } from "../../src/monitor/look.js";
import { BusyWriter } from "./busy-writer.js";
import { HealingBench } from "./healing-bench.js";

export interface ScrubCount {
  /** Files read and compared while they were written to. */
  readonly scrubs: number;
  /** Writes that went on meanwhile. */
  readonly writes: number;
  /** Written files that were called damaged, or whose content is not what was written last. */
  readonly falsely: readonly string[];
  /** Rotten files that one scrub found. */
  readonly found: number;
  /** Rotten files that hold their good content again. */
  readonly repaired: number;
  readonly faults: readonly string[];
}

interface Options {
  /** Files that are written to. */
  readonly files: number;
  readonly scrubs: number;
  readonly rotten: number;
  readonly seed: number;
  /** Between two writes. */
  readonly pauseMs: number;
}

const LIMIT_MS = 120_000;
const GOOD = "Good bytes that stay as they are.\n";
const ROTTEN = GOOD.replace("stay", "slay");

/** Runs the scrubs one after another. */
export async function countScrubs(options: Options): Promise<ScrubCount> {
  await using bench = await HealingBench.create({ healer: { breakerRestoresPerMinute: 1_000_000 } });
  const { watch } = bench;
  mkdirSync(watch.folder.at("busy"));
  const rotten = Array.from({ length: options.rotten }, (_none, index) => `rotten-${String(index)}.txt`);
  for (const name of rotten) await watch.folder.write(name, GOOD);
  const writer = await BusyWriter.start({ ...options, folder: watch.folder.at("busy") });
  await watch.protect();
  let scrubs = 0;
  while (scrubs < options.scrubs) {
    ageAll(bench);
    const { filesChecked } = await watch.monitor.scan({ path: watch.folder.bytes("busy") }, watch.signal.signal);
    scrubs += filesChecked;
  }
  const { writes, digests } = await writer.stop();
  await watch.quiet(400, LIMIT_MS);
  const falsely = watch.losses.map(({ path, kind }) => `${kind} ${path}`);
  const changed = Object.keys(digests).filter((path) => digestOf(path) !== digests[path]);
  for (const name of rotten) rot(bench, name);
  const { findings } = await watch.monitor.scan({}, watch.signal.signal);
  await bench.healer.idle();
  await watch.quiet(400, LIMIT_MS);
  return {
    scrubs,
    writes,
    falsely: [...falsely, ...changed.map((path) => `reverted ${path}`)],
    found: findings.filter(({ kind }) => kind === "bit_rot").length,
    repaired: rotten.filter((name) => readFileSync(watch.folder.at(name), "utf8") === GOOD).length,
    faults: [...watch.faults, ...bench.notHealed],
  };
}

/**
 * Gives what is registered the look of having been verified long after its ctime, so that nothing but the stat and the
 * second reading keeps a write from being called rot. Not those that are written through a mapping, for which that time
 * is what tells.
 */
function ageAll({ watch }: HealingBench): void {
  const { registry } = watch.monitor;
  for (const path of watch.repository.paths("data")) {
    const record = registry.get("data", path);
    const number = Number(/file-(\d+)/.exec(path)?.[1] ?? 3);
    if (record?.state === "live" && number % 5 !== 3)
      registry.put("data", path, { ...record, lastVerifiedMs: longAfter() });
  }
}

function longAfter(): number {
  return systemClock.nowMs() + 2 * unseenStoresMs();
}

/** Content changes and the registry's stat is that of the file: so it looks when a disk loses a bit. */
function rot({ watch }: HealingBench, name: string): void {
  const path = watch.folder.bytes(name);
  const { registry } = watch.monitor;
  const record = registry.get("data", path);
  if (record === undefined) throw new Error(`${name} is not registered`);
  writeFileSync(pathBytes(path), ROTTEN);
  const time = Number(record.stat.mtimeNs / 1_000_000n) / 1000;
  utimesSync(pathBytes(path), time, time);
  const look = lookAt(path);
  if (look.is !== "there") throw new Error(`${name} is not there`);
  registry.put("data", path, { ...record, stat: look.node.stat, lastVerifiedMs: longAfter() });
}

function digestOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
