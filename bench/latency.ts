/**
 * How fast a change is safe and a loss is healed, as a user's program sees it: `node dist/bench/latency.js [--files N]
 * [--losses N] [--every N]`. Save to durable: files of 10 KB are saved at a steady pace (one every N ms), and each is
 * timed until the daemon's event says that it is durable. Delete to restored: files are deleted one by one, and each is
 * timed until its bytes are back.
 */
import { readFile, unlink, writeFile } from "node:fs/promises";
import {
  Daemon,
  Workplace,
  fileText,
  followEvents,
  latencyText,
  machineText,
  makeFiles,
  numberOption,
  pause,
  print,
} from "./harness.js";

const FILE_BYTES = 10_000;
/** 50 saves a second: a busy editor or build, not a burst; bursts are the subject of the fault tests. */
const SAVE_EVERY_MS = 20;
/** A saved file must hold still this long before it is read (the default of the settings). */
const SETTLE_MS = 250;
/** Losses take turns in two sources: below the brakes for mass loss (50 files of a source in 60 s)… */
const SOURCES = ["left", "right"] as const;
/** …and for restores (100 a minute), which must stay on. */
const LOSS_EVERY_MS = 650;
const WAIT_LIMIT_MS = 30_000;
const LOOK_EVERY_MS = 2;

async function main(): Promise<void> {
  const files = numberOption("files", 1000);
  const losses = numberOption("losses", 100);
  await using workplace = await Workplace.create();
  const each = Math.ceil(Math.max(files, losses, 1000) / SOURCES.length);
  const folders: string[][] = [];
  for (const name of SOURCES) folders.push(await makeFiles(workplace.at("data", name), each, FILE_BYTES));
  const paths = inTurns(folders);
  const sources = SOURCES.map((name) => ({ name, paths: [workplace.at("data", name)] }));
  await workplace.configure(workplace.at("data"), { sources });
  await using _daemon = await Daemon.start(workplace);
  print(await machineText());
  const everyMs = numberOption("every", SAVE_EVERY_MS);
  const saves = await saveToDurable(workplace, paths.slice(0, files), everyMs);
  const saved = saves.map(({ totalMs }) => totalMs);
  print(`save -> durable     ${latencyText(saved)}`);
  print(`  save -> seen      ${latencyText(saves.map(({ seenMs }) => seenMs))}`);
  print(
    `  beyond both       ${latencyText(saves.map(({ totalMs, seenMs }) => totalMs - Math.max(SETTLE_MS, seenMs)))}`,
  );
  if (saved.length < files) print(`  ${String(files - saved.length)} files were not confirmed by an event`);
  const restored = await deleteToRestored(paths.slice(-losses));
  print(`delete -> restored  ${latencyText(restored)}`);
  if (restored.length < losses) {
    print(`  ${String(losses - restored.length)} files did not come back in ${String(WAIT_LIMIT_MS)} ms`);
    process.exitCode = 1;
  }
}

/** The first of each, then the second of each, and so on. */
function inTurns(lists: readonly (readonly string[])[]): string[] {
  const longest = Math.max(...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, index) => lists.map((list) => list[index] ?? "")).flat();
}

interface Save {
  /** From the end of the save to the event that tells of its durability, ms. */
  readonly totalMs: number;
  /** From the end of the save to the moment when the daemon heard of it (of the first file of a commit), ms. */
  readonly seenMs: number;
}

async function saveToDurable(workplace: Workplace, paths: readonly string[], everyMs: number): Promise<Save[]> {
  const savedAtMs = new Map<string, number>();
  const saves: Save[] = [];
  const stop = new AbortController();
  await followEvents(workplace, stop.signal, ({ name, data, atMs }) => {
    if (name !== "commit.durable" || !Array.isArray(data["paths"])) return;
    for (const path of data["paths"] as string[]) {
      const saved = savedAtMs.get(path);
      if (saved === undefined) continue;
      const seenAtMs = Number(data["oldestSeenAtMs"]) - performance.timeOrigin;
      saves.push({ totalMs: atMs - saved, seenMs: seenAtMs - saved });
      savedAtMs.delete(path);
    }
  });
  for (const [index, path] of paths.entries()) {
    const next = pause(everyMs);
    await writeFile(path, fileText(1_000_000 + index, FILE_BYTES));
    savedAtMs.set(path, performance.now());
    await next;
  }
  for (let waitedMs = 0; savedAtMs.size > 0 && waitedMs < WAIT_LIMIT_MS; waitedMs += 100) await pause(100);
  stop.abort();
  return saves;
}

/** ms from each deletion to the moment when the same bytes can be read again. */
async function deleteToRestored(paths: readonly string[]): Promise<number[]> {
  const latencies: number[] = [];
  for (const path of paths) {
    const expected = await readFile(path);
    await unlink(path);
    const deletedAtMs = performance.now();
    while (performance.now() - deletedAtMs < WAIT_LIMIT_MS) {
      const found = await readFile(path).catch(() => undefined);
      if (found?.equals(expected) === true) {
        latencies.push(performance.now() - deletedAtMs);
        break;
      }
      await pause(LOOK_EVERY_MS);
    }
    await pause(Math.max(0, LOSS_EVERY_MS - (performance.now() - deletedAtMs)));
  }
  return latencies;
}

await main();
