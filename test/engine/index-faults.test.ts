/**
 * The local index is never trusted over the store: deleted, cut short, rotten or on a full disk, before a start or while
 * it is in use, it is made again, and says what the store says.
 */
import { AssertionError, expect } from "chai";
import { execFileSync } from "node:child_process";
import { cp, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hasCode, HoldfastError } from "../../src/base/errors.js";
import { codeOf, noise } from "../support/engine-keys.js";
import { EngineRig } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { expectSound, Ledger, pictureOf, StoreScenario } from "../support/store-scenario.js";
import { requireRoot } from "../support/requirements.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
/** Bytes flipped of all files together. */
const FLIPS = THOROUGH ? 2000 : 40;

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

/** After a crash there is no seal over the index: what is wrong may show late, but never reaches the store. */
async function expectHarmless({ rig, data, ledger }: Filled): Promise<void> {
  await rm(join(rig.stateDir, "index", "holdfast-seal"));
  try {
    await using repository = await rig.open();
    await pictureOf(repository);
    await ledger.expectKept(repository, data);
  } catch (error) {
    // Missing or refused is allowed here; anything but our own words is not.
    if (!(error instanceof HoldfastError || error instanceof AssertionError)) throw error;
  }
  await rm(join(rig.stateDir, "index"), { recursive: true });
}

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

describe("an index that is lost while it is in use", function () {
  this.timeout(120_000);

  it("takes nothing with it: what is acknowledged is in the store, and the next start makes the index again", async () => {
    await using folder = await TempFolder.create("gone-index", fastTempParent());
    const rig = await EngineRig.create(folder);
    const data = folder.below("data");
    const ledger = new Ledger();
    for (const harm of ["deleted", "overwritten"] as const) {
      await useWhileHarmed({ rig, data, ledger }, harm);
      await using again = await rig.open();
      await ledger.expectKept(again, data);
      await expectSound(again);
    }
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

/** LevelDB maps its tables: one that is cut short under it would end the process, as any mapped file does. */
async function writeInPlace(file: string, bytes: Buffer): Promise<void> {
  await using handle = await open(file, "r+");
  await handle.write(bytes, 0, bytes.length, 0);
}

async function useWhileHarmed(
  { rig, data, ledger }: Pick<Filled, "rig" | "data" | "ledger">,
  harm: "deleted" | "overwritten",
): Promise<void> {
  const repository = await rig.open();
  const scenario = new StoreScenario(repository, data, new FakeClock(), (note) => ledger.add(note));
  try {
    await scenario.commit("a", `before it was ${harm}`);
    for (const file of await indexFiles(rig)) {
      if (harm === "deleted") await rm(file);
      else await writeInPlace(file, noise((await stat(file)).size, 5));
    }
    for (let turn = 0; turn < 20; turn += 1) await scenario.commit(`f${String(turn % 5)}`, `${harm} ${String(turn)}`);
    await scenario.backup();
  } catch (error) {
    if (!hasCode(error, "INDEX_DAMAGED")) throw error;
  } finally {
    await repository[Symbol.asyncDispose]();
  }
}
