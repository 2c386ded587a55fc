/**
 * The port of a recovery strategy: one way to find bytes for a file that is lost or damaged. A strategy only offers;
 * `chain.ts` secures, judges and chooses, `place.ts` writes. The contract suite is `test/contract/strategy.ts`.
 */
import type { DamageKind } from "../base/events.js";
import type { BytePath } from "../base/paths.js";
import type { FileNode, NodeKind, StatTuple } from "../engine/types.js";

/** What was last known of a path while it was good. */
export interface LastGood {
  readonly kind: NodeKind;
  readonly stat: StatTuple;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** SHA-256 of the content, 64 hex; files only. */
  readonly sha256?: string;
  /** Git's blob id of the content, 40 hex; files only. */
  readonly gitBlobId?: string;
  /** Target bytes as characters; symlinks only. */
  readonly linkTarget?: string;
  /** When holdfast put it back, wall ms, as long as nobody worked on it, removed it or made it again; else 0. */
  readonly healedAtMs?: number;
  /** When this version became durable, wall ms. */
  readonly registeredAtMs?: number;
  /** live: it stands, or is missed and not judged · lost: told as such · removing, removed: it was meant to go. */
  readonly state?: "live" | "lost" | "removing" | "removed";
}

/** How a path came to be recovered: a kind of damage, or a person's wish to have it as it was. */
export type LossKind = DamageKind | "requested";

/** The path to be recovered. */
export interface LostFile {
  readonly source: string;
  readonly path: BytePath;
  readonly kind: LossKind;
  /** When the loss was first seen, wall ms. */
  readonly seenAtMs: number;
  readonly lastGood: LastGood | undefined;
  /** What stands at the path now; undefined when nothing does. */
  readonly present: StatTuple | undefined;
}

/**
 * How the bytes relate to the last good content, by the strategy's own knowledge: the same; written after it; written
 * before it; or only a part of it (or pieced together).
 */
export const FIDELITIES = ["exact", "newer", "older", "partial"] as const;
export type Fidelity = (typeof FIDELITIES)[number];

/** Bytes that a strategy offers. */
export interface Candidate {
  /** Id of the strategy that found it. */
  readonly strategy: string;
  /** Where it comes from, for people: `stash@{1} of /srv/app`, `descriptor 7 of process 812 (nginx)`. */
  readonly origin: string;
  readonly fidelity: Fidelity;
  /** When its content was last changed, wall ms; undefined when nobody knows. */
  readonly modifiedAtMs?: number;
  /** When this content is known to have been the file's, wall ms; a backup's time, not the content's age. */
  readonly knownGoodAtMs?: number;
  readonly sizeBytes?: number;
  /** SHA-256 that the bytes are known to have; it is proved again before they are used. */
  readonly sha256?: string;
  /** Who could have written the bytes; compared with the lost file's owner. Undefined: holdfast's own store. */
  readonly ownerUid?: number;
  /** What speaks for or against it, for people. */
  readonly notes: readonly string[];
  /** Why it is never applied without a person, such as a Trash entry; undefined when it may be. */
  readonly offerOnly?: string;
  /** Why the bytes are not the file's as they stand (a filter lies between); only the right digest makes up for it. */
  readonly unfit?: string;
  /** Attributes to give the restored file; undefined: those last known. */
  readonly metadata?: FileNode;
  /** The bytes are already at the path (a regenerate script put them there). */
  readonly inPlace?: boolean;
  /** The bytes are those of the lost inode itself, so they are what the file held at the end, whatever was backed up. */
  readonly sameInode?: boolean;
  /** The bytes are an SQLite database with the log laid over it that stands beside it: that log does it no harm. */
  readonly fromOwnLog?: boolean;
  /** Another name of the same inode, to be linked rather than copied. */
  readonly hardLinkOf?: BytePath;
  /** What a person would run to get these bytes. */
  readonly command?: string;
  /** The bytes from the start; may be called several times, except on perishable ones. Throws when they are gone. */
  open(signal: AbortSignal): AsyncIterable<Buffer>;
}

/** What a strategy is told besides the lost file. */
export interface Search {
  /** The step's keys as configured, such as `max_age_hours`; read them with `parameters.ts`. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** What people should know of the search itself ("the repository is a partial clone"). */
  readonly note: (text: string) => void;
  /** Private folder of this recovery (0700), emptied when it ends; absolute. */
  readonly scratchDir: string;
}

/** One way to find bytes. Needs no lifetime; may be called for several files at once. */
export interface RecoveryStrategy {
  /** The configuration's name for it, such as `git_history`. */
  readonly id: string;
  /**
   * `reads`: looks only. `perishable`: looks only, and what it finds may be gone in a moment, so it is asked first and
   * copied at once. `makes`: pieces content together, so it is asked only when nothing before it was acceptable.
   * `runs`: as `makes`, by starting programs of the owner's, so it is not asked when a person only wants to see.
   */
  readonly effort: "reads" | "perishable" | "makes" | "runs";
  /**
   * Offers candidates, best first, and ends; nothing found is an empty sequence, not an error. May be ended early.
   * Throws HoldfastError when it could not look at all (USAGE for wrong parameters); the chain goes on without it.
   */
  find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate>;
  /**
   * The path is missing and may soon be asked for: what takes a while to look up may be looked up now, while the grace
   * runs. Must not block, and never throws.
   */
  prepare?(missed: Pick<LostFile, "path" | "seenAtMs">): void;
  /** Commands for a person, in the order to be tried. */
  advise?(lost: LostFile, search: Search): Promise<readonly string[]>;
}

/** One step of a chain as configured. */
export interface ChainStep {
  readonly strategy: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/**
 * What may be put back without asking: only the last good content; also valid content that is as new or newer (or
 * within the step's `max_age_hours`); any valid content; also partial content. Each includes those before it.
 */
export const ACCEPTANCE_LEVELS = ["identical", "newer_valid", "any_valid", "partial"] as const;
export type AcceptanceLevel = (typeof ACCEPTANCE_LEVELS)[number];
