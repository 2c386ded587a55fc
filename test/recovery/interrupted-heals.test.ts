/** What becomes of an incident whose heal was done, or not, when the daemon was killed. */
import { existsSync } from "node:fs";
import { readFile, rm, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import { HoldfastError } from "../../src/base/errors.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import type { Incident } from "../../src/recovery/incident.js";
import type { RecoverOptions } from "../../src/recovery/ports.js";
import { FakeClock } from "../support/fake-clock.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("a heal that was interrupted", () => {
  const folder = useTempFolder("interrupted-heals");

  it("says of what it had put back before it was interrupted that it healed it, and of what is there otherwise not", async () => {
    for (const [isOurs, state] of [
      [true, "healed"],
      [false, "returned"],
    ] as const) {
      await using rig = await RecoveryRig.create(folder(), { policy: { mode: "ask" } });
      await rig.start();
      const lost = await rig.protect("a.txt", "text");
      await rm(folder().at("data/a.txt"));
      await rig.lose(lost);
      const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
      const id = incident?.id ?? "";
      const record = JSON.parse((await rig.database.get(`i!${id}`)) ?? "") as Record<string, unknown>;
      const value = JSON.stringify({ ...record, state: "healing", reason: "under way" });
      await rig.database.batch([{ type: "put", key: `i!${id}`, value }]);
      await rig.healer[Symbol.asyncDispose]();
      await folder().write("data/a.txt", "text");
      const good = rig.watch.known.get(lost);
      if (good !== undefined && isOurs) rig.watch.known.set(lost, { ...good, healedAtMs: Date.now() + 1 });
      await rig.start();
      await rig.healer.idle();
      expect((await rig.healer.incident(id)).state).to.equal(state);
    }
  });

  it("takes what the start tells anew of a mass loss for its own, and opens an incident for the rest alone", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const paths: BytePath[] = [];
    for (const name of ["a", "b", "c"]) paths.push(await rig.protect(name, name));
    for (const name of ["a", "b", "c"]) await rm(folder().at(`data/${name}`));
    const tell = async (lost: readonly BytePath[], noticedBy: "event" | "start"): Promise<void> => {
      const about = { source: "data", kind: "deleted", noticedBy, seenAtMs: Date.now(), detail: "" } as const;
      rig.bus.emit("mass.loss", { source: "data", losses: lost.map((path) => ({ ...about, path })), isAttack: false });
      await rig.healer.idle();
    };
    await tell(paths.slice(0, 2), "event");
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    const id = incident?.id ?? "";
    await rig.healer[Symbol.asyncDispose]();
    const record = JSON.parse((await rig.database.get(`i!${id}`)) ?? "") as Record<string, unknown>;
    const value = JSON.stringify({ ...record, state: "healing", reason: "approved" });
    await rig.database.batch([{ type: "put", key: `i!${id}`, value }]);
    await rig.start(false);
    await tell(paths.slice(0, 2), "start");
    expect(await rig.healer.incidents({ onlyOpen: true, limit: 9 })).to.have.length(1);
    await tell(paths, "start");
    rig.bus.emit("watch.ready", { source: "data" });
    await rig.healer.idle();
    const all = await rig.healer.incidents({ onlyOpen: false, limit: 9 });
    expect(all.map(({ state, pathCount }) => [state, pathCount])).to.deep.equal([
      ["waiting", 1],
      ["healed", 2],
    ]);
  });
});

describe("what a person asked for in a special way, when the daemon is killed amid it", () => {
  const folder = useTempFolder("interrupted-wishes");

  it("is carried on: the version of that time comes back, not the newest", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await twoVersions(rig, folder());
    await rm(path);
    const id = await killedAmid(rig, path, { atMs: 2000 });
    await startAgain(rig);
    expect(await readFile(path, "utf8")).to.equal("old");
    expect((await rig.healer.incident(id)).state).to.equal("healed");
  });

  it("is carried on by that strategy alone, and by no other when that has nothing", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await twoVersions(rig, folder());
    await rm(path);
    const id = await killedAmid(rig, path, { strategy: "git_history" });
    await startAgain(rig);
    expect(existsSync(path)).to.equal(false);
    expect((await rig.healer.incident(id)).state).to.equal("failed");
    await rig.healer.approve(id, NEVER);
    expect(await readFile(path, "utf8"), "a new word, without a wish").to.equal("new");
  });

  it("is dropped with a word when that version is not to be had any more", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await twoVersions(rig, folder());
    await rm(path);
    const id = await killedAmid(rig, path, { atMs: 2000 });
    rig.versions.entryAt = () => undefined;
    await startAgain(rig);
    expect(existsSync(path)).to.equal(false);
    const { state, reason, failure } = await rig.healer.incident(id);
    expect([state, failure?.code]).to.deep.equal(["failed", "VERSION_NOT_FOUND"]);
    expect(reason).to.contain("1970-01-01T00:00:02.000Z");
  });

  it("is dropped with a word when a file stands there, which may have been worked on since", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await twoVersions(rig, folder());
    const id = await killedAmid(rig, path, { atMs: 2000 });
    await expectLeftAlone(rig, path, id);
  });

  it("counts as done when it was put back before the end", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await twoVersions(rig, folder());
    await rm(path);
    const id = await killedAmid(rig, path, { atMs: 2000 });
    await writeFile(path, "old");
    const good = rig.watch.known.get(path);
    if (good !== undefined) rig.watch.known.set(path, { ...good, healedAtMs: Date.now() + 1 });
    await startAgain(rig);
    expect((await rig.healer.incident(id)).state).to.equal("healed");
  });

  it("is what is tried again by itself when its target could not be written, over a restart", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock });
    const path = await twoVersions(rig, folder());
    await rm(folder().at("data/d"), { recursive: true });
    await folder().folder("outside");
    await symlink(folder().at("outside"), folder().at("data/d"));
    await rig.start();
    expect((await rig.healer.recover("data", path, { atMs: 2000 }, NEVER)).outcome).to.equal("failed");
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    await rm(folder().at("data/d"));
    await clock.advance(10 * 60_000);
    await rig.healer.idle();
    expect(await readFile(path, "utf8")).to.equal("old");
  });
});

describe("a recovery at a person's word, when the daemon is killed amid it", () => {
  const folder = useTempFolder("interrupted-words");

  it("is carried on when what stands there is what stood there", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await spoilt(rig, folder());
    const id = await killedAmid(rig, path, {});
    await startAgain(rig);
    expect(await readFile(path, "utf8")).to.equal("new");
    expect((await rig.healer.incident(id)).state).to.equal("healed");
  });

  it("leaves alone what was worked on since, and says so", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await spoilt(rig, folder());
    const id = await killedAmid(rig, path, {});
    await expectLeftAlone(rig, path, id);
    await rig.healer.recover("data", path, {}, NEVER);
    expect(await readFile(path, "utf8"), "a new word").to.equal("new");
  });

  it("leaves alone what was worked on since an approval, too", async () => {
    await using rig = await RecoveryRig.create(folder(), { policy: { mode: "ask" } });
    const path = await spoilt(rig, folder());
    await rig.start();
    await rig.lose(path, "overwritten");
    const [held] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    const id = await killedIn(rig, () => rig.healer.approve(held?.id ?? "", NEVER));
    await expectLeftAlone(rig, path, id);
  });

  it("as of a time is carried on, too, when what stands there is what stood there", async () => {
    await using rig = await RecoveryRig.create(folder());
    const path = await twoVersions(rig, folder());
    await killedAmid(rig, path, { atMs: 2000 });
    await startAgain(rig);
    expect(await readFile(path, "utf8")).to.equal("old");
  });

  it("is not tried again by itself, when its target could not be written, over what was worked on since", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock });
    const path = await spoilt(rig, folder());
    await rig.start();
    rig.watch.expectOwnWrite = () => {
      throw new HoldfastError("TARGET_IO", "the disk is full");
    };
    expect((await rig.healer.recover("data", path, {}, NEVER)).outcome).to.equal("failed");
    rig.watch.expectOwnWrite = () => undefined;
    await writeFile(path, "newer than all");
    await clock.advance(10 * 60_000);
    await rig.healer.idle();
    expect(await readFile(path, "utf8")).to.equal("newer than all");
  });
});

/** A file that was stored as "old" at 1000 and as "new" since. */
async function twoVersions(rig: RecoveryRig, folder: TempFolder): Promise<BytePath> {
  const path = pathFromText(await folder.write("data/d/a.txt", "old"));
  rig.versions.keep(path, 1000);
  await writeFile(path, "new");
  return rig.register(path);
}

/** A file that was stored as "new", and holds something else. */
async function spoilt(rig: RecoveryRig, folder: TempFolder): Promise<BytePath> {
  const path = await twoVersions(rig, folder);
  await writeFile(path, "spoilt");
  return path;
}

async function killedAmid(rig: RecoveryRig, path: BytePath, options: RecoverOptions): Promise<string> {
  await rig.start();
  return await killedIn(rig, () => rig.healer.recover("data", path, options, NEVER));
}

/** Begins a heal and ends it as a kill would: what was written down stays, and nothing is put back. Gives its incident. */
async function killedIn(rig: RecoveryRig, heal: () => Promise<unknown>): Promise<string> {
  const [begun, goOn] = [deferred<undefined>(), deferred<undefined>()];
  rig.watch.beforeAway = async () => {
    begun.resolve(undefined);
    await goOn.promise;
  };
  const interrupted = heal().catch(() => undefined);
  await begun.promise;
  const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
  const { id }: Pick<Incident, "id"> = incident ?? { id: "" };
  goOn.reject(new Error("killed"));
  await interrupted;
  await rig.healer[Symbol.asyncDispose]();
  await rig.database.batch([{ type: "put", key: `i!${id}`, value: JSON.stringify(incident) }]);
  rig.watch.beforeAway = () => Promise.resolve();
  return id;
}

/** What was worked on while no daemon ran stays, and the incident says so. */
async function expectLeftAlone(rig: RecoveryRig, path: BytePath, id: string): Promise<void> {
  await writeFile(path, "newer than all");
  await startAgain(rig);
  expect(await readFile(path, "utf8")).to.equal("newer than all");
  const { state, reason } = await rig.healer.incident(id);
  expect(state).to.equal("failed");
  expect(reason).to.contain("left as it is");
}

async function startAgain(rig: RecoveryRig): Promise<void> {
  await rig.start();
  await rig.healer.idle();
}
