/**
 * Files that are written in place, page by page: databases and disk images. They are cut at fixed offsets, aligned to
 * their pages: a page that is written changes one chunk, while content-defined chunks around it are many times as long
 * and may move. They are known by their first bytes. Taking a file for one, or not, costs space and nothing else, since
 * the list of chunks says how it was cut.
 */

/** Bytes of a file's beginning that tell; all of it lies in the chunker's window. */
export const HEAD_BYTES = 8192;
const KIB = 2 ** 10;
const MIB = 2 ** 20;

/** Bytes at an offset that a kind of file begins with. */
const MARKS: readonly { readonly at: number; readonly bytes: Buffer }[] = [
  { at: 0, bytes: Buffer.from("SQLite format 3\0", "latin1") },
  { at: 0, bytes: Buffer.from("QFI\xfb", "latin1") }, // qcow2
  { at: 0, bytes: Buffer.from("KDMV", "latin1") }, // VMDK
  { at: 0, bytes: Buffer.from("vhdxfile", "latin1") },
  { at: 0, bytes: Buffer.from("conectix", "latin1") }, // VHD
  { at: 64, bytes: Buffer.from("7f10dabe", "hex") }, // VDI
  { at: 16, bytes: Buffer.from("dec0efbe", "hex") }, // LMDB
  { at: 512, bytes: Buffer.from("EFI PART", "latin1") }, // a disk with GPT
  { at: 1080, bytes: Buffer.from("53ef", "hex") }, // ext2 to ext4
  { at: 0, bytes: Buffer.from("XFSB", "latin1") },
  { at: 3, bytes: Buffer.from("NTFS    ", "latin1") },
];

/**
 * Length of the fixed chunks of a file, or undefined when it is to be cut by its content. A list of chunks is written
 * with each version, 36 bytes for one: it grows with the file, so chunks do too, and cost about what the list costs.
 */
export function pageChunkBytes(head: Uint8Array, sizeBytes: number): number | undefined {
  if (!isWrittenInPages(Buffer.from(head.buffer, head.byteOffset, head.byteLength), sizeBytes)) return undefined;
  if (sizeBytes <= 32 * MIB) return 8 * KIB;
  if (sizeBytes <= 128 * MIB) return 16 * KIB;
  if (sizeBytes <= 512 * MIB) return 32 * KIB;
  if (sizeBytes <= 2048 * MIB) return 64 * KIB;
  return sizeBytes <= 16_384 * MIB ? 128 * KIB : 256 * KIB;
}

function isWrittenInPages(head: Buffer, sizeBytes: number): boolean {
  if (MARKS.some(({ at, bytes }) => head.subarray(at, at + bytes.length).equals(bytes))) return true;
  return isPostgresPage(head, sizeBytes) || isInnodbHead(head, sizeBytes);
}

const POSTGRES_PAGE_BYTES = 8192;
const POSTGRES_HEADER_BYTES = 24;
/** Page size 8192 with layout version 4, as every PostgreSQL since 8.3 writes it. */
const POSTGRES_LAYOUT = 8192 | 4;

/** A relation of PostgreSQL: its pages begin with a header whose bounds are in order. */
function isPostgresPage(head: Buffer, sizeBytes: number): boolean {
  if (head.length < POSTGRES_HEADER_BYTES || sizeBytes % POSTGRES_PAGE_BYTES !== 0) return false;
  const [lower, upper, special] = [head.readUInt16LE(12), head.readUInt16LE(14), head.readUInt16LE(16)];
  if (head.readUInt16LE(18) !== POSTGRES_LAYOUT) return false;
  return lower >= POSTGRES_HEADER_BYTES && lower <= upper && upper <= special && special <= POSTGRES_PAGE_BYTES;
}

const INNODB_PAGE_BYTES_MIN = 4096;
const INNODB_FSP_HEADER = 8;

/** A table space of InnoDB: its first page has number 0 and is a file space header. */
function isInnodbHead(head: Buffer, sizeBytes: number): boolean {
  if (head.length < 38 || sizeBytes % INNODB_PAGE_BYTES_MIN !== 0) return false;
  const [number, type, space] = [head.readUInt32BE(4), head.readUInt16BE(24), head.readUInt32BE(34)];
  // Page 0 has no neighbour before it, or its number stands there; the space is named again in the header behind.
  return number === 0 && type === INNODB_FSP_HEADER && head.length >= 42 && head.readUInt32BE(38) === space;
}
