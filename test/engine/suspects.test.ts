/** What counts as rot when a backup reads everything: only content that cannot have been written. */
import { createHash } from "node:crypto";
import { lstatSync, utimesSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.js";
import type { BytePath } from "../../src/base/paths.js";
import type { BackupSource, Repository, WalkedEntry } from "../../src/engine/repository.js";
import { datesAfter, readingBeganAfter, sawEveryStore, unseenStoresMs } from "../../src/engine/rot.js";
import type { Manifest } from "../../src/engine/types.js";
import { FakeClock } from "../support/fake-clock.js";
import { EngineRig, UNLIMITED, walkFolder } from "../support/engine-rig.js";
import { LoopDisk } from "../support/loop-disk.js";
import { requireRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Far more than a tick of the kernel's clock, far less than it takes to write a page back. */
const TICKS_MS = 1_100;

const folder = useTempFolder("rot");

describe("a full backup of content that differs", () => {
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
    const second = await full(repository, disk.place, { onSuspect: (path) => suspects.push(path) });
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

  it("keeps the good version of a file that was fresh when it was read, once somebody found it so later", async function () {
    requireRoot(this);
    await using disk = LoopDisk.make(folder().at("image"), folder().at("data"));
    const good = Buffer.from("content that lies on the disk in one piece\n".repeat(50));
    await writeFile(join(disk.place, "file"), good);
    await using repository = await (await EngineRig.create(folder())).open();
    await full(repository, disk.place);
    disk.rot(good);
    const asked: string[] = [];
    const verifiedMs = (_path: BytePath, digest: string): number => asked.push(digest) && Number.MAX_SAFE_INTEGER;
    const second = await full(repository, disk.place, { verifiedMs });
    expect(second.sources[0]?.suspected_paths).to.deep.equal([join(disk.place, "file")]);
    expect(asked).to.deep.equal([sha256(good)]);
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

describe("the time of a version", () => {
  const unseenMs = unseenStoresMs();
  const atMs = fc.integer({ min: 1_000_000_000_000, max: 2_000_000_000_000 });
  const nearMs = fc.integer({ min: -2 * unseenMs, max: 10 * unseenMs });

  it("never makes a reading look later than it was, nor lies before the ctime or after now", () => {
    fc.assert(
      fc.property(atMs, nearMs, fc.nat(10 * unseenMs), (ctimeMs, readAfterMs, lagMs) => {
        const [ctimeNs, readFromMs] = [BigInt(ctimeMs) * 1_000_000n, ctimeMs + readAfterMs];
        const nowMs = readFromMs + lagMs;
        const timeMs = datesAfter({ nowMs, readFromMs })?.(ctimeNs) ?? nowMs;
        expect(timeMs).to.be.at.most(nowMs);
        if (readFromMs >= ctimeMs) expect(timeMs).to.be.at.least(ctimeMs);
        if (!sawEveryStore(ctimeNs, readFromMs))
          expect(sawEveryStore(ctimeNs, readingBeganAfter(timeMs))).to.equal(false);
        else expect(timeMs).to.equal(nowMs);
      }),
    );
  });

  it("is that of the commit, and earlier only for what was fresh when a long reading began", async () => {
    const place = await folder().folder("data");
    await writeFile(join(place, "fresh"), "one");
    const clock = new FakeClock(systemClock.nowMs());
    await using repository = await (await EngineRig.create(folder())).open({ clock });
    const walk = async function* (): AsyncGenerator<readonly WalkedEntry[]> {
      yield* walkFolder(root);
      await clock.advance(100 * unseenMs); // as a large file would take
    };
    const root = Buffer.from(place).toString("latin1") as BytePath;
    const source = { name: "data", roots: [root], encryptionRequired: false };
    await repository.createBackup({ type: "full", sources: [{ ...source, walk: walk() }] }, UNLIMITED);
    const [version] = await repository.versions(folder().bytes("data/fresh"));
    const ctimeMs = Number((version?.node?.stat.ctimeNs ?? 0n) / 1_000_000n);
    expect(version?.timeMs).to.be.within(ctimeMs, ctimeMs + 2 * unseenMs);
  });
});

type Heard = Pick<BackupSource, "onSuspect" | "verifiedMs">;

async function full(repository: Repository, place: string, heard: Heard = {}): Promise<Manifest> {
  const root = Buffer.from(place).toString("latin1") as BytePath;
  const source = { name: "data", roots: [root], walk: walkFolder(root), encryptionRequired: false };
  return await repository.createBackup({ type: "full", sources: [{ ...source, ...heard }] }, UNLIMITED);
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}
