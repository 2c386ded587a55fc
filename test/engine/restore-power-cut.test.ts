/** What a power cut in the middle of a restore leaves: looked at on a disk that is copied while a restore writes to it. */
import { expect } from "chai";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { EngineRig } from "../support/engine-rig.js";
import { LoopDisk } from "../support/loop-disk.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { backUpFolder } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const CHILD = fileURLToPath(new URL("../support/restore-child.js", import.meta.url));
const FILES = 300;

describe("a power cut in the middle of a restore", () => {
  const folder = useTempFolder("power");

  it("leaves no part of a file under its name, also when others sync the same disk meanwhile", async function () {
    requireRoot(this);
    requirePrograms(this, "mkfs.ext4", "losetup");
    const rig = await EngineRig.create(folder());
    const wanted = new Map<string, Buffer>();
    {
      await using repository = await rig.open();
      for (let index = 0; index < FILES; index += 1) {
        const bytes = randomBytes(20_000);
        wanted.set(`f${String(index)}`, bytes);
        await folder().write(`data/f${String(index)}`, bytes);
      }
      await backUpFolder(repository, folder().bytes("data"));
    }
    await using disk = LoopDisk.make(folder().at("image"), folder().at("disk"), "64M");
    const target = join(disk.place, "target");
    const restored = join(target, folder().at("data"));
    const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
    const child = spawn(process.execPath, [CHILD, rig.storeUrl, rig.stateDir, key, target], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const ended = once(child, "exit");
    try {
      while (!existsSync(restored) || readdirSync(restored).length < 10) await pause();
      child.kill("SIGSTOP");
      commitJournal(join(disk.place, "other"));
      await using after = disk.afterPowerCut(folder().at("image-after"), folder().at("after"));
      const found = readdirSync(join(after.place, "target", folder().at("data")));
      expect(found).to.have.length.greaterThan(0);
      for (const name of found.filter((each) => wanted.has(each))) {
        const bytes = readFileSync(join(after.place, "target", folder().at("data"), name));
        expect(bytes.equals(wanted.get(name) ?? Buffer.alloc(0)), `${name}: ${String(bytes.length)} bytes`).to.equal(
          true,
        );
      }
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });
});

/** Somebody else's sync: it takes all names made so far along to the disk, but not the content of other files. */
function commitJournal(path: string): void {
  const fd = openSync(path, "w");
  writeSync(fd, "x");
  fsyncSync(fd);
  closeSync(fd);
}

/** The other process needs its time. */
async function pause(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 1));
}
