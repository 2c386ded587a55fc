/**
 * A store with a life behind it, on a disk that can stop reading: it is put back as it was before each test, and what
 * was acknowledged is known.
 */
import { expect } from "chai";
import { cp, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { HoldfastError } from "../../src/base/errors.js";
import type { Repository } from "../../src/engine/repository.js";
import { contentOf, EngineRig, storeFiles } from "./engine-rig.js";
import { FakeClock } from "./fake-clock.js";
import { FaultIo } from "./fault-io.js";
import { digestOf, Ledger, type StoreNote, StoreScenario } from "./store-scenario.js";
import { fastTempParent, TempFolder } from "./temp-folder.js";

export class FaultyStore implements AsyncDisposable {
  readonly folder: TempFolder;
  readonly rig: EngineRig;
  ledger = new Ledger();
  /** Every digest that a file ever had, by name. */
  readonly ever = new Map<string, Set<string>>();
  readonly clock = new FakeClock();
  io = new FaultIo();
  readonly #notes: StoreNote[] = [];

  private constructor(folder: TempFolder, rig: EngineRig) {
    this.folder = folder;
    this.rig = rig;
  }

  static async filled(): Promise<FaultyStore> {
    const folder = await TempFolder.create("read-faults", fastTempParent());
    const store = new FaultyStore(folder, await EngineRig.create(folder));
    {
      await using repository = await store.rig.open({ clock: store.clock });
      await store.scenario(repository, (note) => store.#notes.push(note)).run();
      await cp(store.rig.storeUrl, folder.at("kept"), { recursive: true });
      await cp(store.rig.stateDir, folder.at("kept-state"), { recursive: true });
      await cp(folder.at("data"), folder.at("kept-data"), { recursive: true });
    }
    await store.reset();
    return store;
  }

  scenario(repository: Repository, listen: (note: StoreNote) => void = () => undefined): StoreScenario {
    return new StoreScenario(repository, this.folder.below("data"), this.clock, (note) => {
      this.ledger.add(note);
      listen(note);
      if (note.kind !== "begun" || note.digest === undefined) return;
      this.ever.set(note.name, (this.ever.get(note.name) ?? new Set()).add(note.digest));
    });
  }

  /** The store as a kill left it, on a disk that reads, without an index; opened by the same writer or another. */
  async reset(writer: "same" | "another" = "same"): Promise<void> {
    this.io = new FaultIo();
    this.ledger = Ledger.of(this.#notes);
    await rm(this.rig.storeUrl, { recursive: true });
    await rm(this.rig.stateDir, { recursive: true, force: true });
    await rm(this.folder.at("data"), { recursive: true });
    await cp(this.folder.at("kept"), this.rig.storeUrl, { recursive: true });
    await cp(this.folder.at("kept-data"), this.folder.at("data"), { recursive: true });
    if (writer === "same") await cp(this.folder.at("kept-state"), this.rig.stateDir, { recursive: true });
    await rm(join(this.rig.stateDir, "index"), { recursive: true, force: true });
  }

  /** Keys of objects below a prefix. */
  async keys(below: string): Promise<string[]> {
    const files = await storeFiles(this.rig.storeUrl, below);
    return files.map((path) => relative(this.rig.storeUrl, path)).sort();
  }

  async open(): Promise<Repository> {
    return await this.rig.open({ io: this.io, clock: this.clock });
  }

  /** No byte of these objects reads from now on. */
  breakDisk(...keys: readonly string[]): void {
    this.io.readPlan = (call, path) => (call === "read" && keys.some((key) => path.endsWith(key)) ? "EIO" : undefined);
  }

  healDisk(): void {
    this.io.readPlan = () => undefined;
  }

  async expectKept(repository: Repository): Promise<void> {
    await this.ledger.expectKept(repository, this.folder.below("data"));
  }

  /** Whatever can be read was once stored so. */
  async expectNothingWrong(repository: Repository): Promise<void> {
    for (const [name, digests] of this.ever) {
      for (const { node } of await repository.versions(this.folder.below("data").bytes(name))) {
        if (node === undefined) continue;
        expect(digests.has(node.sha256 ?? ""), `a version of ${name} that never was`).to.equal(true);
        const bytes = await contentOf(repository, node).catch(expectKnown);
        if (bytes !== undefined) expect(digestOf(bytes)).to.equal(node.sha256);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.folder[Symbol.asyncDispose]();
  }
}

/** The error, if it is one of the engine's own. */
export function expectKnown(error: unknown): undefined {
  if (!(error instanceof HoldfastError)) throw error;
  return undefined;
}
