/** Restoring to the original places: what was written since the last backup is stored before anything replaces it. */
import { expect } from "chai";
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import { FileColumnsWriter } from "../../src/engine/restore/file-columns.js";
import { stampOf } from "../../src/engine/restore/kept-stamp.js";
import { nameBatch } from "../../src/engine/restore/name-batch.js";
import type { NameAnswer } from "../../src/engine/restore/protocol.js";
import type { FileNode } from "../../src/engine/types.js";
import { EngineRig, UNLIMITED } from "../support/engine-rig.js";
import { backUpFolder, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const NODE: FileNode = {
  kind: "file",
  stat: { dev: 0n, ino: 0n, sizeBytes: 0, mtimeNs: 0n, ctimeNs: 0n },
  mode: 0o600,
  uid: 0,
  gid: 0,
  linkCount: 1,
};

describe("a restore to the original places", () => {
  const folder = useTempFolder("keep");
  const data = (): BytePath => folder().bytes("data");
  const place = (name: string): string => folder().at(`data/${name}`);

  async function versionsOf(repository: Repository, name: string): Promise<string[]> {
    const contents: string[] = [];
    for (const { node } of await repository.versions(folder().bytes(`data/${name}`))) {
      if (node === undefined) continue;
      const parts: Buffer[] = [];
      for await (const part of repository.readContent(node, UNLIMITED)) parts.push(part);
      contents.push(node.linkTarget ?? Buffer.concat(parts).toString());
    }
    return contents;
  }

  it("stores what changed since the last backup as a version, and then replaces it", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (const name of ["changed", "same", "stored"]) await folder().write(`data/${name}`, `old ${name}`);
    symlinkSync("old", place("link"));
    await backUpFolder(repository, data());
    for (const name of ["changed", "stored"]) writeFileSync(place(name), `new ${name}`);
    unlinkSync(place("link"));
    symlinkSync("new", place("link"));
    const stored = [{ path: folder().bytes("data/stored"), kind: "upsert" as const }];
    await repository.commitChanges("docs", stored, UNLIMITED);
    const report = await restoreLatest(repository, undefined, { overwrite: "if-changed" });
    expect(report).to.deep.include({ failed: [], kept: 2, restored: 3 });
    for (const name of ["changed", "same", "stored"]) {
      expect(readFileSync(place(name), "utf8")).to.equal(`old ${name}`);
    }
    expect(readlinkSync(place("link"))).to.equal("old");
    expect(await versionsOf(repository, "changed")).to.include("new changed");
    expect(await versionsOf(repository, "link")).to.include("new");
  });

  it("leaves alone what it cannot keep, and replaces it only when told to overwrite always", async () => {
    const rig = await EngineRig.create(folder());
    {
      await using repository = await rig.open();
      await folder().write("data/a", "old");
      await backUpFolder(repository, data());
    }
    writeFileSync(place("a"), "new");
    await using repository = await rig.open({ readOnly: true });
    const report = await restoreLatest(repository, undefined, { overwrite: "if-changed" });
    expect(report.failed.map(({ code }) => code)).to.deep.equal(["TARGET_EXISTS"]);
    expect(readFileSync(place("a"), "utf8")).to.equal("new");
    const insisted = await restoreLatest(repository, undefined, { overwrite: "always" });
    expect(insisted).to.deep.include({ failed: [], kept: 0, restored: 1 });
    expect(insisted.warnings.join()).to.include("could not be kept");
    expect(readFileSync(place("a"), "utf8")).to.equal("old");
  });

  it("stores what nobody stored yet before --delete removes it, also below new folders", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "old");
    await backUpFolder(repository, data());
    await folder().write("data/new", "only here");
    await folder().write("data/in/deep/new", "only there");
    const report = await restoreLatest(repository, undefined, { overwrite: "if-changed", delete: true });
    expect(report).to.deep.include({ failed: [], kept: 2, deleted: 4 });
    expect(existsSync(place("new")) || existsSync(place("in"))).to.equal(false);
    expect(await versionsOf(repository, "new")).to.deep.equal(["only here"]);
    expect(await versionsOf(repository, "in/deep/new")).to.deep.equal(["only there"]);
  });

  it("leaves alone what is written in the last moment, after it was kept", async () => {
    await folder().write("data/a", "kept");
    const fd = openSync(data(), constants.O_RDONLY | constants.O_DIRECTORY);
    const earlier = stampOf(lstatSync(place("a"), { bigint: true })) - 1n;
    const name = (keptStampNs: bigint): NameAnswer => {
      const files = new FileColumnsWriter(1);
      const chunks = { firstPlace: 0, placeCount: 0 };
      files.add(NODE, { folder: 0, name: "a", fresh: false, keptStampNs, ...chunks });
      writeFileSync(place("staged"), "restored");
      const waiting = Int32Array.of(openSync(place("staged"), constants.O_RDONLY));
      const named = new Map([[0, { staged: "staged", replaces: true }]]);
      const folders = [{ fd, path: data(), root: data() }];
      return nameBatch({ folders, files: files.take(), waiting, named, onlyKept: true });
    };
    try {
      expect(name(earlier).failed.get(0)).to.include({ kind: "failed", code: "TARGET_EXISTS" });
      expect([readFileSync(place("a"), "utf8"), existsSync(place("staged"))]).to.deep.equal(["kept", false]);
      utimesSync(place("a"), 0, 0); // as a file of an image; with 0 nothing was there to be kept
      expect(name(0n).failed.get(0)).to.include({ kind: "failed", code: "TARGET_EXISTS" });
      expect(readFileSync(place("a"), "utf8")).to.equal("kept");
      linkSync(place("a"), place("b"));
      const stamp = stampOf(lstatSync(place("a"), { bigint: true }));
      expect(name(stamp).failed.size).to.equal(0);
      expect(readFileSync(place("a"), "utf8")).to.equal("restored");
    } finally {
      closeSync(fd);
    }
  });

  it("stores it under the path that the store knows when the place lies behind a link by now", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "old");
    await backUpFolder(repository, data());
    renameSync(data(), folder().at("real"));
    symlinkSync(folder().at("real"), data());
    writeFileSync(place("a"), "new");
    const [from, to] = [data(), folder().bytes("real")];
    const swapped = (path: BytePath, a: BytePath, b: BytePath): BytePath =>
      (path.startsWith(a) ? b + path.slice(a.length) : path) as BytePath;
    const entries = (async function* () {
      for await (const entry of repository.backupEntries("latest", {}, UNLIMITED))
        yield { ...entry, path: swapped(entry.path, from, to) };
    })();
    const storedPath = (path: BytePath): BytePath => swapped(path, to, from);
    const report = await restoreLatest(repository, undefined, { entries, storedPath, overwrite: "if-changed" });
    expect(report).to.deep.include({ failed: [], kept: 1 });
    expect(readFileSync(folder().at("real/a"), "utf8")).to.equal("old");
    expect(await versionsOf(repository, "a")).to.deep.equal(["new", "old"]);
  });

  it("keeps nothing where the paths are not the original ones", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "old");
    await backUpFolder(repository, data());
    const target = folder().bytes("target");
    await restoreLatest(repository, target);
    writeFileSync(`${target}${data()}/a`, "new");
    expect(await restoreLatest(repository, target)).to.deep.include({ failed: [], kept: 0, restored: 1 });
    expect(await versionsOf(repository, "a")).to.deep.equal(["old"]);
  });
});
