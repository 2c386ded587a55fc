/**
 * Reads one path as it is: never through a symbolic link, never waiting on a FIFO, without touching the access time
 * where that is allowed. A file that changes while it is read is read again, a few times; then it is kept and marked
 * torn. What cannot be read is an outcome, not an error.
 */
import { createHash, hash, type Hash } from "node:crypto";
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
} from "node:fs";
import { errnoOf, HoldfastError, systemErrnoOf } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import { reach } from "../../base/reach.js";
import { type Chunker, WINDOW_BYTES } from "../chunk/chunker.js";
import {
  BUNDLED_FILE_BYTES_MAX,
  CHUNK_BYTES_MAX,
  CHUNK_PROFILES,
  type ChunkProfile,
  type ChunkProfileName,
  SMALL_FILE_BYTES_MAX,
} from "../chunk/profiles.js";
import { HEAD_BYTES, pageChunkBytes } from "../chunk/pages.js";
import { type Filling, kindOf, nodeFromStat } from "../metadata.js";
import type { ChunkRef, FileNode } from "../types.js";
import type { ChunkStore } from "./chunk-store.js";
import type { GitTrees } from "./git-trees.js";
import type { FailedOutcome } from "./protocol.js";

/** How often a changing file is read before it is kept as torn. */
const READS_MAX = 3;
/** Of what stat counts as `blocks`. */
const SECTOR_BYTES = 512n;
/** A hole is made of whole blocks of a file system. */
const HOLE_BYTES_MIN = 4096n;
const GONE = new Set(["ENOENT", "ENOTDIR"]);
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface ReadContext {
  readonly chunker: Chunker;
  readonly store: ChunkStore;
  readonly profile: ChunkProfileName;
  readonly gitTrees: GitTrees;
  /** Throws INTERRUPTED when the batch is to be broken off. */
  readonly checkCancelled: () => void;
  /** Counts bytes read. */
  readonly onRead: (bytes: number) => void;
}

/** What one reading of a file gave. */
interface Content {
  readonly chunks: readonly ChunkRef[];
  readonly sha256: string;
  /** Only in a work tree of git. */
  readonly gitBlobId: string | undefined;
  readonly sizeBytes: number;
}

/** What reading a path gives. */
export type PathReading = FailedOutcome | { readonly kind: "read"; readonly path: BytePath; readonly node: FileNode };

/**
 * Reads a path. Throws (or rejects with) only what concerns the store or the batch; everything about the path is in the
 * outcome. A small file comes without a promise: there are many of them.
 */
export function readPath(path: BytePath, context: ReadContext): PathReading | Promise<PathReading> {
  try {
    const reading = readOnce(path, context, false);
    if (reading === undefined || reading instanceof Promise) return readOn(reading, path, context);
    return reading;
  } catch (error) {
    return failureOf(error, path);
  }
}

/** Goes on with a first reading that takes long, or that has to be made again. */
async function readOn(
  first: Promise<PathReading | undefined> | undefined,
  path: BytePath,
  context: ReadContext,
): Promise<PathReading> {
  try {
    let reading = await first;
    for (let attempt = 2; reading === undefined; attempt += 1) {
      reading = await readOnce(path, context, attempt === READS_MAX);
    }
    return reading;
  } catch (error) {
    return failureOf(error, path);
  }
}

function failureOf(error: unknown, path: BytePath): FailedOutcome {
  const errno = systemErrnoOf(error);
  if (error instanceof HoldfastError || errno === undefined) throw error;
  return GONE.has(errno) ? { kind: "vanished", path } : { kind: "unreadable", path, errno };
}

/** What one reading gives; undefined: the path changed meanwhile and this was not the last attempt. */
type Reading = PathReading | undefined;

function readOnce(path: BytePath, context: ReadContext, last: boolean): Reading | Promise<Reading> {
  return reach(path, (place) => readAt(path, place, context, last));
}

/** A file that takes long is open by the time that this returns: its place is not needed any more. */
function readAt(path: BytePath, bytes: Buffer, context: ReadContext, last: boolean): Reading | Promise<Reading> {
  const stat = lstatSync(bytes, { bigint: true });
  const kind = kindOf(stat);
  if (kind === undefined) return { kind: "skipped", path, reason: "socket" };
  if (kind === "file") return readRegular(path, bytes, context, last);
  const node = nodeFromStat(stat, { path: bytes });
  if (kind !== "symlink") return { kind: "read", path, node };
  return { kind: "read", path, node: { ...node, linkTarget: readlinkSync(bytes, "latin1") } };
}

function readRegular(path: BytePath, bytes: Buffer, context: ReadContext, last: boolean): Reading | Promise<Reading> {
  const fd = openForReading(bytes);
  if (fd === undefined) return last ? { kind: "unreadable", path, errno: "ELOOP" } : undefined;
  let reading: Reading | Promise<Reading>;
  try {
    reading = readOpen(fd, path, context, last);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  if (reading instanceof Promise) return reading.finally(() => closeSync(fd));
  closeSync(fd);
  return reading;
}

function readOpen(fd: number, path: BytePath, context: ReadContext, last: boolean): Reading | Promise<Reading> {
  const before = fstatSync(fd, { bigint: true });
  if (!before.isFile()) return last ? { kind: "unreadable", path, errno: "EAGAIN" } : undefined;
  const ended = (content: Content): Reading => {
    const after = fstatSync(fd, { bigint: true });
    const torn = !sameState(before, after) || content.sizeBytes !== Number(after.size);
    if (torn && !last) return undefined;
    return { kind: "read", path, node: fileNode(fd, after, content, torn) };
  };
  const content = readContent({ fd, sizeBytes: Number(before.size), inGit: context.gitTrees.holds(path) }, context);
  return content instanceof Promise ? content.then(ended) : ended(content);
}

/** Undefined when a symbolic link has taken the file's place since it was looked at. */
function openForReading(path: Buffer): number | undefined {
  try {
    return openSync(path, READ_FLAGS | constants.O_NOATIME);
  } catch (error) {
    if (errnoOf(error) === "ELOOP") return undefined;
    if (errnoOf(error) !== "EPERM") throw error;
    return openSync(path, READ_FLAGS); // only the owner may read without touching the access time
  }
}

function sameState(before: BigIntStats, after: BigIntStats): boolean {
  return before.size === after.size && before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs;
}

function fileNode(fd: number, stat: BigIntStats, content: Content, torn: boolean): FileNode {
  const { sha256, gitBlobId, chunks, sizeBytes } = content;
  // Filled field by field: copies of objects with fields that may be missing cost as much as opening the file.
  const node: Filling<FileNode> = nodeFromStat(stat, { fd });
  node.sha256 = sha256;
  node.chunks = chunks;
  if (stat.size >= HOLE_BYTES_MIN && stat.blocks * SECTOR_BYTES < stat.size) node.sparse = true;
  // A torn file's size is that of the bytes that were kept, and Git's id needs the size before the content.
  if (torn) {
    node.stat = { ...node.stat, sizeBytes };
    node.torn = torn;
  } else if (gitBlobId !== undefined) {
    node.gitBlobId = gitBlobId;
  }
  return node;
}

/** An open file: its size, and whether git may know it. */
interface OpenFile {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly inGit: boolean;
}

function readContent(file: OpenFile, context: ReadContext): Content | Promise<Content> {
  if (file.sizeBytes <= SMALL_FILE_BYTES_MAX) return readSmall(file, context);
  return file.sizeBytes <= CHUNK_BYTES_MAX ? readMiddle(file, context) : readLarge(file, context);
}

/** A file of one chunk: its digest is the chunk's too, so its bytes are hashed once. */
function readSmall({ fd, sizeBytes, inGit }: OpenFile, context: ReadContext): Content | Promise<Content> {
  const git = inGit ? gitHash(sizeBytes) : undefined;
  const reader = new WindowReader(fd, sizeBytes, context, git === undefined ? [] : [git]);
  const chunk = reader.next(CHUNK_PROFILES.small);
  const sha256 = hash("sha256", chunk ?? "", "hex");
  const gitBlobId = git?.digest("hex");
  // It may have grown beyond the one chunk that is kept: its state says so, and it is read again or torn.
  if (chunk === undefined) return { chunks: [], sha256, gitBlobId, sizeBytes: 0 };
  const sizeBytesRead = chunk.length;
  const ref = context.store.put(chunk, true, sha256);
  if (!(ref instanceof Promise)) return { chunks: [ref], sha256, gitBlobId, sizeBytes: sizeBytesRead };
  return ref.then((stored) => ({ chunks: [stored], sha256, gitBlobId, sizeBytes: sizeBytesRead }));
}

/** A file that may be one chunk: all of it is in the window, so that a digest of both is taken once. */
async function readMiddle({ fd, sizeBytes, inGit }: OpenFile, context: ReadContext): Promise<Content> {
  const git = inGit ? gitHash(sizeBytes) : undefined;
  const reader = new WindowReader(fd, sizeBytes, context, git === undefined ? [] : [git]);
  const whole = reader.whole();
  const sha256 = hash("sha256", whole, "hex");
  const cut = cutOf(reader, sizeBytes, context);
  const chunks: ChunkRef[] = [];
  for (let chunk = cut.next(); chunk !== undefined; chunk = cut.next()) {
    const isWhole = chunk.length === whole.length;
    const ref = context.store.put(chunk, cut.isBundled, isWhole ? sha256 : undefined);
    chunks.push(ref instanceof Promise ? await ref : ref);
  }
  return { chunks, sha256, gitBlobId: git?.digest("hex"), sizeBytes: reader.readBytes };
}

async function readLarge({ fd, sizeBytes, inGit }: OpenFile, context: ReadContext): Promise<Content> {
  const sha256 = createHash("sha256");
  const git = inGit ? gitHash(sizeBytes) : undefined;
  const reader = new WindowReader(fd, sizeBytes, context, git === undefined ? [sha256] : [sha256, git]);
  const cut = cutOf(reader, sizeBytes, context);
  const chunks: ChunkRef[] = [];
  for (let chunk = cut.next(); chunk !== undefined; chunk = cut.next()) {
    const ref = context.store.put(chunk, cut.isBundled);
    chunks.push(ref instanceof Promise ? await ref : ref);
  }
  return { chunks, sha256: sha256.digest("hex"), gitBlobId: git?.digest("hex"), sizeBytes: reader.readBytes };
}

/** How a file is cut. */
interface Cut {
  /** The next chunk, valid until the next call; undefined at the end. */
  readonly next: () => Uint8Array | undefined;
  /** True: its chunks are sealed together with others. */
  readonly isBundled: boolean;
}

function cutOf(reader: WindowReader, sizeBytes: number, context: ReadContext): Cut {
  const pageBytes = pageChunkBytes(reader.head(), sizeBytes);
  if (pageBytes !== undefined) return { next: () => reader.nextPages(pageBytes), isBundled: true };
  const profile = CHUNK_PROFILES[context.profile];
  return { next: () => reader.next(profile), isBundled: sizeBytes <= BUNDLED_FILE_BYTES_MAX };
}

function gitHash(sizeBytes: number): Hash {
  return createHash("sha1").update(`blob ${sizeBytes}\0`);
}

/** Slides the chunker's window over a file: at most WINDOW_BYTES of any file are in memory. */
class WindowReader {
  readBytes = 0;
  readonly #fd: number;
  readonly #sizeBytes: number;
  readonly #context: ReadContext;
  readonly #hashes: readonly Hash[];
  #start = 0;
  #end = 0;
  #atEnd: boolean;

  constructor(fd: number, sizeBytes: number, context: ReadContext, hashes: readonly Hash[]) {
    this.#fd = fd;
    this.#sizeBytes = sizeBytes;
    this.#context = context;
    this.#hashes = hashes;
    this.#atEnd = sizeBytes === 0;
  }

  /** The next chunk, a view that is valid until the next call; undefined at the end. */
  next(profile: ChunkProfile): Uint8Array | undefined {
    const { chunker } = this.#context;
    if (!this.#atEnd && this.#end - this.#start < CHUNK_BYTES_MAX) this.#refill();
    if (this.#end === this.#start) return undefined;
    const length = chunker.cut(this.#start, this.#end - this.#start, profile);
    const chunk = chunker.window.subarray(this.#start, this.#start + length);
    this.#start += length;
    return chunk;
  }

  /** The next chunk of a fixed length; the last may be shorter. */
  nextPages(pageBytes: number): Uint8Array | undefined {
    if (!this.#atEnd && this.#end - this.#start < pageBytes) this.#refill();
    const length = Math.min(pageBytes, this.#end - this.#start);
    if (length === 0) return undefined;
    this.#start += length;
    return this.#context.chunker.window.subarray(this.#start - length, this.#start);
  }

  /** The beginning of the file, before any chunk was taken. */
  head(): Uint8Array {
    if (!this.#atEnd && this.#end === 0) this.#refill();
    return this.#context.chunker.window.subarray(0, Math.min(HEAD_BYTES, this.#end));
  }

  /** All of a file that is no longer than CHUNK_BYTES_MAX: a view that is valid until the next call. */
  whole(): Uint8Array {
    if (!this.#atEnd) this.#refill();
    return this.#context.chunker.window.subarray(0, this.#end);
  }

  /** Reads on until a whole chunk is there: just read, what is cut and hashed next is still in the processor's cache. */
  #refill(): void {
    const { chunker, checkCancelled } = this.#context;
    const { window } = chunker;
    while (!this.#atEnd && this.#end - this.#start < CHUNK_BYTES_MAX) {
      checkCancelled();
      if (WINDOW_BYTES - this.#end < READ_BYTES) {
        window.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      this.#noteRead(readSync(this.#fd, window, this.#end, READ_BYTES, null));
    }
  }

  #noteRead(count: number): void {
    const part = this.#context.chunker.window.subarray(this.#end, this.#end + count);
    for (const hash of this.#hashes) hash.update(part);
    this.#end += count;
    this.readBytes += count;
    this.#context.onRead(count);
    // A file that grew since is noticed by the second stat.
    this.#atEnd = count === 0 || this.readBytes >= this.#sizeBytes;
  }
}

/** Bytes of one read call: a hash over them is still in the processor's cache. */
const READ_BYTES = 2 ** 20;
