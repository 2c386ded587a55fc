/** Putting bytes back: whole, with metadata, proven, and never over what somebody else made. */
import { execFileSync, spawn } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { chmod, chown, link, lstat, mkdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { expect } from "chai";
import { STAGING_PREFIX } from "../../src/base/atomic-file.js";
import { nativeCalls } from "../../src/base/native.js";
import { type BytePath, pathBytes, pathFromBytes, pathFromText } from "../../src/base/paths.js";
import { runProgram } from "../../src/base/spawn.js";
import type { FileNode } from "../../src/engine/types.js";
import { placeFile, placeHardLink, placeNode } from "../../src/recovery/place.js";
import { type PlaceHost, type PlaceStep, type PlaceTarget, tupleOf } from "../../src/recovery/place-parents.js";
import { clearStagingOf } from "../../src/recovery/staging.js";
import { NEVER, nodeAt, sha256 } from "../support/recovery-rig.js";
import { requireRoot, skip } from "../support/requirements.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const CHILD = fileURLToPath(new URL("../support/place-child.js", import.meta.url));

describe("placing a file", () => {
  const folder = useTempFolder("place");

  it("makes a missing file with its bytes", async () => {
    const target = targetAt(folder(), "a.txt");
    const placed = await placeFile(target, contentOf("hello"), host(), NEVER);
    expect(placed.kind).to.equal("placed");
    expect(await readFile(folder().at("a.txt"), "utf8")).to.equal("hello");
    expect(readdirSync(folder().path)).to.deep.equal(["a.txt"]);
  });

  it("gives back mode, owner, time to the nanosecond and extended attributes", async function () {
    requireRoot(this);
    const path = await folder().write("tool", "#!/bin/sh\n");
    await chown(path, 12345, 23456);
    await chmod(path, 0o4755);
    const native = nativeCalls();
    if (native === undefined) return skip(this, "koffi does not load here");
    native.setXattr({ path: Buffer.from(path) }, "user.colour", Buffer.from("green"));
    native.setTimes({ path: Buffer.from(path) }, 1n, 1_400_000_000_123_456_789n);
    const node = nodeAt(pathFromText(path));
    await rm(path);
    const placed = await placeFile(targetAt(folder(), "tool"), contentOf("#!/bin/sh\n", node), host(), NEVER);
    expect(placed).to.deep.include({ kind: "placed", gaps: [] });
    const after = nodeAt(pathFromText(path));
    expect([after.mode, after.uid, after.gid, after.stat.mtimeNs]).to.deep.equal([
      0o4755,
      12345,
      23456,
      1_400_000_000_123_456_789n,
    ]);
    expect(Buffer.from(after.xattrs?.get("user.colour") ?? []).toString()).to.equal("green");
  });

  it("gives a file that had holes its holes again", async () => {
    const bytes = Buffer.alloc(3_000_000);
    bytes.write("in the middle", 1_500_000);
    const node: FileNode = { ...nodeAt(pathFromText(await folder().write("like", "x"))), sparse: true };
    const content = { ...contentOf("", node), sha256: sha256(bytes), open: () => partsOf(bytes, 70_000) };
    expect((await placeFile(targetAt(folder(), "image"), content, host(), NEVER)).kind).to.equal("placed");
    expect((await readFile(folder().at("image"))).equals(bytes)).to.equal(true);
    expect(statSync(folder().at("image")).blocks * 512).to.be.at.most(8192);
  });

  it("makes missing parents again with their metadata", async function () {
    requireRoot(this);
    const path = await folder().write("deep/er/file", "x");
    await chown(folder().at("deep"), 1234, 1234);
    await chmod(folder().at("deep"), 0o2750);
    await utimes(folder().at("deep"), 1, 1_000_000);
    const nodes = new Map([folder().bytes("deep"), folder().bytes("deep/er")].map((name) => [name, nodeAt(name)]));
    await rm(folder().at("deep"), { recursive: true });
    const announced: BytePath[] = [];
    const placed = await placeFile(
      targetAt(folder(), "deep/er/file"),
      contentOf("x"),
      { ...host(), folderNode: (name) => nodes.get(name), announce: (write) => void announced.push(write.path) },
      NEVER,
    );
    expect(placed.kind).to.equal("placed");
    expect(await readFile(path, "utf8")).to.equal("x");
    const made = nodeAt(folder().bytes("deep"));
    expect([made.mode, made.uid, made.stat.mtimeNs]).to.deep.equal([0o2750, 1234, 1_000_000_000_000_000n]);
    expect(announced).to.deep.equal([
      folder().bytes("deep"),
      folder().bytes("deep/er"),
      folder().bytes("deep/er/file"),
    ]);
  });

  it("makes the configured root again when it is gone", async () => {
    const root = folder().bytes("root");
    const target = { path: folder().bytes("root/in/file"), root, present: undefined, tag: "inc" };
    expect((await placeFile(target, contentOf("x"), host(), NEVER)).kind).to.equal("placed");
  });

  it("writes names that are no text", async () => {
    const path = pathFromBytes(Buffer.concat([Buffer.from(`${folder().path}/`), Buffer.from([0xff, 0xfe, 0x41])]));
    const target = { path, root: folder().bytes(), present: undefined, tag: "inc" };
    expect((await placeFile(target, contentOf("odd"), host(), NEVER)).kind).to.equal("placed");
    expect(readFileSync(pathBytes(path), "utf8")).to.equal("odd");
  });

  it("stops when somebody makes the name in the last moment, and leaves theirs", async () => {
    const racing: PlaceHost = { ...host(), announce: () => writeFileSync(folder().at("a.txt"), "theirs") };
    const placed = await placeFile(targetAt(folder(), "a.txt"), contentOf("ours"), racing, NEVER);
    expect(placed.kind).to.equal("returned");
    expect(await readFile(folder().at("a.txt"), "utf8")).to.equal("theirs");
    expect(stagingIn(folder().path)).to.deep.equal([]);
  });

  it("never puts a folder of its own over one that another made meanwhile, also while that is empty", async () => {
    const made: number[] = [];
    const racing: PlaceHost = {
      ...host(),
      announce: ({ path }) => {
        if (!path.endsWith("/sub")) return;
        mkdirSync(folder().at("sub"));
        made.push(statSync(folder().at("sub")).ino);
      },
    };
    expect((await placeFile(targetAt(folder(), "sub/a.txt"), contentOf("ours"), racing, NEVER)).kind).to.equal(
      "placed",
    );
    expect([statSync(folder().at("sub")).ino]).to.deep.equal(made);
    expect(readdirSync(folder().path)).to.deep.equal(["sub"]);
  });

  it("replaces a damaged file only after it was kept", async () => {
    const path = await folder().write("a.json", "{broken");
    const target = damagedAt(folder(), "a.json");
    let seenAtKeeping = "";
    const keeping: PlaceHost = {
      ...host(),
      keepDamaged: async () => void (seenAtKeeping = await readFile(path, "utf8")),
    };
    expect((await placeFile(target, contentOf("{}"), keeping, NEVER)).kind).to.equal("placed");
    expect(seenAtKeeping).to.equal("{broken");
    expect(await readFile(path, "utf8")).to.equal("{}");
  });

  it("replaces nothing when the damaged file cannot be kept", async () => {
    const path = await folder().write("a.json", "{broken");
    const failing: PlaceHost = { ...host(), keepDamaged: () => Promise.reject(new Error("no space in quarantine")) };
    const failure = await placeFile(damagedAt(folder(), "a.json"), contentOf("{}"), failing, NEVER).catch(
      (e: unknown) => e,
    );
    expect(failure).to.be.instanceOf(Error);
    expect(await readFile(path, "utf8")).to.equal("{broken");
    expect(stagingIn(folder().path)).to.deep.equal([]);
  });

  it("leaves a damaged file that was saved anew after it was judged", async () => {
    const path = await folder().write("a.json", "{broken");
    const target = damagedAt(folder(), "a.json");
    const saving: PlaceHost = {
      ...host(),
      keepDamaged: async () => {
        await writeFile(`${path}.new`, "saved by its owner");
        renameSync(`${path}.new`, path);
      },
    };
    expect((await placeFile(target, contentOf("{}"), saving, NEVER)).kind).to.equal("changed");
    expect(await readFile(path, "utf8")).to.equal("saved by its owner");
    expect(stagingIn(folder().path)).to.deep.equal([]);
  });

  it("refuses bytes that are not those it was promised", async () => {
    const content = { ...contentOf("other"), sha256: sha256("promised") };
    const placed = await placeFile(targetAt(folder(), "a.txt"), content, host(), NEVER);
    expect(placed.kind).to.equal("unproven");
    expect(readdirSync(folder().path)).to.deep.equal([]);
  });

  it("leaves nothing when the bytes cannot be read to their end", async () => {
    const content = {
      ...contentOf(""),
      sha256: undefined,
      // eslint-disable-next-line @typescript-eslint/require-await -- fails on purpose after the first part
      async *open(): AsyncIterable<Buffer> {
        yield Buffer.alloc(100_000);
        throw new Error("the chunk is damaged");
      },
    };
    const placed = await placeFile(targetAt(folder(), "a.txt"), content, host(), NEVER);
    expect(placed).to.deep.equal({ kind: "unproven", why: "the chunk is damaged" });
    expect(readdirSync(folder().path)).to.deep.equal([]);
  });

  it("refuses a folder that is a symbolic link", async () => {
    await folder().folder("outside");
    await symlink(folder().at("outside"), folder().at("link"));
    const failure = await placeFile(targetAt(folder(), "link/a.txt"), contentOf("x"), host(), NEVER).catch(
      (e: unknown) => e,
    );
    expect(failure).to.have.property("code", "TARGET_UNSAFE");
    expect(readdirSync(folder().at("outside"))).to.deep.equal([]);
  });

  it("never writes outside while an attacker swaps folders for links", async function () {
    this.timeout(30_000);
    const outside = await folder().folder("outside");
    await folder().folder("root/sub");
    const attacker = new Worker(ATTACK, { eval: true, workerData: { sub: folder().at("root/sub"), outside } });
    let placed = 0;
    try {
      const endMs = performance.now() + 3000;
      for (let count = 0; performance.now() < endMs; count += 1) {
        const target = { ...targetAt(folder(), `root/sub/f${String(count)}`), root: folder().bytes("root") };
        const outcome = await placeFile(target, contentOf("secret"), host(), NEVER).catch((error: unknown) => error);
        if (typeof outcome === "object" && outcome !== null && "kind" in outcome) placed += 1;
      }
    } finally {
      await attacker.terminate();
    }
    expect(readdirSync(outside)).to.deep.equal([]);
    expect(placed).to.be.greaterThan(0);
  });

  it("leaves nothing half-written when the disk is full", async function () {
    requireRoot(this);
    const mounted = await tmpfsOf(folder(), "64k");
    if (mounted === undefined) return skip(this, "a tmpfs cannot be mounted here");
    try {
      const content = contentOf("x".repeat(200_000));
      const target = {
        path: pathFromText(join(mounted, "big")),
        root: pathFromText(mounted),
        present: undefined,
        tag: "inc",
      };
      const failure = await placeFile(target, content, host(), NEVER).catch((error: unknown) => error);
      expect(failure).to.have.property("code", "TARGET_IO");
      expect(readdirSync(mounted)).to.deep.equal([]);
    } finally {
      await runProgram(["umount", mounted], { timeoutMs: 10_000, signal: NEVER });
    }
  });

  it("gives a lost name back to an inode that has another one", async () => {
    const path = await folder().write("one", "shared");
    await link(path, folder().at("two"));
    const node = nodeAt(folder().bytes("two"));
    await rm(folder().at("two"));
    const other = { path: folder().bytes("one"), stat: node.stat, sha256: sha256("shared") };
    const placed = await placeHardLink(targetAt(folder(), "two"), other, host(), NEVER);
    expect(placed.kind).to.equal("placed");
    expect(statSync(folder().at("two")).ino).to.equal(statSync(path).ino);
  });

  it("does not link a name to an inode whose content has changed", async () => {
    const path = await folder().write("one", "shared");
    const { stat } = nodeAt(folder().bytes("one"));
    await writeFile(path, "changed");
    const other = { path: folder().bytes("one"), stat, sha256: sha256("shared") };
    expect((await placeHardLink(targetAt(folder(), "two"), other, host(), NEVER)).kind).to.equal("unproven");
    expect(existsSync(folder().at("two"))).to.equal(false);
  });

  it("makes symbolic links and folders again, and leaves what is there", async () => {
    await symlink("somewhere", folder().at("link"));
    await mkdir(folder().at("sub"), 0o700);
    const link = nodeAt(folder().bytes("link"));
    const sub = nodeAt(folder().bytes("sub"));
    expect((await placeNode(targetAt(folder(), "link"), link, host(), NEVER)).kind).to.equal("returned");
    await rm(folder().at("link"));
    await rm(folder().at("sub"), { recursive: true });
    expect((await placeNode(targetAt(folder(), "link"), link, host(), NEVER)).kind).to.equal("placed");
    expect((await placeNode(targetAt(folder(), "sub"), sub, host(), NEVER)).kind).to.equal("placed");
    expect(nodeAt(folder().bytes("link")).linkTarget).to.equal("somewhere");
    expect((await lstat(folder().at("sub"))).mode & 0o7777).to.equal(0o700);
    expect(stagingIn(folder().path)).to.deep.equal([]);
  });

  it("makes FIFOs and devices again, with mode, owner and numbers", async function () {
    requireRoot(this);
    execFileSync("mknod", [folder().at("pipe"), "p"]);
    execFileSync("mknod", [folder().at("null"), "c", "1", "3"]);
    for (const name of ["pipe", "null"]) {
      await chmod(folder().at(name), 0o640);
      await chown(folder().at(name), 1234, 4321);
      const node = { ...nodeAt(folder().bytes(name)), ...(name === "null" ? { device: { major: 1, minor: 3 } } : {}) };
      await rm(folder().at(name));
      expect((await placeNode(targetAt(folder(), name), node, host(), NEVER)).kind).to.equal("placed");
      const made = lstatSync(folder().at(name));
      expect([made.mode & 0o7777, made.uid, made.gid, made.nlink]).to.deep.equal([0o640, 1234, 4321, 1]);
      expect(name === "pipe" ? made.isFIFO() : made.isCharacterDevice() && made.rdev === 0x103).to.equal(true);
      expect((await placeNode(targetAt(folder(), name), node, host(), NEVER)).kind).to.equal("returned");
    }
    expect(stagingIn(folder().path)).to.deep.equal([]);
  });

  it("gives the place back to what was saved after the last look", async function () {
    if (nativeCalls() === undefined) return skip(this, "koffi does not load here");
    const path = await folder().write("a.json", "{broken");
    const target = damagedAt(folder(), "a.json");
    const saving: PlaceHost = {
      ...host(),
      onStep: (step) => {
        if (step !== "looked") return;
        writeFileSync(`${path}.new`, "saved by its owner");
        renameSync(`${path}.new`, path);
      },
    };
    expect((await placeFile(target, contentOf("{}"), saving, NEVER)).kind).to.equal("changed");
    expect(await readFile(path, "utf8")).to.equal("saved by its owner");
    expect(stagingIn(folder().path)).to.deep.equal([]);
  });

  it("removes nothing of what others save while names are exchanged: the newest stands, the other is kept", async function () {
    if (nativeCalls() === undefined) return skip(this, "koffi does not load here");
    const path = await folder().write("a.json", "{broken");
    const target = damagedAt(folder(), "a.json");
    let saves = 0;
    const saving: PlaceHost = {
      ...host(),
      onStep: (step) => {
        if ((step !== "looked" && step !== "exchanged") || saves === 3) return;
        saves += 1;
        writeFileSync(`${path}.new`, `save ${String(saves)}`);
        renameSync(`${path}.new`, path);
      },
    };
    const placed = await placeFile(target, contentOf("{}"), saving, NEVER);
    expect(await readFile(path, "utf8")).to.equal("save 3");
    const kept = placed.kind === "changed" ? placed.keptAs : undefined;
    expect(await readFile(pathBytes(kept ?? target.path), "utf8")).to.equal("save 2");
    expect(readdirSync(folder().path)).to.have.length(2);
  });

  it("leaves a damaged file removed that its owner removed after the last look", async function () {
    if (nativeCalls() === undefined) return skip(this, "koffi does not load here");
    const path = await folder().write("a.json", "{broken");
    const target = damagedAt(folder(), "a.json");
    const removing: PlaceHost = { ...host(), onStep: (step) => step === "looked" && rmSync(path) };
    expect((await placeFile(target, contentOf("{}"), removing, NEVER)).kind).to.equal("changed");
    expect(readdirSync(folder().path)).to.deep.equal([]);
  });

  it("removes only its own incident's staging files", async () => {
    await folder().write(`${STAGING_PREFIX}inc_1-aa`, "");
    await folder().write(`${STAGING_PREFIX}inc_2-bb`, "");
    expect(clearStagingOf(placeOf(folder()), "inc_1", [])).to.deep.equal({ removed: 1, kept: [] });
    expect(readdirSync(folder().path)).to.deep.equal([`${STAGING_PREFIX}inc_2-bb`]);
  });

  for (const [what, isSavedAgain] of [
    ["gives a save back that met the exchange before a crash", false],
    ["keeps a save beside its name that met the exchange before a crash, when a later one stands", true],
  ] as const)
    it(what, async function () {
      if (nativeCalls() === undefined) return skip(this, "koffi does not load here");
      const path = await folder().write("f", "damaged");
      const kept = folder().at("kept");
      expect(await killedChild([path, folder().path, "saved_over", "exchanged", kept])).to.equal("SIGKILL");
      expect(await readFile(path, "utf8")).to.equal("good"); // the save lies at the staging name
      if (isSavedAgain) {
        writeFileSync(`${path}.new`, "a later save");
        renameSync(`${path}.new`, path);
      }
      const cleared = clearStagingOf(placeOf(folder()), "inc", ["e", "f"]);
      expect(await readFile(path, "utf8")).to.equal(isSavedAgain ? "a later save" : "saved meanwhile");
      expect(cleared.kept).to.have.length(1);
      expect(await readFile(pathBytes(cleared.kept[0] ?? folder().bytes("none")), "utf8")).to.equal("saved meanwhile");
      expect(stagingIn(folder().path)).to.deep.equal([]);
      expect(readdirSync(folder().path)).to.have.length(isSavedAgain ? 3 : 2);
    });

  const common: PlaceStep[] = ["parents_ready", "staged", "proved", "announced", "visible", "synced"];
  for (const kind of ["missing", "damaged"] as const)
    for (const step of [...common, ...(kind === "damaged" ? (["quarantined", "looked", "exchanged"] as const) : [])]) {
      it(`leaves the old state or the good file when it is killed at "${step}" (${kind})`, async () => {
        const path = folder().at("f");
        if (kind === "damaged") await writeFile(path, "damaged");
        const kept = folder().at("kept");
        const signal = await killedChild([path, folder().path, kind, step, kept]);
        expect(signal).to.equal("SIGKILL");
        const now = existsSync(path) ? await readFile(path, "utf8") : undefined;
        const isGood = ["exchanged", "visible", "synced"].includes(step);
        expect(now).to.equal(isGood ? "good" : kind === "damaged" ? "damaged" : undefined);
        if (kind === "damaged" && isGood) expect(await readFile(kept, "utf8")).to.equal("damaged");
        expect(clearStagingOf(placeOf(folder()), "inc", ["f"]).kept).to.deep.equal([]);
        expect(stagingIn(folder().path)).to.deep.equal([]);
        if (isGood) expect(lstatSync(path).nlink).to.equal(1);
      });
    }
});

/** Swaps `sub` for a link to `outside` and back as fast as it can, also when the folder was made again meanwhile. */
const ATTACK = `
const { renameSync, symlinkSync, unlinkSync } = require("node:fs");
const { workerData } = require("node:worker_threads");
const { sub, outside } = workerData;
const attempt = (step) => { try { step(); } catch {} };
const pauser = new Int32Array(new SharedArrayBuffer(4));
const pause = () => Atomics.wait(pauser, 0, 0, Math.random() * 2);
for (let count = 0; ; count += 1) {
  attempt(() => renameSync(sub, sub + ".away" + count));
  attempt(() => symlinkSync(outside, sub));
  pause();
  attempt(() => unlinkSync(sub));
  attempt(() => renameSync(sub + ".away" + count, sub));
  pause();
}`;

async function* partsOf(bytes: Buffer, lengthBytes: number): AsyncGenerator<Buffer> {
  await Promise.resolve();
  for (let at = 0; at < bytes.length; at += lengthBytes) yield bytes.subarray(at, at + lengthBytes);
}

function host(): PlaceHost {
  return {
    folderNode: () => undefined,
    announce: () => undefined,
    keepDamaged: () => Promise.resolve(),
  };
}

function contentOf(text: string, metadata?: FileNode): Parameters<typeof placeFile>[1] {
  return {
    // eslint-disable-next-line @typescript-eslint/require-await -- bytes at hand
    async *open() {
      yield Buffer.from(text);
    },
    sha256: sha256(text),
    metadata,
  };
}

function targetAt(folder: TempFolder, name: string): PlaceTarget {
  return { path: folder.bytes(name), root: folder.bytes(), present: undefined, tag: "inc" };
}

function damagedAt(folder: TempFolder, name: string): PlaceTarget {
  return { ...targetAt(folder, name), present: tupleOf(lstatSync(folder.at(name), { bigint: true })) };
}

function placeOf(folder: TempFolder): Parameters<typeof clearStagingOf>[0] {
  return { root: folder.bytes(), folder: folder.bytes() };
}

function stagingIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith(STAGING_PREFIX));
}

async function tmpfsOf(folder: TempFolder, size: string): Promise<string | undefined> {
  const place = await folder.folder("full");
  const command = ["mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", place];
  const result = await runProgram(command, { timeoutMs: 10_000, signal: NEVER });
  return result.exitCode === 0 ? place : undefined;
}

async function killedChild(args: readonly string[]): Promise<NodeJS.Signals | null> {
  const child = spawn(process.execPath, [CHILD, ...args], { stdio: ["ignore", "inherit", "inherit"] });
  return await new Promise((resolve) => child.on("exit", (_code, signal) => resolve(signal)));
}
