/**
 * Very many sources at once: `node dist/bench/many-sources.js [--sources N] [--files N]`. How long until all are watched,
 * until a change in each is told, until a deletion in each is told as lost (the grace of 0.5 s included), and what it takes
 * in memory. The repository is one in memory; the monitor and its watcher are the real ones.
 */
import { appendFileSync, readFileSync, unlinkSync } from "node:fs";
import { FileSource } from "../src/sources/files.js";
import { WatchBench } from "../test/support/watch-bench.js";
import { machineText, numberOption, print } from "./harness.js";

const SOURCES = numberOption("sources", 500);
const FILES = numberOption("files", 20);
const LIMIT_MS = 300_000;
/** The deletions are to be told one by one. */
const NO_MASS = { minFiles: 1000, files: 1000, share: 1 };

function residentMib(pid: number | "self"): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${String(pid)}/status`, "latin1"))?.[1];
  return Number(kib ?? 0) / 1024;
}

function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(2)} s`;
}

async function main(): Promise<void> {
  print(await machineText());
  await using bench = await WatchBench.create();
  const names = Array.from({ length: SOURCES }, (_none, index) => `source-${String(index)}`);
  for (const name of names)
    for (let file = 0; file < FILES; file += 1)
      await bench.folder.write(`${name}/f${String(file)}`, `${name} ${String(file)}`);
  const before = { mib: residentMib("self"), cpu: process.cpuUsage() };
  const startMs = performance.now();
  const add = async (name: string): Promise<void> => {
    const source = new FileSource({ name, paths: [bench.folder.bytes(name)], ownFolders: [bench.state.bytes()] });
    await bench.monitor.addSource(source, { mass: NO_MASS }, bench.signal.signal);
  };
  await Promise.all(names.map(add));
  print(`${String(SOURCES)} sources of ${String(FILES)} files are watched after ${seconds(startMs)}`);
  await bench.quiet(400, LIMIT_MS);
  const { user, system } = process.cpuUsage(before.cpu);
  print(
    `everything in them is durable after ${seconds(startMs)}, ${((user + system) / 1e6).toFixed(1)} s of processor`,
  );
  const watcher = bench.monitor.watcherPid;
  const ofWatcher = watcher === undefined ? "no watcher" : `${residentMib(watcher).toFixed(0)} MiB of the watcher`;
  print(`memory: ${(residentMib("self") - before.mib).toFixed(0)} MiB more than before, ${ofWatcher}`);
  bench.clear();
  const changedMs = performance.now();
  for (const name of names) appendFileSync(bench.folder.at(`${name}/f0`), " and more");
  const changed = (): number => new Set(bench.events("file.changed").map(({ source }) => source)).size;
  await bench.until("a change in each", () => changed() === SOURCES, LIMIT_MS);
  print(`a change in each is told after ${seconds(changedMs)}`);
  const lostMs = performance.now();
  for (const name of names) unlinkSync(bench.folder.at(`${name}/f1`));
  await bench.until("a loss in each", () => bench.losses.length >= SOURCES, LIMIT_MS);
  print(`a deletion in each is told after ${seconds(lostMs)}, ${String(bench.losses.length)} losses`);
}

await main();
