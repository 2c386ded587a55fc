/**
 * Makes a golden repository: `node dist/test/support/golden-maker.js NAME encrypted|plain|rotated|metadata`, run by hand
 * once for each format that programs have written; the last one as root on ext4. The store goes to `test/format/golden/NAME/store`, beside it what has to be read
 * from it for ever. A made one is never made again.
 */
import { execFileSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.js";
import { type Secret, silentObserver } from "../../src/base/observe.js";
import { joinPath, pathBytes, pathFromText } from "../../src/base/paths.js";
import { gc } from "../../src/engine/gc.js";
import { Repository } from "../../src/engine/repository.js";
import { noise } from "./engine-keys.js";
import { UNLIMITED, upsert, walkFolder } from "./engine-rig.js";
import { type GoldenFacts, goldenFolder } from "./golden.js";
import { pictureOf } from "./store-scenario.js";

const [name = "", kind = "encrypted"] = process.argv.slice(2);
/** All but one are to be readable where there is no zstd. */
const compression = kind === "encrypted" ? "zstd:3" : "lz4";
/** The same on every machine, for the paths are in the store. */
const DATA = "/tmp/holdfast-golden";
const data = pathFromText(DATA);
const SOURCE = "golden";
const INODE_FLAGS = [
  ["i", "fixed"],
  ["a", "grows"],
  ["d", "undumped"],
];
const PARITY = { dataPacks: 3, parityPacks: 2 };

function write(file: string, content: string | Uint8Array): void {
  writeFileSync(join(DATA, file), content);
}

function makeFiles(): void {
  removeFiles();
  mkdirSync(join(DATA, "folder"), { recursive: true });
  write("text", "a line of text\n".repeat(200));
  write("empty", "");
  write("folder/noise", noise(70_000, 7));
  symlinkSync("../text", join(DATA, "folder/link"));
  linkSync(join(DATA, "text"), join(DATA, "folder/hard"));
  writeFileSync(pathBytes(joinPath(data, "no\xff utf8")), "named in bytes");
  for (let index = 0; index < 30; index += 1) write(`folder/small-${String(index)}`, `small ${String(index)}`);
  if (kind === "metadata") makeStrangeFiles();
}

/** What an entry says beside content, permissions, owner and common times. */
function makeStrangeFiles(): void {
  const run = (program: string, ...words: string[]): void =>
    void execFileSync(
      program,
      words.map((word) => word.replace("@", `${DATA}/`)),
    );
  for (const name of ["sparse", "fixed", "grows", "undumped", "past", "future", "owned"]) write(name, name);
  truncateSync(join(DATA, "sparse"), 3_000_000);
  run("touch", "-d", "1935-05-05 05:05:05.123456789 UTC", "@past");
  run("touch", "-d", "2400-01-01 00:00:00.5 UTC", "@future");
  run("chown", "4000000000:4000000001", "@owned");
  run("chmod", "6711", "@owned");
  run("setfattr", "-n", "user.colour", "-v", "blue", "@owned");
  run("setfacl", "-m", "u:1234:r", "@grows");
  run("mkfifo", "@fifo");
  run("mknod", "@device", "c", "1", "3");
  for (const [flag = "", name = ""] of INODE_FLAGS) run("chattr", `+${flag}`, `@${name}`);
}

function removeFiles(): void {
  if (existsSync(join(DATA, "fixed")))
    for (const [flag = "", name = ""] of INODE_FLAGS) execFileSync("chattr", [`-${flag}`, join(DATA, name)]);
  rmSync(DATA, { recursive: true, force: true });
}

async function backUp(repository: Repository, type: "full" | "incremental"): Promise<string> {
  const source = { name: SOURCE, roots: [data], walk: walkFolder(data), encryptionRequired: false };
  const context = { hostname: "golden" };
  const request = { type, sources: [source], context, compression } as const;
  return (await repository.createBackup(request, UNLIMITED)).backup_id;
}

async function fill(repository: Repository): Promise<void> {
  const text = pathFromText(join(DATA, "text"));
  await upsert(repository, SOURCE, [text]);
  const first = await backUp(repository, "full");
  write("text", "another text\n".repeat(300));
  await upsert(repository, SOURCE, [text]);
  rmSync(join(DATA, "empty"));
  await repository.commitChanges(SOURCE, [{ path: pathFromText(join(DATA, "empty")), kind: "remove" }], UNLIMITED);
  await backUp(repository, "full");
  await repository.deleteBackups([first], UNLIMITED);
  await gc(repository, { dryRun: false, parity: kind === "rotated" ? PARITY : undefined }, UNLIMITED);
  await backUp(repository, "incremental");
  // The last commits stay in the write-ahead log: the store is copied before it is closed.
  write("text", "in the log");
  await upsert(repository, SOURCE, [text]);
  write("folder/small-3", "in the log too");
  await upsert(repository, SOURCE, [pathFromText(join(DATA, "folder/small-3"))]);
}

/** Something is stored under the first master, then it is rotated; gives the recovery key that is valid from then on. */
async function rotated(open: Parameters<typeof Repository.open>[0]): Promise<Secret> {
  await using repository = await Repository.open(open);
  await backUp(repository, "full");
  return (await repository.rotateKeys({ unlock: open.unlock ?? {} }, UNLIMITED)).recoveryKey;
}

async function make(): Promise<void> {
  const folder = goldenFolder(name);
  const work = `${DATA}-work`;
  rmSync(work, { recursive: true, force: true });
  makeFiles();
  const common = { storeUrl: join(work, "store"), clock: systemClock, observer: silentObserver };
  const encrypt = kind !== "plain" && kind !== "metadata";
  const made = await Repository.init({ ...common, encrypt });
  const unlock = made.keyBytes === undefined ? undefined : { keyBytes: made.keyBytes };
  const open = { ...common, stateDir: join(work, "state"), unlock, workers: 1, signal: UNLIMITED };
  const recoveryKey = kind === "rotated" ? await rotated(open) : made.recoveryKey;
  await using repository = await Repository.open(open);
  await fill(repository);
  mkdirSync(folder, { recursive: true });
  await cp(join(work, "store"), join(folder, "store"), { recursive: true, errorOnExist: true, force: false });
  rmSync(join(folder, "store", "leases"), { recursive: true });
  rmSync(join(folder, "store", "staging"), { recursive: true });
  const facts: GoldenFacts = {
    keyHex: made.keyBytes?.toString("hex"),
    recoveryKey: recoveryKey?.reveal(),
    picture: await pictureOf(repository),
  };
  writeFileSync(join(folder, "facts.json"), `${JSON.stringify(facts, undefined, 2)}\n`);
}

await make();
removeFiles();
