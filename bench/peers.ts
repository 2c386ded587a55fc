/**
 * holdfast beside restic and borg on the same real tree in one run: `node dist/bench/peers.js [--rounds N] [TREE]`.
 * First backup, a second one with nothing changed, full restore, and a check that reads everything; medians of the
 * rounds, the order of the programs turned in each round. All encrypt. Peers that are not installed are left out.
 */
import { cp, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Workplace, folderSize, holdfastCommand, machineText, median, numberOption, print, timed } from "./harness.js";

const DEFAULT_TREE = "/usr/share";
const PASSWORD = "benchmark";
const STEPS = ["first backup", "unchanged", "restore", "check, reading all"] as const;
type Step = (typeof STEPS)[number];

/** One program's commands; `store` is a folder that does not exist yet, `into` an empty one. */
interface Peer {
  readonly name: string;
  readonly versionCommand: readonly string[];
  prepare(store: string): readonly string[];
  backup(store: string, round: number): readonly string[];
  restore(store: string, into: string): readonly string[];
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
    backup: (store, round) => ["borg", "create", `${store}::round${String(round)}`, source],
    restore: (store) => ["borg", "extract", `${store}::round1`],
    check: (store) => ["borg", "check", "--verify-data", store],
  };
}

async function main(): Promise<void> {
  const rounds = numberOption("rounds", 3);
  const tree = process.argv.slice(2).find((each) => each.startsWith("/")) ?? DEFAULT_TREE;
  await using workplace = await Workplace.create();
  const source = workplace.at("source");
  await cp(tree, source, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  const peers = await installed([holdfast, restic(source), borg(source)]);
  print(await machineText());
  print(peers.map(({ version }) => version).join(", "));
  const { files, bytes } = await folderSize(source);
  print(`${tree}: ${String(files)} files, ${megabytes(bytes)}; ${String(rounds)} rounds`);
  const seconds = new Map<string, number[]>();
  const sizes = new Map<string, number>();
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < peers.length; turn += 1) {
      const peer = peers[(round + turn) % peers.length]?.peer;
      if (peer === undefined) continue;
      const result = await oneRound(peer, workplace, source);
      sizes.set(peer.name, result.storeBytes);
      for (const step of STEPS) {
        const key = `${peer.name} ${step}`;
        seconds.set(key, [...(seconds.get(key) ?? []), result.seconds[step]]);
      }
    }
  }
  const names = peers.map(({ peer }) => peer.name);
  printTable(names, (name, step) => median(seconds.get(`${name} ${step}`) ?? []), sizes);
}

async function oneRound(
  peer: Peer,
  workplace: Workplace,
  source: string,
): Promise<{ seconds: Record<Step, number>; storeBytes: number }> {
  const store = workplace.at("store");
  const into = workplace.at("restored");
  for (const path of [store, into, workplace.at("state"), workplace.at("cache")]) {
    await rm(path, { recursive: true, force: true });
  }
  await mkdir(into);
  await workplace.configure(source);
  const environment = {
    ...workplace.environment,
    RESTIC_PASSWORD: PASSWORD,
    BORG_PASSPHRASE: PASSWORD,
    BORG_BASE_DIR: workplace.at("cache"),
  };
  const run = async (command: readonly string[], cwd?: string): Promise<number> =>
    (await timed(command, environment, cwd)).seconds;
  await run(peer.prepare(store));
  const first = await run(peer.backup(store, 1));
  const unchanged = await run(peer.backup(store, 2));
  const { bytes: storeBytes } = await folderSize(store);
  const restore = await run(peer.restore(store, into), into);
  await compare(source, into, environment);
  const check = await run(peer.check(store));
  return { seconds: { "first backup": first, unchanged, restore, "check, reading all": check }, storeBytes };
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

/** Seconds, and in brackets how many times as long as holdfast (above 1: holdfast is faster). */
function printTable(
  names: readonly string[],
  secondsOf: (name: string, step: Step) => number,
  sizes: ReadonlyMap<string, number>,
): void {
  const first = names[0] ?? "";
  const cell = (text: string): string => text.padStart(18);
  print(`${"".padEnd(20)}${names.map(cell).join("")}`);
  for (const step of STEPS) {
    const own = secondsOf(first, step);
    const cells = names.map((name) => {
      const seconds = secondsOf(name, step);
      return cell(`${seconds.toFixed(2)} s (x${(seconds / own).toFixed(2)})`);
    });
    print(`${step.padEnd(20)}${cells.join("")}`);
  }
  const ownBytes = sizes.get(first) ?? NaN;
  const cells = names.map((name) => {
    const bytes = sizes.get(name) ?? NaN;
    return cell(`${megabytes(bytes)} (x${(bytes / ownBytes).toFixed(2)})`);
  });
  print(`${"store".padEnd(20)}${cells.join("")}`);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

await main();
