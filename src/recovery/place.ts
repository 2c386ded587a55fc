/**
 * Putting bytes back without doing harm. All steps are anchored (no symbolic link below the root is followed); a file
 * appears whole or not at all, with its metadata, proven from disk; what stands at the name is never overwritten
 * unless it is the very file that was judged damaged, and only after it is in quarantine. A crash at any step leaves
 * either what was there or the good file, and at most a staging file with the incident's id in its name.
 *
 * A damaged target is exchanged for the good file in one step, and what came out is looked at: were it not what was
 * judged, it goes back. What others saved meanwhile is never removed: where two saves met ours, the newest stands and the
 * other is kept beside it. Where the system cannot exchange names, some microseconds lie between the last look and the
 * rename, in which another program's atomic save would be replaced.
 */
import { createHash } from "node:crypto";
import { type BigIntStats, closeSync, constants, fstatSync, fsync, ftruncate, read, write } from "node:fs";
import { promisify } from "node:util";
import { type AnchoredFolder, openAnchored } from "../base/anchored.js";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import { dataRuns } from "../base/holes.js";
import { type BytePath, joinPath, nameOf, parentPath } from "../base/paths.js";
import { makeSpecialNode } from "../base/special-node.js";
import { applyToDescriptor, applyToName, nodeFromStat } from "../engine/metadata.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import {
  type PlaceHost,
  type PlaceTarget,
  gapTexts,
  makeFolder,
  tupleOf,
  unsafeTarget,
  withParents,
} from "./place-parents.js";
import { type TwoFiles, keepBeside, notedName, stagingName, unlinkQuietly } from "./staging.js";

export interface PlaceContent {
  open(signal: AbortSignal): AsyncIterable<Buffer>;
  /** Digest that the bytes must have on disk; undefined: whatever they have. */
  readonly sha256: string | undefined;
  /** Attributes to give; undefined: the damaged file's, or those that fit the folder. */
  readonly metadata: FileNode | undefined;
}

/**
 * placed: there and proven · returned: somebody made the name in the meantime · changed: the damaged file is not what
 * was judged any more (`keptAs`: what somebody saved in between and saved over since, now at that path) · unproven: the bytes could not be read or are not what they should be; try others.
 */
export type PlaceOutcome =
  | {
      readonly kind: "placed";
      readonly stat: StatTuple;
      readonly sha256: string | undefined;
      readonly gaps: readonly string[];
    }
  | { readonly kind: "returned" }
  | { readonly kind: "changed"; readonly keptAs?: BytePath }
  | { readonly kind: "unproven"; readonly why: string };

const READ_BYTES = 2 ** 20;
/** Saves that come one after another while files are exchanged back; each takes some microseconds. */
const EXCHANGES_MAX = 16;
const NEW_FILE_MODE = 0o644;
const writeAsync = promisify(write);
const readAsync = promisify(read);
const fsyncAsync = promisify(fsync);
const truncateAsync = promisify(ftruncate);

/** Puts a file back. Throws TARGET_UNSAFE, TARGET_IO (no space and the like), PERMISSION_DENIED; nothing half stays. */
export async function placeFile(
  target: PlaceTarget,
  content: PlaceContent,
  host: PlaceHost,
  signal: AbortSignal,
): Promise<PlaceOutcome> {
  return await withParents(target, host, async (folder) => {
    const name = nameOf(target.path);
    const early = earlyOutcome(folder.lstat(name), target.present);
    if (early !== undefined) return early;
    const staged = { name: stagingName(target.tag) };
    const fd = folder.openFile(staged.name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    let isStaged = true;
    try {
      const written = await writeContent(fd, content, signal);
      if (typeof written !== "string") return written;
      const gaps = applyToDescriptor(fd, content.metadata ?? fallbackNode(folder, name, target));
      await fsyncAsync(fd);
      host.onStep?.("staged");
      if ((await digestOf(fd, signal)) !== written) return unproven("what was written reads back differently");
      host.onStep?.("proved");
      const stat = tupleOf(fstatSync(fd, { bigint: true }));
      const outcome = await makeVisible(folder, staged, { name, target, stat, sha256: written }, host);
      if (outcome !== undefined) return outcome;
      isStaged = false;
      await folder.sync();
      host.onStep?.("synced");
      return { kind: "placed", stat, sha256: written, gaps: gapTexts(gaps) };
    } finally {
      const ours = tupleOf(fstatSync(fd, { bigint: true }));
      if (isStaged && isOneOf(folder.lstat(staged.name), { ours, judged: target.present }))
        unlinkQuietly(folder, staged.name);
      closeSync(fd);
    }
  });
}

/** Makes a symbolic link, folder, FIFO or device again. A thing of that name is left alone (returned). */
export async function placeNode(
  target: PlaceTarget,
  node: FileNode,
  host: PlaceHost,
  signal: AbortSignal,
): Promise<PlaceOutcome> {
  return await withParents(target, host, async (folder) => {
    const name = nameOf(target.path);
    if (folder.lstat(name) !== undefined) return { kind: "returned" };
    if (node.kind === "folder") {
      const gaps = await makeFolder(folder, name, node, { tag: target.tag, host });
      return gaps === undefined ? { kind: "returned" } : placedNow(folder, name, gaps);
    }
    const staged = stagingName(target.tag);
    try {
      await makeWithoutContent(folder, staged, node, signal);
      const gaps = applyToName(folder, staged, node);
      const made = folder.lstat(staged);
      if (made !== undefined) await host.announce({ path: target.path, stat: tupleOf(made), sha256: undefined });
      if (!folder.verify()) throw unsafeTarget(target.path);
      if (!folder.renameToFree(staged, folder, name)) return { kind: "returned" };
      host.onStep?.("visible");
      return placedNow(folder, name, gapTexts(gaps));
    } finally {
      unlinkQuietly(folder, staged);
      await folder.sync();
    }
  });
}

/**
 * Gives a lost name back to an inode that has another name, if that still has the content. `unproven` when it has not
 * (or hides behind a link): then the content is to be copied from elsewhere.
 */
export async function placeHardLink(
  target: PlaceTarget,
  other: { readonly path: BytePath; readonly stat: StatTuple; readonly sha256: string },
  host: PlaceHost,
  signal: AbortSignal,
): Promise<PlaceOutcome> {
  return await withParents(target, host, async (folder) => {
    await using otherFolder = openAnchored("/" as BytePath, parentPath(other.path));
    const fd = otherFolder.openFile(nameOf(other.path), constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = tupleOf(fstatSync(fd, { bigint: true }));
      if (stat.dev !== other.stat.dev || stat.ino !== other.stat.ino)
        return unproven("the other name is another file now");
      if ((await digestOf(fd, signal)) !== other.sha256) return unproven("the other name has other content now");
      await host.announce({ path: target.path, stat, sha256: other.sha256 });
      if (!folder.verify()) throw unsafeTarget(target.path);
      if (!linkUnlessTaken(otherFolder, nameOf(other.path), folder, nameOf(target.path))) return { kind: "returned" };
      const linked = folder.lstat(nameOf(target.path));
      if (linked?.ino !== stat.ino) {
        unlinkQuietly(folder, nameOf(target.path)); // somebody swapped the other name under us
        return unproven("the other name was swapped");
      }
      host.onStep?.("visible");
      await folder.sync();
      return { kind: "placed", stat, sha256: other.sha256, gaps: [] };
    } finally {
      closeSync(fd);
    }
  });
}

/** True when both are the same inode with the same content, as far as a stat can tell; ctime moves with each link. */
export function isSameFile(a: StatTuple, b: StatTuple): boolean {
  return a.dev === b.dev && a.ino === b.ino && a.sizeBytes === b.sizeBytes && a.mtimeNs === b.mtimeNs;
}

// --- steps -----------------------------------------------------------------------------------------------------------

function earlyOutcome(found: BigIntStats | undefined, judged: StatTuple | undefined): PlaceOutcome | undefined {
  if (judged === undefined) return found === undefined ? undefined : { kind: "returned" };
  if (found === undefined) return undefined; // damaged and then deleted: nothing left to keep
  return isSameFile(tupleOf(found), judged) ? undefined : { kind: "changed" };
}

/** Writes the bytes, with holes where the file had some, and gives their digest, or the reason why they will not do. */
async function writeContent(fd: number, content: PlaceContent, signal: AbortSignal): Promise<string | PlaceOutcome> {
  const hash = createHash("sha256");
  const isSparse = content.metadata?.sparse === true;
  let sizeBytes = 0;
  try {
    for await (const part of guarded(content.open(signal))) {
      signal.throwIfAborted();
      hash.update(part);
      const runs = isSparse ? dataRuns(part, sizeBytes) : [[0, part.length] as const];
      for (const [start, end] of runs) await writeAt(fd, part.subarray(start, end), sizeBytes + start);
      sizeBytes += part.length;
    }
    if (isSparse) await truncateAsync(fd, sizeBytes);
  } catch (error) {
    if (error instanceof ContentError && !signal.aborted) return unproven(messageOf(error.cause));
    throw error;
  }
  const sha256 = hash.digest("hex");
  if (content.sha256 !== undefined && sha256 !== content.sha256) return unproven("the bytes have another digest");
  return sha256;
}

async function writeAt(fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await writeAsync(fd, bytes, at, bytes.length - at, position + at)).bytesWritten;
  }
}

/** A failure of the bytes' origin, not of the target. */
class ContentError extends Error {}

async function* guarded(content: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  try {
    yield* content;
  } catch (error) {
    throw new ContentError("the content could not be read", { cause: error });
  }
}

interface Visible {
  readonly name: string;
  readonly target: PlaceTarget;
  readonly stat: StatTuple;
  readonly sha256: string;
}

/** Where a file that is being placed lies now. */
interface Staged {
  name: string;
}

/** Gives the staged file its name. Undefined: done, the staging name is gone. */
async function makeVisible(
  folder: AnchoredFolder,
  staged: Staged,
  file: Visible,
  host: PlaceHost,
): Promise<PlaceOutcome | undefined> {
  const { name, target } = file;
  const judged = folder.lstat(name) === undefined ? undefined : target.present;
  if (judged !== undefined) {
    await host.keepDamaged(folder, name, judged);
    host.onStep?.("quarantined");
  }
  await host.announce({ path: target.path, stat: file.stat, sha256: file.sha256 });
  host.onStep?.("announced");
  if (!folder.verify()) throw unsafeTarget(target.path);
  if (judged === undefined) {
    if (!folder.renameToFree(staged.name, folder, name)) return { kind: "returned" };
    host.onStep?.("visible");
    return undefined;
  }
  const found = folder.lstat(name);
  if (found === undefined || !isSameFile(tupleOf(found), judged)) return { kind: "changed" };
  const files = { ours: file.stat, judged };
  const noted = notedName(staged.name, name, files);
  folder.rename(staged.name, folder, noted);
  staged.name = noted;
  host.onStep?.("looked");
  const names = { folder, staged: noted, name };
  if (!exchangeFor(names, files, () => host.onStep?.("exchanged"))) {
    const keptAs = keptBeside(names, files);
    return { kind: "changed", ...(keptAs === undefined ? {} : { keptAs: joinPath(parentPath(target.path), keptAs) }) };
  }
  host.onStep?.("visible");
  return undefined;
}

interface Names {
  readonly folder: AnchoredFolder;
  readonly staged: string;
  readonly name: string;
}

/**
 * Puts the staged file in the place of the judged one and removes that. False: another stood there, and the newest that
 * was saved since stands again; at the staging name is ours, or a save that another replaced.
 */
function exchangeFor({ folder, staged, name }: Names, { ours, judged }: TwoFiles, onExchanged: () => void): boolean {
  const exchanged = (): StatTuple | undefined => {
    if (!folder.exchange(staged, folder, name)) return undefined;
    onExchanged();
    const out = folder.lstat(staged);
    return out === undefined ? ours : tupleOf(out);
  };
  try {
    let out = exchanged();
    if (out === undefined) {
      folder.rename(staged, folder, name); // this system cannot exchange: the look just before must do
      return true;
    }
    if (isSameFile(out, judged)) {
      folder.unlink(staged);
      return true;
    }
    let standing = ours;
    for (let left = EXCHANGES_MAX; left > 0; left -= 1) {
      const next = exchanged();
      if (next === undefined || isSameInode(next, standing)) return false;
      // Somebody saved anew while that stood there: theirs is the newest and has to stand.
      [standing, out] = [out, next];
    }
    return false;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false; // the name was removed: its owner's will, a loss of its own
    throw error;
  }
}

/** Gives what is neither ours nor the judged file a name of its own beside its place; undefined: there is none such. */
function keptBeside({ folder, staged, name }: Names, files: TwoFiles): BytePath | undefined {
  const found = folder.lstat(staged);
  if (found === undefined || isOneOf(found, files)) return undefined;
  return keepBeside(folder, staged, name) as BytePath;
}

/** Ours is open, so its inode is nobody else's; that of the judged file may have been given to another meanwhile. */
function isOneOf(
  found: BigIntStats | undefined,
  { ours, judged }: { readonly ours: StatTuple; readonly judged: StatTuple | undefined },
): boolean {
  if (found === undefined) return false;
  const stat = tupleOf(found);
  return isSameInode(stat, ours) || (judged !== undefined && isSameFile(stat, judged));
}

function isSameInode(a: StatTuple, b: StatTuple): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

/** Makes a symbolic link, a FIFO or a device. */
async function makeWithoutContent(
  folder: AnchoredFolder,
  name: string,
  node: FileNode,
  signal: AbortSignal,
): Promise<void> {
  const { kind, device } = node;
  if (kind === "symlink" && node.linkTarget !== undefined) folder.symlink(node.linkTarget, name);
  else if (kind === "fifo" || kind === "char_device" || kind === "block_device")
    await makeSpecialNode(folder, name, { kind, ...(device === undefined ? {} : { device }) }, signal);
  else throw new HoldfastError("UNSUPPORTED", `a ${kind} cannot be made out of what is recorded of it`);
}

function linkUnlessTaken(from: AnchoredFolder, fromName: string, to: AnchoredFolder, name: string): boolean {
  try {
    from.link(fromName, to, name);
    return true;
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Reads the file back through its descriptor. */
async function digestOf(fd: number, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  // One byte more than it has: a small file is read, and known to end, with one small piece.
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, fstatSync(fd).size + 1));
  for (let position = 0; ;) {
    signal.throwIfAborted();
    const { bytesRead } = await readAsync(fd, buffer, 0, buffer.length, position);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}

/** Attributes when none are known: those of the damaged file, or an ordinary file of the folder's owner. */
function fallbackNode(folder: AnchoredFolder, name: string, target: PlaceTarget): FileNode {
  const found = target.present === undefined ? undefined : folder.lstat(name);
  if (found?.isFile() === true) return nodeFromStat(found, { path: folder.at(name) });
  const owner = fstatSync(folder.fd, { bigint: true });
  return { ...nodeFromStat(owner), kind: "file", mode: NEW_FILE_MODE, linkCount: 1 };
}

function placedNow(folder: AnchoredFolder, name: string, gaps: readonly string[]): PlaceOutcome {
  const stat = folder.lstat(name);
  return stat === undefined ? { kind: "changed" } : { kind: "placed", stat: tupleOf(stat), sha256: undefined, gaps };
}

function unproven(why: string): PlaceOutcome {
  return { kind: "unproven", why };
}
