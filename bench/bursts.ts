/**
 * How soon a burst is known completely: `node dist/bench/bursts.js [--files N] [--deleted N] [--rounds N] [--on ext4|xfs|btrfs|tmpfs]`. Eight kinds of
 * burst of N files, each by an ordinary program of its own, and the deletion of a large tree in few and in many folders.
 * "Known" counts from the end of the program. The repository is one in memory; the monitor is the real one.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TempFolder } from "../test/support/temp-folder.js";
import { VOLUME_KINDS, Volume } from "../test/support/volume.js";
import { WatchBench } from "../test/support/watch-bench.js";
import { machineText, numberOption, pause, print } from "./harness.js";

const FILES = numberOption("files", 10_000);
const DELETED = numberOption("deleted", 100_000);
const RUNS = numberOption("rounds", numberOption("runs", 1));
const KNOWN_GOAL_MS = 2000;
const DELETED_GOAL_MS = 5000;
/** `--actors`: it is asked who did it, which costs root a thread. */
const ACTORS = process.argv.includes("--actors");
const LIMIT_MS = 300_000;
/** What is deleted was there for a while: files that just came may have been moved, which is looked into. */
const AGED_MS = 11_000;

interface Burst {
  readonly name: string;
  /** What is there and protected before. */
  prepare?(root: string): void;
  /** Bash; `$ROOT` is the protected folder, `$SEED` a tree beside it, `$N` the number of files. */
  readonly script: string;
  /** Files that must be told as changed; undefined: all must be told as lost. */
  readonly changed?: number;
}

const BURSTS: readonly Burst[] = [
  { name: "one folder", script: 'cd "$ROOT"; seq $N | xargs touch', changed: FILES },
  {
    name: "folders that were there",
    prepare: (root) => makeFolders(root, 1000),
    script: 'cd "$ROOT"; seq $N | awk \'{print "d" $1 % 1000 "/f" $1}\' | xargs touch',
    changed: FILES,
  },
  {
    name: "new folders",
    script:
      'cd "$ROOT"; seq 0 999 | sed s/^/d/ | xargs -n 50 mkdir & cd "$ROOT"; wait; seq $N | awk \'{print "d" $1 % 1000 "/f" $1}\' | xargs touch',
    changed: FILES,
  },
  {
    name: "new folders, four deep",
    script:
      'cd "$ROOT"; for ((i = 0; i < N / 10; i++)); do p=a$((i % 10))/b$((i / 10 % 10))/c$((i / 100))/d$i; mkdir -p $p; for ((j = 0; j < 10; j++)); do echo $j > $p/f$j; done; done',
    changed: FILES,
  },
  { name: "cp -r", script: 'cp -r "$SEED" "$ROOT/copy"', changed: FILES },
  { name: "tar x", script: 'tar -C "$ROOT" -xf "$SEED.tar"', changed: FILES },
  {
    name: "all modified",
    prepare: (root) => makeTree(root, FILES, 100),
    script: 'find "$ROOT" -type f -print0 | xargs -0 -n 100 sh -c \'for f; do echo x >> "$f"; done\' sh',
    changed: FILES,
  },
  { name: "all deleted", prepare: (root) => makeTree(root, FILES, 100), script: 'rm -rf "$ROOT"/*' },
];

const DELETIONS: readonly Burst[] = [1000, 10_000].map((folders) => ({
  name: `rm -rf of ${String(DELETED)} files in ${String(folders)} folders`,
  prepare: (root) => makeTree(root, DELETED, Math.ceil(DELETED / folders)),
  script: 'rm -rf "$ROOT"/*',
}));

function makeFolders(root: string, count: number): void {
  for (let index = 0; index < count; index += 1) mkdirSync(join(root, `d${String(index)}`), { recursive: true });
}

function makeTree(root: string, files: number, perFolder: number): void {
  for (let index = 0; index < files; index += 1) {
    const folder = join(root, `d${String(Math.floor(index / perFolder))}`);
    if (index % perFolder === 0) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `f${String(index)}`), `file ${String(index)}\n`);
  }
}

interface Outcome {
  readonly knownMs: number;
  readonly told: number;
  /** User and system time of this process and of the watcher's. */
  readonly ownSeconds: number;
  readonly watcherSeconds: number;
  readonly messages: number;
}

async function run(burst: Burst, seed: string, files: number): Promise<Outcome> {
  await using bench = await WatchBench.create({ actors: ACTORS });
  burst.prepare?.(bench.folder.path);
  await bench.protect();
  await bench.quiet(400, LIMIT_MS);
  if (burst.changed === undefined) await pause(AGED_MS);
  bench.clear();
  const told = new Set<string>();
  let lastMs = performance.now();
  const note = (path: string): void => {
    if (path.startsWith(seed) || told.has(path)) return;
    told.add(path);
    lastMs = performance.now();
  };
  if (burst.changed === undefined) {
    bench.bus.on("mass.loss", ({ losses }) => losses.forEach(({ path }) => note(path)));
    bench.bus.on("file.lost", ({ path }) => note(path));
  } else
    bench.bus.on("file.changed", ({ path }) => {
      if (isFile(path)) note(path);
    });
  const watcher = bench.monitor.watcherPid;
  const before = { own: process.cpuUsage(), watcher: secondsOf(watcher) };
  await sh(burst.script, { ROOT: bench.folder.path, SEED: seed, N: String(files) });
  const endMs = performance.now();
  await bench.until(burst.name, () => told.size >= files, LIMIT_MS);
  const { user, system } = process.cpuUsage(before.own);
  return {
    knownMs: lastMs - endMs,
    told: told.size,
    ownSeconds: (user + system) / 1e6,
    watcherSeconds: secondsOf(watcher) - before.watcher,
    messages: bench.events("mass.loss").length,
  };
}

/** Files of the bursts are named f…, folders otherwise. */
function isFile(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return name.startsWith("f") || /^\d+$/.test(name);
}

async function sh(script: string, variables: Readonly<Record<string, string>>): Promise<void> {
  const environment = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", ...variables };
  const child = spawn("bash", ["-ec", script], { env: environment, stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`the burst ended with ${String(code)}`);
}

/** Processor time of another process, s; 0 for one that ended. */
function secondsOf(pid: number | undefined): number {
  try {
    const fields =
      readFileSync(`/proc/${String(pid)}/stat`, "latin1")
        .split(") ")[1]
        ?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}

async function measure(burst: Burst, seed: string, files: number, goalMs: number): Promise<void> {
  for (let round = 0; round < RUNS; round += 1) {
    const { knownMs, told, ownSeconds, watcherSeconds, messages } = await run(burst, seed, files);
    const verdict = knownMs <= goalMs ? "met" : "MISSED";
    const as = burst.changed === undefined ? `, told in ${String(messages)} messages` : "";
    print(
      `${burst.name.padEnd(44)} ${String(told)} of ${String(files)} known ${(knownMs / 1000).toFixed(2).padStart(6)} s after its end ` +
        `(goal ${String(goalMs / 1000)} s: ${verdict}), ${ownSeconds.toFixed(1)} s CPU and ${watcherSeconds.toFixed(1)} s of the watcher${as}`,
    );
  }
}

async function main(): Promise<void> {
  print(await machineText());
  const kind = VOLUME_KINDS.find((one) => one === process.argv[process.argv.indexOf("--on") + 1]);
  if (kind === undefined) {
    await measureAll();
    return;
  }
  const missing = Volume.missing(kind);
  if (missing !== undefined) throw new Error(`no ${kind} here: ${missing}`);
  await using image = await TempFolder.create("volume");
  await using volume = Volume.make(kind, image.at("image"), image.at("place"));
  process.env["TMPDIR"] = volume.place; // where all folders of the bench are made
  print(`on ${kind}`);
  await measureAll();
}

async function measureAll(): Promise<void> {
  await using place = await WatchBench.create();
  const seed = place.folder.at("seed");
  makeTree(seed, FILES, 10);
  spawnSync("tar", ["-C", seed, "-cf", `${seed}.tar`, "."]);
  await place.close();
  for (const burst of BURSTS) if (isWanted(burst)) await measure(burst, seed, FILES, KNOWN_GOAL_MS);
  for (const burst of DELETIONS) if (isWanted(burst)) await measure(burst, seed, DELETED, DELETED_GOAL_MS);
}

/** `--only WORD`: bursts whose name holds the word. */
function isWanted({ name }: Burst): boolean {
  const index = process.argv.indexOf("--only");
  return index < 0 || name.includes(process.argv[index + 1] ?? "");
}

await main();
