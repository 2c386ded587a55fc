/** What the kernel writes to an inotify queue, as objects. Pure; bytes that make no sense end the reading. */

/** The bits of events that are asked for or told. */
export const IN = {
  modify: 0x2,
  attributes: 0x4,
  movedFrom: 0x40,
  movedTo: 0x80,
  create: 0x100,
  delete: 0x200,
  deleteSelf: 0x400,
  moveSelf: 0x800,
  unmount: 0x2000,
  overflow: 0x4000,
  ignored: 0x8000,
  onlyFolder: 0x100_0000,
  dontFollow: 0x200_0000,
  excludeUnlinked: 0x400_0000,
  onFolder: 0x4000_0000,
} as const;

export interface InotifyEvent {
  /** The watch's number; -1 of an overflow. */
  readonly watch: number;
  readonly mask: number;
  /** In the watched folder, bytes as characters; "" for the folder itself. */
  readonly name: string;
}

/** Watch i32, mask u32, cookie u32, length of the name u32; then the name, filled up with NUL. */
const HEADER_BYTES = 16;

/** All whole events in what was read. */
export function parseInotifyEvents(bytes: Buffer): readonly InotifyEvent[] {
  const events: InotifyEvent[] = [];
  for (let start = 0; start + HEADER_BYTES <= bytes.length;) {
    const nameStart = start + HEADER_BYTES;
    const next = nameStart + bytes.readUInt32LE(start + 12);
    if (next > bytes.length) return events;
    const nul = bytes.indexOf(0, nameStart);
    const nameEnd = nul === -1 || nul > next ? next : nul;
    events.push({
      watch: bytes.readInt32LE(start),
      mask: bytes.readUInt32LE(start + 4),
      name: bytes.toString("latin1", nameStart, nameEnd),
    });
    start = next;
  }
  return events;
}
