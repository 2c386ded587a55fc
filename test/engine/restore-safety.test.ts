/** Restoring against the odds: damaged stores, hostile entries, swapped folders, kills in the middle. */
import { expect } from "chai";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { fileURLToPath } from "node:url";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import type { Entry, FileNode } from "../../src/engine/types.js";
import { EngineRig, UNLIMITED, storeFiles, walkFolder } from "../support/engine-rig.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { backUpFolder, describeTree, each, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const CHILD = fileURLToPath(new URL("../support/restore-child.js", import.meta.url));
const KILLS = 8;
const ATTACK_RESTORES = 25;

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe("restore against the odds", () => {
  const folder = useTempFolder("restore");
  const data = (): BytePath => folder().bytes("data");
  const target = (): BytePath => folder().bytes("target");
  const restored = (): string => `${target()}${data()}`;

  async function entryOf(repository: Repository, name: string): Promise<Entry> {
    const all = await collect(repository.backupEntries("latest", {}, UNLIMITED));
    const entry = all.find(({ path }) => path === `${data()}/${name}`);
    if (entry === undefined) throw new Error(`no entry ${name}`);
    return entry;
  }

  /** Turns one byte in the middle of every data pack. */
  async function damagePacks(storeUrl: string, at: (size: number) => number): Promise<number> {
    const packs = await storeFiles(storeUrl, "packs/d");
    for (const pack of packs) {
      const bytes = readFileSync(pack);
      const offset = at(bytes.length);
      bytes.writeUInt8(bytes.readUInt8(offset) ^ 1, offset);
      unlinkSync(pack);
      writeFileSync(pack, bytes);
    }
    return packs.length;
  }

  for (const encrypt of [true, false]) {
    it(`delivers no wrong byte from a damaged store (${encrypt ? "encrypted" : "not encrypted"})`, async () => {
      const rig = await EngineRig.create(folder(), { encrypt });
      await using repository = await rig.open();
      const contents = new Map<string, Buffer>();
      for (let index = 0; index < 40; index += 1) {
        const bytes = randomBytes(index % 8 === 0 ? 900_000 : 3_000);
        contents.set(String(index), bytes);
        await folder().write(`data/${String(index)}`, bytes);
      }
      await backUpFolder(repository, data());
      await repository.seal(UNLIMITED);
      await damagePacks(rig.storeUrl, (size) => size >> 1);
      mkdirSync(restored(), { recursive: true });
      for (const name of contents.keys()) writeFileSync(`${restored()}/${name}`, "old");
      const report = await restoreLatest(repository, target());
      const failed = new Set(report.failed.map(({ path }) => path.slice(path.lastIndexOf("/") + 1)));
      expect(failed.size).to.be.greaterThan(0).and.lessThan(contents.size);
      expect(new Set(report.failed.map(({ code }) => code))).to.deep.equal(new Set(["RECORD_DAMAGED"]));
      for (const [name, bytes] of contents) {
        const found = readFileSync(`${restored()}/${name}`);
        expect(found.equals(failed.has(name) ? Buffer.from("old") : bytes), name).to.equal(true);
      }
      expect(readdirSync(restored())).to.have.length(contents.size);
    });
  }

  it("lists what a missing pack held, and writes the rest", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", randomBytes(2_000_000));
    await backUpFolder(repository, data());
    const gone = await storeFiles(rig.storeUrl, "packs/d");
    await folder().write("data/b", randomBytes(2_000_000));
    await backUpFolder(repository, data());
    for (const pack of gone) unlinkSync(pack);
    const report = await restoreLatest(repository, target());
    expect(report.failed.map(({ path }) => path)).to.deep.equal([`${data()}/a`]);
    expect(report.failedCount).to.equal(1);
    expect(readdirSync(restored())).to.deep.equal(["b"]);
  });

  it("takes another copy of a chunk when the first is bad", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const bytes = randomBytes(300_000);
    await folder().write("data/a", bytes);
    await backUpFolder(repository, data());
    const [bad = ""] = await storeFiles(rig.storeUrl, "packs/d");
    truncateSync(bad, 200);
    // The damage is met, so the next backup that reads the file stores its chunk again.
    expect((await restoreLatest(repository, target())).failed).to.have.length(1);
    const source = { name: "docs", roots: [data()], walk: walkFolder(data()), encryptionRequired: false };
    await repository.createBackup({ type: "full", sources: [source] }, UNLIMITED);
    const report = await restoreLatest(repository, target());
    expect(report.failed).to.deep.equal([]);
    expect(readFileSync(`${restored()}/a`).equals(bytes)).to.equal(true);
  });

  it("refuses hostile names, and restores the others", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "good");
    await backUpFolder(repository, data());
    const good = await entryOf(repository, "a");
    const paths = [
      "/../../escaped",
      "/x/../../escaped",
      "/..",
      "/x/",
      "/x//y",
      "escaped",
      "/a\0b",
      "/./y",
      "",
      `/${"n".repeat(256)}`,
    ];
    const link: FileNode = { ...good.node, kind: "symlink", linkTarget: folder().path, chunks: [] };
    const hostile = paths.flatMap((path) => [
      { ...good, path: path as BytePath },
      { ...good, path: path as BytePath, node: { ...good.node, kind: "folder" as const } },
      { ...good, path: path as BytePath, node: link },
    ]);
    // A link stored where a later entry wants a folder.
    hostile.push({ ...good, path: "/through" as BytePath, node: link });
    hostile.push({ ...good, path: "/through/escaped" as BytePath });
    const before = readdirSync(folder().path).sort();
    const report = await restoreLatest(repository, target(), { entries: each([...hostile, good]) });
    expect(report.failed.map(({ code }) => code)).to.include("TARGET_UNSAFE");
    expect(readdirSync(folder().path).sort()).to.deep.equal([...before, "target"].sort());
    expect(readFileSync(`${restored()}/a`, "utf8")).to.equal("good");
    expect(readdirSync(target()).filter((name) => name.startsWith(".holdfast"))).to.deep.equal([]);
  });

  it("trusts the target itself, also through a link, but no link below it", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/in/a", "good");
    await backUpFolder(repository, data());
    mkdirSync(folder().at("real"));
    symlinkSync(folder().at("real"), folder().at("link"));
    const linked = await restoreLatest(repository, folder().bytes("link/new"));
    expect(linked.failed).to.deep.equal([]);
    expect(readFileSync(`${folder().at("real/new")}${data()}/in/a`, "utf8")).to.equal("good");
    mkdirSync(folder().at("outside"));
    mkdirSync(restored(), { recursive: true });
    symlinkSync(folder().at("outside"), `${restored()}/in`);
    const report = await restoreLatest(repository, target());
    expect(report.failed.map(({ code }) => code)).to.have.members(["TARGET_EXISTS", "TARGET_UNSAFE"]);
    expect(readdirSync(folder().at("outside"))).to.deep.equal([]);
  });

  it("writes nothing outside while somebody swaps folders for links", async function () {
    this.timeout(120_000);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (let index = 0; index < 60; index += 1)
      await folder().write(`data/in/deep/${String(index)}`, randomBytes(2_000));
    symlinkSync("x", folder().at("data/in/link"));
    await backUpFolder(repository, data());
    await restoreLatest(repository, target());
    mkdirSync(folder().at("outside/deep"), { recursive: true });
    const attacker = spawn(process.execPath, ["-e", ATTACK, `${restored()}/in`, folder().at("outside")], {
      stdio: "ignore",
    });
    let refused = 0;
    try {
      for (let turn = 0; turn < ATTACK_RESTORES || (refused === 0 && turn < 20 * ATTACK_RESTORES); turn += 1) {
        refused += (await restoreLatest(repository, target())).failedCount;
      }
    } finally {
      await ended(attacker);
    }
    expect(readdirSync(folder().at("outside"))).to.deep.equal(["deep"]);
    expect(readdirSync(folder().at("outside/deep"))).to.deep.equal([]);
    expect(refused).to.be.greaterThan(0);
  });

  it("stages by name what the system lets have no name: files of others, without the right to link them", async function () {
    requireRoot(this);
    requirePrograms(this, "setpriv");
    const rig = await EngineRig.create(folder());
    {
      await using repository = await rig.open();
      for (const name of ["a", "b", "c"]) {
        await folder().write(`data/${name}`, name.repeat(5_000));
        chownSync(folder().at(`data/${name}`), 1234, 1234);
      }
      await backUpFolder(repository, data());
    }
    const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
    const restoring = [process.execPath, CHILD, rig.storeUrl, rig.stateDir, key, target()];
    const child = spawn("setpriv", ["--bounding-set=-fowner,-dac_override,-dac_read_search", ...restoring], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const isThere = (name: string): boolean => existsSync(`${restored()}/${name}`);
    try {
      while (child.exitCode === null && !["a", "b", "c"].every(isThere)) await pause(5);
    } finally {
      await ended(child);
    }
    for (const name of ["a", "b", "c"]) {
      expect(readFileSync(`${restored()}/${name}`, "utf8")).to.equal(name.repeat(5_000));
      expect(statSync(`${restored()}/${name}`).uid).to.equal(1234);
    }
  });

  it("leaves the old or the new file, never a part, when it is killed at any moment", async function () {
    this.timeout(180_000);
    const rig = await EngineRig.create(folder());
    const wanted = new Map<string, Buffer>();
    {
      await using repository = await rig.open();
      for (let index = 0; index < 80; index += 1) {
        const bytes = randomBytes(index % 20 === 0 ? 3_000_000 : 20_000);
        wanted.set(`f${String(index)}`, bytes);
        await folder().write(`data/f${String(index)}`, bytes);
      }
      await backUpFolder(repository, data());
    }
    mkdirSync(restored(), { recursive: true });
    const old = Buffer.from("old content");
    const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
    const isStaging = (pid: number): boolean =>
      readdirSync(restored()).some((name) => name.includes(`-restore-${String(pid)}-`));
    const hasReplaced = (): boolean =>
      [...wanted.keys()].some((name) => existsSync(`${restored()}/${name}`) && !isOld(`${restored()}/${name}`, old));
    let replaced = 0;
    for (let turn = 0; turn < KILLS; turn += 1) {
      for (const [index, name] of [...wanted.keys()].entries()) {
        if (index % 2 === 0) writeFileSync(`${restored()}/${name}`, old);
        else if (existsSync(`${restored()}/${name}`)) unlinkSync(`${restored()}/${name}`);
      }
      const child = spawn(process.execPath, [CHILD, rig.storeUrl, rig.stateDir, key, target()], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(child.stdout, "data");
      // Half of the kills come while files are staged, half while they get their names.
      const isUnderWay = turn % 2 === 0 ? isStaging : hasReplaced;
      while (!isUnderWay(child.pid ?? 0)) await pause(1);
      await pause((turn >> 1) * 7);
      await ended(child);
      replaced += countWhole(restored(), wanted, old);
    }
    expect(replaced).to.be.greaterThan(0);
    await using repository = await rig.open();
    const report = await restoreLatest(repository, target());
    expect(report.failed).to.deep.equal([]);
    expect(describeTree(restored() as BytePath)).to.deep.equal(describeTree(data())); // leftovers are gone as well
  });
});

function isOld(path: string, old: Buffer): boolean {
  return readFileSync(path).equals(old);
}

/** Counts the files that are whole; every other one must still be the old one. */
function countWhole(folder: string, wanted: ReadonlyMap<string, Buffer>, old: Buffer): number {
  let whole = 0;
  for (const name of readdirSync(folder)) {
    if (name.startsWith(".holdfast-tmp-restore-")) continue;
    const found = readFileSync(`${folder}/${name}`);
    if (wanted.get(name)?.equals(found) === true) whole += 1;
    else expect(found.equals(old), name).to.equal(true);
  }
  return whole;
}

/** Swaps a folder for a link to another, and back, without end. */
const ATTACK = `
  const fs = require("node:fs");
  const [, folder, outside] = process.argv;
  for (let turn = 0; ; turn += 1) {
    const away = folder + ".away" + turn;
    try { fs.renameSync(folder, away); } catch {}
    try { fs.symlinkSync(outside, folder); } catch {}
    try { fs.unlinkSync(folder); } catch {}
    try { fs.renameSync(away, folder); } catch {}
  }
`;

/** A kill in the middle is a matter of real time. */
async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}
