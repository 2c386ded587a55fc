/**
 * A bit that changes anywhere in a store: what is read is right or refused, never wrong; a check that reads all data
 * tells of it, unless it changes nothing for anybody; and what parity, a second copy in the store or the packs themselves
 * say twice is healed without the live files.
 */
import { expect } from "chai";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { HoldfastError } from "../../src/base/errors.js";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { writeParity } from "../../src/engine/parity.js";
import { repair } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { noise } from "../support/engine-keys.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { digestOf, expectSound, Ledger, type StoreNote, StoreScenario } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

/** `HOLDFAST_TESTS_THOROUGH=1` changes every byte; else so many of each kind of object. */
const FLIPS_EACH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? Number.POSITIVE_INFINITY : 2;
const TIMEOUT_MS = 7_200_000;

/** Objects whose damage no check tells: nobody reads them again, or nothing in them matters. */
const READ_NO_MORE = /^(?:gc|leases)\//;
/** Objects of which the store itself has all that it takes to heal them. */
const REDUNDANT = /^(?:packs|index|config|parity)\//;
/** One in so many of their flips is healed, the others only told of. */
const HEAL_EVERY = 3;
const PARITY = { dataPacks: 4, parityPacks: 2 };

interface Store {
  readonly rig: EngineRig;
  readonly folder: TempFolder;
  readonly data: TempFolder;
  readonly ledger: Ledger;
  /** Versions of the log's last write: they look like a write that a power cut tore when it is hit. */
  readonly lastWrite: Ledger;
  /** Digests of all that was ever committed, by file name. */
  readonly ever: ReadonlyMap<string, ReadonlySet<string>>;
}

/** A store with all kinds of objects: collections, a base, packs of both kinds, parity, and a log that was not sealed. */
async function filled(folder: TempFolder, encrypt: boolean): Promise<Store> {
  const rig = await EngineRig.create(folder, { encrypt });
  const data = folder.below("data");
  const ledger = new Ledger();
  const lastWrite = new Ledger();
  await using repository = await rig.open();
  const ever = new Map<string, Set<string>>();
  const note = (what: StoreNote): void => {
    lastWrite.add(what);
    if (what.kind !== "begun" || what.digest === undefined) return;
    ever.set(what.name, (ever.get(what.name) ?? new Set()).add(what.digest));
  };
  const scenario = new StoreScenario(repository, data, new FakeClock(), (what) => {
    ledger.add(what);
    note(what);
  });
  for (let turn = 0; turn < OLD_SEALS; turn += 1) {
    await scenario.commit("o", `o ${String(turn)}`);
    await scenario.seal();
  }
  await scenario.collect(0);
  await scenario.commit("a", `a one ${"text ".repeat(300)}`);
  await scenario.commit("p", noise(3000, 1));
  await scenario.backup();
  await scenario.removeBackup(scenario.backups[0] ?? "");
  await scenario.collect();
  await scenario.backup();
  await writeParity(repository, PARITY, UNLIMITED);
  await scenario.commit("b", "b in the log");
  await scenario.commit("c", "c in the log, behind b");
  const last = new StoreScenario(repository, data, new FakeClock(), note);
  await last.commit("z", "z in the last write");
  await cp(rig.storeUrl, folder.at("kept"), { recursive: true });
  await rm(data.path, { recursive: true }); // no live file helps
  return { rig, folder, data, ledger, lastWrite, ever };
}

/** Thinning begins when this many old delta commits are there. */
const OLD_SEALS = 9;

/** The byte of packs that gives their format's version. */
const VERSION_AT = 8;

/** A changed bit of an object. */
interface Flip {
  readonly key: string;
  readonly at: number;
  readonly bit: number;
}

async function flipsOf(store: string): Promise<Flip[]> {
  const kinds = new Map<string, { key: string; sizeBytes: number }[]>();
  for (const entry of await readdir(store, { recursive: true, withFileTypes: true })) {
    const key = relative(store, join(entry.parentPath, entry.name));
    if (!entry.isFile()) continue;
    const kind = key
      .split("/")
      .slice(0, key.startsWith("packs") ? 2 : 1)
      .join("/");
    const sizeBytes = (await readFile(join(store, key))).length;
    kinds.set(kind, [...(kinds.get(kind) ?? []), { key, sizeBytes }]);
  }
  return [...kinds.values()].flatMap((objects) => {
    const total = objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const count = Math.min(total, FLIPS_EACH);
    const places = Array.from({ length: count }, (_, index) => ((index + Math.random()) * total) / count);
    return [VERSION_AT, ...places].map((place) => placeOf(objects, Math.min(place, total - 1)));
  });
}

function placeOf(objects: readonly { key: string; sizeBytes: number }[], position: number): Flip {
  let left = Math.floor(position);
  for (const { key, sizeBytes } of objects) {
    if (left < sizeBytes) return { key, at: left, bit: Math.floor(Math.random() * 8) };
    left -= sizeBytes;
  }
  throw new Error("the place lies behind all objects");
}

/** Opens a store with one changed bit; gives how it was noticed, or that everything is there. */
async function outcomeOf(
  store: Store,
  flip: Flip,
  isHealed: boolean,
): Promise<"refused" | "told" | "harmless" | "healed"> {
  const { rig, folder } = store;
  await rm(rig.storeUrl, { recursive: true });
  await rm(rig.stateDir, { recursive: true, force: true });
  await cp(folder.at("kept"), rig.storeUrl, { recursive: true });
  const path = join(rig.storeUrl, flip.key);
  const bytes = await readFile(path);
  bytes[flip.at] = (bytes[flip.at] ?? 0) ^ (1 << flip.bit);
  await writeFile(path, bytes);
  let repository: Repository;
  try {
    repository = await rig.open();
  } catch (error) {
    if (error instanceof HoldfastError) return "refused";
    throw error;
  }
  try {
    await expectNothingWrong(repository, store);
    const { problemCount } = await check(repository, { level: "full" }, UNLIMITED);
    if (problemCount > 0 && !isHealed) return "told";
    if (problemCount > 0) return await healed(repository, store);
    await (flip.key.startsWith("wal/") ? store.ledger : store.lastWrite).expectKept(repository, store.data);
    return "harmless";
  } finally {
    await repository[Symbol.asyncDispose]();
  }
}

/** After a repair and a collection everything is there, and a check of all data finds nothing. */
async function healed(repository: Repository, { data, lastWrite }: Store): Promise<"healed"> {
  await repair(repository, { dryRun: false, readData: true }, UNLIMITED);
  await lastWrite.expectKept(repository, data);
  await gc(repository, { dryRun: false, allowShare: 1, parity: PARITY }, UNLIMITED);
  await lastWrite.expectKept(repository, data);
  await expectSound(repository);
  return "healed";
}

/** Whatever can be read was once stored so. */
async function expectNothingWrong(repository: Repository, { data, ever }: Store): Promise<void> {
  for (const [name, digests] of ever) {
    for (const { node } of await repository.versions(data.bytes(name))) {
      if (node === undefined) continue;
      expect(digests.has(node.sha256 ?? ""), `a version of ${name} that never was`).to.equal(true);
      const bytes = await contentOf(repository, node).catch((error: unknown) => {
        if (!(error instanceof HoldfastError)) throw error;
      });
      if (bytes !== undefined) expect(digestOf(bytes)).to.equal(node.sha256);
    }
  }
}

describe("a changed bit of a store", function () {
  this.timeout(TIMEOUT_MS);

  for (const encrypt of [true, false]) {
    it(`is told or harmless, and never delivered (${encrypt ? "encrypted" : "not encrypted"})`, async () => {
      await using folder = await TempFolder.create("rot", fastTempParent());
      const store = await filled(folder, encrypt);
      let redundant = 0;
      for (const flip of await flipsOf(folder.at("kept"))) {
        redundant += Number(REDUNDANT.test(flip.key));
        const isHealed = REDUNDANT.test(flip.key) && redundant % HEAL_EVERY === 0;
        const what = `bit ${String(flip.bit)} of byte ${String(flip.at)} of ${flip.key}`;
        try {
          const outcome = await outcomeOf(store, flip, isHealed);
          if (outcome === "harmless" && !READ_NO_MORE.test(flip.key)) {
            // What is left: the tail of a log, which looks as a power cut leaves it.
            expect(flip.key).to.match(/^wal\//);
          }
        } catch (error) {
          throw new Error(`${what}: ${String(error)}`, { cause: error });
        }
      }
    });
  }

  it("in the plan of a collection that was cut short deletes nothing", async () => {
    await using folder = await TempFolder.create("plan", fastTempParent());
    const store = await filled(folder, true);
    const plan = (await storeFiles(folder.at("kept"), "gc")).find((path) => path.endsWith("/plan")) ?? "";
    await rm(plan.replace(/plan$/, "done"));
    const text = await readFile(plan, "utf8");
    const [victim = ""] = await storeFiles(folder.at("kept"), "commits");
    const forged = JSON.stringify({ epoch: 1, deletes: [relative(folder.at("kept"), victim)] });
    for (const content of [forged, `${forged}${text.slice(text.lastIndexOf("\n", text.length - 2))}`, "", "{"]) {
      await writeFile(plan, content);
      await rm(store.rig.storeUrl, { recursive: true });
      await rm(store.rig.stateDir, { recursive: true, force: true });
      await cp(folder.at("kept"), store.rig.storeUrl, { recursive: true });
      await using repository = await store.rig.open();
      await store.ledger.expectKept(repository, store.data);
      await gc(repository, { dryRun: false }, UNLIMITED);
      await expectSound(repository);
    }
  });
});
