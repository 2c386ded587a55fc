/**
 * What a restore to the original places would replace or remove is kept first: whatever is not known to be stored as it
 * stands is stored as a new version, and only what is stored may go. So nobody loses what was written since the last
 * backup, and `versions` lists it. What cannot be kept stays where it is, unless the caller insists.
 */
import type { BigIntStats } from "node:fs";
import { messageOf } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import { commitChanges } from "../commit.js";
import type { RepositoryCore } from "../core.js";
import { STATE_OFFSET } from "../index/entry-index.js";
import { kindOf } from "../metadata.js";
import type { CommitReceipt } from "../repository-types.js";
import type { FileNode } from "../types.js";
import { isMarkedAbsent, isMarkedTorn, looksUnchanged } from "../tree/codec.js";

/** Paths stored by one commit: its content waits in memory, and others want their turn. */
const COMMIT_PATHS_MAX = 512;

/** Something that stands in the way. */
export interface PresentThing {
  readonly source: string;
  readonly path: BytePath;
  /** Of the thing itself, not of what a link leads to. No folder. */
  readonly stat: BigIntStats;
}

export interface KeeperOptions {
  readonly core: RepositoryCore;
  /** Under which path the store knows what stands at a path. */
  readonly storedPath: (path: BytePath) => BytePath;
  /** What cannot be kept may go as well; `warn` is told of it. */
  readonly insists: boolean;
  readonly warn: (path: BytePath, reason: string) => void;
  readonly signal: AbortSignal;
}

export class Keeper {
  readonly #options: KeeperOptions;
  #kept = 0;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** How many were stored because they were not before. */
  get kept(): number {
    return this.#kept;
  }

  /** True when the rest may only be done to exactly what was kept. */
  get isStrict(): boolean {
    return !this.#options.insists;
  }

  /** Keeps what is not stored yet. Gives those that may not go, and why. Throws INTERRUPTED. */
  async keep(things: readonly PresentThing[]): Promise<ReadonlyMap<BytePath, string>> {
    const bySource = new Map<string, PresentThing[]>();
    for (const thing of things) {
      if (!hasContent(thing) || this.#isStored(thing)) continue;
      bySource.set(thing.source, [...(bySource.get(thing.source) ?? []), thing]);
    }
    const refused = new Map<BytePath, string>();
    for (const [source, changed] of bySource) {
      for (let at = 0; at < changed.length; at += COMMIT_PATHS_MAX) {
        await this.#store(source, changed.slice(at, at + COMMIT_PATHS_MAX), refused);
      }
    }
    if (!this.#options.insists) return refused;
    for (const [path, reason] of refused) this.#options.warn(path, reason);
    return new Map();
  }

  #isStored({ source, path, stat }: PresentThing): boolean {
    const { core, storedPath } = this.#options;
    const record = core.parts.catalog.entries.current(source, storedPath(path));
    const kind = kindOf(stat);
    if (record === undefined || kind === undefined) return false;
    const { value } = record;
    if (isMarkedAbsent(value, STATE_OFFSET) || isMarkedTorn(value, STATE_OFFSET)) return false;
    const { dev, ino, mtimeNs, ctimeNs } = stat;
    const sizeBytes = kind === "file" ? Number(stat.size) : 0;
    return looksUnchanged(value, STATE_OFFSET, kind, { dev, ino, sizeBytes, mtimeNs, ctimeNs });
  }

  async #store(source: string, things: readonly PresentThing[], refused: Map<BytePath, string>): Promise<void> {
    const { core, storedPath, signal } = this.#options;
    const refuse = (path: BytePath, reason: string): unknown =>
      refused.set(path, `it changed since it was last stored and could not be kept: ${reason}`);
    try {
      const changes = things.map(({ path }) => ({ path: storedPath(path), kind: "upsert" }) as const);
      const receipt = await commitChanges(core, source, changes, signal);
      const outcomes = new Outcomes(receipt);
      for (const { path, stat } of things) {
        const reason = outcomes.reasonAgainst(storedPath(path), stat);
        if (reason !== undefined) refuse(path, reason);
      }
      this.#kept += receipt.stored.length;
    } catch (error) {
      signal.throwIfAborted();
      for (const { path } of things) refuse(path, messageOf(error));
    }
  }
}

/** A socket has nothing that could be kept. */
function hasContent({ stat }: PresentThing): boolean {
  return kindOf(stat) !== undefined;
}

/** What became of the things that were to be stored. */
class Outcomes {
  readonly #nodes: ReadonlyMap<BytePath, FileNode>;
  readonly #errnos: ReadonlyMap<BytePath, string>;
  readonly #vanished: ReadonlySet<BytePath>;

  constructor({ stored, unchanged, unreadable, vanished }: CommitReceipt) {
    this.#nodes = new Map([...stored, ...unchanged].map(({ path, node }) => [path, node]));
    this.#errnos = new Map(unreadable.map(({ path, errno }) => [path, errno]));
    this.#vanished = new Set(vanished);
  }

  /** Why it was not stored as it stood when it was looked at. What vanished meanwhile is in nobody's way. */
  reasonAgainst(path: BytePath, stat: BigIntStats): string | undefined {
    const node = this.#nodes.get(path);
    if (node !== undefined) {
      return node.torn === true || node.stat.ctimeNs !== stat.ctimeNs ? "it is being written" : undefined;
    }
    return this.#vanished.has(path) ? undefined : (this.#errnos.get(path) ?? "it is nothing that is kept");
  }
}
