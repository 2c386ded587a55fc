/**
 * Checking a repository: configuration, commit chain, fragments, packs, trees, and that every chunk which a backup or a
 * version needs is there. With `sample` and `full` records are read and opened too. What is bad is marked suspect, so
 * that it is stored again when the live file still has it; nothing is ever deleted here.
 */
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import { mapLimited } from "../base/concurrency.js";
import type { RepositoryCore } from "./core.js";
import { type CheckProblem, Findings } from "./check-findings.js";
import { checkCommits, checkConfig, checkFragments, checkKeysAndLog, checkParity } from "./check-objects.js";
import { type ChunkHolder, holderObjectKey } from "./index/chunk-index.js";
import { stateOf } from "./index/entry-index.js";
import type { Repository } from "./repository.js";
import { ByteReader } from "./tree/bytes.js";
import { readState } from "./tree/codec.js";
import { type LoadNode, visitNodes } from "./tree/reader.js";
import type { ChunkId, FileNode } from "./types.js";

export { type CheckProblem, PROBLEMS_MAX, PROBLEM_KINDS } from "./check-findings.js";

export const CHECK_LEVELS = ["structure", "sample", "full"] as const;
export type CheckLevel = (typeof CHECK_LEVELS)[number];

export interface CheckOptions {
  readonly level: CheckLevel;
  /** Share of the packs that `sample` reads, those first that were not read for longest, 0 to 1; default 0.1. */
  readonly share?: number;
  /** Goes on with a full check that was cut short: what it has read and found whole is not read again. */
  readonly resume?: boolean;
}

export interface CheckReport {
  readonly level: CheckLevel;
  readonly packsChecked: number;
  /** Packs that a resumed check had read before. */
  readonly packsSkipped: number;
  readonly recordsChecked: number;
  readonly bytesChecked: number;
  /** The worst first; at most `PROBLEMS_MAX`. */
  readonly problems: readonly CheckProblem[];
  /** Problems found, listed or not. */
  readonly problemCount: number;
}

export interface CheckProgress {
  readonly packsDone: number;
  readonly packsTotal: number;
}

const SHARE = 0.1;

/** Checks. Damage is in the report, never thrown. Throws INTERRUPTED, STORE_IO. */
export async function check(
  repository: Repository,
  options: CheckOptions,
  signal: AbortSignal,
  onProgress?: (progress: CheckProgress) => void,
): Promise<CheckReport> {
  const { core } = repository;
  const findings = new Findings();
  await checkConfig(core, findings, signal);
  await checkKeysAndLog(core, findings, signal);
  await checkCommits(core, findings, signal);
  await checkFragments(core, findings, signal);
  const counted = await checkPacks(core, { options, findings, onProgress }, signal);
  if (options.level === "full") await checkParity(core, findings, signal);
  await checkTrees(core, findings, signal);
  await checkEntries(core, findings, signal);
  return { level: options.level, ...counted, problems: findings.worstFirst(), problemCount: findings.count };
}

interface PackWork {
  readonly options: CheckOptions;
  readonly findings: Findings;
  readonly onProgress: ((progress: CheckProgress) => void) | undefined;
}

async function checkPacks(
  core: RepositoryCore,
  { options, findings, onProgress }: PackWork,
  signal: AbortSignal,
): Promise<Pick<CheckReport, "packsChecked" | "packsSkipped" | "recordsChecked" | "bytesChecked">> {
  const counted = { packsChecked: 0, packsSkipped: 0, recordsChecked: 0, bytesChecked: 0 };
  const { verified } = core.parts.catalog;
  const holders = [...core.parts.catalog.chunks.holders()].filter(({ kind }) => kind !== "w");
  const lost: number[] = [];
  for (const holder of holders) {
    signal.throwIfAborted();
    counted.packsChecked += 1;
    if (await isMissing(core, holder, findings, signal)) lost.push(holder.number);
  }
  if (lost.length > 0) await markAllSuspect(core, new Set(lost));
  await verified.keepOnly(new Set(holders.map(({ name }) => name)));
  const sinceMs = await startedMs(core, options);
  const toRead = chooseShare(core, options, holders).filter(
    ({ name, number }) => !lost.includes(number) && verified.timeOf(name) < sinceMs,
  );
  if (options.level === "full") counted.packsSkipped = holders.length - lost.length - toRead.length;
  let packsDone = 0;
  await mapLimited(toRead, core.parts.pool.workers, signal, async (holder, inner) => {
    const proof = await provePack(core, holder, findings, inner);
    counted.recordsChecked += proof.records;
    counted.bytesChecked += proof.bytes;
    packsDone += 1;
    onProgress?.({ packsDone, packsTotal: toRead.length });
  });
  if (options.level === "full") await verified.noteFullCheck(undefined);
  return counted;
}

/** Packs read whole at this time or later need not be read again: when the full check began that is resumed, wall ms. */
async function startedMs({ parts: { catalog, clock } }: RepositoryCore, options: CheckOptions): Promise<number> {
  if (options.level !== "full") return Number.POSITIVE_INFINITY;
  const before = catalog.verified.fullCheckStartedMs;
  if (options.resume === true && before !== undefined && before <= clock.nowMs()) return before;
  await catalog.verified.noteFullCheck(clock.nowMs());
  return Number.POSITIVE_INFINITY;
}

/** The share of the packs to read, those first that waited longest, so that repeated samples come around to all of them. */
function chooseShare(core: RepositoryCore, options: CheckOptions, holders: readonly ChunkHolder[]): ChunkHolder[] {
  const { verified } = core.parts.catalog;
  const share = options.level === "full" ? 1 : options.level === "sample" ? (options.share ?? SHARE) : 0;
  const oldestFirst = [...holders].sort((a, b) => verified.timeOf(a.name) - verified.timeOf(b.name));
  return oldestFirst.slice(0, Math.ceil(Math.min(1, Math.max(0, share)) * holders.length));
}

async function isMissing(
  core: RepositoryCore,
  holder: ChunkHolder,
  findings: Findings,
  signal: AbortSignal,
): Promise<boolean> {
  const key = holderObjectKey(holder);
  const found = await core.parts.backend.stat(key, signal);
  // A collection beside us may have removed it since we listed.
  if (core.parts.catalog.chunks.holder(holder.number) === undefined) return false;
  if (found === undefined) findings.add("pack_missing", `the pack ${key} is missing`);
  else if (found.sizeBytes !== holder.sizeBytes) {
    findings.add(
      "pack_damaged",
      `the pack ${key} has ${String(found.sizeBytes)} bytes instead of ${String(holder.sizeBytes)}`,
    );
  }
  return found === undefined;
}

async function markAllSuspect(core: RepositoryCore, packs: ReadonlySet<number>): Promise<void> {
  const { catalog, content } = core.parts;
  for await (const page of catalog.chunks.all()) {
    for (const { id, locations } of page) {
      for (const location of locations) {
        if (packs.has(location.pack) && !location.suspect)
          await content.markSuspect(id, "its pack is missing", location);
      }
    }
  }
}

async function provePack(
  core: RepositoryCore,
  holder: ChunkHolder,
  findings: Findings,
  signal: AbortSignal,
): Promise<{ records: number; bytes: number }> {
  const key = holderObjectKey(holder);
  const { pool, catalog, content } = core.parts;
  try {
    const proof = await pool.prove({ key, sha256: holder.name, sizeBytes: holder.sizeBytes }, signal);
    for (const id of proof.damaged) {
      const location = catalog.chunks.locations(id).find(({ pack }) => pack === holder.number);
      if (location !== undefined) await content.markSuspect(id, "check found it damaged", location);
    }
    if (proof.directoryFault !== undefined) await markUnfound(core, holder, new Set(idsOf(proof.entries)));
    if (!proof.nameMatches || proof.damaged.length > 0) {
      const what = `${String(proof.damaged.length)} of its chunks cannot be read`;
      findings.add("pack_damaged", `the pack ${key} is not what it was written as; ${what}`);
    } else if (proof.directoryFault === undefined) {
      await catalog.verified.note(holder.name, core.parts.clock.nowMs());
    }
    return { records: proof.records, bytes: proof.bytes };
  } catch (error) {
    if (!hasCode(error, "OBJECT_MISSING") && !hasCode(error, "OBJECT_DAMAGED")) throw error;
    if (catalog.chunks.holder(holder.number) !== undefined) findings.add("pack_damaged", `${key}: ${messageOf(error)}`);
    return { records: 0, bytes: 0 };
  }
}

function idsOf(entries: Awaited<ReturnType<RepositoryCore["parts"]["pool"]["prove"]>>["entries"]): ChunkId[] {
  return entries.flatMap((entry) => entry.inner?.map(({ id }) => id) ?? [entry.id]);
}

/** Chunks that the catalog expects in a pack and that a scan of its records did not find. */
async function markUnfound(core: RepositoryCore, holder: ChunkHolder, found: ReadonlySet<ChunkId>): Promise<void> {
  const { catalog, content } = core.parts;
  for await (const page of catalog.chunks.all()) {
    for (const { id, locations } of page) {
      const location = locations.find(({ pack }) => pack === holder.number);
      if (location !== undefined && !found.has(id)) await content.markSuspect(id, "its record is gone", location);
    }
  }
}

/** How many of a file's chunks have no copy that is not known to be bad. */
function missingChunks(core: RepositoryCore, node: FileNode): number {
  return (node.chunks ?? []).filter(({ id }) => !core.parts.chunkSet.isDurable(id)).length;
}

async function checkTrees(core: RepositoryCore, findings: Findings, signal: AbortSignal): Promise<void> {
  const { catalog, content } = core.parts;
  const load: LoadNode = (id, inner) => content.chunk(id, inner);
  const visited = new Set<ChunkId>();
  for (const { manifest, sources } of catalog.commits.backups()) {
    const where = manifest.backup_id;
    for (const { name, root } of sources) {
      try {
        await visitNodes(
          load,
          root,
          async (id, open) => {
            if (visited.has(id)) return false;
            const node = await open();
            // Noted only when it could be read: every backup that needs a bad node is told of.
            visited.add(id);
            if (!("entries" in node)) return true;
            for (const { path, value } of node.entries) {
              const missing = missingChunks(core, readState(new ByteReader(value)).node);
              if (missing > 0) findings.addContent(name, path, { where, missing });
            }
            return true;
          },
          signal,
        );
      } catch (error) {
        if (!isDamage(error)) throw error;
        findings.add("tree_damaged", `the tree of ${name} in ${where} cannot be read: ${messageOf(error)}`);
      }
    }
  }
}

async function checkEntries(core: RepositoryCore, findings: Findings, signal: AbortSignal): Promise<void> {
  const { entries } = core.parts.catalog;
  for (const source of entries.sourceNames) {
    for await (const page of entries.currentPages(source)) {
      signal.throwIfAborted();
      for (const record of page) {
        const missing = missingChunks(core, stateOf(record).node);
        if (missing > 0) findings.addContent(source, record.path, { where: "current version", missing });
      }
    }
    for await (const page of entries.historyPages(source)) {
      signal.throwIfAborted();
      for (const { path, version } of page) {
        const missing = version.state === undefined ? 0 : missingChunks(core, version.state.node);
        if (missing > 0) findings.addContent(source, path, { where: "older version", missing });
      }
    }
  }
}

function isDamage(error: unknown): boolean {
  const codes = ["RECORD_DAMAGED", "CHUNK_MISSING", "OBJECT_MISSING", "OBJECT_DAMAGED"];
  return error instanceof HoldfastError && codes.includes(error.code);
}
