/**
 * What the monitor is given and what it tells: the shapes that others compile against. A source of files is anything
 * that fits `SourceWatch` (the file source of `sources/` does); the repository is seen through `KnownVersions`.
 */
import type { Clock } from "../base/clock.js";
import type { DamageKind, EventBus, NoticedBy } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { CommitReceipt } from "../engine/repository-types.js";
import type { DatedEntry, Entry, FileNode, NodeKind, StatTuple, UnreadablePath } from "../engine/types.js";
import type { ExpectRule, UnmetExpectation } from "./expectations.js";
import type { StateSublevel } from "./state-sublevel.js";
import type { ModeRule, ProtectionMode } from "./rules.js";
import type { ValidationRule } from "./validator.js";

/** A path as a walk found it; `errno` instead of the rest when it could not be looked at. */
export type WalkedEntry =
  | {
      readonly path: BytePath;
      readonly kind: NodeKind;
      readonly stat: StatTuple;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
      readonly linkCount: number;
    }
  | UnreadablePath;

/** What a walk found directly in a folder, as one number. */
export interface FolderDigest {
  readonly folder: BytePath;
  /** The same only while the same names stand there with the same stats; undefined: something could not be looked at. */
  readonly digest: number | undefined;
  readonly entryCount: number;
}

/** A real folder that is watched. */
export interface WatchRoot {
  /** Absolute and free of symbolic links. */
  readonly folder: BytePath;
  /** True: only names directly in the folder can belong to the source (single files, globs without `**`). */
  readonly shallow: boolean;
  /**
   * True: the folder itself is protected. False: it only holds the protected files, and the loss of the folder is the
   * loss of these files.
   */
  readonly whole: boolean;
}

/** One source as the monitor sees it. */
export interface SourceWatch {
  readonly name: string;
  readonly roots: readonly WatchRoot[];
  /** True: mounted file systems below the roots belong to the source. */
  readonly crossMounts: boolean;
  /** Whether the source protects this path, existing or not. Kind matters for patterns that match folders only. */
  includes(path: BytePath, kind?: NodeKind): boolean;
  /** Whether a file of this size belongs to the source, bytes. */
  fitsSize(sizeBytes: number): boolean;
  /** Whether a path of the source can lie below this folder. */
  mayContain(folder: BytePath): boolean;
  /**
   * Everything of the source (or what is at and below `under`) in batches of at most 512, each root in byte order of
   * the paths. Throws SOURCE_ROOT_GONE, never an empty walk, when a root is missing.
   */
  walk(signal: AbortSignal, under?: BytePath): AsyncIterable<readonly WalkedEntry[]>;
  /** Only what each folder at and below `under` is like, in batches of at most 256. Throws as `walk` does. */
  folderDigests(signal: AbortSignal, under: BytePath): AsyncIterable<readonly FolderDigest[]>;
}

/** How a source is to be protected; every time in ms. */
export interface SourceSettings {
  /** Set: the mode of all paths that no rule names. Unset: `protect`, and `mirror` for files that git tracks. */
  readonly mode?: ProtectionMode;
  /** First match wins. */
  readonly rules?: readonly ModeRule[];
  readonly validation?: readonly ValidationRule[];
  /** How long a path must be gone or broken before it counts; default 500. */
  readonly graceMs?: number;
  /** How long a changed file must rest before it is judged; default 250. */
  readonly restMs?: number;
  readonly mass?: Partial<MassLimits>;
  /** Patterns of files that nobody should ever touch: whoever does is taken for an attacker at once. */
  readonly canaries?: readonly string[];
  /** Files that must be there. */
  readonly expect?: readonly ExpectRule[];
  /** Patterns of files that go together or not at all. */
  readonly groups?: readonly string[];
}

/** When many losses are one: more than `files` within `withinMs`, or more than `share` of the source and `minFiles`. */
export interface MassLimits {
  readonly files: number;
  /** 0 to 1. */
  readonly share: number;
  readonly minFiles: number;
  readonly withinMs: number;
}

/** The repository, as the monitor reads it. */
export interface KnownVersions {
  /** Every current entry of a source; the registry is rebuilt from it. */
  currentEntries(source: string): AsyncIterable<DatedEntry>;
  /** Numbers of commits can be compared within one generation; in another one they may be of other commits. */
  readonly generation: string;
  /** No commit above this number changed an entry of the source. */
  lastChange(source: string): number;
  /** The current entries of a source that commits after this number made. */
  entriesAfter(source: string, seq: number): AsyncIterable<DatedEntry>;
  /** True when the last thing stored of a path is that its removal was accepted. */
  isRemoved(source: string, path: BytePath): Promise<boolean>;
  current(path: BytePath, source?: string): Entry | undefined | Promise<Entry | undefined>;
  /** The verified bytes of a file's node. */
  readContent(node: FileNode, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** What a commit made durable, as the engine's receipt tells it. */
export type DurableReceipt = CommitReceipt;

/** A write of holdfast's own, announced before it becomes visible. */
export interface OwnWrite {
  readonly path: BytePath;
  /** dev, ino, size and mtime are compared; ctime still moves by the link or rename that follows. */
  readonly stat: Pick<StatTuple, "dev" | "ino" | "sizeBytes" | "mtimeNs">;
  /** Files only. */
  readonly sha256?: string | undefined;
}

export const WATCH_STATES = ["protected", "scanning", "degraded", "root_gone", "paused"] as const;
export type WatchState = (typeof WATCH_STATES)[number];

export interface SourceStatus {
  readonly name: string;
  readonly state: WatchState;
  /** Why it is not `protected`; undefined when it is. */
  readonly reason: string | undefined;
  /** Live protected files and their size. */
  readonly files: number;
  readonly bytes: number;
  /** Changes seen and not yet durable. */
  readonly pending: number;
  /** How changes are noticed: events, or sweeps where the file system reports none. */
  readonly ears: "inotify" | "sweep";
  /** Files that it is expected to hold and does not. */
  readonly unmet: readonly UnmetExpectation[];
}

/** A file that is not as it should be. */
export interface Finding {
  readonly source: string;
  readonly path: BytePath;
  readonly kind: DamageKind;
  readonly detail: string;
}

export interface ScanReport {
  readonly filesChecked: number;
  readonly findings: readonly Finding[];
}

/** Why a path is treated as it is. */
export interface Explanation {
  /** Undefined: no source protects the path. */
  readonly source: string | undefined;
  readonly mode: ProtectionMode;
  /** The rule that decided, as written. */
  readonly rule: string;
  /** Where the rule comes from: `rules[2] of source app`, `default`. */
  readonly origin: string;
  readonly why: string;
  readonly validators: readonly string[];
}

/** How often the sweeps and checks run, ms. */
export interface MonitorTimes {
  /** Folders are looked at (finds new, removed, renamed). */
  readonly folderSweepMs: number;
  /** All files are looked at. */
  readonly fileSweepMs: number;
  /** Roots and mounts are looked at. */
  readonly rootCheckMs: number;
  /** File systems without events are swept. */
  readonly pollMs: number;
  /** Every live file is read again within this time; undefined: never. */
  readonly scrubMs: number | undefined;
}

export interface MonitorOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  /** A sublevel of the state database for the monitor alone. */
  readonly store: StateSublevel;
  readonly known: KnownVersions;
  /** Absolute folder; `watch/` and `inspect/` are made below it. */
  readonly stateDir: string;
  readonly times?: Partial<MonitorTimes>;
  /** False: no events are used, only sweeps (as on file systems that have none). Default true. */
  readonly nativeEvents?: boolean;
  /** True: as root, a thread listens to who changes what, where the kernel can tell. Default false. */
  readonly actors?: boolean;
  /** True: a process that is seen to attack is stopped until a person decides. Needs `actors`. Default false. */
  readonly stopAttacker?: boolean;
  /** Content has begun to rest: about `restMs` later there will be something to store. Called often, must be cheap. */
  readonly expectChange?: () => void;
}

/** How a check came about; `scan` and `scrub` beside the watcher's own. */
export type { NoticedBy };
