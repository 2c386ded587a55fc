/**
 * Random lives of a repository - commits, removals, backups, seals, collections, reopening, power cuts in the middle of
 * work, clocks that jump a day either way - held against a ledger of what was acknowledged. At the end an index made
 * anew from the store says the same as the one that was there all along.
 */
import { expect } from "chai";
import { cp, rm } from "node:fs/promises";
import { HoldfastError, errnoOf } from "../../src/base/errors.js";
import type { Repository } from "../../src/engine/repository.js";
import { seededRandom } from "../support/crash-disk.js";
import { noise } from "../support/engine-keys.js";
import { EngineRig } from "../support/engine-rig.js";
import { FakeClock, loopTurns } from "../support/fake-clock.js";
import { FaultIo } from "../support/fault-io.js";
import { DAY_MS, expectSound, Ledger, pictureOf, StoreScenario } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
/** Of an index that is in use. */
const COPIES_MAX = 20;
const LIVES = THOROUGH ? 200 : 8;
const STEPS = THOROUGH ? 150 : 50;
const FILES = 6;

interface Beginning {
  readonly rig: EngineRig;
  readonly clock: FakeClock;
  readonly io: FaultIo;
  readonly repository: Repository;
}

/** One life, repeatable by its seed but for what the disk and threads do. */
class Life {
  readonly #random: () => number;
  readonly #folder: TempFolder;
  readonly #rig: EngineRig;
  readonly #ledger = new Ledger();
  readonly #clock: FakeClock;
  #io: FaultIo;
  #repository: Repository;
  #scenario: StoreScenario;
  /** What was done, for whoever has to understand a failure. */
  readonly steps: string[] = [];

  private constructor(seed: number, folder: TempFolder, { rig, clock, io, repository }: Beginning) {
    this.#random = seededRandom(seed);
    this.#folder = folder;
    this.#rig = rig;
    this.#clock = clock;
    this.#io = io;
    this.#repository = repository;
    this.#scenario = this.#newScenario();
  }

  static async begin(seed: number, folder: TempFolder): Promise<Life> {
    const rig = await EngineRig.create(folder, { encrypt: seed % 2 === 0 });
    const clock = new FakeClock();
    const io = new FaultIo();
    return new Life(seed, folder, { rig, clock, io, repository: await rig.open({ io, clock }) });
  }

  #newScenario(before?: StoreScenario): StoreScenario {
    const data = this.#folder.below("data");
    const scenario = new StoreScenario(this.#repository, data, this.#clock, (note) => this.#ledger.add(note));
    scenario.backups.push(...this.#ledger.backups.keys());
    // Others note up to which commit they know a source: also after a kill no number may come again.
    scenario.acknowledgedSeq = before?.acknowledgedSeq ?? 0;
    return scenario;
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  /** A random step that only the engine's own errors may end. */
  async step(): Promise<void> {
    const dice = this.#random();
    if (dice < 0.08) await this.#reopen("closed");
    else if (dice < 0.16) await this.#cutPower();
    else await this.#work();
  }

  async #work(): Promise<void> {
    const name = `f${String(this.#below(FILES))}`;
    const other = `f${String(this.#below(FILES))}`;
    const dice = this.#random();
    if (dice < 0.4) await this.#do(`commit ${name}`, () => this.#scenario.commit(name, this.#content()));
    else if (dice < 0.5 && name !== other)
      await this.#do(`commit ${name} ${other}`, () => this.#commitTwo(name, other));
    else if (dice < 0.6) await this.#do(`remove ${name}`, () => this.#scenario.remove(name));
    else if (dice < 0.7) await this.#do("seal", () => this.#scenario.seal());
    else if (dice < 0.8) await this.#do("backup", () => this.#scenario.backup());
    else if (dice < 0.85) await this.#removeBackup();
    else if (dice < 0.9) await this.#do("collect", () => this.#scenario.collect());
    else if (dice < 0.95) await this.#do("collect old", () => this.#scenario.collect(DAY_MS / 2));
    else this.#jump();
  }

  async #do(what: string, work: () => Promise<void>): Promise<void> {
    this.steps.push(what);
    await work();
  }

  #content(): Buffer {
    return noise(1 + this.#below(this.#random() < 0.1 ? 200_000 : 3000), this.#below(50) + 1);
  }

  async #commitTwo(name: string, other: string): Promise<void> {
    await Promise.all([this.#scenario.commit(name, this.#content()), this.#scenario.commit(other, this.#content())]);
  }

  async #removeBackup(): Promise<void> {
    const ids = [...this.#ledger.backups.keys()];
    const id = ids[this.#below(ids.length)];
    if (id !== undefined) await this.#do(`remove ${id}`, () => this.#scenario.removeBackup(id));
  }

  #jump(): void {
    const days = this.#random() < 0.5 ? -1 : 1;
    this.steps.push(`clock ${String(days)} d`);
    this.#clock.jumpWall(days * DAY_MS);
  }

  /** From a moment in the middle of some work on, no call reaches the store any more. */
  async #cutPower(): Promise<void> {
    this.steps.push("power cut during:");
    const copy = this.#random() < 0.3;
    if (copy) await this.#copyIndex();
    const work = this.#work().catch(expectKnownError);
    await loopTurns(this.#below(60));
    this.#io.plan = () => "EIO";
    this.#io.partialShare = this.#random();
    await work;
    await this.#reopen(copy ? "with an old index" : this.#random() < 0.3 ? "without an index" : "after the cut");
  }

  /** LevelDB tidies up in a thread of its own: where a file goes amid the copying, all is copied anew. */
  async #copyIndex(): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      await rm(this.#folder.at("old"), { recursive: true, force: true });
      try {
        await cp(this.#rig.stateDir, this.#folder.at("old"), { recursive: true });
        return;
      } catch (error) {
        if (errnoOf(error) !== "ENOENT" || tries === COPIES_MAX) throw error;
      }
    }
  }

  async #reopen(how: string): Promise<void> {
    this.steps.push(how);
    await this.#repository[Symbol.asyncDispose]();
    if (how !== "closed" && how !== "after the cut") await rm(this.#rig.stateDir, { recursive: true });
    if (how === "with an old index") await cp(this.#folder.at("old"), this.#rig.stateDir, { recursive: true });
    await this.#open();
    await this.#ledger.expectKept(this.#repository, this.#folder.below("data"));
  }

  async #open(): Promise<void> {
    this.#io = new FaultIo();
    this.#repository = await this.#rig.open({ io: this.#io, clock: this.#clock });
    this.#scenario = this.#newScenario(this.#scenario);
  }

  /** Everything is there and sound, with the index that grew and with one that is made anew. */
  async end(): Promise<void> {
    this.steps.push("end");
    const data = this.#folder.below("data");
    await this.#ledger.expectKept(this.#repository, data);
    await expectSound(this.#repository);
    await this.#scenario.seal();
    // Of old versions a grown index may still show some that only a removed backup held.
    const picture = await pictureOf(this.#repository, { withVersions: false });
    await this.#repository[Symbol.asyncDispose]();
    await rm(this.#rig.stateDir, { recursive: true });
    await this.#open();
    await this.#ledger.expectKept(this.#repository, data);
    expect(await pictureOf(this.#repository, { withVersions: false })).to.equal(picture);
    await this.#repository[Symbol.asyncDispose]();
  }
}

function expectKnownError(error: unknown): void {
  if (!(error instanceof HoldfastError)) throw error;
}

describe("a repository through a random life", function () {
  this.timeout(THOROUGH ? 7_200_000 : 180_000);

  it("keeps what it acknowledged, and its store alone says what is current as its index does", async () => {
    const first = Number(process.env["HOLDFAST_TESTS_SEED"] ?? Math.floor(Math.random() * 1_000_000));
    for (let seed = first; seed < first + LIVES; seed += 1) {
      await using folder = await TempFolder.create("life", fastTempParent());
      const life = await Life.begin(seed, folder);
      try {
        for (let step = 0; step < STEPS; step += 1) await life.step();
        await life.end();
      } catch (error) {
        throw new Error(`seed ${String(seed)}, ${life.steps.join(", ")}: ${String(error)}`, { cause: error });
      }
    }
  });
});
