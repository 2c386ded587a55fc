/**
 * Many processes on one store, each with a state folder of its own: writers take turns (those that find it locked wait),
 * work, collect and are killed at any moment, readers read beside them. In the end every acknowledged version and backup
 * is there and restores to its digest, and a full check finds nothing.
 */
import { expect } from "chai";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { restore } from "../../src/engine/restore.js";
import type { Repository } from "../../src/engine/repository.js";
import { seededRandom } from "../support/crash-disk.js";
import { EngineRig, UNLIMITED } from "../support/engine-rig.js";
import { digestOf, expectSound, Ledger, type StoreNote } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const SEED = Number(process.env["HOLDFAST_TESTS_SEED"] ?? Math.floor(Math.random() * 1_000_000));
/** Stores, one after the other; so often a writer begins in each, and so many are there at once. */
const STORES = THOROUGH ? 40 : 1;
const ROUNDS = THOROUGH ? 12 : 2;
const WRITERS = ["a", "b", "c"].slice(0, THOROUGH ? 3 : 2);
const CHILD = fileURLToPath(new URL("../support/stress-child.js", import.meta.url));
const KILLED_SHARE = 0.6;
const NOTES_BEFORE_KILL_MAX = 20;
const KILL_MS_MAX = 15;

interface DatedNote {
  readonly timeNs: bigint;
  readonly lane: string;
  readonly note: StoreNote;
}

class Stress {
  readonly #folder: TempFolder;
  readonly #rig: EngineRig;
  readonly #random: () => number;
  readonly #notes: DatedNote[] = [];
  #isOver = false;

  constructor(folder: TempFolder, rig: EngineRig, seed: number) {
    this.#folder = folder;
    this.#rig = rig;
    this.#random = seededRandom(seed);
  }

  async run(): Promise<void> {
    const readers = this.#readOn();
    const seeds = WRITERS.map(() => Math.floor(this.#random() * 1e6));
    await Promise.all(WRITERS.map((lane, index) => this.#writeOn(lane, seeds[index] ?? 0)));
    this.#isOver = true;
    await readers;
    await this.#expectAll();
  }

  async #writeOn(lane: string, seed: number): Promise<void> {
    for (let round = 0; round < ROUNDS; round += 1) await this.#child(lane, seed + round, seededRandom(seed + round));
  }

  async #readOn(): Promise<void> {
    for (let seed = 0; !this.#isOver; seed += 1) await this.#child("reader", seed, undefined);
  }

  /** Runs a process to its end, or until it is killed. */
  async #child(lane: string, seed: number, random: (() => number) | undefined): Promise<void> {
    const key = this.#rig.unlock?.keyBytes?.toString("hex") ?? "";
    const child = spawn(process.execPath, [CHILD, this.#folder.path, key, lane, String(seed)]);
    const closed = once(child, "close");
    const complaint = text(child.stderr);
    const isKilled = random !== undefined && random() < KILLED_SHARE;
    let left = isKilled ? Math.ceil(random() * NOTES_BEFORE_KILL_MAX) : Number.POSITIVE_INFINITY;
    for await (const line of createInterface({ input: child.stdout })) {
      const [, timeNs, json] = /^(\d+) (\{.*\})$/.exec(line) ?? [];
      if (timeNs === undefined || json === undefined) continue; // a kill cut it off: it was not told
      this.#notes.push({ timeNs: BigInt(timeNs), lane, note: JSON.parse(json, revive) as StoreNote });
      left -= 1;
      if (left === 0) setTimeout(() => child.kill("SIGKILL"), (random?.() ?? 0) * KILL_MS_MAX);
    }
    await closed;
    if (child.signalCode === "SIGKILL" && isKilled) return;
    expect([child.exitCode, await complaint], `${lane} ${String(seed)}`).to.deep.equal([0, ""]);
  }

  async #expectAll(): Promise<void> {
    const ledgers = new Map(WRITERS.map((lane) => [lane, new Ledger()]));
    for (const { lane, note } of this.#notes.sort((a, b) => (a.timeNs < b.timeNs ? -1 : 1))) {
      // A collection forgets old versions of all sources.
      const told = note.kind === "old_versions_go" ? [...ledgers.values()] : [ledgers.get(lane)];
      for (const ledger of told) ledger?.add(note);
    }
    await using repository = await this.#rig.open({ stateDir: this.#folder.at("state-end") });
    for (const [lane, ledger] of ledgers) {
      await ledger.expectKept(repository, this.#folder.below(`data-${lane}`));
      const last = [...ledger.backups].at(-1);
      if (last !== undefined) await this.#expectRestores(repository, `data-${lane}`, last);
    }
    await expectSound(repository);
  }

  async #expectRestores(
    repository: Repository,
    data: string,
    [id, files]: readonly [string, ReadonlyMap<string, string>],
  ): Promise<void> {
    const place = this.#folder.at(`restored-${data}`);
    const entries = repository.backupEntries(id, {}, UNLIMITED);
    const how = {
      overwrite: "always",
      inPlace: false,
      delete: false,
      dryRun: false,
      verify: true,
      sparse: false,
    } as const;
    const target = this.#folder.bytes(`restored-${data}`);
    const { failed } = await restore(repository, { entries, target, ...how }, UNLIMITED);
    expect(failed).to.deep.equal([]);
    for (const [name, digest] of files)
      expect(digestOf(readFileSync(join(place, this.#folder.at(data, name)))), name).to.equal(digest);
  }
}

function revive(key: string, value: unknown): unknown {
  return key === "files" ? new Map(value as [string, string][]) : value;
}

describe("many processes on one store", function () {
  this.timeout(THOROUGH ? 7_200_000 : 120_000);

  it("lose nothing that was acknowledged to any of them, whoever is killed, collects or only reads", async () => {
    for (let seed = SEED; seed < SEED + STORES; seed += 1) {
      await using folder = await TempFolder.create("stress", fastTempParent());
      const rig = await EngineRig.create(folder);
      try {
        await new Stress(folder, rig, seed).run();
      } catch (error) {
        throw new Error(`seed ${String(seed)}: ${String(error)}`, { cause: error });
      }
    }
  });
});
