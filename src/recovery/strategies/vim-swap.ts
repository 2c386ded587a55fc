/**
 * Reads a vim swap file (`.name.swp`) without vim. Layout (vim 7 to 9, 64 bit, little-endian): block 0 names the file
 * and the page size; block 1 is the root of a tree of pointer blocks ("tp") over data blocks ("ad") that hold the
 * lines from their end. A negative block number means that the lines were never written to the swap file and stand
 * unchanged in the original, so the original's lines are needed to fill them in. Hostile bytes never crash it.
 */

export interface VimSwapHeader {
  /** The edited file as vim noted it; `~user/` may stand for a home. Bytes as characters. */
  readonly fileName: string;
  /** mtime of the edited file when it was loaded, ms; 0 = it did not exist. */
  readonly loadedMtimeMs: number;
  readonly processId: number;
  readonly user: string;
  readonly host: string;
  /** False: nothing had been changed since the last save. */
  readonly isModified: boolean;
}

export type VimSwap =
  | { readonly kind: "no_swap"; readonly why: string }
  | { readonly kind: "encrypted"; readonly header: VimSwapHeader }
  | {
      readonly kind: "text";
      readonly header: VimSwapHeader;
      readonly content: Buffer;
      /** False: lines are missing; `problems` says which. */
      readonly isComplete: boolean;
      readonly problems: readonly string[];
    };

const BLOCK0_BYTES = 1023;
const POINTER_ENTRY_BYTES = 32;
const POINTER_HEADER_BYTES = 8;
const DATA_HEADER_BYTES = 24;
const DEPTH_MAX = 12;
const PROBLEMS_MAX = 20;
const LINES_MAX = 50_000_000;
const LINE_OFFSET_MASK = 0x7fff_ffff;

/** Reads a swap file; `baseLines` are the lines of the file as vim loaded it, without line ends, if they are known. */
export function readVimSwap(bytes: Buffer, baseLines: readonly Buffer[] | undefined): VimSwap {
  if (bytes.length < BLOCK0_BYTES) return { kind: "no_swap", why: "it is shorter than a swap file's first block" };
  const id = bytes.toString("latin1", 0, 2);
  if (bytes.toString("latin1", 2, 6) !== "VIM " || !/^b[0cCd]$/.test(id))
    return { kind: "no_swap", why: "it does not begin as a vim swap file does" };
  if (bytes.readUInt32LE(1008) !== 0x30313233)
    return { kind: "no_swap", why: "it was made on another kind of machine" };
  const pageBytes = bytes.readUInt32LE(12);
  if (pageBytes < 1024 || pageBytes > 50_000 || pageBytes * 2 > bytes.length + pageBytes)
    return { kind: "no_swap", why: `a page size of ${String(pageBytes)} bytes cannot be` };
  const header = headerOf(bytes);
  if (id !== "b0") return { kind: "encrypted", header };
  const tree = new SwapTree(bytes, pageBytes, baseLines);
  tree.walk(1, 1, undefined, 0);
  if (tree.isForeign) return { kind: "no_swap", why: "its blocks have a layout that is not vim's" };
  return {
    kind: "text",
    header,
    content: contentOf(tree.lines, bytes[BLOCK0_FLAGS] ?? 0),
    isComplete: tree.problems.length === 0,
    problems: tree.problems,
  };
}

/** Place of the flags in block 0: the last but one byte of the name field (108 + 900 - 2). */
const BLOCK0_FLAGS = 1006;
const BLOCK0_DIRTY = 1007;
const DIRTY = 0x55;
/** Low two bits of the flags: 1 + file format (0 unix, 1 dos, 2 mac); 0 = not known. */
const FORMAT_MASK = 3;
const LINE_ENDS = ["\n", "\n", "\r\n", "\r"] as const;

function headerOf(bytes: Buffer): VimSwapHeader {
  return {
    fileName: textUntilNul(bytes, 108, 1006),
    loadedMtimeMs: bytes.readUInt32LE(16) * 1000,
    processId: bytes.readUInt32LE(24),
    user: textUntilNul(bytes, 28, 68),
    host: textUntilNul(bytes, 68, 108),
    isModified: bytes[BLOCK0_DIRTY] === DIRTY,
  };
}

function textUntilNul(bytes: Buffer, start: number, end: number): string {
  const nul = bytes.indexOf(0, start);
  return bytes.toString("latin1", start, nul === -1 || nul > end ? end : nul);
}

/** vim keeps a NUL in a line as a line feed; one empty line alone is an empty file. */
function contentOf(lines: readonly Buffer[], flags: number): Buffer {
  if (lines.length === 0 || (lines.length === 1 && lines[0]?.length === 0)) return Buffer.alloc(0);
  const lineEnd = Buffer.from(LINE_ENDS[flags & FORMAT_MASK] ?? "\n", "latin1");
  const parts: Buffer[] = [];
  for (const line of lines) {
    if (line.includes(0x0a)) parts.push(Buffer.from(line.map((byte) => (byte === 0x0a ? 0 : byte))), lineEnd);
    else parts.push(line, lineEnd);
  }
  return Buffer.concat(parts);
}

/** The walk through the tree of blocks. */
class SwapTree {
  readonly lines: Buffer[] = [];
  readonly problems: string[] = [];
  isForeign = false;
  readonly #bytes: Buffer;
  readonly #pageBytes: number;
  readonly #baseLines: readonly Buffer[] | undefined;
  readonly #visited = new Set<number>();

  constructor(bytes: Buffer, pageBytes: number, baseLines: readonly Buffer[] | undefined) {
    this.#bytes = bytes;
    this.#pageBytes = pageBytes;
    this.#baseLines = baseLines;
  }

  /** Reads the block at a page; `lineCount` is what the pointer to it promises. */
  walk(page: number, pageCount: number, lineCount: number | undefined, depth: number): void {
    const start = page * this.#pageBytes;
    const end = start + pageCount * this.#pageBytes;
    if (depth > DEPTH_MAX || this.#visited.has(page) || pageCount < 1 || end > this.#bytes.length) {
      this.#problem(`block ${String(page)} is missing (${String(lineCount ?? 0)} lines)`);
      return;
    }
    this.#visited.add(page);
    const block = this.#bytes.subarray(start, end);
    const id = block.toString("latin1", 0, 2);
    if (id === "tp") this.#walkPointers(block, depth);
    else if (id === "ad") this.#readLines(block, page, lineCount);
    else this.#problem(`block ${String(page)} is neither pointers nor text (${String(lineCount ?? 0)} lines)`);
  }

  #walkPointers(block: Buffer, depth: number): void {
    const count = block.readUInt16LE(2);
    const countMax = block.readUInt16LE(4);
    const fitting = Math.floor((block.length - POINTER_HEADER_BYTES) / POINTER_ENTRY_BYTES);
    if (Math.abs(countMax - fitting) > 1 || count > fitting) {
      this.isForeign = true; // other editors keep other sizes
      return;
    }
    for (let index = 0; index < count; index += 1) {
      const at = POINTER_HEADER_BYTES + index * POINTER_ENTRY_BYTES;
      const page = Number(block.readBigInt64LE(at));
      const lineCount = Number(block.readBigInt64LE(at + 8));
      const oldLine = Number(block.readBigInt64LE(at + 16));
      if (page < 0) this.#fromBase(oldLine, lineCount);
      else this.walk(page, block.readInt32LE(at + 24), lineCount, depth + 1);
    }
  }

  /** Lines that vim never wrote down because they stand in the original. */
  #fromBase(firstLine: number, lineCount: number): void {
    const found = firstLine < 1 ? undefined : this.#baseLines?.slice(firstLine - 1, firstLine - 1 + lineCount);
    if (found?.length !== lineCount)
      this.#problem(`lines ${String(firstLine)} to ${String(firstLine + lineCount - 1)} of the original are needed`);
    for (const line of found ?? []) this.lines.push(line);
  }

  #readLines(block: Buffer, page: number, lineCount: number | undefined): void {
    const textEnd = block.readUInt32LE(12);
    const count = Number(block.readBigInt64LE(16));
    const hasRoom = count >= 0 && DATA_HEADER_BYTES + count * 4 <= block.length && textEnd <= block.length;
    if (!hasRoom || this.lines.length + count > LINES_MAX) {
      this.#problem(`block ${String(page)} is damaged (${String(lineCount ?? 0)} lines)`);
      return;
    }
    let end = textEnd;
    for (let index = 0; index < count; index += 1) {
      const start = block.readUInt32LE(DATA_HEADER_BYTES + index * 4) & LINE_OFFSET_MASK;
      if (start < DATA_HEADER_BYTES + count * 4 || start >= end) {
        this.#problem(`line ${String(index + 1)} of block ${String(page)} is damaged`);
        continue;
      }
      const nul = block.indexOf(0, start);
      this.lines.push(block.subarray(start, nul === -1 || nul >= end ? end : nul));
      end = start;
    }
    if (lineCount !== undefined && lineCount !== count)
      this.#problem(`block ${String(page)} has ${String(count)} lines instead of ${String(lineCount)}`);
  }

  #problem(text: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(text);
  }
}
