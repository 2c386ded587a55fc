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
const COMPRESSED = [".gz", ".bz2", ".xz", ".zst", ".lz4"];
/** `name.1`, `name-20251201`, `name.2.gz`: what a rotation makes of `name`. */
const ROTATED = /^(.+?)(?:\.\d{1,4}|[.-]\d{8}(?:-\d{1,10})?)(?:\.(?:gz|bz2|xz|zst|lz4))?$/;

/** Why the content is not lost, for people; undefined when it is nowhere else. */
export async function isMovedAway(
  parts: MoveParts,
  path: BytePath,
  record: RegistryRecord,
  signal: AbortSignal,
): Promise<string | undefined> {
  const sameInode = parts.arrivals.byInode(record.stat.dev, record.stat.ino);
  if (sameInode !== undefined && sameInode.path !== path && isSameFile(sameInode, record))
    return `moved to ${pathText(sameInode.path)}`;
  const names = parts.arrivals.namesIn(parentPath(path));
  const compressed = COMPRESSED.find((ending) => names.includes(nameOf(path) + ending));
  if (compressed !== undefined) return `compressed to ${pathText(path)}${compressed}`;
  const base = ROTATED.exec(nameOf(path))?.[1];
  if (base !== undefined && names.some((name) => name === base || ROTATED.exec(name)?.[1] === base))
    return `dropped by the rotation of ${Buffer.from(base, "latin1").toString("utf8")}`;
  return await sameContent(parts, path, record, signal);
}

function isSameFile(arrival: Arrival, record: RegistryRecord): boolean {
  if (record.linkCount > 1 && !isNewerThan(arrival, record)) return false; // another name that was there before
  const isUntouched = isSameContentStat(arrival, record.stat) || record.kind !== "file";
  if (!isUntouched && arrival.bornMs >= record.registeredAtMs) return false;
  const look = lookAt(arrival.path);
  return look.is === "there" && look.node.stat.ino === arrival.ino;
}

/** It came after the missing file was known: a copy of it may be its new place, a twin from before is not. */
function isNewerThan(arrival: Arrival, record: RegistryRecord): boolean {
  return arrival.seenAtMs > record.registeredAtMs;
}

async function sameContent(
  { arrivals, registry, validation }: MoveParts,
  path: BytePath,
  record: RegistryRecord,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (record.sha256 === undefined || record.stat.sizeBytes === 0) return undefined;
  let looks = 0;
  let digests = 0;
  for (const arrival of arrivals.bySize(record.stat.sizeBytes)) {
    if (arrival.path === path || !isNewerThan(arrival, record)) continue;
    looks += 1;
    if (looks > LOOKS_MAX || digests >= DIGESTS_MAX) return undefined;
    if (lookAt(arrival.path).is !== "there") continue;
    digests += 1;
    const sha256 = registry.digestOf(arrival.path, arrival) ?? (await validation.digest(arrival.path, signal))?.sha256;
    if (sha256 === record.sha256) return `moved to ${pathText(arrival.path)} (same content)`;
  }
  return undefined;
}
