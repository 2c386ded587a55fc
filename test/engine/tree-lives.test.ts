/**
 * Random lives of sources that many processes back up, one after another and on two hosts: changes on disk, commits
 * beside backups, backups that are cut short, power cuts, removed backups, collections, lost and outdated indexes. Each
 * tree holds what the index and the disk say, whatever of the last tree it took over.
 */
import { expect } from "chai";
import { createHash } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError, errnoOf } from "../../src/base/errors.js";
import { type BytePath, isWithin, pathBytes, pathFromText, pathText } from "../../src/base/paths.js";
import { gc } from "../../src/engine/gc.js";
import { STATE_OFFSET, stateOf } from "../../src/engine/index/entry-index.js";
import type { BackupSource, PathChange, Repository, WalkedEntry } from "../../src/engine/repository.js";
import { buildSourceTree } from "../../src/engine/source-tree.js";
import { isMarkedAbsent } from "../../src/engine/tree/codec.js";
import type { Delta } from "../../src/engine/tree/delta.js";
import type { BackupType, ChunkId, FileNode, Manifest } from "../../src/engine/types.js";
import { seededRandom } from "../support/crash-disk.js";
import { EngineRig, UNLIMITED, walkFolder } from "../support/engine-rig.js";
import { FakeClock, loopTurns } from "../support/fake-clock.js";
import { FaultIo } from "../support/fault-io.js";
import { DAY_MS, digestOf } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const LIVES = THOROUGH ? 100 : 1;
const PROCESSES = THOROUGH ? 40 : 7;
const TYPES: readonly BackupType[] = ["full", "incremental", "differential", "snapshot"];
const SOURCES = ["docs", "dócs \u{1F4C1} of"] as const;
const FOLDERS = 4;
/** Of each source; with their long links and names they make some ten leaves. */
const NAMES = 250;
const NAMES_MAX = NAMES + 20;

type Random = () => number;

/** The folder of one source, and what was changed in it and not committed since. */
class SourceFolder {
  readonly name: string;
  readonly root: string;
  readonly dirty = new Set<BytePath>();
  readonly #random: Random;
  #serial = 0;

  constructor(folder: TempFolder, name: string, random: Random) {
    this.#random = random;
    this.name = name;
    this.root = folder.at(name);
    this.#makeFolders();
    for (let index = 0; index < NAMES; index += 1) this.#put(index);
    this.dirty.clear();
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #makeFolders(): void {
    for (let index = 0; index < FOLDERS; index += 1) mkdirSync(join(this.root, String(index)), { recursive: true });
  }

  #pathOf(index: number): string {
    const name = `${String(index).padStart(4, "0")}-${"n".repeat((index * 37) % 150)}`;
    return join(this.root, String(index % FOLDERS), name);
  }

  #put(index: number): void {
    const path = this.#pathOf(index);
    rmSync(path, { force: true });
    this.#serial += 1;
    if (index % 3 === 0) writeFileSync(path, `content ${String(this.#serial)}`);
    else symlinkSync("t".repeat(500 + this.#below(3000)) + String(this.#serial), path);
    this.dirty.add(pathFromText(path));
  }

  change(): void {
    for (let left = 1 + this.#below(this.#random() < 0.05 ? 100 : 4); left > 0; left -= 1) this.#changeOne();
    this.#makeFolders();
  }

  #changeOne(): void {
    const [index, dice] = [this.#below(NAMES_MAX), this.#random()];
    const path = this.#pathOf(index);
    this.dirty.add(pathFromText(path));
    if (dice < 0.5) this.#put(index);
    else if (dice < 0.8) rmSync(path, { force: true });
    else if (dice < 0.98) this.#changeName(path);
    else rmSync(join(this.root, String(this.#below(FOLDERS))), { recursive: true });
    this.#makeFolders();
  }

  #changeName(path: string): void {
    const known = lstatSync(path, { throwIfNoEntry: false });
    if (known === undefined) return;
    if (known.isFile() && this.#random() < 0.5) {
      chmodSync(path, 0o600 + this.#below(0o100));
      return;
    }
    const to = this.#pathOf(this.#below(NAMES_MAX));
    renameSync(path, to);
    this.dirty.add(pathFromText(to));
  }

  /** Some of what changed, as it is told to the repository, seldom as removed though it is there. */
  takeChanges(): PathChange[] {
    const taken = [...this.dirty].filter(() => this.#random() < 0.7);
    return taken.map((path) => {
      this.dirty.delete(path);
      const isThere = lstatSync(pathBytes(path), { throwIfNoEntry: false }) !== undefined;
      return { path, kind: isThere && this.#random() < 0.97 ? "upsert" : "remove" };
    });
  }

  paths(): string[] {
    const entries = readdirSync(this.root, { recursive: true, withFileTypes: true });
    return [this.root, ...entries.map(({ parentPath, name }) => join(parentPath, name))];
  }

  state(): Map<BytePath, string> {
    return new Map(this.paths().map((path) => [pathFromText(path), standing(path)]));
  }
}

/** What a person gets who restores an entry. */
function described({ kind, sha256, linkTarget, mode, stat }: FileNode): string {
  return [kind, sha256 ?? linkTarget ?? "", mode.toString(8), String(stat.mtimeNs)].join(" ");
}

/** The same of what stands on the disk. */
function standing(path: string): string {
  const stat = lstatSync(path, { bigint: true });
  const [mode, mtime] = [(Number(stat.mode) & 0o7777).toString(8), String(stat.mtimeNs)];
  if (stat.isDirectory()) return ["folder", "", mode, mtime].join(" ");
  if (stat.isSymbolicLink()) return ["symlink", readlinkSync(path), mode, mtime].join(" ");
  return ["file", digestOf(readFileSync(path)), mode, mtime].join(" ");
}

/** What happens while a backup is made. */
interface Beside {
  readonly hasCommits: boolean;
  readonly isCut: boolean;
  readonly abort: AbortController;
  /** Paths that could not be looked at or were held back: of them the disk says nothing. */
  readonly apart: Set<BytePath>;
  readonly commits: Promise<void>[];
}

/** One life, repeatable by its seed but for what threads do. */
class Life {
  readonly #random: Random;
  readonly #folder: TempFolder;
  readonly #rig: EngineRig;
  readonly #sources: readonly SourceFolder[];
  readonly #clock = new FakeClock();
  #io = new FaultIo();
  #hasPower = true;
  /** What was done, for whoever has to understand a failure. */
  readonly steps: string[] = [];

  private constructor(random: Random, folder: TempFolder, rig: EngineRig) {
    this.#random = random;
    this.#folder = folder;
    this.#rig = rig;
    this.#sources = SOURCES.map((name) => new SourceFolder(folder, name, random));
  }

  static async begin(seed: number, folder: TempFolder): Promise<Life> {
    const rig = await EngineRig.create(folder, { encrypt: seed % 2 === 0 });
    return new Life(seededRandom(seed), folder, rig);
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #happens(chance: number): boolean {
    return this.#random() < chance;
  }

  async #do(what: string, work: () => Promise<unknown>): Promise<void> {
    this.steps.push(what);
    await work();
  }

  /** A process opens the repository, does some things and ends. */
  async process(): Promise<void> {
    const host = this.#happens(0.2) ? "two" : "one";
    const stateDir = this.#folder.at(`state-${host}`);
    await this.#meddle(stateDir, this.#folder.at(`copy-${host}`));
    this.steps.push(`${host}:`);
    this.#io = new FaultIo();
    this.#hasPower = true;
    await using repository = await this.#rig.open({ stateDir, clock: this.#clock, io: this.#io });
    for (let left = this.#happens(0.6) ? 1 : 3; left > 0 && !this.#isDown(); left -= 1) {
      this.#clock.jumpWall(this.#below(DAY_MS / 4));
      for (const source of this.#sources) if (this.#happens(0.4)) source.change();
      await this.#act(repository);
    }
    if (this.#happens(0.05)) this.#cutPower();
  }

  /** The index is lost, or the state folder is put back to what it was some processes ago. */
  async #meddle(stateDir: string, copy: string): Promise<void> {
    const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;
    const dice = this.#random();
    if (dice < 0.05) {
      await this.#do("index lost", () => rm(join(stateDir, "index"), { recursive: true, force: true }));
    } else if (dice < 0.15 && isThere(copy)) {
      await rm(stateDir, { recursive: true });
      await this.#do("index put back", () => cp(copy, stateDir, { recursive: true }));
    } else if (dice < 0.25 && isThere(stateDir)) {
      await rm(copy, { recursive: true, force: true });
      await cp(stateDir, copy, { recursive: true });
    }
  }

  #isDown(): boolean {
    return !this.#hasPower;
  }

  #cutPower(): void {
    if (this.#hasPower) this.steps.push("power cut");
    this.#hasPower = false;
    this.#io.plan = () => "EIO";
    this.#io.partialShare = this.#random();
  }

  async #act(repository: Repository): Promise<void> {
    const dice = this.#random();
    if (dice < 0.65) await this.#backUp(repository);
    else if (dice < 0.82) await this.#commit(repository);
    else if (dice < 0.86) await this.#do("seal", () => repository.seal(UNLIMITED));
    else if (dice < 0.93) await this.#removeBackup(repository);
    else {
      const versionsKeptMs = this.#happens(0.5) ? DAY_MS / 2 : undefined;
      await this.#do("collect", () => gc(repository, { dryRun: false, versionsKeptMs }, UNLIMITED));
    }
  }

  async #commit(repository: Repository): Promise<void> {
    const source = this.#sources[this.#below(this.#sources.length)];
    if (source === undefined) return;
    const changes = source.takeChanges();
    await this.#do(`commit ${String(changes.length)}`, () => repository.commitChanges(source.name, changes, UNLIMITED));
  }

  async #removeBackup(repository: Repository): Promise<void> {
    const manifests = await repository.listBackups();
    const at = this.#happens(0.5) ? manifests.length - 1 : this.#below(manifests.length);
    const id = manifests[at]?.backup_id;
    if (id !== undefined) await this.#do("remove", () => repository.deleteBackups([id], UNLIMITED));
  }

  async #backUp(repository: Repository): Promise<void> {
    const type = TYPES[this.#below(TYPES.length)] ?? "full";
    const backedUp = this.#happens(0.6) ? this.#sources : this.#sources.slice(this.#below(2)).slice(0, 1);
    const restIsStored = this.#happens(0.2);
    const beside: Beside = {
      ...{ hasCommits: this.#happens(0.2), isCut: this.#happens(0.15), abort: new AbortController() },
      ...{ apart: new Set(), commits: [] },
    };
    const { hasCommits, isCut, abort } = beside;
    this.steps.push(JSON.stringify({ type, sources: backedUp.length, hasCommits, isCut, restIsStored }));
    const sources = backedUp.map((source) => this.#orderOf(repository, source, restIsStored, beside));
    const changed = new Map<string, number>();
    const listener = (delta: Delta): void => {
      for (const { path } of delta.changes) changed.set(`${delta.source}\0${path}`, delta.seq);
    };
    const { deltaListeners } = repository.core;
    deltaListeners.add(listener);
    try {
      const manifest = await repository.createBackup({ type, sources }, abort.signal);
      for (const source of backedUp) {
        const apart = hasCommits || restIsStored ? undefined : beside.apart;
        await compare(repository, manifest, source, { changed, apart });
      }
    } catch (error) {
      const isAborted = error instanceof Error && error.name === "AbortError";
      if (!isCut || !(isAborted || error instanceof HoldfastError)) throw error;
    } finally {
      await Promise.all(beside.commits);
      deltaListeners.delete(listener);
    }
  }

  #orderOf(repository: Repository, source: SourceFolder, restIsStored: boolean, beside: Beside): BackupSource {
    const isHeld = this.#happens(0.1);
    return {
      ...{ name: source.name, roots: [pathFromText(source.root)], encryptionRequired: false, restIsStored },
      walk: restIsStored ? walkNothing() : this.#walk(repository, source, beside),
      heldBack: (path) => {
        if (!isHeld || path.length % 3 !== 0) return false;
        beside.apart.add(path);
        return true;
      },
    };
  }

  async *#walk(repository: Repository, source: SourceFolder, beside: Beside): AsyncGenerator<WalkedEntry[]> {
    const fails = this.#happens(0.1);
    for (const path of source.paths()) {
      await this.#happenBeside(repository, source, beside);
      const [entry] = await firstOf(pathFromText(path));
      if (entry === undefined) continue;
      const isFailing = fails && this.#happens(0.01);
      if (isFailing) beside.apart.add(entry.path);
      yield [isFailing ? { path: entry.path, errno: "EACCES" } : entry];
    }
  }

  async #happenBeside(repository: Repository, source: SourceFolder, beside: Beside): Promise<void> {
    const dice = this.#random();
    if (beside.hasCommits) {
      if (dice < 0.01) source.change();
      if (dice < 0.02) beside.commits.push(this.#commit(repository).catch(expectKnownError));
      if (dice > 0.98) await loopTurns(this.#below(20));
    }
    if (!beside.isCut || dice < 0.4 || dice > 0.41) return;
    if (this.#happens(0.5)) this.#cutPower();
    else setImmediate(() => beside.abort.abort());
  }
}

/** The entry at a path; none when it has gone meanwhile. */
async function firstOf(path: BytePath): Promise<readonly WalkedEntry[]> {
  try {
    for await (const entries of walkFolder(path)) return entries;
    return [];
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    return [];
  }
}

async function* walkNothing(): AsyncGenerator<WalkedEntry[]> {
  yield await Promise.resolve([]);
}

function expectKnownError(error: unknown): void {
  if (!(error instanceof HoldfastError)) throw error;
}

interface Disturbances {
  /** The last commit of what was changed while the backup was made, by source and path. */
  readonly changed: ReadonlyMap<string, number>;
  /** What of the disk is not compared; undefined: nothing is. */
  readonly apart: ReadonlySet<BytePath> | undefined;
}

/** The tree has what the index had at the backup's number, and after an undisturbed walk what the disk has. */
async function compare(
  repository: Repository,
  { backup_id: id, sources }: Manifest,
  source: SourceFolder,
  { changed, apart }: Disturbances,
): Promise<void> {
  const { name } = source;
  const { entries, commits } = repository.core.parts.catalog;
  const coversSeq = commits.backup(id)?.coversSeq ?? 0;
  const tree = new Map<BytePath, string>();
  for await (const { path, node } of repository.backupEntries(id, { source: name }, UNLIMITED))
    tree.set(path, described(node));
  const index = new Map<BytePath, string>();
  for await (const page of entries.currentPages(name)) {
    for (const record of page)
      if (!isMarkedAbsent(record.value, STATE_OFFSET)) index.set(record.path, described(stateOf(record).node));
  }
  expectSame(tree, index, (path) => (changed.get(`${name}\0${path}`) ?? 0) <= coversSeq);
  if (entries.lastChange(name) <= coversSeq) await compareCounts(repository, name, sources);
  if (apart === undefined) return;
  expectSame(tree, source.state(), (path) => ![...apart].some((each) => isWithin(path, each)));
}

function expectSame(
  tree: ReadonlyMap<BytePath, string>,
  truth: ReadonlyMap<BytePath, string>,
  isCompared: (path: BytePath) => boolean,
): void {
  for (const path of new Set([...tree.keys(), ...truth.keys()]))
    if (isCompared(path)) expect(tree.get(path), pathText(path)).to.equal(truth.get(path));
}

/** The manifest counts what a tree holds that is built whole. */
async function compareCounts({ core }: Repository, name: string, sources: Manifest["sources"]): Promise<void> {
  const { entries } = core.parts.catalog;
  const store = (bytes: Buffer): Promise<ChunkId> =>
    Promise.resolve(createHash("sha256").update(bytes).digest("hex") as ChunkId);
  const order = { source: name, writer: { store }, base: undefined, changedAfterSeq: 0 };
  const { tree } = await buildSourceTree({ entries, isStored: () => false }, order, UNLIMITED);
  const told = sources.find(({ source }) => source === name);
  const counts = [told?.files_total, told?.total_size_bytes, told?.checksum];
  expect(counts).to.deep.equal([tree.files, tree.bytes, `sha256:${tree.checksum}`]);
}

describe("the trees of backups by many processes", function () {
  this.timeout(THOROUGH ? 7_200_000 : 60_000);

  it("hold what the index and the disk hold", async () => {
    const first = Number(process.env["HOLDFAST_TESTS_SEED"] ?? Math.floor(Math.random() * 1_000_000));
    for (let seed = first; seed < first + LIVES; seed += 1) {
      await using folder = await TempFolder.create("tree-life", fastTempParent());
      const life = await Life.begin(seed, folder);
      try {
        for (let count = 0; count < PROCESSES; count += 1) await life.process();
      } catch (error) {
        throw new Error(`seed ${String(seed)}, ${life.steps.join(", ")}: ${String(error)}`, { cause: error });
      }
    }
  });
});
