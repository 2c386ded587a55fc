/** The part of a check that reads small objects whole: configuration copies, commit chains, index fragments. */
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { Beside } from "./check-beside.js";
import type { Findings } from "./check-findings.js";
import { NO_PREVIOUS, type StoredCommit, decodeCommit, sha256Of } from "./commit-log.js";
import type { RepositoryCore } from "./core.js";
import { decodeFragment } from "./index/fragments.js";
import { damagedSlots } from "./keys.js";
import { damagedParity } from "./parity.js";
import { readConfig } from "./repository-config.js";
import { stillUnread } from "./unread.js";

export async function checkConfig(core: RepositoryCore, findings: Findings, signal: AbortSignal): Promise<void> {
  const { damagedCopies, missingCopies } = await readConfig(core.parts.backend, signal);
  for (const key of damagedCopies) findings.add("config_damaged", `the copy ${key} of the configuration is damaged`);
  for (const key of missingCopies) findings.add("config_damaged", `the copy ${key} of the configuration is missing`);
}

/** Key slots and the write-ahead log: what a start found damaged is told as long as it is there. */
export async function checkKeysAndLog(core: RepositoryCore, findings: Findings, signal: AbortSignal): Promise<void> {
  if (core.encrypted) {
    for (const key of await damagedSlots(core.parts.backend, signal)) {
      findings.add("key_damaged", `the key slot ${key} is damaged: its key opens nothing any more`);
    }
  }
  for (const { segment, reason } of core.logDamage) {
    findings.add("log_damaged", `segment ${String(segment)} of a write-ahead log was found damaged: ${reason}`);
  }
  for (const key of await stillUnread(core, signal)) {
    const kind = key.startsWith("wal/") ? "log_damaged" : key.startsWith("packs/") ? "pack_damaged" : "commit_damaged";
    const detail = `the object ${key} could not be taken in as a whole: a repair or the next start tries again`;
    findings.add(key.startsWith("index/") ? "fragment_damaged" : kind, detail);
  }
}

interface ObjectWork {
  readonly findings: Findings;
  readonly beside: Beside;
}

/** Reads every commit: each must open and name the one before it; a gap must be one that a base has retired. */
export async function checkCommits(core: RepositoryCore, work: ObjectWork, signal: AbortSignal): Promise<void> {
  const commits = await readCommits(core, work, signal);
  const retired = new Set(commits.flatMap(({ header: { body } }) => (body.kind === "base" ? body.retires : [])));
  const byWriter = new Map<string, StoredCommit[]>();
  for (const commit of commits) {
    const chain = byWriter.get(commit.header.writer) ?? [];
    chain.push(commit);
    byWriter.set(commit.header.writer, chain);
  }
  for (const chain of byWriter.values()) await checkChain(chain, retired, work, signal);
}

async function readCommits(
  core: RepositoryCore,
  { findings, beside }: ObjectWork,
  signal: AbortSignal,
): Promise<StoredCommit[]> {
  const { backend, opener, catalog } = core.parts;
  const commits: StoredCommit[] = [];
  const present = new Set<string>();
  for await (const { key } of backend.list("commits/", signal)) {
    present.add(key);
    try {
      const commit = decodeCommit(opener, key, await backend.get(key, signal));
      signal.throwIfAborted();
      commit.assertDeltas();
      commits.push(commit);
    } catch (error) {
      if (hasCode(error, "OBJECT_MISSING")) continue; // collected beside us
      if (!(error instanceof HoldfastError)) throw error;
      findings.add("commit_damaged", `the commit ${key} cannot be read: ${messageOf(error)}`);
    }
  }
  for (const { key } of catalog.commits.applied()) {
    if (present.has(key) || (await backend.stat(key, signal)) !== undefined) continue;
    if (!catalog.commits.isApplied(key) || (await beside.isCollected(key, signal))) continue;
    findings.add("commit_missing", `the commit ${key} is missing`);
  }
  return commits;
}

async function checkChain(
  chain: readonly StoredCommit[],
  retired: ReadonlySet<string>,
  { findings, beside }: ObjectWork,
  signal: AbortSignal,
): Promise<void> {
  const inOrder = [...chain].sort((a, b) => a.header.seq - b.header.seq);
  let before: StoredCommit | undefined;
  for (const commit of inOrder) {
    const { seq, previous, writer } = commit.header;
    const follows = seq === (before?.header.seq ?? 0) + 1;
    if (follows && previous !== NO_PREVIOUS && previous !== before?.sha256) {
      findings.add("commit_damaged", `the commit ${commit.key} does not follow the one before it`);
    }
    for (let missing = (before?.header.seq ?? 0) + 1; missing < seq; missing += 1) {
      const key = `commits/${writer}/${String(missing).padStart(12, "0")}`;
      if (retired.has(key) || (await beside.isCollected(key, signal))) continue;
      findings.add("commit_missing", `the commit ${key} is missing or damaged`);
    }
    before = commit;
  }
}

/** Reads every parity object: its name must be its hash, and its group whole. */
export async function checkParity(core: RepositoryCore, findings: Findings, signal: AbortSignal): Promise<void> {
  for (const key of await damagedParity(core, signal)) {
    findings.add(
      "parity_damaged",
      `the parity object ${key} is not what its name says; a repair that reads removes it`,
    );
  }
  for (const { keys, members } of await core.parts.parity.groups(signal)) {
    const lost = keys.filter((key) => key === undefined).length;
    if (lost === 0) continue;
    const detail = `a group of ${String(members.length)} packs lacks ${String(lost)} of its parity objects`;
    findings.add("parity_damaged", `${detail}; a collection makes them again`);
  }
}

/** Reads every fragment: its name must be its hash, and it must open. */
export async function checkFragments(
  core: RepositoryCore,
  { findings, beside }: ObjectWork,
  signal: AbortSignal,
): Promise<void> {
  const { backend, opener, catalog } = core.parts;
  const known = [...catalog.commits.fragments()];
  const present = new Set<string>();
  for await (const { key } of backend.list("index/", signal)) {
    present.add(key.slice("index/".length));
    try {
      const bytes = await backend.get(key, signal);
      if (sha256Of(bytes) !== key.slice("index/".length)) {
        throw new HoldfastError("RECORD_DAMAGED", "its content is not what its name says");
      }
      decodeFragment(opener.open(bytes).plain);
    } catch (error) {
      if (hasCode(error, "OBJECT_MISSING")) continue; // collected beside us
      if (!(error instanceof HoldfastError)) throw error;
      findings.add("fragment_damaged", `the fragment ${key} cannot be read: ${messageOf(error)}`);
    }
  }
  for (const name of known) {
    if (present.has(name) || !catalog.commits.hasFragment(name)) continue;
    if (await beside.isCollected(`index/${name}`, signal)) continue;
    findings.add("fragment_damaged", `the fragment index/${name} is missing`);
  }
}
