/**
 * Gathers evidence that missing files were meant to go, one round for many paths at once. Each kind of evidence has a
 * reason text for people. Without evidence a missing file is a loss.
 */
import { type BytePath, nameOf, pathText } from "../base/paths.js";
import type { NoticedBy } from "../base/events.js";
import type { SharedParts } from "./context.js";
import { type GitAnswer, gitFolderOf, isLivingGit } from "./intent/git.js";
import { packageManagerAtWork, rebuiltModules } from "./intent/installers.js";
import { isMovedAway } from "./intent/moves.js";
import { TrashKnowledge } from "./intent/trash.js";
import type { RegistryRecord } from "./registry.js";
import { mountOf, readMounts } from "./watch/mounts.js";

export interface MissingFile {
  readonly path: BytePath;
  readonly record: RegistryRecord;
  /** When it was first missed, wall ms. */
  readonly seenAtMs: number;
  readonly noticedBy: NoticedBy;
}

export type Intent =
  | { readonly is: "meant"; readonly reason: string }
  /** Somebody is at work; ask again. */
  | { readonly is: "undecided"; readonly reason: string }
  | { readonly is: "unknown" };

/** A file deleted again this soon after holdfast put it back is meant to be gone. */
export const SECOND_DELETION_MS = 600_000;
/** Git's files move within this time around the deletion when git is the cause. */
const GIT_WINDOW_MS = 2000;

/** One verdict for each missing file, in the given order. */
export async function judgeIntent(
  parts: SharedParts,
  missing: readonly MissingFile[],
  signal: AbortSignal,
): Promise<readonly Intent[]> {
  const round = { trash: new TrashKnowledge(), mounts: readMounts() };
  const intents = new Map<BytePath, Intent>();
  const open: MissingFile[] = [];
  for (const file of missing) {
    const intent = plainEvidence(parts, file, round) ?? (await movedEvidence(parts, file, signal));
    if (intent === undefined) open.push(file);
    else intents.set(file.path, intent);
  }
  const git = await parts.git.answers(open.map(gitQuestion), signal);
  for (const file of open) intents.set(file.path, gitIntent(git.get(file.path)));
  return missing.map(({ path }) => intents.get(path) ?? { is: "unknown" });
}

function plainEvidence(
  parts: SharedParts,
  { path, record, noticedBy }: MissingFile,
  round: { readonly trash: TrashKnowledge; readonly mounts: ReturnType<typeof readMounts> },
): Intent | undefined {
  const nowMs = parts.clock.nowMs();
  const pause = parts.pauses.covering(path, nowMs);
  if (pause !== undefined) return meant(`removed while holdfast was paused (${pause.reason})`);
  if (record.healedAtMs > 0 && nowMs - record.healedAtMs < SECOND_DELETION_MS)
    return meant("deleted again soon after it was put back, so its owner means it");
  const mountPoint = mountOf(path, round.mounts)?.point ?? ("/" as BytePath);
  if (round.trash.holds(path, mountPoint, record.uid, record.registeredAtMs - GIT_WINDOW_MS))
    return meant("moved to the trash");
  const gitFolder = gitFolderOf(path);
  if (gitFolder !== undefined && isLivingGit(gitFolder) && nameOf(path) !== "HEAD")
    return meant("git's own housekeeping");
  const modules = rebuiltModules(path, nowMs);
  if (modules !== undefined) return meant(modules);
  const manager = noticedBy === "start" ? undefined : packageManagerAtWork(path);
  return manager === undefined ? undefined : meant(`${manager} is at work and holds its lock`);
}

async function movedEvidence(
  parts: SharedParts,
  missing: MissingFile,
  signal: AbortSignal,
): Promise<Intent | undefined> {
  const reason = await isMovedAway(parts, missing, signal);
  return reason === undefined ? undefined : meant(reason);
}

function gitQuestion({ path, record, seenAtMs, noticedBy }: MissingFile): {
  readonly path: BytePath;
  readonly gitBlobId: string | undefined;
  readonly sinceMs: number;
} {
  // Noticed late, by a sweep or at the start, the cause may lie anywhere since the file was last known.
  const sinceMs = noticedBy === "event" ? seenAtMs - GIT_WINDOW_MS : record.registeredAtMs - GIT_WINDOW_MS;
  return { path, gitBlobId: record.gitBlobId, sinceMs };
}

function gitIntent(answer: GitAnswer | undefined): Intent {
  if (answer === "meant") return meant("removed by git (checkout, reset, stash or rm)");
  if (answer === "busy") return { is: "undecided", reason: "git is at work" };
  return { is: "unknown" };
}

function meant(reason: string): Intent {
  return { is: "meant", reason };
}

/** A short text about when and how a file went missing, for people. */
export function lossDetail({ path, record }: MissingFile, why: string): string {
  const kind = record.kind === "file" ? "file" : record.kind.replace("_", " ");
  return `${kind} ${pathText(path)} is gone${why === "" ? "" : `: ${why}`}`;
}
