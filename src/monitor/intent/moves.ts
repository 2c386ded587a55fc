/**
 * Whether the content of a missing (or emptied) file lives on under another name: moved, rotated, compressed. The same
 * inode proves it when size and mtime are the same too or the inode is older than our record of it (numbers are used
 * again); the same digest proves it otherwise.
 */
import { type BigIntStats, readdirSync } from "node:fs";
import { type BytePath, joinPath, nameOf, parentPath, pathBytes, pathText } from "../../base/paths.js";
import { lookAt } from "../look.js";
import type { Registry, RegistryRecord } from "../registry.js";
import type { ChecksOfPath, FileValidation } from "../validation.js";
import { VALIDATION_TIMEOUT_MS } from "../validator.js";
import type { Arrival, Arrivals } from "./arrivals.js";

export interface MoveParts {
  readonly arrivals: Arrivals;
  readonly registry: Registry;
  readonly validation: FileValidation;
}

/** Arrivals of the right size that are read to compare their content. */
const DIGESTS_MAX = 8;
/** Arrivals of the right size that are looked at, whether they are still there. */
const LOOKS_MAX = 64;
/** A copy made this long before the original went may be its new place, ms; an older one is a copy. */
const COPY_WINDOW_MS = 10_000;
/** An inode at least this old under a new name was renamed, not made, ms. */
const RENAMED_AGE_MS = 500;
/** A rotation's copy was made at most this long before the original was missed or cut, ms. */
const ROTATION_WINDOW_MS = 60_000;
/** Names of a folder that are looked at for members of a rotation. */
const FOLDER_NAMES_MAX = 10_000;
const GZIP_CHECK: ChecksOfPath = { checks: [{ kind: "gzip" }], timeoutMs: VALIDATION_TIMEOUT_MS };
const PACKED_CHECK: ChecksOfPath = { checks: [{ kind: "packed" }], timeoutMs: VALIDATION_TIMEOUT_MS };
const COMPRESSED = [".gz", ".bz2", ".xz", ".zst", ".lz4"];
/** `name.1`, `name-20251201`, `name.2.gz`: what a rotation makes of `name`. */
const ROTATED = /^(.+?)(?:\.\d{1,4}|[.-]\d{8}(?:-\d{1,10})?)(?:\.(?:gz|bz2|xz|zst|lz4))?$/;

/** A file that is not where it was. */
export interface Absent {
  readonly path: BytePath;
  readonly record: RegistryRecord;
  /** When it was first missed, wall ms. */
  readonly seenAtMs: number;
  /** True: only the content itself under another name will do, no sign that a tool meant it to go. */
  readonly isStrict?: boolean;
}

/** Why the content is not lost, for people; undefined when it is nowhere else. */
export async function isMovedAway(parts: MoveParts, absent: Absent, signal: AbortSignal): Promise<string | undefined> {
  const { path, record } = absent;
  const sameInode = parts.arrivals.byInode(record.stat.dev, record.stat.ino);
  if (sameInode !== undefined && sameInode.path !== path && isSameFile(sameInode, record))
    return `moved to ${pathText(sameInode.path)}`;
  const wentOn = movedAfterSave(parts.arrivals, absent);
  if (wentOn !== undefined) return wentOn;
  return (
    movedAndMissed(parts, absent) ??
    (await rotatedTo(parts, absent, signal)) ??
    (absent.isStrict === true ? undefined : await compressedOrRotated(parts, absent, signal)) ??
    (await sameContent(parts, absent, signal))
  );
}

/** It was written anew as another inode, which was seen at the path, and that was renamed before it was registered. */
function movedAfterSave(arrivals: Arrivals, { path, record, isStrict }: Absent): string | undefined {
  const arrival = isStrict === true ? undefined : arrivals.wentOn(path);
  if (arrival === undefined || arrival.seenAtMs <= record.registeredAtMs || record.kind !== "file") return undefined;
  const look = lookAt(arrival.path);
  const isThere = look.is === "there" && look.node.stat.ino === arrival.ino && look.node.linkCount === 1;
  return isThere ? `moved to ${pathText(arrival.path)} after it was saved` : undefined;
}

/**
 * A rotation that copies (`copytruncate`) and perhaps compresses at once: a file of the rotation's name begins with the
 * content that is missed, which proves it however much was appended meanwhile.
 */
async function rotatedTo(parts: MoveParts, absent: Absent, signal: AbortSignal): Promise<string | undefined> {
  const { path, record, seenAtMs } = absent;
  if (record.sha256 === undefined || record.stat.sizeBytes === 0) return undefined;
  let digests = 0;
  for (const { path: place } of parts.arrivals.inFolder(parentPath(path), seenAtMs - ROTATION_WINDOW_MS)) {
    const isNamedSo = place !== path && isMadeOf(nameOf(place), nameOf(path));
    const isGzip = place.endsWith(".gz");
    const look = isNamedSo ? lookAt(place) : undefined;
    if (look?.is !== "there" || (!isGzip && look.node.stat.sizeBytes < record.stat.sizeBytes)) continue;
    digests += 1;
    if (digests > DIGESTS_MAX) return undefined;
    const part = { lengthBytes: record.stat.sizeBytes, isGzip };
    const digest = await parts.validation.digest(place, signal, part);
    if (digest?.sha256 === record.sha256)
      return `${isGzip ? "rotated and compressed" : "rotated"} to ${pathText(place)}`;
  }
  return undefined;
}

/** `app.log.1`, `app.log-20251121.gz` and `app.log.gz` of `app.log`; `app.log.2` and `app.log.1.gz` of `app.log.1`. */
function isMadeOf(name: string, original: string): boolean {
  const base = ROTATED.exec(name)?.[1];
  if (base === original || name === `${original}.gz`) return true;
  return base !== undefined && base === ROTATED.exec(original)?.[1];
}

/**
 * Of a log that may be rotated: another file has its name now, as when a rotation drops the oldest. What is written into
 * the file itself is no rotation.
 */
export function isPushedOut({ path, record }: Absent, standing: BigIntStats): boolean {
  const isOther = record.stat.dev !== standing.dev || record.stat.ino !== standing.ino;
  const isBornSince = Number(standing.birthtimeNs / 1_000_000n) > record.registeredAtMs; // numbers are used again
  return ROTATED.test(nameOf(path)) && (isOther || isBornSince);
}

/**
 * Of a log that may be rotated: it was a member of a rotation, and all that is left of that is newer, so its time was
 * over. Undefined when it was not, or an older one is still there.
 */
export function isRetired({ path, record }: Absent): string | undefined {
  const base = ROTATED.exec(nameOf(path))?.[1];
  if (base === undefined) return undefined;
  let isLeft = false;
  for (const name of namesIn(parentPath(path))) {
    if (name !== base && ROTATED.exec(name)?.[1] !== base) continue;
    const look = lookAt(joinPath(parentPath(path), name));
    if (look.is !== "there") continue;
    if (look.node.stat.mtimeNs < record.stat.mtimeNs) return undefined;
    isLeft = true;
  }
  return isLeft ? `the oldest of the rotation of ${Buffer.from(base, "latin1").toString("utf8")}` : undefined;
}

function namesIn(folder: BytePath): readonly string[] {
  try {
    return readdirSync(pathBytes(folder), "latin1").slice(0, FOLDER_NAMES_MAX);
  } catch {
    return [];
  }
}

function isSameFile(arrival: Arrival, record: RegistryRecord): boolean {
  if (record.linkCount > 1 && arrival.seenAtMs <= record.registeredAtMs) return false; // a name that was there before
  if (isYounger(arrival, record)) return false;
  const look = lookAt(arrival.path);
  return look.is === "there" && look.node.stat.ino === arrival.ino;
}

/**
 * Made after the file was last changed: another one, to which the number was given again, though it may have the same size
 * and time, as one of the same second does that holdfast has just put back.
 */
function isYounger(arrival: Arrival, record: RegistryRecord): boolean {
  return arrival.bornMs > Number(record.stat.ctimeNs / 1_000_000n);
}

/** It was renamed, and went from there too: that name is missed, not this one. */
function movedAndMissed({ arrivals, registry }: MoveParts, { path, record }: Absent): string | undefined {
  const left = arrivals.departedOf(record.stat.dev, record.stat.ino);
  if (left === undefined || left.path === path || record.sha256 === undefined || isYounger(left, record))
    return undefined;
  const isKnownThere = registry.digestOf(left.path, left) === record.sha256;
  return isKnownThere ? `moved to ${pathText(left.path)}, which is missed itself` : undefined;
}

/** A partner came after the missing file was known and not long before that went: a twin from before proves nothing. */
function partnersAfterMs({ record, seenAtMs }: Absent): number {
  return Math.max(record.registeredAtMs, seenAtMs - COPY_WINDOW_MS);
}

async function compressedOrRotated(
  { arrivals, validation }: MoveParts,
  absent: Absent,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { path } = absent;
  const base = ROTATED.exec(nameOf(path))?.[1];
  for (const arrival of arrivals.inFolder(parentPath(path), partnersAfterMs(absent))) {
    const isMadeOfIt = arrival.path.startsWith(path);
    if (!isMadeOfIt && base === undefined) continue;
    const isPacked = isMadeOfIt && COMPRESSED.includes(arrival.path.slice(path.length));
    if (isPacked && (await isWhole(validation, arrival.path, signal))) return `compressed to ${pathText(arrival.path)}`;
    // In a rotation the neighbours are renamed: inodes of some age under new names.
    const isRenamed = arrival.bornMs < arrival.seenAtMs - RENAMED_AGE_MS && arrival.path !== path;
    if (base !== undefined && isRenamed && ROTATED.exec(nameOf(arrival.path))?.[1] === base)
      return `dropped by the rotation of ${Buffer.from(base, "latin1").toString("utf8")}`;
  }
  return undefined;
}

/** A disk that filled up leaves an empty or cut archive, and a script removes the original all the same. */
async function isWhole(validation: FileValidation, archive: BytePath, signal: AbortSignal): Promise<boolean> {
  const look = lookAt(archive);
  if (look.is !== "there" || look.node.stat.sizeBytes === 0) return false;
  const check = archive.endsWith(".gz") ? GZIP_CHECK : PACKED_CHECK;
  const { verdict } = await validation.judge(archive, check, signal);
  return verdict.verdict !== "invalid";
}

async function sameContent(parts: MoveParts, absent: Absent, signal: AbortSignal): Promise<string | undefined> {
  const { path, record } = absent;
  if (record.sha256 === undefined || record.stat.sizeBytes === 0) return undefined;
  let looks = 0;
  let digests = 0;
  for (const arrival of parts.arrivals.bySize(record.stat.sizeBytes, partnersAfterMs(absent))) {
    if (arrival.path === path) continue;
    looks += 1;
    if (looks > LOOKS_MAX || digests >= DIGESTS_MAX) return undefined;
    if (lookAt(arrival.path).is === "missing") {
      parts.arrivals.forget(arrival);
      continue;
    }
    digests += 1;
    if ((await digestOf(parts, arrival, signal)) === record.sha256 && parts.arrivals.claim(arrival, path))
      return `moved to ${pathText(arrival.path)} (same content)`;
  }
  return undefined;
}

async function digestOf(
  { registry, validation }: MoveParts,
  arrival: Arrival,
  signal: AbortSignal,
): Promise<string | undefined> {
  return registry.digestOf(arrival.path, arrival) ?? (await validation.digest(arrival.path, signal))?.sha256;
}
