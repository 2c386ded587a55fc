/** Reads which paths a git index (versions 2 to 4) holds. Bytes as characters, as everywhere; hostile files give undefined. */

const SIGNATURE = 0x44495243; // "DIRC"
const FIXED_BYTES = 62;
/** A path longer than this is no path. */
const PATH_BYTES_MAX = 65_536;

/** The paths in an index, relative to the work tree, or undefined when the bytes are no index. */
export function pathsInIndex(bytes: Buffer): ReadonlySet<string> | undefined {
  if (bytes.length < 12 || bytes.readUInt32BE(0) !== SIGNATURE) return undefined;
  const version = bytes.readUInt32BE(4);
  const count = bytes.readUInt32BE(8);
  if (version < 2 || version > 4) return undefined;
  const paths = new Set<string>();
  let offset = 12;
  let previous = "";
  for (let index = 0; index < count; index += 1) {
    const entry = version === 4 ? readPacked(bytes, offset, previous) : readPadded(bytes, offset);
    if (entry === undefined) return undefined;
    paths.add(entry.path);
    previous = entry.path;
    offset = entry.next;
  }
  return paths;
}

interface IndexEntry {
  readonly path: string;
  readonly next: number;
}

/** Where the name of an entry begins: two bytes later when the entry is extended. */
function nameStart(bytes: Buffer, offset: number): number | undefined {
  if (offset + FIXED_BYTES > bytes.length) return undefined;
  const isExtended = (bytes.readUInt16BE(offset + 60) & 0x4000) !== 0;
  return offset + FIXED_BYTES + (isExtended ? 2 : 0);
}

/** Versions 2 and 3: the whole name, then 1 to 8 NULs so that entries are multiples of 8 bytes. */
function readPadded(bytes: Buffer, offset: number): IndexEntry | undefined {
  const start = nameStart(bytes, offset);
  if (start === undefined) return undefined;
  const end = bytes.indexOf(0, start);
  if (end === -1 || end - start > PATH_BYTES_MAX) return undefined;
  return { path: bytes.toString("latin1", start, end), next: offset + (Math.floor((end - offset) / 8) + 1) * 8 };
}

/** Version 4: how many bytes of the name before to drop (a variable-length number), then the rest and a NUL. */
function readPacked(bytes: Buffer, offset: number, previous: string): IndexEntry | undefined {
  let at = nameStart(bytes, offset);
  if (at === undefined) return undefined;
  let byte = bytes[at] ?? 0;
  let drop = byte & 0x7f;
  for (at += 1; (byte & 0x80) !== 0 && at < bytes.length && drop <= PATH_BYTES_MAX; at += 1) {
    byte = bytes[at] ?? 0;
    drop = ((drop + 1) << 7) | (byte & 0x7f);
  }
  const end = bytes.indexOf(0, at);
  if (end === -1 || end - at > PATH_BYTES_MAX || drop > previous.length) return undefined;
  return { path: previous.slice(0, previous.length - drop) + bytes.toString("latin1", at, end), next: end + 1 };
}
