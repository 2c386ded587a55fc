/**
 * The local index is never trusted over the store: deleted, cut short, rotten or on a full disk, before a start or while
 * it is in use, it is made again, and says what the store says.
 */
import { expect } from "chai";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { hasCode } from "../../src/base/errors.js";
import { codeOf, noise } from "../support/engine-keys.js";
import { EngineRig } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { expectSound, Ledger, pictureOf, type StoreNote, StoreScenario } from "../support/store-scenario.js";
import { requireRoot } from "../support/requirements.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const CHILD = fileURLToPath(new URL("../support/index-child.js", import.meta.url));
/** Bytes flipped of all files together. */
const FLIPS = THOROUGH ? 2000 : 24;

interface Filled {
  readonly rig: EngineRig;
  readonly data: TempFolder;
  readonly ledger: Ledger;
  /** What the whole repository says of itself. */
  readonly picture: string;
}

async function filled(folder: TempFolder): Promise<Filled> {
  const rig = await EngineRig.create(folder);
  const data = folder.below("data");
  const ledger = new Ledger();
  {
    await using repository = await rig.open();
    const clock = new FakeClock();
    const scenario = new StoreScenario(repository, data, clock, (note) => ledger.add(note));
    await scenario.run();
  }
  // Opened once more, so that what was LevelDB's log is in its tables too.
  await using repository = await rig.open();
  return { rig, data, ledger, picture: await pictureOf(repository) };
}

async function indexFiles(rig: EngineRig): Promise<string[]> {
  const folder = join(rig.stateDir, "index");
  return (await readdir(folder)).filter((name) => name !== "LOCK").map((name) => join(folder, name));
}

/** Says what the store says: at once, or after one start more when the damage showed only in use. */
async function expectSame({ rig, data, ledger, picture }: Filled, what: string): Promise<void> {
  for (let start = 1; ; start += 1) {
    try {
      await using repository = await rig.open();
      expect(await pictureOf(repository)).to.equal(picture);
      await ledger.expectKept(repository, data);
      await expectSound(repository);
      return;
    } catch (error) {
      if (start === 1 && hasCode(error, "INDEX_DAMAGED")) continue;
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
  }
}

/** How a process ended that used the index (LevelDB itself may end it), and what it said was acknowledged. */
async function useInChild(rig: EngineRig, harm = ""): Promise<{ end: number | NodeJS.Signals; notes: StoreNote[] }> {
  const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
  const child = spawn(process.execPath, [CHILD, dirname(rig.stateDir), key, harm], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, complaint] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  if (child.exitCode !== null) expect(child.exitCode, complaint).to.be.oneOf([0, 1]);
  const lines = out.split("\n").slice(0, -1);
  const notes = lines.map((line) => JSON.parse(line, reviveNote) as StoreNote);
  return { end: child.exitCode ?? child.signalCode ?? "SIGKILL", notes };
}

function reviveNote(key: string, value: unknown): unknown {
  return key === "files" ? new Map(value as [string, string][]) : value;
}

/** After a crash there is no seal over the index: what is wrong may show late, but never reaches the store. */
async function expectHarmless({ rig }: Filled): Promise<void> {
  await rm(join(rig.stateDir, "index", "holdfast-seal"));
  await useInChild(rig);
  await rm(join(rig.stateDir, "index"), { recursive: true });
}

/**
 * A table of the same size whose only entry has no key, on which LevelDB's assertion ends the process. Blocks and footer
 * as in leveldb/doc/table_format.md: a block is its entries, their places and the count of these (4 bytes each), and 5
 * bytes for kind and checksum; the footer gives offset and size of the two directories, and ends with a magic number.
 */
function withoutKey(table: Buffer): Buffer {
  const made = Buffer.alloc(table.length);
  const directory = Buffer.from([0, 0, 0, ...[0, 0, 0, 0], ...[1, 0, 0, 0]]);
  const filters = Buffer.from([...[0, 0, 0, 0], ...[1, 0, 0, 0]]);
  const filtersAt = directory.length + 5;
  made.set(directory, 0);
  made.set(filters, filtersAt);
  made.set([filtersAt, filters.length, 0, directory.length], table.length - FOOTER_BYTES);
  made.set(table.subarray(-MAGIC_BYTES), table.length - MAGIC_BYTES);
  return made;
}

const MAGIC_BYTES = 8;
const FOOTER_BYTES = 48;

describe("an index that is damaged before the start", function () {
  this.timeout(THOROUGH ? 1_800_000 : 120_000);

  it("is made again or unharmed, whichever byte of it changed", async () => {
    await using folder = await TempFolder.create("rot", fastTempParent());
    const all = await filled(folder);
    const index = join(all.rig.stateDir, "index");
    await cp(index, folder.at("good"), { recursive: true });
    const places: { readonly file: string; readonly offset: number }[] = [];
    for (const file of await indexFiles(all.rig)) {
      const { length } = await readFile(file);
      for (let offset = 0; offset < length; offset += 1) places.push({ file, offset });
    }
    for (let flip = 0; flip < FLIPS; flip += 1) {
      const place = places[Math.floor(((flip + Math.random()) * places.length) / FLIPS)];
      if (place === undefined) continue;
      await rm(index, { recursive: true });
      await cp(folder.at("good"), index, { recursive: true });
      const bytes = await readFile(place.file);
      bytes[place.offset] = (bytes[place.offset] ?? 0) ^ (1 << (flip % 8));
      await writeFile(place.file, bytes);
      if (flip % 3 === 2) await expectHarmless(all);
      await expectSame(all, `byte ${String(place.offset)} of ${place.file}`);
    }
  });

  it("is made again when a file of it is missing, empty or cut in half", async () => {
    await using folder = await TempFolder.create("cut-index", fastTempParent());
    const all = await filled(folder);
    for (const file of await indexFiles(all.rig)) {
      const length = await stat(file).then(
        ({ size }) => size,
        () => 0,
      );
      for (const keptBytes of [undefined, 0, Math.floor(length / 2)]) {
        if (keptBytes === undefined) await rm(file, { force: true });
        else await truncate(file, keptBytes).catch(() => undefined); // it may have another name by now
        await expectSame(all, `${file} with ${String(keptBytes)} bytes`);
      }
    }
  });
});

describe("an index that ends the process that opens it", function () {
  this.timeout(120_000);

  it("is proven by another process after two starts, and made again", async () => {
    await using folder = await TempFolder.create("abort", fastTempParent());
    const all = await filled(folder);
    for (const file of await indexFiles(all.rig)) {
      if (file.endsWith(".ldb")) await writeFile(file, withoutKey(await readFile(file)));
    }
    await rm(join(all.rig.stateDir, "index", "holdfast-seal"));
    expect((await useInChild(all.rig)).end).to.equal("SIGABRT");
    expect((await useInChild(all.rig)).end).to.equal("SIGABRT");
    expect((await useInChild(all.rig)).end).to.equal(0);
    await expectSame(all, "made again");
  });

  it("is left alone when it is sound, however often its users were killed", async () => {
    await using folder = await TempFolder.create("kept", fastTempParent());
    const all = await filled(folder);
    await rm(join(all.rig.stateDir, "index", "holdfast-seal"));
    await writeFile(join(all.rig.stateDir, "index", "holdfast-open"), "7");
    const witness = join(all.rig.stateDir, "index", "witness"); // goes when the index is made again
    await writeFile(witness, "");
    await using repository = await all.rig.open();
    expect(await pictureOf(repository)).to.equal(all.picture);
    expect((await stat(witness)).isFile()).to.equal(true);
  });
});

describe("an index that is lost while it is in use", function () {
  this.timeout(120_000);

  it("takes nothing with it: what is acknowledged is in the store, and the next start makes the index again", async () => {
    await using folder = await TempFolder.create("gone-index", fastTempParent());
    const rig = await EngineRig.create(folder);
    const data = folder.below("data");
    const ledger = new Ledger();
    for (const harm of ["deleted", "overwritten"] as const) {
      for (const note of (await useInChild(rig, harm)).notes) ledger.add(note);
      expect(ledger.versions.size).to.be.greaterThan(0);
      await useInChild(rig);
      await useInChild(rig); // whatever ended these two does not end the third
      await using again = await rig.open();
      await ledger.expectKept(again, data);
      await expectSound(again);
    }
  });

  it("ends the process when its tables are cut short under it, once: the next start makes it again", async () => {
    await using folder = await TempFolder.create("short-index", fastTempParent());
    const all = await filled(folder);
    const { end, notes } = await useInChild(all.rig, "truncated");
    for (const note of notes) all.ledger.add(note);
    // LevelDB maps its tables, and reading behind the end of a mapped file is SIGBUS.
    expect(end).to.be.oneOf(["SIGBUS", 0, 1]);
    const ends = [await useInChild(all.rig), await useInChild(all.rig)];
    expect(ends.map((use) => use.end)).to.not.include("SIGBUS");
    expect(ends[1]?.end, "made again").to.equal(0);
    await using repository = await all.rig.open();
    await all.ledger.expectKept(repository, folder.below("data"));
    await expectSound(repository);
  });

  it("on a full disk refuses work with a clear error, and goes on when there is room", async function () {
    requireRoot(this);
    await using folder = await TempFolder.create("full-index");
    const rig = await EngineRig.create(folder);
    await mkdir(rig.stateDir);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", rig.stateDir]);
    try {
      const ledger = new Ledger();
      await using repository = await rig.open();
      const scenario = new StoreScenario(repository, folder.below("data"), new FakeClock(), (note) => ledger.add(note));
      await scenario.commit("a", "while there was room");
      await writeFile(join(rig.stateDir, "ballast"), Buffer.alloc(8 * 2 ** 20)).catch(() => undefined);
      const code = await codeOf(commitUntilRefused(scenario));
      expect(code).to.equal("STORE_FULL");
      await rm(join(rig.stateDir, "ballast"));
      await scenario.commit("b", "there is room again");
      await ledger.expectKept(repository, folder.below("data"));
    } finally {
      execFileSync("umount", ["-l", rig.stateDir]);
    }
  });
});

describe("what a clean close notes of the chunks", () => {
  const notesOf = async (rig: EngineRig): Promise<{ head: string; keys: string[] }> => {
    const notes = await readFile(join(rig.stateDir, "index", "holdfast-notes"));
    const keys: string[] = [];
    for (let at = 24; at < notes.length; at += 16) keys.push(notes.toString("hex", at, at + 16));
    return { head: notes.toString("hex", 0, 24), keys: keys.sort() };
  };

  it("is what the index itself says, after commits, backups and collections", async () => {
    await using folder = await TempFolder.create("index-notes");
    const { rig } = await filled(folder);
    const noted = await notesOf(rig);
    expect(noted.keys.length).to.be.greaterThan(5);
    // Without the seal the notes count for nothing, and every place of a chunk is read.
    await rm(join(rig.stateDir, "index", "holdfast-seal"));
    await using repository = await rig.open();
    await repository[Symbol.asyncDispose]();
    expect(await notesOf(rig)).to.deep.equal(noted);
  });

  it("spares the next start the reading, and what is stored is not stored again", async () => {
    await using folder = await TempFolder.create("index-notes");
    const { rig, data, ledger, picture } = await filled(folder);
    await using repository = await rig.open();
    expect(await pictureOf(repository)).to.equal(picture);
    const before = await repository.stats();
    const scenario = new StoreScenario(repository, data, new FakeClock(), (note) => ledger.add(note));
    await scenario.backup();
    expect((await repository.stats()).uniqueBytes - before.uniqueBytes).to.be.below(10_000);
    await expectSound(repository);
  });
});

/** Commits until the index takes no more. */
async function commitUntilRefused(scenario: StoreScenario): Promise<void> {
  for (let turn = 0; turn < 2000; turn += 1) await scenario.commit("filler", noise(2000, turn + 1));
}
