/**
 * Gathers evidence that missing files were meant to go, one round for many paths at once. Each kind of evidence has a
 * reason text for people. Without evidence a missing file is a loss.
 */
import { isRecent } from "../base/clock.js";
import { type BytePath, isDirectlyIn, nameOf, parentPath, pathText } from "../base/paths.js";
import type { NoticedBy } from "../base/events.js";
import { databaseOfLog } from "../base/sqlite-files.js";
import type { SharedParts } from "./context.js";
import { isPutAwayLog } from "./intent/database-logs.js";
import type { GitAnswer, GitQuestion } from "./intent/git.js";
import { GitHousekeeping, gitFolderOf } from "./intent/git-housekeeping.js";
import { isPutAwayHelper } from "./intent/helper-files.js";
import { WALK_TIMEOUT_MS } from "./intent/git-objects.js";
import { InstallersAtWork, isPackageFolder, rebuiltModules } from "./intent/installers.js";
import { isMovedAway, isRetired } from "./intent/moves.js";
import { TrashKnowledge } from "./intent/trash.js";
import { isSameContentStat } from "./ledger.js";
import { lookAt, turn } from "./look.js";
import type { RegistryRecord } from "./registry.js";
import type { ProtectionMode } from "./rules.js";
import { mountOf, readMounts } from "./watch/mounts.js";

export interface MissingFile {
  readonly source: string;
  readonly path: BytePath;
  readonly record: RegistryRecord;
  /** When it was first missed, wall ms. */
  readonly seenAtMs: number;
  readonly noticedBy: NoticedBy;
  /** Of the modes that let files only grow: how much counts as meant. */
  readonly mode: ProtectionMode;
}

export type Intent =
  | { readonly is: "meant"; readonly reason: string }
  /** Somebody is at work; ask again, for as long as `withinMs` where that is longer than usual. */
  | { readonly is: "undecided"; readonly reason: string; readonly withinMs?: number }
  | { readonly is: "unknown" };

/** A file deleted again this soon after holdfast put it back is meant to be gone. */
const SECOND_DELETION_MS = 600_000;
/** Git's files move within this time around the deletion when git is the cause. */
const GIT_WINDOW_MS = 2000;
const HOUSEKEEPING = "git's own housekeeping";
const UNKNOWN: Intent = { is: "unknown" };
/** Longer than it is given. */
const GIT_LOOKS: Intent = { is: "undecided", reason: "git looks what it needs", withinMs: 2 * WALK_TIMEOUT_MS };
/** Files judged before others get a turn. */
const SLICE = 256;

/** One verdict for each missing file, in the given order. */
export async function judgeIntent(
  parts: SharedParts,
  missing: readonly MissingFile[],
  signal: AbortSignal,
): Promise<readonly Intent[]> {
  const round = new EvidenceRound(parts);
  const intents: (Intent | undefined)[] = [];
  const open: MissingFile[] = [];
  for (const [index, file] of missing.entries()) {
    const isStrict = file.mode === "append-only";
    let intent = isStrict ? round.pause(file) : round.evidence(file);
    // Of a hundred thousand files most need no more: a promise for each would cost as much as all else.
    if (intent === undefined && mayBeElsewhere(parts, file)) intent = await elsewhereEvidence(parts, file, signal);
    if (intent === undefined && !isStrict) open.push(file);
    intents.push(intent ?? (isStrict ? UNKNOWN : undefined));
    if (index % SLICE === SLICE - 1) await turn();
  }
  const { spared, waiting } = await round.gitFolders.answers(parts.clock, signal);
  const questions = open.flatMap((file) => round.gitQuestion(file) ?? []);
  const git = questions.length === 0 ? undefined : await parts.git.answers(questions, signal);
  const lateIntent = (path: BytePath): Intent => {
    if (waiting.has(path)) return GIT_LOOKS;
    return spared.has(path) ? meant(HOUSEKEEPING) : gitIntent(git?.get(path));
  };
  return missing.map(({ path }, index) => intents[index] ?? lateIntent(path));
}

/**
 * When holdfast put a file back, for its next version; 0 when that says nothing any more. Who worked on it since, or made
 * it again, wants it: only of one left as it was does the next deletion mean something.
 */
export function healedAtMs(before: RegistryRecord | undefined, now: RegistryRecord, nowMs: number): number {
  if (before === undefined || before.state === "removed") return 0;
  const isLeft = before.sha256 === now.sha256 && (now.kind !== "file" || isSameContentStat(before.stat, now.stat));
  return isLeft && isRecent(before.healedAtMs, nowMs, SECOND_DELETION_MS) ? before.healedAtMs : 0;
}

/** What is the same for all files of a folder; a mass deletion asks for thousands of them. */
interface FolderEvidence {
  readonly mountPoint: BytePath;
  readonly modules: string | undefined;
  /** Nothing in it, or in the nearest folder above that stands, was removed after this, wall ms. */
  readonly changedMs: number;
  /** Packages may own what is in it. */
  readonly isOfPackages: boolean;
  readonly isInGitFolder: boolean;
  readonly isInWorkTree: boolean;
}

/** Evidence that is gathered once and holds for all files of one round. */
class EvidenceRound {
  readonly #parts: SharedParts;
  readonly #trash = new TrashKnowledge();
  readonly #mounts = readMounts();
  readonly #installers = new InstallersAtWork();
  readonly gitFolders: GitHousekeeping;
  readonly #folders = new Map<BytePath, FolderEvidence>();
  #last: { readonly folder: BytePath; readonly evidence: FolderEvidence } | undefined;

  constructor(parts: SharedParts) {
    this.#parts = parts;
    this.gitFolders = new GitHousekeeping(parts.git.walks);
  }

  pause({ source, path, seenAtMs, noticedBy }: MissingFile): Intent | undefined {
    const { pauses } = this.#parts;
    const ended = noticedBy === "start" ? pauses.endedUnseen(path, source) : undefined;
    const pause = pauses.covering(path, seenAtMs) ?? ended; // it may have ended within the grace
    return pause === undefined ? undefined : meant(`removed while holdfast was paused (${pause.reason})`);
  }

  evidence(missing: MissingFile): Intent | undefined {
    const { path, record, noticedBy } = missing;
    const nowMs = this.#parts.clock.nowMs();
    const pause = this.pause(missing);
    if (pause !== undefined) return pause;
    if (isRecent(record.healedAtMs, nowMs, SECOND_DELETION_MS))
      return meant("deleted again soon after it was put back, so its owner means it");
    if (isPutAwayHelper(this.#parts.registry, missing))
      return meant("put away by the program that kept it beside the file");
    const folder = this.#folderOf(path);
    if (this.#trash.holds(path, folder.mountPoint, record.uid, record.registeredAtMs - GIT_WINDOW_MS))
      return meant("moved to the trash");
    if (folder.isInGitFolder && this.gitFolders.takes(path, record, missing.seenAtMs)) return meant(HOUSEKEEPING);
    const modules = nameOf(path) === "node_modules" ? rebuiltModules(path, nowMs) : folder.modules;
    if (modules !== undefined) return meant(modules);
    const mayBeManaged = noticedBy !== "start" && folder.isOfPackages;
    const manager = mayBeManaged ? this.#installers.packageManager(path) : undefined;
    return manager === undefined ? undefined : meant(`${manager} is at work and holds its lock`);
  }

  /** Undefined: it lies in no work tree. */
  gitQuestion({ path, record, seenAtMs, noticedBy }: MissingFile): GitQuestion | undefined {
    if (!this.#folderOf(path).isInWorkTree) return undefined;
    // On a busy machine an event is heard late, but the folder tells when a name in it was removed last. Noticed by a
    // sweep or at the start, the cause may lie anywhere since the file was last known.
    const goneMs = noticedBy === "event" ? Math.min(seenAtMs, this.#folderOf(path).changedMs) : record.registeredAtMs;
    return { path, gitBlobId: record.gitBlobId, sinceMs: goneMs - GIT_WINDOW_MS };
  }

  /** Of the folder that holds a path; the files of a folder mostly follow each other. */
  #folderOf(path: BytePath): FolderEvidence {
    if (this.#last !== undefined && isDirectlyIn(path, this.#last.folder)) return this.#last.evidence;
    const folder = parentPath(path);
    const evidence = this.#folder(folder);
    this.#last = { folder, evidence };
    return evidence;
  }

  #folder(folder: BytePath): FolderEvidence {
    const known = this.#folders.get(folder);
    if (known !== undefined) return known;
    const evidence = {
      mountPoint: mountOf(folder, this.#mounts)?.point ?? ("/" as BytePath),
      modules: rebuiltModules(folder, this.#parts.clock.nowMs()),
      changedMs: lastChangeMs(folder),
      isOfPackages: folder === "/" || isPackageFolder(folder),
      isInGitFolder: gitFolderOf(folder) !== undefined,
      isInWorkTree: this.#parts.git.isInWorkTree(folder),
    };
    this.#folders.set(folder, evidence);
    return evidence;
  }
}

/** Whether more has to be asked, which takes a look at other files; false of most. */
function mayBeElsewhere({ arrivals }: SharedParts, { mode, path, record }: MissingFile): boolean {
  return mode === "growing" || databaseOfLog(path) !== undefined || arrivals.mayConcern(path, record.stat);
}

async function elsewhereEvidence(
  parts: SharedParts,
  file: MissingFile,
  signal: AbortSignal,
): Promise<Intent | undefined> {
  const isStrict = file.mode === "append-only";
  const putAway = isStrict ? undefined : await putAwayEvidence(parts, file, signal);
  return putAway ?? (await movedEvidence(parts, { ...file, isStrict }, signal));
}

async function putAwayEvidence(
  parts: SharedParts,
  missing: MissingFile,
  signal: AbortSignal,
): Promise<Intent | undefined> {
  const isPutAway = await isPutAwayLog(parts, missing, signal);
  return isPutAway ? meant("put away by SQLite, whose database stands") : undefined;
}

async function movedEvidence(
  parts: SharedParts,
  missing: MissingFile & { readonly isStrict: boolean },
  signal: AbortSignal,
): Promise<Intent | undefined> {
  const retired = missing.mode === "growing" ? isRetired(missing) : undefined;
  const reason = (await isMovedAway(parts, missing, signal)) ?? retired;
  return reason === undefined ? undefined : meant(reason);
}

/** The ctime of a folder moves with each name in it, and no program can set it back; Infinity when it cannot be looked at. */
function lastChangeMs(folder: BytePath): number {
  const look = lookAt(folder);
  if (look.is === "there") return Number(look.stats.ctimeNs / 1_000_000n) + 1;
  return look.is === "missing" && folder !== "/" ? lastChangeMs(parentPath(folder)) : Infinity;
}

function gitIntent(answer: GitAnswer | undefined): Intent {
  if (answer === "meant") return meant("removed by git (checkout, reset, stash or rm)");
  if (answer === "busy") return { is: "undecided", reason: "git is at work" };
  return UNKNOWN;
}

function meant(reason: string): Intent {
  return { is: "meant", reason };
}

/** A short text about when and how a file went missing, for people. */
export function lossDetail({ path, record }: MissingFile, why: string): string {
  const kind = record.kind === "file" ? "file" : record.kind.replace("_", " ");
  return `${kind} ${pathText(path)} is gone${why === "" ? "" : `: ${why}`}`;
}
