/**
 * What healing needs from others, as small ports: the repository's versions, the monitor's knowledge of live files,
 * and the policy of a path. `daemon/compose` hands them in. Answers may come at once or as promises.
 */
import type { Clock } from "../base/clock.js";
import type { EventBus } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { FileNode, StatTuple, Version } from "../engine/types.js";
import type { IncidentDatabase } from "./incident.js";
import type { AcceptanceLevel, ChainStep, LastGood, RecoveryStrategy } from "./strategy.js";

export type Awaitable<T> = T | Promise<T>;

/** The repository, as healing reads it. */
export interface VersionReader {
  /** Versions of a path, newest first; removals included (without a node). */
  versions(path: BytePath, options?: { readonly limit?: number }): Awaitable<readonly Version[]>;
  /** The version that was current at a time. */
  entryAt(path: BytePath, atMs: number): Awaitable<Version | undefined>;
  /** Current entries with that content, of any source. */
  pathsWithDigest(sha256: string): Awaitable<readonly { readonly source: string; readonly path: BytePath }[]>;
  /** Verified bytes of a file's node. Throws CHUNK_MISSING, RECORD_DAMAGED. */
  readContent(node: FileNode, signal: AbortSignal): AsyncIterable<Buffer>;
}

/** A validator's judgement of bytes; `unchecked` when none looks at files of this kind. */
export interface ValidityVerdict {
  readonly verdict: "valid" | "invalid" | "unchecked";
  /** The complaint, or what was checked; never file content. */
  readonly detail: string;
}

/** A write of ours that the watcher will see and must not take for someone else's. */
export interface OwnWrite {
  readonly path: BytePath;
  /** ctime may still move by the link or rename that follows; the ledger compares dev, ino, size and mtime. */
  readonly stat: StatTuple;
  /** Files only. */
  readonly sha256: string | undefined;
}

/** The monitor, as healing speaks to it. */
export interface LiveWatch {
  /** Announces a write; it may become visible when this resolves. */
  expectOwnWrite(expected: OwnWrite): Awaitable<void>;
  /** The announced write stands at its path: the events of an exchange of names do not always tell. */
  ownWriteStands(path: BytePath): void;
  /** The owner means the removal: write a tombstone, stop reporting it. */
  acceptRemoval(path: BytePath, reason: string): Awaitable<void>;
  /** What stands at the path now is the owner's will (a returned quarantine, a denied heal): take it as a new version. */
  acceptContent(path: BytePath, reason: string): Awaitable<void>;
  lastGood(path: BytePath): Awaitable<LastGood | undefined>;
  /** Why nothing may be put at the path now: the storage that holds it is away. Looked at freshly. */
  awayReasonOf(path: BytePath): Awaitable<string | undefined>;
  /** Judges the bytes of the file at `contentPath` (absolute, ours) as content of `forPath`. */
  validate(contentPath: string, forPath: BytePath, signal: AbortSignal): Promise<ValidityVerdict>;
}

export const HEAL_MODES = ["protect", "ask", "mirror", "append-only", "growing", "alert", "ignore"] as const;
export type HealMode = (typeof HEAL_MODES)[number];

export const HEAL_PRIORITIES = ["critical", "high", "medium", "low"] as const;
export type HealPriority = (typeof HEAL_PRIORITIES)[number];

/** What is to be done for a path. */
export interface HealPolicy {
  readonly mode: HealMode;
  readonly priority: HealPriority;
  readonly accept: AcceptanceLevel;
  readonly chain: readonly ChainStep[];
  /** Whether many losses at once wait for a person or are healed. */
  readonly mass: "hold" | "heal";
  /** Configured root that holds the path: symbolic links in it are trusted, below it none is followed. */
  readonly root: BytePath;
}

/** Limits of the healer; each has a default in `healer.ts`. */
export interface HealerSettings {
  /** Heals at the same time. */
  readonly parallel: number;
  /** How long to wait for a writer that has the damaged file open, ms. */
  readonly writerWaitMs: number;
  /** Breaker: this many restores of one path within `breakerPathWindowMs`. */
  readonly breakerPathRestores: number;
  readonly breakerPathWindowMs: number;
  /** Breaker: this many restores in total within a minute. */
  readonly breakerRestoresPerMinute: number;
  /** A file deleted again this soon after our restore is meant to be gone, ms. */
  readonly secondDeletionMs: number;
  /** Quarantine: bytes of closed incidents kept at most, and for how long. */
  readonly quarantineBytesMax: number;
  readonly quarantineAgeMaxMs: number;
}

export interface HealerOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  /** A sublevel of its own with string keys and string values. */
  readonly database: IncidentDatabase;
  /** Absolute; `quarantine/` and `recovery/` are made below it. */
  readonly stateDir: string;
  readonly versions: VersionReader;
  readonly watch: LiveWatch;
  readonly strategies: readonly RecoveryStrategy[];
  readonly policyFor: (source: string, path: BytePath) => HealPolicy;
  readonly settings?: Partial<HealerSettings>;
}

/** What to recover at a person's word. */
export interface RecoverOptions {
  /** Only this strategy; undefined: the path's chain. */
  readonly strategy?: string;
  /** The version as of this time, wall ms. */
  readonly atMs?: number;
  /** Write the result here instead; must not exist. */
  readonly to?: BytePath;
  /** Only find and judge; nothing is written at the path. */
  readonly explain?: boolean;
}
