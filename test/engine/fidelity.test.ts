/** What Linux keeps about files and is seldom met: it comes back, or it is told that it does not. */
import { expect } from "chai";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { nativeCalls } from "../../src/base/native.js";
import type { BytePath } from "../../src/base/paths.js";
import type { SourceManifest } from "../../src/engine/types.js";
import { FileSource } from "../../src/sources/files.js";
import { makeDeepFolders, removeDeepFolders } from "../support/deep-folder.js";
import { noise } from "../support/engine-keys.js";
import { EngineRig, UNLIMITED, upsert, walkFolder } from "../support/engine-rig.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { backUpFolder, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
/** `HOLDFAST_TESTS_THOROUGH=1`: one folder of 100,000 files. */
const MANY = THOROUGH ? 100_000 : 2000;

const DEEP_FOLDERS = 50;
/** Of the files in them, one in every so many: each costs `find` a process. */
const DEEP_FILE_EVERY = 10;

/** A tree of DEEP_FOLDERS folders, some with a file, and links in the innermost. */
function makeDeep(root: string): void {
  makeDeepFolders(root, DEEP_FOLDERS, (place, below) => {
    if (below % DEEP_FILE_EVERY === 0) writeFileSync(`${place}/deep`, String(below), { mode: 0o604 });
    if (below !== 0) return;
    linkSync(`${place}/deep`, `${place}/other`);
    symlinkSync("deep", `${place}/link`);
  });
}

/** What `find` sees of a tree, which goes down by relative steps: names, kinds, modes, owners, times, links, digests. */
function pictureBelow(root: string): string[] {
  const run = (...args: readonly string[]): string =>
    execFileSync("find", [".", ...args], { cwd: root, maxBuffer: 2 ** 26, encoding: "latin1" });
  const stats = run("-printf", "%P %y %m %U %G %T@ %s %n %l\\n").split("\n");
  return [...stats.sort(), ...run("-type", "f", "-execdir", "sha256sum", "{}", ";").split("\n").sort()];
}

describe("a backup and its restore", () => {
  const folder = useTempFolder("fidelity");
  const data = (): BytePath => folder().bytes("data");
  const target = (): BytePath => folder().bytes("target");
  const restored = (name: string): string => `${target()}${data()}/${name}`;

  it("keep times from 1901 to the last that the file system knows, to the nanosecond", async function () {
    requirePrograms(this, "touch");
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const times = ["1901-12-14 00:00:00.000000001", "1969-12-31 23:59:59.999999999", "2107-01-01 00:00:00.123456789"];
    times.push("2262-04-11 00:00:00.5", "2262-04-12 00:00:00.5", "2446-05-10 22:38:55.000000001");
    times.push("9999-12-31 23:59:59"); // ext4 ends in 2446 and XFS in 2486; tmpfs and btrfs do not
    for (const [index, time] of times.entries()) {
      const file = await folder().write(`data/${String(index)}`, time);
      execFileSync("touch", ["-d", `${time} UTC`, file]);
    }
    await backUpFolder(repository, data());
    expect((await restoreLatest(repository, target())).failedCount).to.equal(0);
    const expectSameTimes = (): void => {
      for (const [index, time] of times.entries()) {
        const [was, is] = [folder().at("data", String(index)), restored(String(index))].map((path) => {
          return lstatSync(path, { bigint: true }).mtimeNs;
        });
        expect(is, time).to.equal(was);
      }
    };
    expectSameTimes();
    expect(lstatSync(restored("5"), { bigint: true }).mtimeNs > 2n ** 63n).to.equal(true);
    const again = await restoreLatest(repository, target(), { overwrite: "if-changed" });
    expect([again.failedCount, again.restored]).to.deep.equal([0, 0]);
    expectSameTimes();
    // Nothing that looks as it did is read again.
    let filesRead = 0;
    const source = { name: "docs", roots: [data()], walk: walkFolder(data()), encryptionRequired: false };
    const onProgress = (progress: { readonly filesRead: number }): void => void (filesRead = progress.filesRead);
    await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED, onProgress);
    expect(filesRead).to.equal(0);
  });

  it("keep holes as holes, and zeros that were written as zeros", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const head = noise(5000, 1);
    for (const name of ["empty", "grown", "between"])
      await folder().write(`data/${name}`, name === "empty" ? "" : head);
    await folder().write("data/written", Buffer.alloc(300_000));
    for (const name of ["empty", "grown", "between"]) truncateSync(folder().at("data", name), 3_000_000);
    const fd = openSync(folder().at("data/between"), "r+");
    writeSync(fd, head, 0, head.length, 1_500_000);
    closeSync(fd);
    await backUpFolder(repository, data());
    const expectAlike = (place: (name: string) => string): void => {
      for (const name of ["empty", "grown", "between", "written"]) {
        const [was, is] = [statSync(folder().at("data", name)), statSync(place(name))];
        expect([name, is.size, is.blocks]).to.deep.equal([name, was.size, was.blocks]);
        expect(readFileSync(place(name)).equals(readFileSync(folder().at("data", name)))).to.equal(true);
      }
    };
    expect(statSync(folder().at("data/written")).blocks * 512).to.be.at.least(300_000);
    await restoreLatest(repository, target(), { verify: true });
    expectAlike(restored);
    for (const name of ["empty", "grown", "between"]) truncateSync(restored(name), 10);
    await restoreLatest(repository, target(), { inPlace: true });
    expectAlike(restored);
  });

  it("keep links that lead in a circle as links", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().folder("data", "sub");
    symlinkSync("b", folder().at("data/a"));
    symlinkSync("a", folder().at("data/b"));
    symlinkSync("..", folder().at("data/sub/up"));
    await backUpFolder(repository, data());
    expect((await restoreLatest(repository, target())).failedCount).to.equal(0);
    expect(["a", "b", "sub/up"].map((name) => readlinkSync(restored(name)))).to.deep.equal(["b", "a", ".."]);
  });

  it("keep a folder of very many files", async function () {
    this.timeout(600_000);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    mkdirSync(folder().at("data"));
    for (let index = 0; index < MANY; index += 1) writeFileSync(folder().at("data", `f${String(index)}`), "");
    await backUpFolder(repository, data());
    const report = await restoreLatest(repository, target());
    expect([report.failedCount, report.restored]).to.deep.equal([0, MANY + 1]);
  });

  it("tell of a file that cannot be replaced because it is immutable, and restore the others", async function () {
    requirePrograms(this, "chattr");
    requireRoot(this);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (const name of ["fixed", "free"]) await folder().write(`data/${name}`, `old ${name}`);
    await backUpFolder(repository, data());
    for (const name of ["fixed", "free"]) writeFileSync(folder().at("data", name), "new");
    execFileSync("chattr", ["+i", folder().at("data/fixed")]);
    try {
      const { failed } = await restoreLatest(repository, undefined);
      expect(failed.map(({ path }) => path)).to.deep.equal([folder().bytes("data/fixed")]);
      expect(readFileSync(folder().at("data/free"), "utf8")).to.equal("old free");
      expect(readFileSync(folder().at("data/fixed"), "utf8")).to.equal("new");
    } finally {
      execFileSync("chattr", ["-i", folder().at("data/fixed")]);
    }
  });

  it("tell how many sockets were met, by name, as no failure, at each backup that walks", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/file", "kept");
    await folder().write("data/was", "a file that becomes a socket");
    const source = new FileSource({ name: "docs", paths: [data()], exclude: ["ignored"] });
    const backUp = async (): Promise<SourceManifest | undefined> => {
      const docs = { name: "docs", roots: [data()], walk: source.walkPacked(UNLIMITED), encryptionRequired: false };
      return (await repository.createBackup({ type: "incremental", sources: [docs] }, UNLIMITED)).sources[0];
    };
    expect(await backUp()).to.not.have.any.keys("sockets_skipped", "socket_paths");
    rmSync(folder().at("data/was"));
    const names = [
      "was",
      "ignored",
      ...Array.from({ length: 120 }, (_, index) => `s${String(index).padStart(3, "0")}`),
    ];
    const servers = names.map((name) => createServer().listen(folder().at("data", name)));
    try {
      await Promise.all(servers.map((server) => once(server, "listening").then(() => undefined)));
      for (let round = 0; round < 2; round += 1) {
        const told = await backUp();
        expect(told).to.deep.include({ sockets_skipped: 121, files_unreadable: 0, files_total: 1 });
        expect(told?.socket_paths).to.deep.equal(names.slice(2, 102).map((name) => folder().at("data", name)));
      }
      const walked: string[] = [];
      for await (const batch of source.walk(UNLIMITED)) for (const { path } of batch) walked.push(path);
      expect(walked).to.deep.equal([data(), folder().bytes("data/file")]);
    } finally {
      for (const server of servers) server.close();
    }
  });

  it("tell what is immutable or append-only, keep that it was, and say that a restore does not set it", async function () {
    requirePrograms(this, "chattr");
    requireRoot(this);
    if (nativeCalls() === undefined) return skip(this, "koffi does not load here");
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const marks = [
      ["fixed", "+i", ["immutable"]],
      ["log", "+a", ["append_only"]],
      ["scratch", "+d", ["no_dump"]],
      ["sub", "+i", ["immutable"]],
      ["plain", "", undefined],
    ] as const;
    for (const [name] of marks) if (name !== "sub") await folder().write(`data/${name}`, name);
    await folder().folder("data/sub");
    try {
      for (const [name, mark] of marks) if (mark !== "") execFileSync("chattr", [mark, folder().at("data", name)]);
      const manifest = await backUpFolder(repository, data());
      const paths = ["fixed", "log", "sub"].map((name) => folder().at("data", name));
      expect(manifest.sources[0]).to.deep.include({ immutable_files: 3 });
      expect(manifest.sources[0]?.immutable_paths).to.have.members(paths);
      const kept = new Map<string, unknown>();
      for await (const { path, node } of repository.backupEntries("latest", {}, UNLIMITED))
        kept.set(path, node.inodeFlags);
      for (const [name, , flags] of marks) expect(kept.get(folder().at("data", name)), name).to.deep.equal(flags);
      const { warnings, failed } = await restoreLatest(repository, target());
      expect(failed).to.deep.equal([]);
      expect(warnings).to.deep.equal([
        `not made immutable or append-only again, as 3 were when they were stored: ${paths.sort().join(", ")}`,
      ]);
    } finally {
      execFileSync("chattr", ["-R", "-i", "-a", folder().path]);
    }
  });

  it("keep what lies deeper than a path can say, 10,000 bytes deep, also in place", async function () {
    requirePrograms(this, "sh", "find", "sha256sum");
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/near", "near");
    makeDeep(folder().at("data"));
    const was = pictureBelow(folder().at("data"));
    expect(Math.max(...was.map((line) => line.length))).to.be.greaterThan(10_000);
    const backUp = async (): Promise<number> => {
      const walk = new FileSource({ name: "docs", paths: [data()] }).walkPacked(UNLIMITED);
      const source = { name: "docs", roots: [data()], walk, encryptionRequired: false };
      const { sources } = await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
      expect(sources.map(({ files_unreadable }) => files_unreadable)).to.deep.equal([0]);
      return sources[0]?.files_changed ?? -1;
    };
    try {
      expect(await backUp()).to.equal(DEEP_FOLDERS / DEEP_FILE_EVERY + 3);
      expect(await backUp()).to.equal(0);
      expect((await restoreLatest(repository, target(), { verify: true })).failed).to.deep.equal([]);
      expect(pictureBelow(restored(""))).to.deep.equal(was);
      execFileSync(
        "find",
        [".", "-type", "f", "-name", "deep*", "-execdir", "sh", "-c", "rm {}; echo else > {}2", ";"],
        {
          cwd: folder().at("data"),
        },
      );
      expect(pictureBelow(folder().at("data"))).to.not.deep.equal(was);
      const report = await restoreLatest(repository, undefined, { delete: true });
      expect([report.failed, report.deleted]).to.deep.equal([[], DEEP_FOLDERS / DEEP_FILE_EVERY]);
      expect(pictureBelow(folder().at("data"))).to.deep.equal(was);
    } finally {
      for (const name of ["data", "target"]) removeDeepFolders(folder().at(name));
    }
  });

  it("take what stands there now where a file became something else before it was read", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const path = folder().bytes("data/changing");
    await folder().write("data/changing", "a file");
    await upsert(repository, "docs", [path]);
    execFileSync("rm", [folder().at("data/changing")]);
    symlinkSync("elsewhere", folder().at("data/changing"));
    const { stored } = await upsert(repository, "docs", [path]);
    expect(stored.map(({ node }) => [node.kind, node.linkTarget])).to.deep.equal([["symlink", "elsewhere"]]);
  });
});
