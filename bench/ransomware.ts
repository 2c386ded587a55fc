/**
 * How many files a simulated attacker spoils before holdfast notices, and whether every one can come back:
 * `node dist/bench/ransomware.js [--files N]`. In place, and by a new name and deletion; as fast as it goes, and one file
 * a minute on a clock that the bench owns. The repository is one in memory; the monitor is the real one.
 */
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import type { LossEvent } from "../src/base/events.js";
import { pathFromText } from "../src/base/paths.js";
import { FakeClock } from "../test/support/fake-clock.js";
import { WatchBench } from "../test/support/watch-bench.js";

const { values } = parseArgs({ options: { files: { type: "string", default: "2000" } } });
const FILES = Number(values.files);
/** A slow attacker is watched for so many files. */
const SLOW_FILES = 10;
const MINUTE_MS = 60_000;
const LIMIT_MS = 120_000;

type Attack = (path: string) => void;

const ATTACKS: readonly (readonly [string, Attack])[] = [
  ["in place", (path) => writeFileSync(path, encrypted(readFileSync(path)))],
  [
    "new name, then delete",
    (path) => {
      writeFileSync(`${path}.locked`, encrypted(readFileSync(path)));
      rmSync(path);
    },
  ],
];

function encrypted(content: Buffer): Buffer {
  return createCipheriv("aes-256-ctr", randomBytes(32), randomBytes(16)).update(content);
}

function contentOf(index: number): Buffer {
  const text = `Page ${String(index)}\n${`Line ${String(index * 7)} of a report that somebody needs.\n`.repeat(40 + (index % 200))}`;
  if (index % 4 === 0) return gzipSync(text);
  return Buffer.from(index % 4 === 1 ? JSON.stringify({ text }, undefined, 1) : text);
}

function nameOf(index: number): string {
  return `folder-${String(index % 50)}/file-${String(index)}${[".gz", ".json", ".txt", ".md"][index % 4] ?? ""}`;
}

interface Field {
  readonly bench: WatchBench;
  readonly paths: readonly string[];
  readonly digests: ReadonlyMap<string, string>;
}

async function fieldOf(clock: FakeClock | undefined): Promise<Field> {
  const bench = await WatchBench.create(
    clock === undefined ? {} : { clock, nativeEvents: false, times: { fileSweepMs: MINUTE_MS, folderSweepMs: 10_000 } },
  );
  const paths: string[] = [];
  const digests = new Map<string, string>();
  for (let index = 0; index < FILES; index += 1) {
    const content = contentOf(index);
    const path = await bench.folder.write(nameOf(index), content);
    paths.push(path);
    digests.set(path, createHash("sha256").update(content).digest("hex"));
  }
  const protecting = bench.protect();
  if (clock !== undefined) await advanceUntil(clock, () => bench.monitor.status()[0]?.state === "protected");
  await protecting;
  if (clock === undefined) await bench.quiet();
  else await advanceUntil(clock, () => bench.monitor.status()[0]?.pending === 0);
  bench.clear();
  return { bench, paths, digests };
}

/** Lets fake time pass in small steps, each with some real turns, so that files can be read meanwhile. */
async function advanceUntil(clock: FakeClock, isDone: () => boolean): Promise<void> {
  const started = performance.now();
  while (!isDone() && performance.now() - started < LIMIT_MS) {
    await clock.advance(100);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Files that the attack incident knows. */
function heldBy(bench: WatchBench): ReadonlySet<string> {
  return new Set(massLosses(bench).map(({ path }) => path));
}

function massLosses(bench: WatchBench): readonly LossEvent[] {
  return bench.events("mass.loss").flatMap(({ losses }) => losses);
}

/** Files whose last good content is known to be the one before the attack. */
function recoverable({ bench, paths, digests }: Field): number {
  return paths.filter((path) => bench.monitor.lastGood(pathFromText(path))?.sha256 === digests.get(path)).length;
}

async function fast(name: string, attack: Attack): Promise<void> {
  const field = await fieldOf(undefined);
  await using bench = field.bench;
  let alarmMs = 0;
  let spoiltAtAlarm = 0;
  let spoilt = 0;
  const started = performance.now();
  bench.bus.on("mass.loss", () => {
    if (alarmMs !== 0) return;
    alarmMs = performance.now() - started;
    spoiltAtAlarm = spoilt;
  });
  for (const path of field.paths) {
    attack(path);
    spoilt += 1;
    if (spoilt % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const doneMs = performance.now() - started;
  await bench.until("all are held", () => heldBy(bench).size + bench.losses.length >= FILES, LIMIT_MS);
  const heldMs = performance.now() - started;
  const stored = new Set(bench.paths("file.changed").filter((path) => !path.endsWith(".locked"))).size;
  report(`fast, ${name}`, [
    `attack took ${seconds(doneMs)}, alarm after ${seconds(alarmMs)} with ${String(spoiltAtAlarm)} files spoilt`,
    `all ${String(FILES)} known after ${seconds(heldMs)}, in ${String(bench.events("mass.loss").length)} messages of one incident and ${String(bench.losses.length)} single ones`,
    `spoilt versions let into the store before the alarm: ${String(stored)}`,
    `last good version known: ${String(recoverable(field))} of ${String(FILES)} (goal: all)`,
  ]);
}

async function slow(name: string, attack: Attack): Promise<void> {
  const clock = new FakeClock();
  const field = await fieldOf(clock);
  await using bench = field.bench;
  let spoilt = 0;
  let spoiltAtAlarm = 0;
  bench.bus.on("mass.loss", () => (spoiltAtAlarm ||= spoilt));
  for (const path of field.paths.slice(0, SLOW_FILES)) {
    attack(path);
    spoilt += 1;
    const fromMs = clock.nowMs();
    await advanceUntil(clock, () => clock.nowMs() - fromMs >= MINUTE_MS);
  }
  await advanceUntil(clock, () => heldBy(bench).size + bench.losses.length >= SLOW_FILES);
  report(`one a minute, ${name}`, [
    `alarm after ${String(spoiltAtAlarm)} files (goal: 3, at most 5); ${String(heldBy(bench).size)} of ${String(SLOW_FILES)} held in the incident, ${String(bench.losses.length)} were single losses`,
    `last good version known: ${String(recoverable(field))} of ${String(FILES)} (goal: all)`,
  ]);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function report(title: string, lines: readonly string[]): void {
  process.stdout.write(`${title}\n${lines.map((line) => `    ${line}\n`).join("")}`);
}

for (const [name, attack] of ATTACKS) await fast(name, attack);
for (const [name, attack] of ATTACKS) await slow(name, attack);
