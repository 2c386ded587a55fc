/** Moments that chance seldom hits: a commit held between looking its chunks up and saying that it needs them. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { systemClock } from "../../src/base/clock.js";
import { deferred } from "../../src/base/concurrency.js";
import { type BytePath, nameOf } from "../../src/base/paths.js";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, contentOf, upsert, walkFolder } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Lets the workers read a file of that name, but keeps the outcome back until `release` is called. */
function holdBack(
  repository: Repository,
  name: string,
  mode: "inline" | "pack",
): { wasRead: Promise<void>; release: () => void } {
  const { pool } = repository.core.parts;
  const ingest = pool.ingest.bind(pool);
  const [read, released] = [deferred<void>(), deferred<void>()];
  pool.ingest = async (batch, signal) => {
    const result = await ingest(batch, signal);
    if (batch.mode === mode && batch.paths.some((path) => nameOf(path) === name)) {
      read.resolve();
      await released.promise;
    }
    return result;
  };
  return { wasRead: read.promise, release: () => released.resolve() };
}

describe("what happens at the same time", () => {
  const folder = useTempFolder("races");

  /** Two contents that only old versions have, and enough old commits that they are thinned out. */
  async function withDoomed(repository: Repository): Promise<{ x: Buffer; y: Buffer; isDoomed: () => boolean }> {
    const [x, y] = [randomBytes(90_000), randomBytes(90_000)];
    const path = folder().bytes("data", "a");
    for (let round = 0; round < 12; round += 1) {
      await folder().write("data/a", round === 0 ? x : round === 1 ? y : `later ${String(round)}`);
      await upsert(repository, "docs", [path]);
      await repository.seal(UNLIMITED);
    }
    await systemClock.sleep(5, UNLIMITED);
    const ids = (await repository.versions(path)).slice(-2).flatMap(({ node }) => node?.chunks ?? []);
    return { x, y, isDoomed: () => ids.every(({ id }) => !repository.core.parts.chunkSet.isDurable(id)) };
  }

  it("a commit that found a chunk before it was doomed keeps it; one that comes later stores it again", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open({ workers: 2 });
    const { x, y, isDoomed } = await withDoomed(repository);
    const [early, late] = [holdBack(repository, "early", "inline"), holdBack(repository, "late", "inline")];
    await folder().write("data/early", x);
    const earlyCommit = upsert(repository, "docs", [folder().bytes("data", "early")]);
    await early.wasRead;
    const collecting = gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
    while (!isDoomed()) await new Promise((resolve) => setImmediate(resolve));
    await folder().write("data/late", y);
    const lateCommit = upsert(repository, "docs", [folder().bytes("data", "late")]);
    early.release();
    await earlyCommit;
    const report = await collecting;
    expect(report.packsDeleted).to.be.greaterThan(0);
    late.release();
    await lateCommit;
    for (const [name, bytes] of [
      ["early", x],
      ["late", y],
    ] as const) {
      const content = await contentOf(repository, repository.current(folder().bytes("data", name))?.node);
      expect(content.equals(bytes), name).to.equal(true);
    }
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("a commit during a backup is not undone by what the backup had read before it", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open({ workers: 2 });
    const [root, path] = [folder().bytes("data"), folder().bytes("data", "a")];
    await folder().write("data/a", "older");
    const held = holdBack(repository, "a", "pack");
    const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    const backup = repository.createBackup({ type: "full", sources: [source] }, UNLIMITED);
    await held.wasRead;
    await writeFile(folder().at("data", "a"), "newer");
    await upsert(repository, "docs", [path]);
    held.release();
    const { backup_id: id } = await backup;
    expect((await contentOf(repository, repository.current(path)?.node)).toString()).to.equal("newer");
    const inBackup: BytePath[] = [];
    for await (const entry of repository.backupEntries(id, {}, UNLIMITED)) {
      inBackup.push(entry.path);
      if (entry.path === path) expect((await contentOf(repository, entry.node)).toString()).to.equal("newer");
    }
    expect(inBackup).to.deep.equal([root, path]);
  });
});
