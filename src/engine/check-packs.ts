/**
 * The part of a check that looks at packs: each must be there, and those that are read must be what they were written
 * as, record by record. What is bad is marked suspect, so that it is stored again when the live file still has it.
 */
import { mapLimited } from "../base/concurrency.js";
import { type HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { Beside } from "./check-beside.js";
import type { Findings } from "./check-findings.js";
import type { RepositoryCore } from "./core.js";
import { type ChunkHolder, holderObjectKey } from "./index/chunk-index.js";
import type { PackProof } from "./pack/prove.js";
import { suspectUnfound, trustAgain } from "./suspects.js";

export const CHECK_LEVELS = ["structure", "sample", "full"] as const;
export type CheckLevel = (typeof CHECK_LEVELS)[number];

export interface CheckOptions {
  readonly level: CheckLevel;
  /** Share of the packs that `sample` reads, those first that were not read for longest, 0 to 1; default 0.1. */
  readonly share?: number;
  /** Goes on with a full check that was cut short: what it has read and found whole is not read again. */
  readonly resume?: boolean;
}

export interface CheckProgress {
  readonly packsDone: number;
  readonly packsTotal: number;
}

export interface PackWork {
  readonly options: CheckOptions;
  readonly findings: Findings;
  readonly beside: Beside;
  readonly onProgress: ((progress: CheckProgress) => void) | undefined;
}

export interface PackCounts {
  readonly packsChecked: number;
  /** Packs that a resumed check had read before. */
  readonly packsSkipped: number;
  readonly recordsChecked: number;
  readonly bytesChecked: number;
  /** False when chunks may have been marked suspect, or are trusted again. */
  readonly isSound: boolean;
}

const SHARE = 0.1;

/** Checks that all packs are there, and reads as many of them as the options say. */
export async function checkPacks(core: RepositoryCore, work: PackWork, signal: AbortSignal): Promise<PackCounts> {
  const { options, onProgress } = work;
  const counted = { packsChecked: 0, packsSkipped: 0, recordsChecked: 0, bytesChecked: 0, isSound: true };
  const { verified } = core.parts.catalog;
  const holders: ChunkHolder[] = [];
  const lost: number[] = [];
  for (const holder of [...core.parts.catalog.chunks.holders()].filter(({ kind }) => kind !== "w")) {
    signal.throwIfAborted();
    const found = await lookAt(core, holder, work, signal);
    if (found !== "collected") holders.push(holder);
    if (found === "missing") lost.push(holder.number);
  }
  counted.packsChecked = holders.length;
  counted.isSound = lost.length === 0;
  if (lost.length > 0) await markAllSuspect(core, new Set(lost), "its pack is missing");
  await verified.keepOnly(new Set(holders.map(({ name }) => name)));
  const sinceMs = await startedMs(core, options);
  const toRead = chooseShare(core, options, holders).filter(
    ({ name, number }) => !lost.includes(number) && verified.timeOf(name) < sinceMs,
  );
  if (options.level === "full") counted.packsSkipped = holders.length - lost.length - toRead.length;
  let packsDone = 0;
  const whole: ChunkHolder[] = [];
  await mapLimited(toRead, core.parts.pool.workers, signal, async (holder, inner) => {
    const proof = await provePack(core, holder, work, inner);
    counted.recordsChecked += proof.records;
    counted.bytesChecked += proof.bytes;
    counted.isSound &&= proof.isSound;
    if (proof.isWhole) whole.push(holder);
    packsDone += 1;
    onProgress?.({ packsDone, packsTotal: toRead.length });
  });
  if (await trustAgain(core, whole, signal)) counted.isSound = false;
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

/** Tells of a pack that is missing or has another size. `collected`: a collection removed it beside us. */
async function lookAt(
  core: RepositoryCore,
  holder: ChunkHolder,
  { findings, beside }: PackWork,
  signal: AbortSignal,
): Promise<"there" | "missing" | "collected"> {
  const key = holderObjectKey(holder);
  const found = await core.parts.backend.stat(key, signal);
  // A collection of ours may have removed it since we listed.
  if (core.parts.catalog.chunks.holder(holder.number) === undefined) return "collected";
  if (found === undefined && (await beside.isCollected(key, signal))) return "collected";
  if (found === undefined) findings.add("pack_missing", `the pack ${key} is missing`);
  else if (found.sizeBytes !== holder.sizeBytes) {
    findings.add(
      "pack_damaged",
      `the pack ${key} has ${String(found.sizeBytes)} bytes instead of ${String(holder.sizeBytes)}`,
    );
  }
  return found === undefined ? "missing" : "there";
}

async function markAllSuspect(core: RepositoryCore, packs: ReadonlySet<number>, reason: string): Promise<void> {
  const { catalog, content } = core.parts;
  for await (const page of catalog.chunks.all()) {
    for (const { id, locations } of page) {
      for (const location of locations) {
        if (packs.has(location.pack) && !location.suspect) await content.markSuspect(id, reason, location);
      }
    }
  }
}

async function noteDamage(core: RepositoryCore, holder: ChunkHolder, proof: PackProof): Promise<void> {
  const { catalog, content } = core.parts;
  for (const id of proof.damaged) {
    const location = catalog.chunks.locations(id).find(({ pack }) => pack === holder.number);
    if (location !== undefined) await content.markSuspect(id, "check found it damaged", location);
  }
  if (proof.directoryFault !== undefined) await suspectUnfound(core, holder, proof.entries);
  if (!proof.nameMatches || proof.directoryFault !== undefined) await content.markPack(holder.number);
}

interface Proof {
  readonly records: number;
  readonly bytes: number;
  readonly isSound: boolean;
  readonly isWhole: boolean;
}

/** A pack that does not read, on a disk that takes writes: nothing in it is relied upon. A whole disk in trouble is an error. */
async function unreadable(
  core: RepositoryCore,
  holder: ChunkHolder,
  findings: Findings,
  error: HoldfastError,
): Promise<Proof> {
  if (!(await core.parts.content.markPack(holder.number))) throw error;
  findings.add("pack_damaged", `the pack ${holderObjectKey(holder)} cannot be read: ${error.message}`);
  await markAllSuspect(core, new Set([holder.number]), "its pack cannot be read");
  return { records: 0, bytes: 0, isSound: false, isWhole: false };
}

async function provePack(
  core: RepositoryCore,
  holder: ChunkHolder,
  { findings, beside }: PackWork,
  signal: AbortSignal,
): Promise<Proof> {
  const key = holderObjectKey(holder);
  const { pool, catalog } = core.parts;
  try {
    const proof = await pool.prove({ key, sha256: holder.name, sizeBytes: holder.sizeBytes }, signal);
    await noteDamage(core, holder, proof);
    if (!proof.nameMatches || proof.damaged.length > 0) {
      const what = `${String(proof.damaged.length)} of its chunks cannot be read`;
      findings.add("pack_damaged", `the pack ${key} is not what it was written as; ${what}`);
    } else if (proof.directoryFault === undefined) {
      await catalog.verified.note(holder.name, core.parts.clock.nowMs());
    }
    const isSound = proof.damaged.length === 0 && proof.directoryFault === undefined;
    return { records: proof.records, bytes: proof.bytes, isSound, isWhole: isSound && proof.nameMatches };
  } catch (error) {
    if (hasCode(error, "STORE_IO")) return await unreadable(core, holder, findings, error);
    if (!hasCode(error, "OBJECT_MISSING") && !hasCode(error, "OBJECT_DAMAGED")) throw error;
    const isGone = hasCode(error, "OBJECT_MISSING") && (await beside.isCollected(key, signal));
    if (!isGone && catalog.chunks.holder(holder.number) !== undefined)
      findings.add("pack_damaged", `${key}: ${messageOf(error)}`);
    return { records: 0, bytes: 0, isSound: true, isWhole: false };
  }
}
