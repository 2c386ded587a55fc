/**
 * What the kernel writes to a fanotify group, as objects. Each event is a header and records behind it: a folder's
 * handle with a name, and the handle of the thing itself. Pure; bytes that make no sense end the reading.
 */

/** The bits of events that are asked for. */
export const FAN = {
  closeWrite: 0x8n,
  movedFrom: 0x40n,
  movedTo: 0x80n,
  delete: 0x200n,
  openExec: 0x1000n,
  overflow: 0x4000n,
  rename: 0x1000_0000n,
  onFolder: 0x4000_0000n,
} as const;

/** A name in a folder; the handle is what `open_by_handle_at` takes. */
export interface FanPlace {
  /** 16 hex. */
  readonly fileSystem: string;
  readonly folder: Buffer;
  /** Bytes as characters; `.` for the folder itself. */
  readonly name: string;
}

export interface FanEvent {
  readonly mask: bigint;
  readonly pid: number;
  /** Where it happened; for a rename the old place. */
  readonly place: FanPlace | undefined;
  /** Of a rename: the new place. */
  readonly target: FanPlace | undefined;
  /** The handle of the file or folder itself. */
  readonly self: Buffer | undefined;
}

const HEADER_BYTES = 24;
const VERSION = 3;
const RECORD = { self: 1, place: 2, oldPlace: 10, newPlace: 12 } as const;
/** Record: type u8, pad u8, length u16, file system 8 bytes, then the handle: size u32, type i32, bytes. */
const HANDLE_OFFSET = 12;
const HANDLE_HEAD_BYTES = 8;
/** Kinds of handles, as in the kernel's `exportfs.h`. */
const HANDLE = { ino32: 1, btrfs: 0x4d, ino64: 0x81 } as const;

/** All whole events in what was read. */
export function parseFanEvents(bytes: Buffer): readonly FanEvent[] {
  const events: FanEvent[] = [];
  for (let start = 0; start + HEADER_BYTES <= bytes.length;) {
    const length = bytes.readUInt32LE(start);
    const headerBytes = bytes.readUInt16LE(start + 6);
    const isSound = length >= headerBytes && headerBytes >= HEADER_BYTES && start + length <= bytes.length;
    if (!isSound || bytes[start + 4] !== VERSION) return events;
    events.push({
      mask: bytes.readBigUInt64LE(start + 8),
      pid: bytes.readInt32LE(start + 20),
      ...recordsOf(bytes.subarray(start + headerBytes, start + length)),
    });
    start += length;
  }
  return events;
}

function recordsOf(bytes: Buffer): Pick<FanEvent, "place" | "target" | "self"> {
  let [place, target, self]: [FanPlace | undefined, FanPlace | undefined, Buffer | undefined] = [
    undefined,
    undefined,
    undefined,
  ];
  for (let start = 0; start + HANDLE_OFFSET + HANDLE_HEAD_BYTES <= bytes.length;) {
    const length = bytes.readUInt16LE(start + 2);
    const record = bytes.subarray(start, start + length);
    const handleEnd = HANDLE_OFFSET + HANDLE_HEAD_BYTES + bytes.readUInt32LE(start + HANDLE_OFFSET);
    if (length < handleEnd || record.length < length) break;
    if (record[0] === RECORD.place || record[0] === RECORD.oldPlace) place = placeOf(record, handleEnd);
    else if (record[0] === RECORD.newPlace) target = placeOf(record, handleEnd);
    else if (record[0] === RECORD.self) self = Buffer.from(record.subarray(HANDLE_OFFSET, handleEnd));
    start += length;
  }
  return { place, target, self };
}

/** The inode that a handle stands for; undefined where the file system makes handles of another kind. */
export function inodeOfHandle(handle: Buffer): bigint | undefined {
  const kind = handle.length < HANDLE_HEAD_BYTES ? -1 : handle.readInt32LE(4);
  const bytes = handle.subarray(HANDLE_HEAD_BYTES);
  if (kind === HANDLE.ino32 && bytes.length === 8) return BigInt(bytes.readUInt32LE(0));
  // tmpfs: generation, then the inode in two halves
  if (kind === HANDLE.ino32 && bytes.length === 12) return bytes.readBigUInt64LE(4);
  if ((kind === HANDLE.ino64 || kind === HANDLE.btrfs) && bytes.length >= 8) return bytes.readBigUInt64LE(0);
  return undefined;
}

/** Copied: the bytes behind it are read into again. */
function placeOf(record: Buffer, handleEnd: number): FanPlace {
  const nameEnd = record.indexOf(0, handleEnd);
  return {
    fileSystem: record.toString("hex", 4, 12),
    folder: Buffer.from(record.subarray(HANDLE_OFFSET, handleEnd)),
    name: record.toString("latin1", handleEnd, nameEnd === -1 ? record.length : nameEnd),
  };
}
