/**
 * What small edits add to the store, beside restic: `node dist/bench/edits.js [--megabytes N] [--rows N]`. Five
 * overwrites of 100 bytes in each of four large files, and a tenth of a per cent of the rows of an SQLite database; in
 * bytes that both stores grew by, with encryption and with compression as each program has it.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, open, stat } from "node:fs/promises";
import { Workplace, folderSize, holdfastCommand, machineText, numberOption, print, timed } from "./harness.js";

const FILES = 4;
const EDITS = 5;
const EDIT_BYTES = 100;
/** Half of it compresses about as well as what programs write: blocks of text beside blocks of noise. */
const BLOCK_BYTES = 64 * 2 ** 10;
const GOAL = 0.6;

interface Stores {
  readonly workplace: Workplace;
  readonly environment: Readonly<Record<string, string>>;
}

async function main(): Promise<void> {
  const megabytes = numberOption("megabytes", 512);
  const rows = numberOption("rows", 400_000);
  await using workplace = await Workplace.create();
  const environment = { ...workplace.environment, RESTIC_PASSWORD: "bench", RESTIC_REPOSITORY: workplace.at("restic") };
  const stores = { workplace, environment };
  print(await machineText());
  print((await timed(["restic", "version"], environment)).stdout.trim());
  await mkdir(workplace.at("data"));
  await workplace.configure(workplace.at("data"));
  const paths = Array.from({ length: FILES }, (_, index) => workplace.at("data", `large-${String(index)}`));
  for (const [index, path] of paths.entries()) await makeLarge(path, index, megabytes);
  const database = workplace.at("data", "rows.sqlite");
  makeDatabase(database, rows);
  await timed(holdfastCommand("init", "--quiet"), environment);
  await timed(["restic", "init", "--quiet"], environment);
  await backUp(stores);
  for (const [index, path] of paths.entries()) await edit(path, index);
  const edits = `${String(EDITS)} edits in each of ${String(FILES)} files of ${String(megabytes)} MiB`;
  tell(edits, await growth(stores), GOAL);
  const share = `0.1 % of the rows of a database of ${((await stat(database)).size / 2 ** 20).toFixed(0)} MiB`;
  sqlite(database, `update rows set text = hex(randomblob(60)) where id % 1000 = 7;`);
  tell(share, await growth(stores));
}

async function makeLarge(path: string, seed: number, megabytes: number): Promise<void> {
  await using file = await open(path, "w");
  const blocks = (megabytes * 2 ** 20) / BLOCK_BYTES;
  for (let block = 0; block < blocks; block += 1) {
    const noise = createHash("shake256", { outputLength: BLOCK_BYTES / 2 });
    const text = `${String(seed)} ${String(block)} the quick brown fox jumps over the lazy dog\n`;
    await file.write(noise.update(text).digest());
    await file.write(Buffer.alloc(BLOCK_BYTES / 2, text));
  }
}

async function edit(path: string, seed: number): Promise<void> {
  await using file = await open(path, "r+");
  const { size } = await file.stat();
  for (let turn = 0; turn < EDITS; turn += 1) {
    const text = createHash("shake256", { outputLength: EDIT_BYTES }).update(`${String(seed)} ${String(turn)}`);
    await file.write(text.digest(), 0, EDIT_BYTES, Math.floor(((turn + 0.37) / EDITS) * size));
  }
}

function makeDatabase(path: string, rows: number): void {
  const numbers = `with recursive n(id) as (select 1 union all select id + 1 from n where id < ${String(rows)})`;
  sqlite(path, "create table rows (id integer primary key, text text);");
  sqlite(path, `${numbers} insert into rows select id, hex(randomblob(60)) from n;`);
}

function sqlite(path: string, statement: string): void {
  execFileSync("sqlite3", [path, statement]);
}

async function backUp({ workplace, environment }: Stores): Promise<void> {
  await timed(holdfastCommand("create", "--quiet"), environment);
  await timed(["restic", "backup", "--quiet", workplace.at("data")], environment);
}

/** Bytes that holdfast's store and restic's grow by with a backup. */
async function growth(stores: Stores): Promise<readonly [number, number]> {
  const sizes = async (): Promise<readonly number[]> => {
    const folders = ["store", "restic"].map(async (name) => (await folderSize(stores.workplace.at(name))).bytes);
    return await Promise.all(folders);
  };
  const before = await sizes();
  await backUp(stores);
  const after = await sizes();
  const grown = after.map((bytes, index) => bytes - (before[index] ?? 0));
  return [grown[0] ?? NaN, grown[1] ?? NaN];
}

function tell(what: string, [ours, theirs]: readonly [number, number], goal?: number): void {
  const aim = goal === undefined ? "" : `; goal at most ${String(goal)}`;
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
  print(`${what}: holdfast ${megabytes(ours)}, restic ${megabytes(theirs)}: ${(ours / theirs).toFixed(2)}${aim}`);
}

await main();
