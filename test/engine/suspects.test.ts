/** What counts as rot when a backup reads everything: only content that cannot have been written. */
import { createHash } from "node:crypto";
import { lstatSync, utimesSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import type { Manifest } from "../../src/engine/types.js";
import { EngineRig, UNLIMITED, walkFolder } from "../support/engine-rig.js";
import { LoopDisk } from "../support/loop-disk.js";
import { requireRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Far more than a tick of the kernel's clock, far less than it takes to write a page back. */
const TICKS_MS = 1_100;

describe("a full backup of content that differs", () => {
  const folder = useTempFolder("rot");

  it("keeps the last good version and names the path when nobody can have written it", async function () {
    requireRoot(this);
    await using disk = LoopDisk.make(folder().at("image"), folder().at("data"));
    const good = Buffer.from("good content that lies on the disk in one piece\n".repeat(50));
    await writeFile(join(disk.place, "file"), good);
    disk.age("file");
    await using repository = await (await EngineRig.create(folder())).open();
    await full(repository, disk.place);
    disk.rot(good);
    const suspects: BytePath[] = [];
    const second = await full(repository, disk.place, (path) => suspects.push(path));
    const path = folder().bytes("data/file");
    expect(suspects).to.deep.equal([path]);
    expect(second.sources[0]).to.deep.include({ files_unreadable: 1, suspected_paths: [join(disk.place, "file")] });
    expect(repository.current(path)?.node.sha256).to.equal(sha256(good));
    const third = await full(repository, disk.place);
    expect(third.sources[0]?.suspected_paths, "it is named until it is healed").to.have.length(1);
  });

  it("takes a difference soon after the ctime as a new version: a mapping may have been stored into", async function () {
    requireRoot(this);
    await using disk = LoopDisk.make(folder().at("image"), folder().at("data"));
    const first = Buffer.from("content that lies on the disk in one piece\n".repeat(50));
    await writeFile(join(disk.place, "file"), first);
    await delay(TICKS_MS);
    await using repository = await (await EngineRig.create(folder())).open();
    await full(repository, disk.place);
    disk.rot(first); // for a reader the same as a store into a dirty page: other content under the same stat
    const second = await full(repository, disk.place);
    expect(second.sources[0]).to.include({ files_unreadable: 0, files_changed: 1 });
    expect(repository.current(folder().bytes("data/file"))?.node.sha256).to.not.equal(sha256(first));
  });

  it("takes a rewrite with the old size and mtime as a new version: its ctime moved", async () => {
    const place = await folder().folder("data");
    const file = join(place, "file");
    await writeFile(file, "one");
    await delay(TICKS_MS);
    await using repository = await (await EngineRig.create(folder())).open();
    await full(repository, place);
    const { atime, mtime } = lstatSync(file);
    writeFileSync(file, "two");
    utimesSync(file, atime, mtime);
    const second = await full(repository, place);
    expect(second.sources[0]).to.include({ files_unreadable: 0, files_changed: 1 });
    expect(repository.current(folder().bytes("data/file"))?.node.sha256).to.equal(sha256("two"));
  });
});

async function full(repository: Repository, place: string, onSuspect?: (path: BytePath) => void): Promise<Manifest> {
  const root = Buffer.from(place).toString("latin1") as BytePath;
  const source = { name: "data", roots: [root], walk: walkFolder(root), encryptionRequired: false };
  const heard = onSuspect === undefined ? {} : { onSuspect };
  return await repository.createBackup({ type: "full", sources: [{ ...source, ...heard }] }, UNLIMITED);
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}
