/**
 * The disk under the local index fails, fills up or takes no writes, while the store's is well: work is refused in our own
 * words, nothing that was acknowledged is lost, and with a disk that works the index is made again.
 */
import { expect } from "chai";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { codeOf } from "../support/engine-keys.js";
import { EngineRig } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { LoopDisk } from "../support/loop-disk.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { expectSound, Ledger, type StoreNote, StoreScenario } from "../support/store-scenario.js";
import { TempFolder } from "../support/temp-folder.js";

const CHILD = fileURLToPath(new URL("../support/index-child.js", import.meta.url));

const REFUSED = ["STORE_READ_ONLY", "STORE_IO"];

/** A process that works on the repository, and stops after its first commit until it is told to go on. */
function worker(rig: EngineRig): ChildProcessWithoutNullStreams {
  const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
  return spawn(process.execPath, [CHILD, dirname(rig.stateDir), key, "failing"]);
}

interface Used {
  readonly rig: EngineRig;
  readonly folder: TempFolder;
  readonly ledger: Ledger;
}

/** Opens, finds all that was acknowledged, commits a file and closes. */
async function commitOne({ rig, folder, ledger }: Used, name: string): Promise<void> {
  await using repository = await rig.open();
  await ledger.expectKept(repository, folder.below("data"));
  const scenario = new StoreScenario(repository, folder.below("data"), new FakeClock(), (note) => ledger.add(note));
  await scenario.commit(name, `the content of ${name}`);
}

describe("the disk of the local index", function () {
  this.timeout(120_000);

  before(function () {
    requireRoot(this);
    requirePrograms(this, "mkfs.ext4", "losetup");
  });

  it("that fails in use (EIO, then EROFS) ends the work, not what was acknowledged; on another the index is made again", async () => {
    await using folder = await TempFolder.create("failing-index");
    const rig = await EngineRig.create(folder);
    const ledger = new Ledger();
    await mkdir(folder.at("data"));
    {
      await using disk = LoopDisk.make(folder.at("image"), rig.stateDir, "16M");
      const child = worker(rig);
      const complaint = text(child.stderr);
      for await (const line of createInterface({ input: child.stdout })) {
        const note = JSON.parse(line) as StoreNote;
        ledger.add(note);
        if (note.kind !== "durable" || ledger.versions.size !== 1 || !child.stdin.writable) continue;
        disk.fail();
        child.stdin.end("it failed");
      }
      if (child.exitCode === null && child.signalCode === null) await once(child, "close");
      // LevelDB maps its tables: what is not in memory reads with SIGBUS then.
      expect(child.signalCode ?? child.exitCode, await complaint).to.be.oneOf([1, "SIGBUS"]);
      if (child.exitCode === 1) expect(await complaint).to.equal("INDEX_DAMAGED");
      expect(await codeOf(rig.open()), "at the next start").to.be.oneOf(REFUSED);
    }
    await using repository = await rig.open();
    await ledger.expectKept(repository, folder.below("data"));
    await expectSound(repository);
  });

  it("that takes no writes when holdfast starts refuses the start; when it does again, all goes on", async () => {
    await using folder = await TempFolder.create("read-only-index");
    const rig = await EngineRig.create(folder);
    const ledger = new Ledger();
    const all = { rig, folder, ledger };
    await using disk = LoopDisk.make(folder.at("image"), rig.stateDir, "16M");
    await commitOne(all, "a");
    disk.forbidWrites();
    expect(await codeOf(rig.open())).to.equal("STORE_READ_ONLY");
    disk.unmount();
    disk.mount();
    await commitOne(all, "b");
  });

  it("that is full when holdfast starts costs nothing: with room, the index says all again", async () => {
    await using folder = await TempFolder.create("full-at-start");
    const rig = await EngineRig.create(folder);
    const ledger = new Ledger();
    const all = { rig, folder, ledger };
    await using disk = LoopDisk.make(folder.at("image"), rig.stateDir, "8M");
    await commitOne(all, "a");
    const ballast = join(disk.place, "ballast");
    await writeFile(ballast, Buffer.alloc(8 * 2 ** 20)).catch(() => undefined);
    for (let start = 0; start < 2; start += 1)
      expect(await codeOf(commitOne(all, "b"))).to.be.oneOf(["STORE_FULL", "none"]);
    await rm(ballast);
    await commitOne(all, "c");
    await using repository = await rig.open();
    await ledger.expectKept(repository, folder.below("data"));
    await expectSound(repository);
  });
});
