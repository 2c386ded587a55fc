/** Restoring trees: fidelity down to the nanosecond, what is overwritten and what is not, deleting, plans. */
import { expect } from "chai";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { nativeCalls } from "../../src/base/native.js";
import { type BytePath, pathBytes } from "../../src/base/paths.js";
import { EngineRig } from "../support/engine-rig.js";
import { hasProgram, requirePrograms, requireRoot } from "../support/requirements.js";
import { backUpFolder, describeTree, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const isRoot = process.getuid?.() === 0;

describe("restore", () => {
  const folder = useTempFolder("restore");
  const data = (): BytePath => folder().bytes("data");
  const target = (): BytePath => folder().bytes("target");
  const restored = (): BytePath => `${target()}${data()}` as BytePath;

  /** Times of names whose mtime would else be the moment of the test. */
  function age(path: BytePath, timeNs: bigint): void {
    nativeCalls()?.setTimes({ path: pathBytes(path) }, timeNs, timeNs);
  }

  async function writeEverything(): Promise<void> {
    const at = (name: string): Buffer => Buffer.from(`${data()}/${name}`, "latin1");
    await folder().write("data/plain", "plain", 0o640);
    await folder().write("data/setuid", "#!", 0o4755);
    await folder().write("data/large", randomBytes(3 * 2 ** 20));
    await folder().write("data/empty", "", 0o600);
    for (const name of ["bytes-\xff\xfe\x01", "n".repeat(255), "new\nline", "-rf", "ü".repeat(100)]) {
      writeFileSync(at(name), name, { encoding: "latin1" });
    }
    await folder().folder("data/empty folder");
    await folder().write("data/a/one", "shared");
    mkdirSync(at("b"));
    linkSync(at("a/one"), at("b/two"));
    linkSync(at("a/one"), at("0-first"));
    symlinkSync("nowhere/\xff", at("link"));
    linkSync(at("link"), at("link again"));
    symlinkSync("x".repeat(4000), at("long link"));
    execFileSync("mkfifo", [folder().at("data/fifo")]);
    chmodSync(at("fifo"), 0o622);
    await folder().write("data/sticky/readonly/file", "in a folder nobody may write");
    chmodSync(at("sticky/readonly"), 0o555);
    chmodSync(at("sticky"), 0o1777);
    if (isRoot) chownSync(at("plain"), 12345, 54321);
    if (isRoot) execFileSync("mknod", [folder().at("data/null"), "c", "1", "3"]);
    if (isRoot) nativeCalls()?.setXattr({ path: at("setuid") }, "security.capability", CAPABILITY);
    nativeCalls()?.setXattr({ path: at("plain") }, "user.colour", Buffer.from([0, 1, 255]));
    nativeCalls()?.setXattr({ path: at("b") }, "user.empty", Buffer.alloc(0));
    if (hasProgram("setfacl")) {
      execFileSync("setfacl", ["-m", "u:1234:rw", folder().at("data/large")]);
      execFileSync("setfacl", ["-d", "-m", "g:4321:rwx", folder().at("data/a")]);
    }
    age(`${data()}/large` as BytePath, -123_456_789n);
    age(`${data()}/link` as BytePath, 1_234_567_890_123_456_789n);
    age(`${data()}/empty folder` as BytePath, 987_654_321n);
  }

  it("gives back a tree that cannot be told from the original", async function () {
    requirePrograms(this, "mkfifo");
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await writeEverything();
    await backUpFolder(repository, data());
    const report = await restoreLatest(repository, target());
    expect(report.failed).to.deep.equal([]);
    expect(report.warnings).to.deep.equal([]);
    expect(describeTree(restored())).to.deep.equal(describeTree(data()));
  });

  it("leaves rsync nothing to do", async function () {
    requirePrograms(this, "rsync", "mkfifo");
    requireRoot(this);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await writeEverything();
    await backUpFolder(repository, data());
    await restoreLatest(repository, target());
    const options = ["-aHAXn", "--delete", "--checksum", "--itemize-changes"];
    const todo = execFileSync("rsync", [...options, `${folder().at("data")}/`, `${target()}${data()}/`]);
    expect(todo.toString()).to.equal("");
  });

  it("does nothing the second time with if-changed, and repairs only what differs", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await writeEverything();
    await backUpFolder(repository, data());
    await restoreLatest(repository, target());
    const before = statSync(`${restored()}/large`, { bigint: true });
    writeFileSync(`${restored()}/plain`, "PLAIN");
    chmodSync(`${restored()}/empty`, 0o777);
    unlinkSync(`${restored()}/b/two`);
    writeFileSync(`${restored()}/b/two`, "shared");
    const report = await restoreLatest(repository, target(), { overwrite: "if-changed" });
    expect(report.failed).to.deep.equal([]);
    expect(
      report.plan.filter(({ action }) => action !== "node").map(({ path, action }) => [path, action]),
    ).to.have.deep.members([
      [`${data()}/plain`, "replace"],
      [`${data()}/b/two`, "link"],
    ]);
    expect(statSync(`${restored()}/large`, { bigint: true }).ctimeNs).to.equal(before.ctimeNs);
    expect(describeTree(restored())).to.deep.equal(describeTree(data()));
  });

  it("never touches what exists with never", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/kept", "stored");
    await folder().write("data/lost", "stored");
    symlinkSync("stored", folder().at("data/link"));
    await backUpFolder(repository, data());
    mkdirSync(restored(), { recursive: true });
    utimesSync(restored(), 5, 5);
    writeFileSync(`${restored()}/kept`, "newer");
    symlinkSync("newer", `${restored()}/link`);
    chmodSync(restored(), 0o751);
    const report = await restoreLatest(repository, target(), { overwrite: "never" });
    expect(readFileSync(`${restored()}/kept`, "utf8")).to.equal("newer");
    expect(readFileSync(`${restored()}/lost`, "utf8")).to.equal("stored");
    expect(statSync(restored()).mode & 0o7777).to.equal(0o751);
    expect([report.restored, report.skipped]).to.deep.equal([1, 2]);
  });

  it("replaces a file that shares its inode with another name, and leaves the other alone", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "stored", 0o600);
    await backUpFolder(repository, data());
    mkdirSync(restored(), { recursive: true });
    for (const overwrite of ["always", "if-changed"] as const) {
      for (const inPlace of [true, false]) {
        writeFileSync(`${restored()}/other`, "stored");
        chmodSync(`${restored()}/other`, 0o644);
        rmSync(`${restored()}/a`, { force: true });
        linkSync(`${restored()}/other`, `${restored()}/a`);
        await restoreLatest(repository, target(), { overwrite, inPlace });
        expect(statSync(`${restored()}/a`).mode & 0o777).to.equal(0o600);
        expect(statSync(`${restored()}/other`).mode & 0o777).to.equal(0o644);
      }
    }
  });

  it("patches the blocks that differ and keeps the inode in place", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const bytes = randomBytes(5 * 2 ** 20 + 77);
    await folder().write("data/image", bytes);
    await backUpFolder(repository, data());
    await restoreLatest(repository, target());
    const { ino } = statSync(`${restored()}/image`);
    const damaged = Buffer.concat([bytes, Buffer.from("grown")]);
    damaged.fill(7, 3_000_000, 3_000_010);
    writeFileSync(`${restored()}/image`, damaged);
    const report = await restoreLatest(repository, target(), { inPlace: true });
    expect(report.plan).to.deep.equal([{ path: `${data()}/image`, action: "patch" }]);
    expect(report.bytes, "a block, or the parts of it in two chunks").to.be.within(10, 2 * 4096);
    expect(statSync(`${restored()}/image`).ino).to.equal(ino);
    expect(readFileSync(`${restored()}/image`).equals(bytes)).to.equal(true);
  });

  it("plans without doing anything in a dry run", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "1");
    linkSync(folder().at("data/a"), folder().at("data/b"));
    symlinkSync("a", folder().at("data/l"));
    await backUpFolder(repository, data());
    const planned = await restoreLatest(repository, target(), { dryRun: true, delete: true });
    expect(existsSync(target())).to.equal(false);
    const done = await restoreLatest(repository, target(), { delete: true });
    expect(done.failed).to.deep.equal([]);
    expect(planned.plan).to.have.deep.members([...done.plan]);
    writeFileSync(`${restored()}/surplus`, "");
    const again = await restoreLatest(repository, target(), { dryRun: true, delete: true, overwrite: "if-changed" });
    expect(again.plan).to.deep.equal([{ path: `${data()}/surplus`, action: "delete" }]);
    expect(existsSync(`${restored()}/surplus`)).to.equal(true);
  });

  it("deletes with --delete what does not belong: not the store, not what another source has there", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/keep/file", "1");
    await folder().write("data/more", "2");
    await backUpFolder(repository, data());
    await folder().write("data/keep/surplus", "x");
    await folder().write("data/surplus/deep/file", "x");
    symlinkSync(folder().at("outside"), folder().at("data/link"));
    await folder().write("outside/file", "safe");
    renameSync(rig.storeUrl, folder().at("data/moved store"));
    symlinkSync(folder().at("data/moved store"), rig.storeUrl);
    await folder().write("data/keep/.holdfast-tmp-restore-999999999-aa-1", "left by a killed restore");
    const backup = await repository.backup("latest");
    const twice = (async function* () {
      yield* repository.backupEntries(backup.backup_id, {}, new AbortController().signal);
      for await (const entry of repository.backupEntries(backup.backup_id, {}, new AbortController().signal)) {
        if (entry.node.kind === "folder") yield { ...entry, source: "other" };
      }
    })();
    const report = await restoreLatest(repository, undefined, {
      delete: true,
      entries: twice,
      spare: [folder().bytes("data/moved store")],
    });
    expect(report.failed.map(({ path, code }) => [path, code])).to.deep.equal([
      [`${data()}/moved store`, "TARGET_UNSAFE"],
    ]);
    expect(readdirSync(folder().at("data")).sort()).to.deep.equal(["keep", "more", "moved store"]);
    expect(readdirSync(folder().at("data/keep"))).to.deep.equal(["file"]);
    expect(readFileSync(folder().at("outside/file"), "utf8")).to.equal("safe");
  });

  it("makes holes of zeros with sparse, and the same bytes", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const bytes = Buffer.concat([randomBytes(5000), Buffer.alloc(8 * 2 ** 20), randomBytes(100), Buffer.alloc(9999)]);
    await folder().write("data/sparse", bytes);
    await backUpFolder(repository, data());
    await restoreLatest(repository, target(), { sparse: true, verify: true });
    const stat = statSync(`${restored()}/sparse`);
    expect(stat.blocks * 512).to.be.lessThan(64 * 2 ** 10);
    expect(readFileSync(`${restored()}/sparse`).equals(bytes)).to.equal(true);
  });

  it("restores a folder of 5,000 files and one whose path is longer than paths may be", async function () {
    this.timeout(120_000);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (let index = 0; index < 5_000; index += 1)
      await folder().write(`data/many/${String(index)}`, String(index % 10));
    // The stored path fits in 4,096 bytes; below the target it no longer does.
    const deep = `${"d".repeat(9)}/`.repeat(Math.floor((4080 - data().length) / 10));
    mkdirSync(`${data()}/${deep}`, { recursive: true });
    writeFileSync(`${data()}/${deep}f`, "deep");
    await backUpFolder(repository, data());
    const long = folder().bytes("t".repeat(100));
    const report = await restoreLatest(repository, long);
    expect(report.failed).to.deep.equal([]);
    expect(readdirSync(`${long}${data()}/many`)).to.have.length(5_000);
    const found = execFileSync("find", ["-name", "f", "-type", "f"], {
      cwd: `${long}${data()}/${"d".repeat(9)}`,
      maxBuffer: 2 ** 20,
    });
    expect(found.toString().trim()).to.have.length(deep.length - 10 + 3);
    execFileSync("rm", ["-rf", long]); // Node cannot name what is below
  });

  it("gives folders on the way their kept state when it is known, and lets nobody in when it is not", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/in/file", "1");
    chmodSync(folder().at("data/in"), 0o751);
    await backUpFolder(repository, data());
    const file = repository.current(`${data()}/in/file` as BytePath);
    const only = (async function* () {
      await Promise.resolve();
      if (file !== undefined) yield file;
    })();
    const parentNode = (path: BytePath) => (path === `${data()}/in` ? repository.current(path)?.node : undefined);
    const report = await restoreLatest(repository, target(), { entries: only, parentNode });
    expect(report.failed).to.deep.equal([]);
    expect(lstatSync(`${restored()}/in`).mode & 0o7777).to.equal(0o751);
    expect(lstatSync(restored()).mode & 0o7777).to.equal(0o700);
  });

  it("gives files in a folder that hands down a group and an access list exactly what was kept", async function () {
    requirePrograms(this, "setfacl");
    requireRoot(this);
    for (const name of ["a", "b", "c"]) await folder().write(`data/shared/${name}`, name, 0o640);
    chmodSync(folder().at("data/shared"), 0o755);
    const there = `${restored()}/shared`;
    mkdirSync(there, { recursive: true });
    chownSync(there, 0, 77);
    chmodSync(there, 0o2775);
    execFileSync("setfacl", ["-d", "-m", "u:1234:rwx", there]);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await backUpFolder(repository, data());
    expect(await restoreLatest(repository, target())).to.deep.include({ failed: [], warnings: [] });
    expect(describeTree(restored())).to.deep.equal(describeTree(data()));
  });

  it("restores by names of its own where files without a name cannot be made", async () => {
    for (const name of ["a", "b", "c"]) await folder().write(`data/${name}`, name.repeat(100_000));
    const rig = await EngineRig.create(folder());
    process.env["HOLDFAST_NO_NATIVE"] = "1"; // the worker threads copy it at their start
    try {
      await using repository = await rig.open();
      await backUpFolder(repository, data());
      expect((await restoreLatest(repository, target())).failed).to.deep.equal([]);
    } finally {
      delete process.env["HOLDFAST_NO_NATIVE"];
    }
    expect(readdirSync(restored())).to.have.members(["a", "b", "c"]);
    for (const name of ["a", "b", "c"]) {
      expect(readFileSync(`${restored()}/${name}`, "utf8")).to.equal(name.repeat(100_000));
    }
  });

  it("stops when it is told to, and goes on where it was with if-changed", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (let index = 0; index < 300; index += 1) await folder().write(`data/${String(index)}`, randomBytes(50_000));
    await backUpFolder(repository, data());
    const stop = new AbortController();
    const entries = (async function* () {
      let count = 0;
      for await (const entry of repository.backupEntries("latest", {}, new AbortController().signal)) {
        count += 1;
        if (count === 280) stop.abort(new Error("enough"));
        yield entry;
      }
    })();
    const outcome = await restoreLatest(repository, target(), { entries }, stop.signal).catch((error: unknown) =>
      String(error),
    );
    expect(outcome).to.equal("Error: enough");
    const report = await restoreLatest(repository, target(), { overwrite: "if-changed" });
    expect(report.failed).to.deep.equal([]);
    expect(describeTree(restored())).to.deep.equal(describeTree(data()));
  });
});

/** `cap_net_raw+ep`, as setcap writes it. */
const CAPABILITY = Buffer.from("0100000200200000000000000000000000000000", "hex");
