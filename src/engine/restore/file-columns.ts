/**
 * Regular files of a batch, column by column: an object for each would be cloned on its way to a thread, which costs
 * more than writing a small file. The thread makes one object at a time of them.
 */
import { fieldsOfWord, modeWordOf, timeOfWord } from "../tree/mode-word.js";
import type { FileNode } from "../types.js";

/** One regular file. */
export interface FileOrder {
  /** Position in the request's folders. */
  readonly folder: number;
  readonly name: string;
  /** The folder was made by this run: nothing of that name was there. */
  readonly fresh: boolean;
  /** Stamp (`stampOf`) of what stood there and may be replaced, ns; 0 for nothing. Counts with `onlyKept`. */
  readonly keptStampNs: bigint;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** It had holes: its runs of zeros become holes again. */
  readonly sparse: boolean;
  /** 64 hex characters: what is delivered has this digest, or nothing is. */
  readonly sha256: string;
  readonly xattrs?: NonNullable<FileNode["xattrs"]>;
  /** Its chunks are the places from here on. */
  readonly firstPlace: number;
  readonly placeCount: number;
}

export interface FileColumns {
  /** All names one after the other, a byte for each character. */
  readonly names: Uint8Array;
  /** `FIELDS.length` numbers for each file. */
  readonly numbers: Float64Array;
  /** What 64 bits hold of the times; the rest stands in the mode words. */
  readonly mtimesNs: BigInt64Array;
  readonly keptStampsNs: BigInt64Array;
  /** 32 bytes for each file. */
  readonly digests: Uint8Array;
  /** By position; most files have none. */
  readonly xattrs: ReadonlyMap<number, NonNullable<FileNode["xattrs"]>>;
}

/** Positions among the numbers of one file. */
const AT = {
  nameEnd: 0,
  folder: 1,
  fresh: 2,
  sizeBytes: 3,
  modeWord: 4,
  uid: 5,
  gid: 6,
  linkCount: 7,
  firstPlace: 8,
  placeCount: 9,
} as const;
const NUMBERS = Object.keys(AT).length;
const DIGEST_BYTES = 32;

/** Where a file goes and its chunks lie. */
export type FileWhere = Pick<FileOrder, "folder" | "name" | "fresh" | "keptStampNs" | "firstPlace" | "placeCount">;

/** Gathers the files of one batch. */
export class FileColumnsWriter {
  readonly #names: string[] = [];
  readonly #numbers: Float64Array;
  readonly #mtimesNs: BigInt64Array;
  readonly #keptStampsNs: BigInt64Array;
  readonly #digests: Buffer;
  readonly #xattrs = new Map<number, NonNullable<FileNode["xattrs"]>>();
  #count = 0;
  #nameEnd = 0;

  /** `filesMax` files at most are added. */
  constructor(filesMax: number) {
    this.#numbers = new Float64Array(filesMax * NUMBERS);
    this.#mtimesNs = new BigInt64Array(filesMax);
    this.#keptStampsNs = new BigInt64Array(filesMax);
    this.#digests = Buffer.alloc(filesMax * DIGEST_BYTES);
  }

  /** Adds the file of a node. */
  add(node: FileNode, where: FileWhere): void {
    const index = this.#count;
    const { folder, name, fresh, firstPlace, placeCount } = where;
    this.#count += 1;
    this.#names.push(name);
    this.#nameEnd += name.length;
    const at = index * NUMBERS;
    const numbers = this.#numbers;
    numbers[at + AT.nameEnd] = this.#nameEnd;
    numbers[at + AT.folder] = folder;
    numbers[at + AT.fresh] = fresh ? 1 : 0;
    numbers[at + AT.sizeBytes] = node.stat.sizeBytes;
    numbers[at + AT.modeWord] = modeWordOf(node);
    numbers[at + AT.uid] = node.uid;
    numbers[at + AT.gid] = node.gid;
    numbers[at + AT.linkCount] = node.linkCount;
    numbers[at + AT.firstPlace] = firstPlace;
    numbers[at + AT.placeCount] = placeCount;
    this.#mtimesNs[index] = BigInt.asIntN(64, node.stat.mtimeNs);
    this.#keptStampsNs[index] = where.keptStampNs;
    this.#digests.write(node.sha256 ?? "", index * DIGEST_BYTES, DIGEST_BYTES, "hex");
    if (node.xattrs !== undefined) this.#xattrs.set(index, node.xattrs);
  }

  /** The columns; nothing is added afterwards. */
  take(): FileColumns {
    const names = Buffer.from(this.#names.join(""), "latin1");
    return {
      names: new Uint8Array(names),
      numbers: this.#numbers,
      mtimesNs: this.#mtimesNs,
      keptStampsNs: this.#keptStampsNs,
      digests: new Uint8Array(this.#digests),
      xattrs: this.#xattrs,
    };
  }
}

/** How many files the columns hold. */
export function fileCount({ mtimesNs }: FileColumns): number {
  return mtimesNs.length;
}

/** One file of the columns; `index` is from 0 to before their count. */
export function fileOrderAt(columns: FileColumns, index: number): FileOrder {
  const { numbers } = columns;
  const at = index * NUMBERS;
  const number = (field: keyof typeof AT): number => numbers[at + AT[field]] ?? 0;
  const xattrs = columns.xattrs.get(index);
  const word = number("modeWord");
  const { mode, sparse = false } = fieldsOfWord(word);
  return {
    folder: number("folder"),
    name: fileNameAt(columns, index),
    fresh: number("fresh") === 1,
    sizeBytes: number("sizeBytes"),
    mtimeNs: timeOfWord(word, columns.mtimesNs[index] ?? 0n),
    keptStampNs: keptStampAt(columns, index),
    mode,
    sparse,
    uid: number("uid"),
    gid: number("gid"),
    linkCount: number("linkCount"),
    sha256: bufferOf(columns.digests).toString("hex", index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES),
    ...(xattrs === undefined ? {} : { xattrs }),
    firstPlace: number("firstPlace"),
    placeCount: number("placeCount"),
  };
}

/** The name of one file of the columns. */
export function fileNameAt({ names, numbers }: FileColumns, index: number): string {
  const start = index === 0 ? 0 : (numbers[(index - 1) * NUMBERS + AT.nameEnd] ?? 0);
  return bufferOf(names).toString("latin1", start, numbers[index * NUMBERS + AT.nameEnd] ?? 0);
}

/** Stamp of what stood where a file of the columns goes, ns; 0 for nothing. */
export function keptStampAt({ keptStampsNs }: FileColumns, index: number): bigint {
  return keptStampsNs[index] ?? 0n;
}

/** The folder of one file of the columns, as a position in the request's folders. */
export function fileFolderAt({ numbers }: FileColumns, index: number): number {
  return numbers[index * NUMBERS + AT.folder] ?? 0;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
