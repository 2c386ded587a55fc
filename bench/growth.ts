/**
 * What the size of a tree and the number of backups cost whoever looks: `node dist/bench/growth.js [--files N]
 * [--backups N]`. Trees of a hundredth, a tenth and all of N small files (a million unless told), then repositories with
 * 1, N / 100, N / 10 and N backups (a thousand) of a hundred files: the list of backups, the versions of a path, the
 * restore of one file and a check without reading content, each as a command of its own without a daemon: wall and
 * processor seconds, peak of memory. The many backups are made in this process, an hour
 * apart by their clock. A million files are 20 minutes of work, and need as many free inodes twice.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../src/base/clock.js";
import { silentObserver } from "../src/base/observe.js";
import { pathFromText } from "../src/base/paths.js";
import { openRepository } from "../src/daemon/store.js";
import { walkFolder } from "../test/support/engine-rig.js";
import { type Cost, costOf, holdfastCommand, machineText, numberOption, print, timed, Workplace } from "./harness.js";

const FILES_PER_FOLDER = 100;
const HOUR_MS = 3_600_000;
/** Of the repositories with many backups. */
const FILES_OF_MANY = 100;

async function main(): Promise<void> {
  const files = numberOption("files", 1_000_000);
  const backups = numberOption("backups", 1_000);
  print(await machineText());
  print(["", "list", "versions", "restore one", "restore one --at", "check"].map(cell).join(""));
  for (const share of [100, 10, 1]) await treeOf(Math.max(FILES_PER_FOLDER, Math.round(files / share)));
  for (const share of [backups, 100, 10, 1]) await repositoryOf(Math.max(1, Math.round(backups / share)));
}

/** One backup of a tree. */
async function treeOf(files: number): Promise<void> {
  await using workplace = await Workplace.create();
  const source = workplace.at("source");
  const path = await makeTree(source, files);
  await workplace.configure(source);
  await timed(holdfastCommand("init", "--quiet"), workplace.environment);
  const first = await cost(workplace, "create", "--type", "incremental", "--quiet");
  await look(workplace, `${String(files)} files, 1 backup`, path);
  print(`${cell("- first backup")}${cell(costText(first))}`);
}

/** Many backups of a small tree, of which one file changes each time. */
async function repositoryOf(backups: number): Promise<void> {
  await using workplace = await Workplace.create();
  const source = workplace.at("source");
  const path = await makeTree(source, FILES_OF_MANY);
  await workplace.configure(source);
  await timed(holdfastCommand("init", "--quiet"), workplace.environment);
  await makeBackups(workplace, source, { backups, path });
  await look(workplace, `${String(FILES_OF_MANY)} files, ${String(backups)} backups`, path);
}

interface ManyBackups {
  readonly backups: number;
  /** The file that changes. */
  readonly path: string;
}

async function makeBackups(workplace: Workplace, source: string, { backups, path }: ManyBackups): Promise<void> {
  const beginMs = systemClock.nowMs() - backups * HOUR_MS;
  let made = 0;
  await using repository = await openRepository({
    storeUrl: workplace.at("store"),
    stateDir: workplace.at("state"),
    password: undefined,
    encrypt: true,
    passwordKdf: "scrypt",
    workers: undefined,
    clock: { ...systemClock, nowMs: () => beginMs + made * HOUR_MS },
    observer: silentObserver,
    signal: NEVER,
  });
  const root = pathFromText(source);
  for (; made < backups; made += 1) {
    await writeFile(path, `content of backup ${String(made)}\n`);
    const walked = { name: "data", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    await repository.createBackup({ type: "incremental", sources: [walked] }, NEVER);
  }
}

const NEVER = new AbortController().signal;

/** Nine of ten files are empty, so that the names are what counts; gives the path of one in the middle. */
async function makeTree(root: string, files: number): Promise<string> {
  let middle = "";
  for (let index = 0; index < files; index += 1) {
    const folder = join(root, `d${String(Math.floor(index / FILES_PER_FOLDER)).padStart(5, "0")}`);
    if (index % FILES_PER_FOLDER === 0) await mkdir(folder, { recursive: true });
    const path = join(folder, `f${String(index).padStart(7, "0")}.txt`);
    await writeFile(path, index % 10 === 0 ? `content ${String(index)}\n` : "");
    if (index === Math.floor(files / 20) * 10) middle = path;
  }
  return middle;
}

/** Prints what a few looks cost: wall and processor seconds, and the peak of memory. */
async function look(workplace: Workplace, title: string, path: string): Promise<void> {
  const into = (name: string): readonly string[] => ["--target", workplace.at(name), "--quiet"];
  const costs = [
    await cost(workplace, "list"),
    await cost(workplace, "versions", path),
    await cost(workplace, "restore", "--backup-id", "latest", "--files", path, ...into("one")),
    await cost(workplace, "restore", "--at", "1s ago", "--files", path, ...into("at")),
    await cost(workplace, "check", "--quiet"),
  ];
  print([title, ...costs.map(costText)].map(cell).join(""));
}

async function cost(workplace: Workplace, ...args: string[]): Promise<Cost> {
  return await costOf(holdfastCommand(...args), { environment: workplace.environment, note: workplace.at("cost") });
}

function costText({ seconds, processorSeconds, peakBytes }: Cost): string {
  return `${seconds.toFixed(2)} s (${processorSeconds.toFixed(2)}) ${(peakBytes / 1e6).toFixed(0)} MB`;
}

function cell(text: string): string {
  return text.padEnd(28);
}

await main();
