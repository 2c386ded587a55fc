/**
 * A small life of a repository that touches every way it writes - commits alone and together, seals, backups, key
 * change, removals, collections with thinning and repacking - and the ledger of what it acknowledged, against which a
 * repository can be held after any fault.
 */
import { expect } from "chai";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import type { Secret } from "../../src/base/observe.js";
import { pathText } from "../../src/base/paths.js";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import type { Repository } from "../../src/engine/repository.js";
import { noise } from "./engine-keys.js";
import { contentOf, UNLIMITED, upsert, walkFolder } from "./engine-rig.js";
import type { FakeClock } from "./fake-clock.js";
import type { TempFolder } from "./temp-folder.js";

/** The digest of a file's content; undefined: the file is gone. */
type Digest = string | undefined;

/** What happened to a repository, in order. */
export type StoreNote =
  /** A repository is there from now on. */
  | { readonly kind: "made" }
  /** May be found from now on, must not be relied upon. */
  | { readonly kind: "begun"; readonly name: string; readonly digest: Digest }
  | { readonly kind: "durable"; readonly name: string; readonly digest: Digest }
  | { readonly kind: "backup"; readonly id: string; readonly files: ReadonlyMap<string, string> }
  /** A backup that is being removed. */
  | { readonly kind: "backup_goes"; readonly id: string }
  /** Versions that are neither current nor in a backup may be forgotten. */
  | { readonly kind: "old_versions_go" }
  | { readonly kind: "key"; readonly recoveryKey: Secret };

/** What must be there. */
export class Ledger {
  isMade = false;
  readonly versions = new Map<string, Set<string>>();
  readonly backups = new Map<string, ReadonlyMap<string, string>>();
  recoveryKey: Secret | undefined;
  /** Versions by file name that nothing but backups keeps any more. */
  readonly #heldByBackups = new Map<string, Set<string>>();
  /** The states in which each file may be found: the last acknowledged one and those begun since. */
  readonly #current = new Map<string, Set<Digest>>();

  /** The ledger of a history. */
  static of(notes: Iterable<StoreNote>): Ledger {
    const ledger = new Ledger();
    for (const note of notes) ledger.add(note);
    return ledger;
  }

  add(note: StoreNote): void {
    if (note.kind === "made") this.isMade = true;
    else if (note.kind === "key") this.recoveryKey = note.recoveryKey;
    else if (note.kind === "backup") this.backups.set(note.id, note.files);
    else if (note.kind === "backup_goes") this.#loseBackup(note.id);
    else if (note.kind === "old_versions_go") this.#forgetOld();
    else if (note.kind === "begun") this.#statesOf(note.name).add(note.digest);
    else this.#settle(note.name, note.digest);
  }

  #statesOf(name: string): Set<Digest> {
    const states = this.#current.get(name) ?? new Set<Digest>([undefined]);
    this.#current.set(name, states);
    return states;
  }

  #loseBackup(id: string): void {
    this.backups.delete(id);
    this.#forgetUnheld();
  }

  #settle(name: string, digest: Digest): void {
    this.#current.set(name, new Set([digest]));
    if (digest !== undefined) this.#heldByBackups.get(name)?.delete(digest);
    if (digest !== undefined) this.versions.set(name, (this.versions.get(name) ?? new Set()).add(digest));
  }

  /**
   * What is not current is only kept as long as backups hold it. While something begun was not acknowledged it is open
   * which state is the current one: none is sure to stay as a version.
   */
  #forgetOld(): void {
    for (const [name, digests] of this.versions) {
      const states = this.#statesOf(name);
      const isCurrent = (digest: string): boolean => states.size === 1 && states.has(digest);
      this.#heldByBackups.set(name, new Set([...digests].filter((digest) => !isCurrent(digest))));
    }
    this.#forgetUnheld();
  }

  #forgetUnheld(): void {
    for (const [name, digests] of this.#heldByBackups) {
      const inBackups = new Set([...this.backups.values()].map((files) => files.get(name)));
      for (const digest of digests) if (!inBackups.has(digest)) this.versions.get(name)?.delete(digest);
    }
  }

  /** Everything acknowledged is in the repository, byte for byte, and nothing is current that never was. */
  async expectKept(repository: Repository, data: TempFolder): Promise<void> {
    const proven = new Set<string>();
    for (const [name, digests] of this.versions) {
      const path = data.bytes(name);
      const found = new Set<string>();
      for (const { node } of await repository.versions(path)) {
        if (node?.sha256 === undefined) continue;
        if (!proven.has(node.sha256)) expect(digestOf(await contentOf(repository, node)), name).to.equal(node.sha256);
        proven.add(node.sha256);
        found.add(node.sha256);
      }
      for (const digest of digests) expect(found.has(digest), `a version of ${name}`).to.equal(true);
    }
    for (const [name, states] of this.#current) {
      const digest = repository.current(data.bytes(name))?.node.sha256;
      expect(states.has(digest), `what ${name} is now: ${String(digest)}`).to.equal(true);
    }
    for (const [id, files] of this.backups) await expectBackup(repository, id, files);
  }
}

async function expectBackup(repository: Repository, id: string, files: ReadonlyMap<string, string>): Promise<void> {
  const found = new Map<string, string>();
  for await (const { path, node } of repository.backupEntries(id, {}, UNLIMITED)) {
    if (node.kind === "file") found.set(basename(pathText(path)), digestOf(await contentOf(repository, node)));
  }
  expect(found, id).to.deep.equal(files);
}

/** No problem of any kind, every record read. */
export async function expectSound(repository: Repository): Promise<void> {
  const { problems } = await check(repository, { level: "full" }, UNLIMITED);
  expect(problems).to.deep.equal([]);
}

/** Everything that the index tells, as text: versions, current states, backups with their entries. */
export async function pictureOf(
  repository: Repository,
  options: { readonly withVersions: boolean } = { withVersions: true },
): Promise<string> {
  const lines: unknown[] = [];
  for (const source of await repository.sourceNames()) {
    for await (const { path, node } of repository.currentEntries(source)) {
      const versions = options.withVersions ? await repository.versions(path, { source }) : [];
      lines.push([source, pathText(path), node, versions.map((version) => [version.timeMs, version.node?.sha256])]);
    }
  }
  for (const manifest of await repository.listBackups()) {
    lines.push(manifest);
    for await (const { path, node } of repository.backupEntries(manifest.backup_id, {}, UNLIMITED)) {
      lines.push([pathText(path), node]);
    }
  }
  return JSON.stringify(lines, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value));
}

export function digestOf(bytes: string | Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export const DAY_MS = 86_400_000;

/** Works on a repository, from the files that lie in its folder, and notes what it was told. */
export class StoreScenario {
  readonly #repository: Repository;
  readonly #data: TempFolder;
  readonly #clock: FakeClock;
  readonly #note: (note: StoreNote) => void;
  readonly #files = new Map<string, string>();
  /** The source that files are committed under. */
  sourceName = "docs";
  /** Backups in the order in which they were made. */
  readonly backups: string[] = [];
  /** The largest commit number that was acknowledged: whatever is committed later has a larger one. */
  acknowledgedSeq = 0;

  constructor(repository: Repository, data: TempFolder, clock: FakeClock, note: (note: StoreNote) => void) {
    this.#repository = repository;
    this.#data = data;
    this.#clock = clock;
    this.#note = note;
    for (const name of readdirSync(data.path)) this.#files.set(name, digestOf(readFileSync(data.at(name))));
  }

  async commit(name: string, content: string | Uint8Array): Promise<void> {
    const digest = digestOf(content);
    writeFileSync(this.#data.at(name), content);
    this.#files.set(name, digest);
    this.#note({ kind: "begun", name, digest });
    const before = this.acknowledgedSeq;
    const { stored, unchanged, seq } = await upsert(this.#repository, this.sourceName, [this.#data.bytes(name)]);
    this.#sawSeq(before, seq);
    expect([...stored, ...unchanged].map(({ node }) => node.sha256)).to.deep.equal([digest]);
    this.#note({ kind: "durable", name, digest });
  }

  async remove(name: string): Promise<void> {
    rmSync(this.#data.at(name), { force: true });
    this.#files.delete(name);
    this.#note({ kind: "begun", name, digest: undefined });
    const before = this.acknowledgedSeq;
    const changes = [{ path: this.#data.bytes(name), kind: "remove" }] as const;
    const { seq } = await this.#repository.commitChanges(this.sourceName, changes, UNLIMITED);
    this.#sawSeq(before, seq);
    this.#note({ kind: "durable", name, digest: undefined });
  }

  /** `seq` is 0 when nothing had to be committed. */
  #sawSeq(before: number, seq: number): void {
    if (seq !== 0) expect(seq, "a number that was noted before is given once").to.be.greaterThan(before);
    this.acknowledgedSeq = Math.max(this.acknowledgedSeq, seq);
  }

  async seal(): Promise<void> {
    await this.#repository.seal(UNLIMITED);
  }

  async backup(): Promise<void> {
    const files = new Map(this.#files);
    const root = this.#data.bytes();
    const source = { name: this.sourceName, roots: [root], walk: walkFolder(root), encryptionRequired: false };
    const { backup_id: id } = await this.#repository.createBackup({ type: "full", sources: [source] }, UNLIMITED);
    this.backups.push(id);
    this.#note({ kind: "backup", id, files });
  }

  async removeBackup(id: string): Promise<void> {
    this.#note({ kind: "backup_goes", id });
    await this.#repository.deleteBackups([id], UNLIMITED);
  }

  /** Adds a recovery key; an unencrypted repository has none. */
  async newKey(): Promise<void> {
    if (!this.#repository.encrypted) return;
    this.#note({ kind: "key", recoveryKey: await this.#repository.newRecoveryKey(UNLIMITED) });
  }

  /** Collects; with `versionsKeptMs` old versions go. */
  async collect(versionsKeptMs?: number): Promise<void> {
    if (versionsKeptMs !== undefined) this.#note({ kind: "old_versions_go" });
    await gc(this.#repository, { dryRun: false, versionsKeptMs }, UNLIMITED);
  }

  /** Everything, once. */
  async run(): Promise<void> {
    await this.commit("a", "a one");
    await Promise.all([this.commit("b", "b one"), this.commit("c", `c one ${"c".repeat(5000)}`)]);
    await this.seal();
    await this.commit("p", noise(30_000, 1));
    await this.commit("q", noise(9_000, 2));
    await this.commit("a", `a two ${"x".repeat(5000)}`);
    await this.newKey();
    await this.backup();
    await this.commit("p", "no longer large");
    await Promise.all([this.commit("b", "b two"), this.remove("c")]);
    await this.removeBackup(this.backups[0] ?? "");
    await this.collect();
    for (let turn = 0; turn < OLD_SEALS; turn += 1) {
      await this.commit("d", `d ${String(turn)}`);
      await this.seal();
    }
    this.#clock.jumpWall(2 * DAY_MS);
    await this.commit("a", "a three");
    await this.collect(DAY_MS);
    await this.backup();
    await this.commit("e", "e one");
    await this.commit("b", "b three");
  }
}

/** Thinning begins when this many old delta commits are there. */
const OLD_SEALS = 8;
