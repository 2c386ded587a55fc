/** A disk that loses a bit: no backup takes the damage for the file, and the good content comes back. */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { LoopDisk } from "../support/loop-disk.js";
import { Sandbox, until, versionsOf } from "../support/program.js";
import { requireRoot } from "../support/requirements.js";

interface Made {
  readonly sources: readonly { readonly files_unreadable: number; readonly suspected_paths?: readonly string[] }[];
}

describe("a file that rots on its disk", () => {
  beforeEach(function () {
    requireRoot(this);
  });

  it("stays good in a full backup, which names it, and is healed", async () => {
    await using sandbox = await Sandbox.create();
    await using disk = LoopDisk.make(join(sandbox.home, "image"), join(sandbox.data, "disk"));
    const [file, good] = [join(disk.place, "file.bin"), randomBytes(20_000)];
    await writeFile(file, good);
    await sandbox.configure({}, { paths: [disk.place], exclude: ["lost+found/"] });
    disk.age("file.bin"); // a version stored soon after its file's ctime may have missed a store through a mapping
    const daemon = await sandbox.start();
    await sandbox.settled(file);
    await daemon.end("SIGTERM");
    disk.rot(good);
    expect((await readFile(file)).equals(good), "the disk has lost a bit").to.equal(false);
    await sandbox.start();
    const made = await sandbox.run("create", "--type", "full", "--json");
    expect(made.exitCode).to.equal(3);
    const [source] = (made.json() as Made).sources;
    expect(source?.suspected_paths).to.deep.equal([file]);
    expect(source?.files_unreadable).to.equal(1);
    await until("the file is healed", 15_000, async () => (await readFile(file)).equals(good));
    const [incident] = await sandbox.incidents();
    expect(incident).to.include({ kind: "bit_rot", quarantined: true });
    await until("a full backup is whole again", 15_000, async () => {
      const again = await sandbox.run("create", "--type", "full", "--json");
      return again.exitCode === 0;
    });
    const versions = versionsOf(await sandbox.run("versions", file, "--json"));
    expect(new Set(versions.map(({ sha256 }) => sha256)).size).to.equal(1);
  }).timeout(90_000);
});
