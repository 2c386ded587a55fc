/**
 * holdfast beside restic and borg on the same tree in one run: `node dist/bench/peers.js [--rounds N]
 * [--backups-only|--restores-only] [--zstd-3] [small|large|one|random|FOLDER]`. First backup, one with nothing changed,
 * one with 1 % changed, full restore, and a check that reads everything: wall time, processor time and the peak of
 * resident memory; medians of the rounds, the order of the programs turned in each round. All encrypt; borg uses zstd,3,
 * holdfast what it takes by itself or, with `--zstd-3`, the same. Peers that are not installed are left out. Everything
 * is written under fresh names and removed at the end (some 3 GB a program and round): for minutes after a removal ext4
 * makes new files more slowly, which would be the next program's loss. What one step left in memory is brought to the
 * disk before the next begins. With `random` also what the disk takes and one thread hashes, the limits of data that
 * nothing compresses.
 */
import { createHash } from "node:crypto";
import { cp, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  type Cost,
  costOf,
  folderSize,
  holdfastCommand,
  machineText,
  median,
  numberOption,
  print,
  timed,
  Workplace,
} from "./harness.js";
import { changeTree, makeTree, TREE_KINDS } from "./trees.js";

const DEFAULT_TREE = "/usr/share";
const PASSWORD = "benchmark";
/** The peers leave what they restored in memory; "on disk" is the same restore with the sync that holdfast has in it. */
const RESTORE_STEPS = ["restore", "restore, until on disk", "check, reading all"] as const;
const STEPS = ["first backup", "unchanged", "1 % changed", ...RESTORE_STEPS] as const;
type Step = (typeof STEPS)[number];
const BACKUP_STEPS = STEPS.slice(0, 3);

interface Round {
  readonly costs: ReadonlyMap<Step, Cost>;
  readonly storeBytes: number;
}

/** One program's commands; `store` is a folder that does not exist yet, `into` an empty one. */
interface Peer {
  readonly name: string;
  readonly versionCommand: readonly string[];
  prepare(store: string): readonly string[];
  backup(store: string, round: number): readonly string[];
  /** Restores what the backup of that round holds, the last one. */
  restore(store: string, into: string, round: number): readonly string[];
  check(store: string): readonly string[];
}

const holdfast: Peer = {
  name: "holdfast",
  versionCommand: holdfastCommand("--version"),
  prepare: () => holdfastCommand("init", "--quiet"),
  backup: () => holdfastCommand("create", "--type", "incremental", "--quiet"),
  restore: (_store, into) => holdfastCommand("restore", "--backup-id", "latest", "--target", into, "--quiet"),
  check: () => holdfastCommand("check", "--read-data", "--quiet"),
};

function restic(source: string): Peer {
  const on = (store: string, ...args: string[]): string[] => ["restic", "--quiet", "--no-cache", "-r", store, ...args];
  return {
    name: "restic",
    versionCommand: ["restic", "version"],
    prepare: (store) => on(store, "init"),
    backup: (store) => on(store, "backup", source),
    restore: (store, into) => on(store, "restore", "latest", "--target", into),
    check: (store) => on(store, "check", "--read-data"),
  };
}

function borg(source: string): Peer {
  return {
    name: "borg",
    versionCommand: ["borg", "--version"],
    prepare: (store) => ["borg", "init", "--encryption", "repokey", store],
    backup: (store, round) => ["borg", "create", "--compression", "zstd,3", `${store}::round${String(round)}`, source],
    restore: (store, _into, round) => ["borg", "extract", `${store}::round${String(round)}`],
    check: (store) => ["borg", "check", "--verify-data", store],
  };
}

async function main(): Promise<void> {
  const rounds = numberOption("rounds", 3);
  const steps = chosenSteps();
  await using workplace = await Workplace.create();
  const source = workplace.at("source");
  const tree = await prepareSource(workplace, source);
  const peers = await installed([holdfast, restic(source), borg(source)]);
  print(await machineText());
  print(peers.map(({ version }) => version).join(", "));
  const { files, bytes } = await folderSize(source);
  print(`${tree}: ${String(files)} files, ${megabytes(bytes)}; ${String(rounds)} rounds`);
  const results = new Map(peers.map(({ peer }) => [peer.name, [] as Round[]]));
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < peers.length; turn += 1) {
      const peer = peers[(round + turn) % peers.length]?.peer;
      if (peer === undefined) continue;
      const result = await oneRound(peer, { workplace, source, steps, number: round * peers.length + turn });
      results.get(peer.name)?.push(result);
    }
  }
  printTable(steps, results);
  if (tree !== "random") return;
  printLimits(await measureLimits(workplace.at("limit")), bytes, results.get(holdfast.name) ?? []);
}

/** Bytes a second of what data that nothing compresses has to pass. */
interface Limits {
  readonly hash: number;
  readonly disk: number;
}

const LIMIT_BYTES = 2 ** 29;

/** SHA-256 in one thread, and a file written and brought to the disk; each the median of three. */
async function measureLimits(path: string): Promise<Limits> {
  const block = Buffer.alloc(2 ** 20, 1);
  const rates = { hash: [] as number[], disk: [] as number[] };
  const rateSince = (started: number): number => (LIMIT_BYTES / (performance.now() - started)) * 1000;
  for (let turn = 0; turn < 3; turn += 1) {
    let started = performance.now();
    const hash = createHash("sha256");
    for (let done = 0; done < LIMIT_BYTES; done += block.length) hash.update(block);
    rates.hash.push(rateSince(started));
    await using file = await open(path, "w");
    started = performance.now();
    for (let done = 0; done < LIMIT_BYTES; done += block.length) await file.write(block);
    await file.sync();
    rates.disk.push(rateSince(started));
  }
  await rm(path);
  return { hash: median(rates.hash), disk: median(rates.disk) };
}

function printLimits(limits: Limits, bytes: number, rounds: readonly Round[]): void {
  const own = bytes / median(rounds.map(({ costs }) => costs.get("first backup")?.seconds ?? NaN));
  const share = own / Math.min(limits.hash, limits.disk);
  const rates = [limits.hash, limits.disk, own].map(megabytes);
  print(`a second: hash ${rates[0] ?? ""}, disk ${rates[1] ?? ""}, first backup ${rates[2] ?? ""}`);
  print(`that is ${share.toFixed(2)} of the lower (goal 0.7)`);
}

function chosenSteps(): readonly Step[] {
  if (process.argv.includes("--backups-only")) return BACKUP_STEPS;
  return process.argv.includes("--restores-only") ? RESTORE_STEPS : STEPS;
}

/** A private copy of the tree, just written and so in the page cache; gives its name. */
async function prepareSource(workplace: Workplace, source: string): Promise<string> {
  const words = process.argv.slice(2);
  const kind = TREE_KINDS.find((each) => words.includes(each));
  if (kind !== undefined) {
    await mkdir(source);
    await makeTree(kind, source, workplace.at("list"));
    return kind;
  }
  const tree = words.find((each) => each.startsWith("/")) ?? DEFAULT_TREE;
  await cp(tree, source, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  return tree;
}

interface RoundOrder {
  readonly workplace: Workplace;
  readonly source: string;
  readonly steps: readonly Step[];
  readonly number: number;
}

async function oneRound(peer: Peer, { workplace, source, steps, number }: RoundOrder): Promise<Round> {
  const at = (name: string): string => workplace.at(`${name}-${String(number)}`);
  const [store, into] = [at("store"), at("restored")];
  await mkdir(into);
  const compress = process.argv.includes("--zstd-3") ? "zstd:3" : "auto";
  await workplace.configure(source, { store, defaults: { compress } });
  const environment = {
    ...workplace.environment,
    HOLDFAST_STATE_DIR: at("state"),
    RESTIC_PASSWORD: PASSWORD,
    BORG_PASSPHRASE: PASSWORD,
    BORG_BASE_DIR: at("cache"),
  };
  const costs = new Map<Step, Cost>();
  const bringToDisk = async (): Promise<number> => (await timed(["sync", "-f", workplace.path], environment)).seconds;
  const run = async (step: Step, command: readonly string[], cwd?: string): Promise<Cost> => {
    await bringToDisk();
    const cost = await costOf(command, { environment, cwd, note: workplace.at("cost") });
    costs.set(step, cost);
    return cost;
  };
  await timed(peer.prepare(store), environment);
  await run("first backup", peer.backup(store, 1));
  const { bytes: storeBytes } = await folderSize(store);
  if (steps.includes("unchanged")) {
    await run("unchanged", peer.backup(store, 2));
    await changeTree(source, number);
    await run("1 % changed", peer.backup(store, 3));
  }
  if (steps.includes("restore")) {
    const cost = await run("restore", peer.restore(store, into, steps.includes("unchanged") ? 3 : 1), into);
    costs.set("restore, until on disk", { ...cost, seconds: cost.seconds + (await bringToDisk()) });
    await compare(source, into, environment);
    await run("check, reading all", peer.check(store));
  }
  return { costs, storeBytes };
}

/** A restore that is not the source is no result. */
async function compare(source: string, into: string, environment: Readonly<Record<string, string>>): Promise<void> {
  await timed(["diff", "-r", "--no-dereference", source, join(into, source)], environment);
}

async function installed(peers: readonly Peer[]): Promise<{ peer: Peer; version: string }[]> {
  const found: { peer: Peer; version: string }[] = [];
  for (const peer of peers) {
    try {
      const { stdout } = await timed(peer.versionCommand, { PATH: process.env["PATH"] ?? "" });
      found.push({ peer, version: `${peer.name} (${stdout.trim().split("\n")[0] ?? ""})` });
    } catch (error) {
      print(
        `${peer.name} is left out: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)}`,
      );
    }
  }
  return found;
}

/** Medians, and in brackets how many times holdfast's (above 1: holdfast takes less). */
function printTable(steps: readonly Step[], results: ReadonlyMap<string, readonly Round[]>): void {
  const names = [...results.keys()];
  const line = (title: string, valueOf: (round: Round) => number, show: (value: number) => string): void => {
    const values = names.map((name) => median((results.get(name) ?? []).map(valueOf)));
    const own = values[0] ?? NaN;
    const cells = values.map((value) => `${show(value)} (x${(value / own).toFixed(2)})`.padStart(20));
    print(`${title.padEnd(28)}${cells.join("")}`);
  };
  print(`${"".padEnd(28)}${names.map((name) => name.padStart(20)).join("")}`);
  for (const step of steps) {
    const cost = (round: Round): Cost => round.costs.get(step) ?? NO_COST;
    line(step, (round) => cost(round).seconds, secondsText);
    line("  processor", (round) => cost(round).processorSeconds, secondsText);
    line("  peak memory", (round) => cost(round).peakBytes, megabytes);
  }
  line("store after the first", ({ storeBytes }) => storeBytes, megabytes);
}

const NO_COST: Cost = { seconds: NaN, processorSeconds: NaN, peakBytes: NaN };

function secondsText(seconds: number): string {
  return `${seconds.toFixed(2)} s`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

await main();
