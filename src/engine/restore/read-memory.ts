/**
 * The memory in which one worker thread reads and opens what it restores, the same for one batch after the other: fresh
 * memory for each block costs more (page faults) than decrypting it. Opened records are kept for the length of a batch,
 * since neighbours share bundles.
 */
import { Scratch } from "../codec/scratch.js";

/** Records kept open at a time; a batch is cut so that it needs few. */
const SLOTS = 8;
/** Memory of a slot: room for a bundle. A larger record gets memory of its own, one at a time. */
const SLOT_BYTES = 1.25 * 2 ** 20;
/** Written files are read back by this much. */
const READ_BACK_BYTES = 2 ** 20;
const NONE = -1;
const NOTHING = Buffer.alloc(0);

/** Where a record lies. */
interface RecordPlace {
  readonly object: number;
  readonly offsetBytes: number;
}

class Slot {
  readonly memory = new Scratch(SLOT_BYTES);
  object = NONE;
  offsetBytes = 0;
  plain: Buffer = NOTHING;
  usedAt = 0;

  holds({ object, offsetBytes }: RecordPlace): boolean {
    return this.offsetBytes === offsetBytes && this.object === object;
  }

  clear(): void {
    this.object = NONE;
    this.plain = NOTHING;
  }
}

export class ReadMemory {
  /** For sealed bytes; valid until the next record is read. */
  readonly sealed = new Scratch(SLOT_BYTES);
  /** For reading back what was written. */
  readonly readBack = Buffer.allocUnsafeSlow(READ_BACK_BYTES);
  readonly #slots = Array.from({ length: SLOTS }, () => new Slot());
  #last: Slot | undefined;
  #uses = 0;

  /** The opened record, when it is kept. */
  known(place: RecordPlace): Buffer | undefined {
    // Nearly always the one that was wanted last: a batch is in the order of its records.
    const slot = this.#last?.holds(place) === true ? this.#last : this.#slots.find((each) => each.holds(place));
    return slot === undefined ? undefined : this.#use(slot).plain;
  }

  /** Keeps what `open` gives, which may lie in the memory that it is handed; it is valid until SLOTS more are kept. */
  keep(place: RecordPlace, plainBytes: number, open: (room: Buffer) => Buffer): Buffer {
    const slot = this.#use(this.#slots.reduce((oldest, each) => (each.usedAt < oldest.usedAt ? each : oldest)));
    slot.clear();
    const isLarge = plainBytes > SLOT_BYTES;
    if (isLarge) for (const each of this.#slots) if (each.plain.length > SLOT_BYTES) each.clear();
    const room = isLarge ? Buffer.allocUnsafeSlow(plainBytes) : slot.memory.ofSize(plainBytes);
    const opened = open(room);
    // An unencrypted, uncompressed record is a view of the sealed bytes.
    slot.plain = opened.buffer === this.sealed.ofSize(0).buffer ? copied(opened, room) : opened;
    slot.object = place.object;
    slot.offsetBytes = place.offsetBytes;
    return slot.plain;
  }

  /** Forgets what it holds: objects have other numbers from now on. */
  clear(): void {
    for (const slot of this.#slots) slot.clear();
    this.#last = undefined;
  }

  #use(slot: Slot): Slot {
    this.#uses += 1;
    slot.usedAt = this.#uses;
    this.#last = slot;
    return slot;
  }
}

function copied(bytes: Buffer, room: Buffer): Buffer {
  room.set(bytes);
  return room.subarray(0, bytes.length);
}
