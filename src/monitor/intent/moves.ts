/**
 * Whether the content of a missing (or emptied) file lives on under another name: moved, rotated, compressed. The same
 * inode proves it when size and mtime are the same too or the inode is older than our record of it (numbers are used
 * again); the same digest proves it otherwise.
 */
import { type BytePath, nameOf, parentPath, pathText } from "../../base/paths.js";
import { isSameContentStat } from "../ledger.js";
import { lookAt } from "../look.js";
import type { Registry, RegistryRecord } from "../registry.js";
import type { FileValidation } from "../validation.js";
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
const COMPRESSED = [".gz", ".bz2", ".xz", ".zst", ".lz4"];
/** `name.1`, `name-20251201`, `name.2.gz`: what a rotation makes of `name`. */
const ROTATED = /^(.+?)(?:\.\d{1,4}|[.-]\d{8}(?:-\d{1,10})?)(?:\.(?:gz|bz2|xz|zst|lz4))?$/;

/** A file that is not where it was. */
export interface Absent {
  readonly path: BytePath;
  readonly record: RegistryRecord;
  /** When it was first missed, wall ms. */
  readonly seenAtMs: number;
}

/** Why the content is not lost, for people; undefined when it is nowhere else. */
export async function isMovedAway(parts: MoveParts, absent: Absent, signal: AbortSignal): Promise<string | undefined> {
  const { path, record } = absent;
  const sameInode = parts.arrivals.byInode(record.stat.dev, record.stat.ino);
  if (sameInode !== undefined && sameInode.path !== path && isSameFile(sameInode, record))
    return `moved to ${pathText(sameInode.path)}`;
  return compressedOrRotated(parts, absent) ?? (await sameContent(parts, absent, signal));
}

function isSameFile(arrival: Arrival, record: RegistryRecord): boolean {
  if (record.linkCount > 1 && arrival.seenAtMs <= record.registeredAtMs) return false; // a name that was there before
  const isUntouched = isSameContentStat(arrival, record.stat) || record.kind !== "file";
  if (!isUntouched && arrival.bornMs >= record.registeredAtMs) return false;
  const look = lookAt(arrival.path);
  return look.is === "there" && look.node.stat.ino === arrival.ino;
}

/** A partner came after the missing file was known and not long before that went: a twin from before proves nothing. */
function partnersAfterMs({ record, seenAtMs }: Absent): number {
  return Math.max(record.registeredAtMs, seenAtMs - COPY_WINDOW_MS);
}

function compressedOrRotated({ arrivals }: MoveParts, absent: Absent): string | undefined {
  const { path } = absent;
  const base = ROTATED.exec(nameOf(path))?.[1];
  for (const arrival of arrivals.inFolder(parentPath(path), partnersAfterMs(absent))) {
    const isMadeOfIt = arrival.path.startsWith(path);
    if (!isMadeOfIt && base === undefined) continue;
    if (isMadeOfIt && COMPRESSED.includes(arrival.path.slice(path.length)))
      return `compressed to ${pathText(arrival.path)}`;
    // In a rotation the neighbours are renamed: inodes of some age under new names.
    const isRenamed = arrival.bornMs < arrival.seenAtMs - RENAMED_AGE_MS && arrival.path !== path;
    if (base !== undefined && isRenamed && ROTATED.exec(nameOf(arrival.path))?.[1] === base)
      return `dropped by the rotation of ${Buffer.from(base, "latin1").toString("utf8")}`;
  }
  return undefined;
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
