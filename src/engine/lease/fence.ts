/**
 * Fences for writers that lost their lease: each of them may wake in the middle of a commit or a collection. Its next
 * commit number is taken by a commit that removes no backup, and the next number of a collection by one that deletes
 * nothing; both keys are made once only, so whatever it was about to add or delete comes to nothing.
 */
import { hasCode } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import type { Backend } from "../../storage/backend.js";
import { CommitAppender, commitKey, decodeCommit, digestOfCommit, type StoredCommit } from "../commit-log.js";
import { fenceCollections } from "../index/epochs.js";
import type { RepositoryKeys } from "../keys.js";
import { RecordOpener } from "../pack/record.js";
import { isUnread } from "../index/unread-objects.js";

/** Tries for one writer: each may meet a commit that it had under way. */
const TRIES_MAX = 100;

export interface FenceOptions {
  readonly backend: Backend;
  readonly keys: RepositoryKeys;
  readonly nowMs: number;
  readonly log: Logger;
}

/** Takes the next numbers of the writers and of the collections; gives the epoch that is the newest then. */
export async function fenceWriters(
  options: FenceOptions,
  writers: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  const epoch = await fenceCollections(options.backend, options.log, signal);
  for (const writer of writers) await fenceCommits(options, writer, signal);
  options.log.warn("lease.taken_over", { writers });
  return epoch;
}

async function fenceCommits(
  { backend, keys, nowMs }: FenceOptions,
  writer: string,
  signal: AbortSignal,
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const last = await lastCommit(backend, keys, writer, signal);
    const appender = new CommitAppender(backend, keys, writer, last);
    const body = { kind: "removal", backupIds: [] } as const;
    try {
      await appender.append({ number: last?.number ?? 0, timeMs: nowMs, body }, [], signal);
      return;
    } catch (error) {
      if (!hasCode(error, "OBJECT_EXISTS") || tries >= TRIES_MAX) throw error;
    }
  }
}

interface LastCommit {
  readonly seq: number;
  readonly sha256: string;
  readonly number: number;
}

async function lastCommit(
  backend: Backend,
  keys: RepositoryKeys,
  writer: string,
  signal: AbortSignal,
): Promise<LastCommit | undefined> {
  let seq = 0;
  for await (const { key } of backend.list(`commits/${writer}/`, signal)) {
    seq = Math.max(seq, Number(key.slice(key.lastIndexOf("/") + 1)) || 0);
  }
  if (seq === 0) return undefined;
  const key = commitKey(writer, seq);
  const opened = await openedCommit(backend, keys, key, signal);
  const sha256 = opened?.sha256 ?? (await digestOfCommit(backend, key, signal));
  return { seq, sha256, number: opened?.header.number ?? 0 };
}

/** Undefined for a commit that is damaged or does not read, which a check tells. */
async function openedCommit(
  backend: Backend,
  keys: RepositoryKeys,
  key: string,
  signal: AbortSignal,
): Promise<StoredCommit | undefined> {
  try {
    return decodeCommit(new RecordOpener(keys), key, await backend.get(key, signal));
  } catch (error) {
    if (!isUnread(error)) throw error;
    return undefined;
  }
}
