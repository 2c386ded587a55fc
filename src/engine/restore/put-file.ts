/**
 * Writing one regular file, in a worker thread: staged (without a name, or under one of its own beside its place), its
 * digest compared, given its metadata. Its name comes later, when it is on disk (`name-batch.ts`): no power cut leaves
 * a part of a file under it. A file that is right already is left alone.
 */
import { createHash, hash } from "node:crypto";
import { type BigIntStats, closeSync, constants, fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AnchoredFolder } from "../../base/anchored.js";
import { HoldfastError } from "../../base/errors.js";
import { dataRuns, isZero } from "../../base/holes.js";
import { type Inheritance, type MetadataGap, applyToDescriptor, inheritanceOf, nodeFromStat } from "../metadata.js";
import type { FileNode } from "../types.js";
import type { FileOrder } from "./file-columns.js";
import { assertKept } from "./kept-stamp.js";
import { openUnnamed, unlinkQuietly } from "./place-name.js";
import type { DoneOutcome, PutOptions, StagedName } from "./protocol.js";

const BLOCK_BYTES = 4096;
/** The codec's outputs are freed when the event loop turns: it does so after this many bytes. */
const BYTES_PER_TURN = 8 * 2 ** 20;

export interface PutTask {
  readonly folder: AnchoredFolder;
  readonly order: FileOrder;
  /** The content from its beginning; may be asked for more than once. Throws RECORD_DAMAGED. */
  readonly content: () => Iterable<Buffer>;
}

/** Done; or written, and waiting open for its name. */
export interface PutResult {
  readonly outcome: DoneOutcome;
  readonly waiting?: { readonly fd: number; readonly named: StagedName | undefined };
}

export class FilePutter {
  readonly #options: PutOptions;
  readonly #checkCancelled: () => void;
  /** Folders whose file system has no files without names. */
  readonly #namedOnly = new Set<AnchoredFolder>();
  readonly #inherited = new Map<AnchoredFolder, Inheritance>();
  readonly #window: Buffer;
  #staged = 0;
  #bytesSinceTurn = 0;

  /** `window` is memory for reading files of the target. */
  constructor(options: PutOptions, window: Buffer, checkCancelled: () => void) {
    this.#options = options;
    this.#window = window;
    this.#checkCancelled = checkCancelled;
  }

  /** Throws TARGET_EXISTS, TARGET_UNSAFE, RECORD_DAMAGED, INTERRUPTED, and the system's errors. */
  async put(task: PutTask): Promise<PutResult> {
    const { folder, order } = task;
    const present = order.fresh ? undefined : folder.lstat(order.name);
    const kept = present === undefined ? undefined : await this.#keep(task, present);
    if (kept !== undefined) return { outcome: kept };
    if (this.#options.onlyKept === true && !order.fresh) assertKept(present, order.keptStampNs);
    const patches = this.#options.inPlace && present?.isFile() === true && isAlone(present, order);
    if (this.#options.dryRun) {
      const action = present === undefined ? "write" : patches ? "patch" : "replace";
      return { outcome: done(action, order.sizeBytes) };
    }
    return patches ? { outcome: await this.#patch(task) } : await this.#stage(task, present !== undefined);
  }

  /** The outcome when what is there may or must stay; undefined when it is to be written. */
  async #keep({ folder, order }: PutTask, present: BigIntStats): Promise<DoneOutcome | undefined> {
    if (present.isDirectory()) throw new HoldfastError("TARGET_EXISTS", "a folder stands where the file belongs");
    const { overwrite } = this.#options;
    if (overwrite === "never") return { ...done("skip", 0), holdsContent: false };
    if (overwrite === "always" || !present.isFile() || !isAlone(present, order)) return undefined;
    if (Number(present.size) !== order.sizeBytes) return undefined;
    const fd = folder.openFile(order.name, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(fd, { bigint: true });
      if (!stat.isFile() || (await this.#digestOf(fd)) !== order.sha256) return undefined;
      const fits = this.#options.dryRun || hasMetadata(fd, stat, order);
      return done("skip", 0, fits ? [] : applyToDescriptor(fd, nodeOf(order)));
    } finally {
      closeSync(fd);
    }
  }

  async #stage(task: PutTask, replaces: boolean): Promise<PutResult> {
    const { folder } = task;
    const unnamed = replaces ? undefined : this.#openUnnamed(folder);
    const named = unnamed === undefined ? { staged: this.#newStagingName(), replaces } : undefined;
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    const fd = unnamed ?? folder.openFile(named?.staged ?? "", flags, 0o600);
    let waits = false;
    try {
      const outcome = await this.#write(fd, task, replaces ? "replace" : "write");
      waits = true;
      return { outcome, waiting: { fd, named } };
    } finally {
      if (!waits) closeSync(fd);
      if (!waits && named !== undefined) unlinkQuietly(folder, named.staged);
    }
  }

  #openUnnamed(folder: AnchoredFolder): number | undefined {
    if (this.#options.namedOnly === true || this.#namedOnly.has(folder)) return undefined;
    const fd = openUnnamed(folder);
    if (fd === undefined) this.#namedOnly.add(folder);
    return fd;
  }

  #newStagingName(): string {
    this.#staged += 1;
    return `${this.#options.stagingPrefix}${this.#staged.toString(36)}`;
  }

  /** Content and metadata of a file that was just made. */
  async #write(fd: number, task: PutTask, action: "write" | "replace"): Promise<DoneOutcome> {
    const { folder, order } = task;
    const born = this.#inherited.get(folder) ?? inheritanceOf(fd);
    this.#inherited.set(folder, born);
    await this.#fill(fd, task);
    return done(action, order.sizeBytes, applyToDescriptor(fd, nodeOf(order), born));
  }

  async #fill(fd: number, { order, content }: PutTask): Promise<void> {
    // Small files are one chunk: hashing at once is a quarter faster there.
    const digest = order.placeCount === 1 ? undefined : createHash("sha256");
    const { verify } = this.#options;
    const sparse = this.#options.sparse || order.sparse;
    let onlyDigest = "";
    let offset = 0;
    let written = 0;
    for (const bytes of content()) {
      if (digest === undefined) onlyDigest = hash("sha256", bytes, "hex");
      else digest.update(bytes);
      if (sparse) written = Math.max(written, writeSparse(fd, bytes, offset));
      else writeAll(fd, bytes, offset);
      if (verify && !sparse) this.#readBack(fd, bytes, offset);
      offset += bytes.length;
      if (this.#isTurnDue(bytes.length)) await nextTurn();
    }
    if (sparse && written < offset) ftruncateSync(fd, offset);
    assertContent(digest?.digest("hex") ?? onlyDigest, order);
    if (verify && sparse) await this.#verify(fd, order);
  }

  /** Throws TARGET_IO when the file does not give back what was just written to it. */
  #readBack(fd: number, bytes: Buffer, offset: number): void {
    for (let at = 0; at < bytes.length;) {
      const count = readSync(fd, this.#window, 0, Math.min(this.#window.length, bytes.length - at), offset + at);
      if (count === 0 || bytes.compare(this.#window, 0, count, at, at + count) !== 0) throw readsDifferently();
      at += count;
    }
  }

  /** Writes only what differs into the existing file. The content is proved first: a damaged store changes nothing. */
  async #patch({ folder, order, content }: PutTask): Promise<DoneOutcome> {
    const digest = createHash("sha256");
    for (const bytes of content()) {
      digest.update(bytes);
      await this.#breathe(bytes.length);
    }
    assertContent(digest.digest("hex"), order);
    const fd = folder.openFile(order.name, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      if (!fstatSync(fd).isFile()) throw new HoldfastError("TARGET_EXISTS", "the file was replaced meanwhile");
      let offset = 0;
      let written = 0;
      for (const bytes of content()) {
        written += patchBlocks(fd, bytes, offset, this.#options.sparse || order.sparse);
        offset += bytes.length;
        await this.#breathe(bytes.length);
      }
      ftruncateSync(fd, offset);
      // The second reading of the store could have met damage that the first did not.
      await this.#verify(fd, order);
      return done("patch", written, applyToDescriptor(fd, nodeOf(order)));
    } finally {
      closeSync(fd);
    }
  }

  async #verify(fd: number, order: FileOrder): Promise<void> {
    if ((await this.#digestOf(fd)) !== order.sha256) throw readsDifferently();
  }

  async #digestOf(fd: number): Promise<string> {
    const digest = createHash("sha256");
    const window = this.#window;
    for (let offset = 0; ;) {
      const count = readSync(fd, window, 0, window.length, offset);
      if (count === 0) return digest.digest("hex");
      digest.update(window.subarray(0, count));
      offset += count;
      await this.#breathe(count);
    }
  }

  async #breathe(bytes: number): Promise<void> {
    if (this.#isTurnDue(bytes)) await nextTurn();
  }

  /** Throws INTERRUPTED. */
  #isTurnDue(bytes: number): boolean {
    this.#bytesSinceTurn += bytes;
    if (this.#bytesSinceTurn < BYTES_PER_TURN) return false;
    this.#bytesSinceTurn = 0;
    this.#checkCancelled();
    return true;
  }
}

function done(
  action: "write" | "replace" | "patch" | "skip",
  bytes: number,
  gaps: readonly MetadataGap[] = [],
): DoneOutcome {
  return { kind: "done", action, bytes, gaps, holdsContent: true };
}

/** False when the inode has other names that the kept file had not: changing it would change those too. */
function isAlone(present: BigIntStats, order: FileOrder): boolean {
  return present.nlink === 1n || order.linkCount > 1;
}

function readsDifferently(): HoldfastError {
  return new HoldfastError("TARGET_IO", "what was written reads back differently", {
    hint: "Check the target's disk (`dmesg`).",
  });
}

function assertContent(sha256: string, order: FileOrder): void {
  if (sha256 === order.sha256) return;
  throw new HoldfastError("RECORD_DAMAGED", "the stored chunks do not make up the file's digest");
}

/** The node as far as giving metadata back needs it. */
function nodeOf(order: FileOrder): FileNode {
  const { sizeBytes, mtimeNs, mode, uid, gid, linkCount, xattrs } = order;
  const stat = { dev: 0n, ino: 0n, sizeBytes, mtimeNs, ctimeNs: 0n };
  return { kind: "file", stat, mode, uid, gid, linkCount, ...(xattrs === undefined ? {} : { xattrs }) };
}

function hasMetadata(fd: number, stat: BigIntStats, order: FileOrder): boolean {
  const node = nodeFromStat(stat, { fd });
  if (node.stat.mtimeNs !== order.mtimeNs || node.mode !== order.mode) return false;
  return node.uid === order.uid && node.gid === order.gid && sameXattrs(node.xattrs, order.xattrs);
}

function sameXattrs(a: FileNode["xattrs"], b: FileNode["xattrs"]): boolean {
  if ((a?.size ?? 0) !== (b?.size ?? 0)) return false;
  for (const [name, value] of a ?? []) {
    const other = b?.get(name);
    if (other === undefined || Buffer.compare(value, other) !== 0) return false;
  }
  return true;
}

function writeAll(fd: number, bytes: Buffer, offset: number): void {
  for (let count = 0; count < bytes.length;) count += writeSync(fd, bytes, count, bytes.length - count, offset + count);
}

/** Leaves blocks of zeros out; gives where in the file the last byte written ends, 0 for none. */
function writeSparse(fd: number, bytes: Buffer, offset: number): number {
  let written = 0;
  for (const [start, end] of dataRuns(bytes, offset)) {
    writeAll(fd, bytes.subarray(start, end), offset + start);
    written = offset + end;
  }
  return written;
}

/** Writes the 4 KiB blocks that differ, `sparse`: none of zeros behind the end; gives the bytes written. */
function patchBlocks(fd: number, bytes: Buffer, offset: number, sparse: boolean): number {
  const old = Buffer.allocUnsafe(bytes.length);
  let filled = 0;
  for (let count = 1; count > 0 && filled < old.length; filled += count) {
    count = readSync(fd, old, filled, old.length - filled, offset + filled);
  }
  let written = 0;
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const end = Math.min(bytes.length, at + BLOCK_BYTES);
    const oldEnd = Math.min(Math.max(at, filled), end);
    const isSame = bytes.compare(old, at, oldEnd, at, oldEnd) === 0;
    if (isSame && (oldEnd === end || (sparse && isZero(bytes, oldEnd, end)))) continue;
    writeAll(fd, bytes.subarray(at, end), offset + at);
    written += end - at;
  }
  return written;
}
