/**
 * Every state in which a power cut can leave a store: a small life of a repository is written down call by call, cut
 * off after each call, and what was not synced is kept, lost, reordered or torn. Whatever is left must open, hold
 * everything that had been acknowledged by then, be sound, and take a new backup.
 */
import { expect } from "chai";
import { createHash, randomBytes } from "node:crypto";
import { cp, mkdir, open, rename, rm } from "node:fs/promises";
import { hasCode } from "../../src/base/errors.js";
import { mapLimited } from "../../src/base/concurrency.js";
import { RECORD_HEADER_BYTES } from "../../src/engine/pack/record.js";
import type { Repository } from "../../src/engine/repository.js";
import { CrashDisk, type DiskEvent, RecordingIo, seededRandom, SURVIVALS, writeTree } from "../support/crash-disk.js";
import { EngineRig, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { DAY_MS, digestOf, expectSound, Ledger, type StoreNote, StoreScenario } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

/** `HOLDFAST_TESTS_THOROUGH=1` looks at every state, else at a choice that differs from run to run. */
const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const STATES_MAX = THOROUGH ? Number.POSITIVE_INFINITY : 100;
/** States looked at at once: opening waits for threads and files. */
const LANES = 2;
/** One in so many states is opened again with the recovery key. */
const KEY_CHECK_EVERY = 8;

/** What a store was found as after a cut, and what it had promised by then. */
interface CutState {
  readonly name: string;
  readonly tree: ReadonlyMap<string, Buffer | undefined>;
  readonly ledger: Ledger;
}

/** Where the states of a history come from, and what opens them. */
interface Origin {
  /** Has the files that were committed, and copies of the state folder. */
  readonly kept: TempFolder;
  readonly keyBytes: Buffer;
}

/** The index that is found beside a store after the cut; all but the store is disposable. */
const INDEXES = ["none", "writer-only", "old", "newer"] as const;
type FoundIndex = (typeof INDEXES)[number];

interface Recording {
  readonly keyBytes: Buffer;
  readonly events: readonly DiskEvent<StoreNote>[];
}

/** Runs the scenario once and keeps copies of the state folder: one of the beginning, one of the end. */
async function record(folder: TempFolder): Promise<Recording> {
  const io = new RecordingIo<StoreNote>();
  const keyBytes = randomBytes(32);
  const clock = new FakeClock();
  const rig = await EngineRig.create(folder, { keyBytes, io });
  io.note({ kind: "made" });
  {
    await using repository = await rig.open({ io, clock });
    const data = folderBelow(folder);
    const scenario = new StoreScenario(repository, data, clock, (note) => io.note(note));
    await scenario.commit("first", "before the copy of the index");
    await cp(rig.stateDir, folder.at("old"), { recursive: true });
    await scenario.run();
  }
  await cp(rig.stateDir, folder.at("newer"), { recursive: true });
  return { keyBytes, events: io.events };
}

/** The folder whose files are committed. */
function folderBelow(folder: TempFolder): TempFolder {
  return folder.below("data");
}

/** All different states of a history, each with the strictest ledger that it has to fulfil. */
function cutStates(root: string, events: readonly DiskEvent<StoreNote>[]): CutState[] {
  const states = new Map<string, CutState>();
  const disk = new CrashDisk<StoreNote>(root);
  const notes: StoreNote[] = [];
  for (const [index, event] of events.entries()) {
    disk.apply(event);
    if (event.op === "note") notes.push(event.note);
    for (const survival of SURVIVALS) {
      const tree = disk.after(survival, seededRandom(index));
      states.set(`${String(notes.length)} ${hashOf(tree)}`, {
        name: `${String(index)} ${event.op} ${survival.name}`,
        tree,
        ledger: Ledger.of(notes),
      });
    }
  }
  return [...states.values()];
}

function hashOf(tree: ReadonlyMap<string, Buffer | undefined>): string {
  const hash = createHash("sha256");
  for (const [path, content] of tree) hash.update(`${path}\0${String(content?.length)}\0`).update(content ?? "");
  return hash.digest("hex");
}

/** Evenly spread, from a random start. */
function chosen<T>(all: readonly T[], countMax: number): T[] {
  const step = Math.max(1, all.length / countMax);
  const start = Math.random() * step;
  return all.filter((_, index) => Math.floor((index - start) / step) !== Math.floor((index - 1 - start) / step));
}

function indexFor(number: number): FoundIndex {
  return INDEXES[number % INDEXES.length] ?? "none";
}

async function foundState(folder: TempFolder, kept: TempFolder, index: FoundIndex): Promise<void> {
  if (index === "old" || index === "newer") await cp(kept.at(index), folder.at("state"), { recursive: true });
  if (index !== "writer-only") return;
  await cp(kept.at("newer"), folder.at("state"), { recursive: true });
  await rm(folder.at("state", "index"), { recursive: true });
}

/** Opens a store as a cut left it, and holds it against what it had promised. */
async function expectSurvived(state: CutState, number: number, { kept, keyBytes }: Origin): Promise<void> {
  await using folder = await TempFolder.create("cut", fastTempParent());
  writeTree(folder.at("store"), state.tree);
  await foundState(folder, kept, indexFor(number));
  const rig = EngineRig.at(folder.path, { keyBytes });
  await using repository = await opened(rig, folder, state.ledger);
  const data = folderBelow(kept);
  await state.ledger.expectKept(repository, data);
  await expectSound(repository);
  await expectGoesOn(repository, folder);
  if (state.ledger.recoveryKey === undefined || number % KEY_CHECK_EVERY !== 0) return;
  await repository[Symbol.asyncDispose]();
  await using again = await rig.open({ readOnly: true, unlock: { recoveryKey: state.ledger.recoveryKey } });
  await state.ledger.expectKept(again, data);
}

/** The repository; while none was promised, it may also be missing, and then can be made. */
async function opened(rig: EngineRig, folder: TempFolder, ledger: Ledger): Promise<Repository> {
  const clock = new FakeClock();
  clock.jumpWall(4 * DAY_MS);
  try {
    return await rig.open({ clock });
  } catch (error) {
    if (ledger.isMade || !hasCode(error, "REPO_NOT_FOUND")) throw error;
    await EngineRig.create(folder, { keyBytes: rig.unlock?.keyBytes ?? Buffer.alloc(32) });
    return await rig.open({ clock });
  }
}

/** A commit and a backup succeed and can be read. */
async function expectGoesOn(repository: Repository, folder: TempFolder): Promise<void> {
  await mkdir(folder.at("data"));
  const ledger = new Ledger();
  const scenario = new StoreScenario(repository, folderBelow(folder), new FakeClock(), (note) => ledger.add(note));
  scenario.sourceName = "afterwards";
  await scenario.commit("z", "z one");
  await scenario.backup();
  await ledger.expectKept(repository, folderBelow(folder));
}

describe("after a power cut at any moment", function () {
  this.timeout(THOROUGH ? 3_600_000 : 120_000);

  it("a store opens, has all that was acknowledged, is sound, and goes on", async () => {
    await using kept = await TempFolder.create("history", fastTempParent());
    const { keyBytes, events } = await record(kept);
    const states = cutStates(kept.at("store"), events);
    await mapLimited([...chosen(states, STATES_MAX).entries()], LANES, UNLIMITED, async ([number, state]) => {
      try {
        await expectSurvived(state, number, { kept, keyBytes });
      } catch (error) {
        const index = indexFor(number);
        throw new Error(`after ${state.name} with index ${index}: ${String(error)}`, { cause: error });
      }
    });
  });

  it("a commit of which only the end was written does not hide the version before it", async () => {
    await using folder = await TempFolder.create("torn");
    const rig = await EngineRig.create(folder);
    const data = folderBelow(folder);
    const ledger = new Ledger();
    {
      await using repository = await rig.open();
      const scenario = new StoreScenario(repository, data, new FakeClock(), (note) => ledger.add(note));
      await scenario.commit("a", "one");
      const before = repository.core.writeSide().wal.sizeBytes;
      await scenario.commit("a", "two");
      await cp(rig.storeUrl, folder.at("copy"), { recursive: true });
      const log = repository.core.writeSide().wal.segments().at(-1)?.path ?? "";
      await using segment = await open(log.replace(rig.storeUrl, folder.at("copy")), "r+");
      await segment.write(Buffer.alloc(RECORD_HEADER_BYTES), 0, RECORD_HEADER_BYTES, before);
    }
    await rm(rig.storeUrl, { recursive: true });
    await rm(folder.at("state", "index"), { recursive: true });
    await rename(folder.at("copy"), rig.storeUrl);
    {
      await using repository = await rig.open();
      expect(repository.current(data.bytes("a"))?.node.sha256).to.equal(digestOf("one"));
      await expectSound(repository);
      // The log goes on behind it, and ends without being sealed.
      await new StoreScenario(repository, data, new FakeClock(), () => undefined).commit("b", "later");
      await rm(folder.at("copy"), { recursive: true, force: true });
      await cp(rig.storeUrl, folder.at("copy"), { recursive: true });
    }
    await rm(rig.storeUrl, { recursive: true });
    await rm(folder.at("state", "index"), { recursive: true }); // the writer stays the same
    await rename(folder.at("copy"), rig.storeUrl);
    await using again = await rig.open();
    expect(again.current(data.bytes("a"))?.node.sha256).to.equal(digestOf("one"));
    expect(again.current(data.bytes("b"))?.node.sha256).to.equal(digestOf("later"));
    expect(again.core.logDamage, "nothing that was acknowledged is damaged").to.deep.equal([]);
    await expectSound(again);
  });
});
