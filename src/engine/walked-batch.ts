/**
 * Some hundreds of paths of a walk as a few byte arrays: a thread hands them over without copying, and an entry that is
 * as the index has it is told by comparing bytes, before a string or an object is made of it.
 */
import type { BytePath } from "../base/paths.js";
import type { WalkFailure } from "./repository-types.js";
import { hasSameStat } from "./tree/codec.js";
import { NODE_KINDS, type NodeKind, type StatTuple } from "./types.js";

/** What a walk for a backup says of a socket, as of a failure: it is told, and nothing of it can be kept. */
export const SOCKET_ERRNO = "ESOCKTNOSUPPORT";

/** A path as a walk finds it, with what the stat says of its owner. */
export interface OwnedNode {
  readonly path: BytePath;
  readonly kind: NodeKind;
  readonly stat: StatTuple;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
}

/** What travels; the byte arrays are the batch's own and can be transferred. */
export interface WalkedColumns {
  readonly count: number;
  /** The paths back to back, one byte for each character. */
  readonly paths: Uint8Array;
  /** Where each path ends in them. */
  readonly pathEnds: Uint32Array;
  /** Index into NODE_KINDS, or FAILED. */
  readonly kinds: Uint8Array;
  /** STAT_BYTES for each: device, inode, times and size as entry states have them. */
  readonly stats: Uint8Array;
  /** Modification times that 64 bits of nanoseconds do not hold (before 1677, after 2262), by index. */
  readonly farTimes: ReadonlyMap<number, bigint>;
  /** Mode, owner, group and number of links of each. */
  readonly owners: Uint32Array;
  /** Of those that could not be looked at, in their order. */
  readonly errnos: readonly string[];
  /** False when a path sorts before the one in front of it. */
  readonly isSorted: boolean;
}

const FAILED = 255;
const OWNER_FIELDS = 4;
/** Device (8), then what tells whether a file is as it was: inode, mtime, ctime, size. */
const STAT_BYTES = 40;
const STAT_AT = { dev: 0, ino: 8, mtime: 16, ctime: 24, size: 32 } as const;
/** Bytes that a path takes at first guess. */
const PATH_BYTES_GUESS = 96;

export class WalkedBatchWriter {
  readonly #capacity: number;
  #paths: Buffer;
  #pathBytes = 0;
  #count = 0;
  readonly #pathEnds: Uint32Array<ArrayBuffer>;
  readonly #kinds: Uint8Array<ArrayBuffer>;
  readonly #stats: DataView<ArrayBuffer>;
  readonly #farTimes = new Map<number, bigint>();
  readonly #owners: Uint32Array<ArrayBuffer>;
  readonly #errnos: string[] = [];
  #last = "";
  #isSorted = true;

  /** For `capacity` entries. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#paths = Buffer.from(new ArrayBuffer(capacity * PATH_BYTES_GUESS));
    this.#pathEnds = new Uint32Array(capacity);
    this.#kinds = new Uint8Array(capacity);
    this.#stats = new DataView(new ArrayBuffer(capacity * STAT_BYTES));
    this.#owners = new Uint32Array(capacity * OWNER_FIELDS);
  }

  /** Entries in it. */
  get count(): number {
    return this.#count;
  }

  get isFull(): boolean {
    return this.#count >= this.#capacity;
  }

  /** There must be room. */
  add(entry: OwnedNode | WalkFailure): void {
    this.#addPath(entry.path);
    const index = this.#count;
    this.#count += 1;
    if ("errno" in entry) {
      this.#kinds[index] = FAILED;
      this.#errnos.push(entry.errno);
      return;
    }
    const { stat, mode, uid, gid, linkCount } = entry;
    this.#kinds[index] = NODE_KINDS.indexOf(entry.kind);
    const at = index * STAT_BYTES;
    const stats = this.#stats;
    stats.setBigUint64(at + STAT_AT.dev, stat.dev, true);
    stats.setBigUint64(at + STAT_AT.ino, stat.ino, true);
    stats.setBigInt64(at + STAT_AT.mtime, stat.mtimeNs, true);
    if (BigInt.asIntN(64, stat.mtimeNs) !== stat.mtimeNs) this.#farTimes.set(index, stat.mtimeNs);
    stats.setBigInt64(at + STAT_AT.ctime, stat.ctimeNs, true);
    stats.setBigInt64(at + STAT_AT.size, BigInt(stat.sizeBytes), true);
    const owner = index * OWNER_FIELDS;
    this.#owners[owner] = mode;
    this.#owners[owner + 1] = uid;
    this.#owners[owner + 2] = gid;
    this.#owners[owner + 3] = linkCount;
  }

  #addPath(path: BytePath): void {
    if (path < this.#last) this.#isSorted = false;
    this.#last = path;
    if (this.#pathBytes + path.length > this.#paths.length) {
      const bigger = Buffer.from(new ArrayBuffer(Math.max(this.#paths.length * 2, this.#pathBytes + path.length)));
      bigger.set(this.#paths.subarray(0, this.#pathBytes));
      this.#paths = bigger;
    }
    this.#pathBytes += this.#paths.write(path, this.#pathBytes, "latin1");
    this.#pathEnds[this.#count] = this.#pathBytes;
  }

  /** What was added. The writer is not used again. */
  take(): WalkedColumns {
    return {
      count: this.#count,
      paths: this.#paths,
      pathEnds: this.#pathEnds,
      kinds: this.#kinds,
      stats: new Uint8Array(this.#stats.buffer),
      farTimes: this.#farTimes,
      owners: this.#owners,
      errnos: this.#errnos,
      isSorted: this.#isSorted,
    };
  }
}

/** The memory of columns, for a transfer. */
export function buffersOf({ paths, pathEnds, kinds, stats, owners }: WalkedColumns): ArrayBuffer[] {
  return [paths, pathEnds, kinds, stats, owners].map(({ buffer }) => buffer as ArrayBuffer);
}

/** Reads what a writer wrote; iterating gives entries as objects. */
export class WalkedBatch implements Iterable<OwnedNode | WalkFailure> {
  readonly length: number;
  readonly isSorted: boolean;
  readonly #columns: WalkedColumns;
  readonly #paths: Buffer;
  readonly #stats: Buffer;

  constructor(columns: WalkedColumns) {
    const { paths, stats } = columns;
    this.length = columns.count;
    this.isSorted = columns.isSorted;
    this.#columns = columns;
    this.#paths = Buffer.from(paths.buffer, paths.byteOffset, paths.byteLength);
    this.#stats = Buffer.from(stats.buffer, stats.byteOffset, stats.byteLength);
  }

  pathAt(index: number): BytePath {
    return this.#paths.toString("latin1", this.#pathStart(index), this.#columns.pathEnds[index]) as BytePath;
  }

  /** Undefined for what could not be looked at. */
  kindAt(index: number): NodeKind | undefined {
    return NODE_KINDS[this.#columns.kinds[index] ?? FAILED];
  }

  /** Below 0 when the path sorts before the rest of `key` from `keyStart` on, 0 when it is that, above when behind. */
  comparePath(index: number, key: Buffer, keyStart: number): number {
    return this.#paths.compare(key, keyStart, key.length, this.#pathStart(index), this.#columns.pathEnds[index]);
  }

  /** True when the stored state at `offset` has the same kind, size, times and inode: the file need not be read. */
  looksUnchanged(index: number, encoded: Buffer, offset: number): boolean {
    const kind = this.#columns.kinds[index] ?? FAILED;
    return hasSameStat(encoded, offset, { kind, bytes: this.#stats, at: index * STAT_BYTES + STAT_AT.ino });
  }

  entryAt(index: number): OwnedNode | WalkFailure {
    const path = this.pathAt(index);
    const kind = this.kindAt(index);
    if (kind === undefined) return { path, errno: this.#errnoAt(index) };
    const at = index * STAT_BYTES;
    const [mode = 0, uid = 0, gid = 0, linkCount = 0] = this.#columns.owners.subarray(index * OWNER_FIELDS);
    const stat = {
      dev: this.#stats.readBigUInt64LE(at + STAT_AT.dev),
      ino: this.#stats.readBigUInt64LE(at + STAT_AT.ino),
      sizeBytes: Number(this.#stats.readBigInt64LE(at + STAT_AT.size)),
      mtimeNs: this.#columns.farTimes.get(index) ?? this.#stats.readBigInt64LE(at + STAT_AT.mtime),
      ctimeNs: this.#stats.readBigInt64LE(at + STAT_AT.ctime),
    };
    return { path, kind, stat, mode, uid, gid, linkCount };
  }

  *[Symbol.iterator](): Generator<OwnedNode | WalkFailure> {
    for (let index = 0; index < this.length; index += 1) yield this.entryAt(index);
  }

  #pathStart(index: number): number {
    return index === 0 ? 0 : (this.#columns.pathEnds[index - 1] ?? 0);
  }

  #errnoAt(index: number): string {
    let failures = 0;
    for (let before = 0; before < index; before += 1) if (this.#columns.kinds[before] === FAILED) failures += 1;
    return this.#columns.errnos[failures] ?? "EIO";
  }
}
