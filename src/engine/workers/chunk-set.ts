/**
 * Which chunks are stored: a table in shared memory that the main thread writes and the workers read. A chunk is
 * DURABLE, or pending for one job (its pack is not yet in the store); workers rely on durable ones and on their own
 * job's. Open addressing by the first 16 bytes of the id. It grows by replacement; a removed id leaves a mark until the
 * next growth and its slot is not used again before, so a reader never takes one id's state for another's.
 */
import { HoldfastError } from "../../base/errors.js";
import type { ChunkId } from "../types.js";

/** States of a slot; anything above is a job that the id is pending for. */
const FREE = 0;
const DURABLE = 1;
const REMOVED = 2;
const FIRST_JOB = 3;
const JOBS_MAX = 2 ** 31;

const KEY_WORDS = 4;
const SLOT_WORDS = KEY_WORDS + 1;
const CAPACITY_MIN = 4096;
/** Filled slots (removed ones included) at which it grows: 0.7 of the slots keeps probes short. */
const FILL_MAX = 0.7;
/** Room after growing, for each id: below 2, so that a table that is just full doubles and does not grow fourfold. */
const GROWTH = 1.5;

/** The slots of a shared buffer: four words of id and one of state each. */
class SlotTable {
  readonly words: Int32Array;
  readonly #mask: number;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.#mask = this.words.length / SLOT_WORDS - 1;
  }

  static bufferFor(slots: number): SharedArrayBuffer {
    return new SharedArrayBuffer(slots * SLOT_WORDS * 4);
  }

  get slots(): number {
    return this.#mask + 1;
  }

  /** Index of the first word of the id's slot, or the complement of that of the free slot where it belongs. */
  find(key: Int32Array): number {
    const [first = 0] = key;
    for (let slot = first & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * SLOT_WORDS;
      const state = Atomics.load(this.words, at + KEY_WORDS);
      if (state === FREE) return ~at;
      if (state !== REMOVED && this.#matches(at, key)) return at;
    }
  }

  stateAt(at: number): number {
    return Atomics.load(this.words, at + KEY_WORDS);
  }

  setState(at: number, state: number): void {
    Atomics.store(this.words, at + KEY_WORDS, state);
  }

  /** Fills a free slot: first the key, then the state that makes it visible. */
  fill(at: number, key: Int32Array, state: number): void {
    this.words.set(key, at);
    this.setState(at, state);
  }

  #matches(at: number, key: Int32Array): boolean {
    const words = this.words;
    return words[at] === key[0] && words[at + 1] === key[1] && words[at + 2] === key[2] && words[at + 3] === key[3];
  }
}

export class ChunkSet {
  #buffer: SharedArrayBuffer;
  #table: SlotTable;
  #filled = 0;
  #size = 0;
  #nextJob = FIRST_JOB;
  /** Ids pending for each job (32 bytes each), so that a job can be confirmed or dropped without a walk over the table. */
  readonly #pending = new Map<number, Uint8Array[]>();

  /** `capacity` is the number of ids expected; it grows by itself. */
  constructor(capacity = 0) {
    this.#buffer = SlotTable.bufferFor(slotsFor(capacity));
    this.#table = new SlotTable(this.#buffer);
  }

  /** What a worker needs to read it. Valid until the set grows; hand it over with each job. */
  get buffer(): SharedArrayBuffer {
    return this.#buffer;
  }

  /** Ids in it, pending ones included. */
  get size(): number {
    return this.#size;
  }

  /** True when durable. */
  isDurable(id: ChunkId): boolean {
    const at = this.#table.find(keyOf(id));
    return at >= 0 && this.#table.stateAt(at) === DURABLE;
  }

  /** The same for an id as bytes, which begin at `at`. */
  isDurableAt(bytes: Uint8Array, at: number): boolean {
    for (let index = 0; index < scratchBytes.length; index += 1) scratchBytes[index] = bytes[at + index] ?? 0;
    const found = this.#table.find(scratchKey);
    return found >= 0 && this.#table.stateAt(found) === DURABLE;
  }

  /** True when it was durable before. */
  addDurable(id: ChunkId): boolean {
    return this.#set(keyOf(id), DURABLE) === DURABLE;
  }

  /** The same for an id as bytes, which begin at `at`. */
  addDurableAt(bytes: Uint8Array, at: number): boolean {
    for (let index = 0; index < scratchBytes.length; index += 1) scratchBytes[index] = bytes[at + index] ?? 0;
    return this.#set(scratchKey, DURABLE) === DURABLE;
  }

  /** The first DURABLE_KEY_BYTES of every durable id, in no order. */
  durableKeys(): Buffer {
    const { words, slots } = this.#table;
    const keys = new Int32Array(this.#size * KEY_WORDS);
    let length = 0;
    for (let at = 0; at < slots * SLOT_WORDS; at += SLOT_WORDS) {
      if (this.#table.stateAt(at) !== DURABLE) continue;
      for (let word = 0; word < KEY_WORDS; word += 1) keys[length + word] = words[at + word] ?? 0;
      length += KEY_WORDS;
    }
    return Buffer.from(keys.buffer, 0, length * Int32Array.BYTES_PER_ELEMENT);
  }

  /** Makes room for as many ids in all, so that adding them need not grow step by step. */
  reserve(capacity: number): void {
    if (slotsFor(capacity) > this.#table.slots) this.#growTo(slotsFor(capacity));
  }

  /**
   * Marks ids (32 bytes each) as pending for a job (a number from `newJob`), except those that are durable or pending
   * for another job.
   */
  addPending(ids: Uint8Array, job: number): void {
    const waiting = this.#pending.get(job);
    if (waiting === undefined) throw new HoldfastError("INTERNAL", "a chunk was marked for a job that is over");
    for (const key of keysIn(ids)) if (this.#table.find(key) < 0) this.#set(key, job);
    waiting.push(ids);
  }

  /** True when it was there. Not while a batch that may rely on it is under way (`WorkerPool.idle`). */
  delete(id: ChunkId): boolean {
    const at = this.#table.find(keyOf(id));
    if (at >= 0) this.#removeAt(at);
    return at >= 0;
  }

  #removeAt(at: number): void {
    this.#table.setState(at, REMOVED);
    this.#size -= 1;
  }

  /** Job numbers, never reused within a process. */
  newJob(): number {
    if (this.#nextJob >= JOBS_MAX) throw new HoldfastError("LIMIT_REACHED", "too many jobs since the start");
    const job = this.#nextJob;
    this.#nextJob += 1;
    this.#pending.set(job, []);
    return job;
  }

  /** All pending ids of a job become durable: its packs are in the store. The job is over. */
  confirmJob(job: number): void {
    for (const ids of this.#pending.get(job) ?? []) for (const key of keysIn(ids)) this.#confirm(key, job);
    this.#pending.delete(job);
  }

  /** All pending ids of a job are dropped: it failed. The job is over. */
  abandonJob(job: number): void {
    for (const ids of this.#pending.get(job) ?? []) {
      for (const key of keysIn(ids)) {
        const at = this.#table.find(key);
        if (at >= 0 && this.#table.stateAt(at) === job) this.#removeAt(at);
      }
    }
    this.#pending.delete(job);
  }

  /** What was marked for the job becomes durable; what another job holds stays that one's affair. */
  #confirm(key: Int32Array, job: number): void {
    const at = this.#table.find(key);
    if (at >= 0 && this.#table.stateAt(at) === job) this.#table.setState(at, DURABLE);
  }

  /** The state before. */
  #set(key: Int32Array, state: number): number {
    const at = this.#table.find(key);
    if (at >= 0) {
      const before = this.#table.stateAt(at);
      this.#table.setState(at, state);
      return before;
    }
    this.#table.fill(~at, key, state);
    this.#filled += 1;
    this.#size += 1;
    if (this.#filled > this.#table.slots * FILL_MAX) this.#growTo(slotsFor(this.#size * GROWTH));
    return FREE;
  }

  #growTo(slots: number): void {
    const old = this.#table;
    const buffer = SlotTable.bufferFor(slots);
    const table = new SlotTable(buffer);
    for (let at = 0; at < old.words.length; at += SLOT_WORDS) {
      const state = old.stateAt(at);
      if (state === FREE || state === REMOVED) continue;
      const key = old.words.subarray(at, at + KEY_WORDS);
      table.fill(~table.find(key), key, state);
    }
    this.#buffer = buffer;
    this.#table = table;
    this.#filled = this.#size;
  }
}

/** Bytes of an id that `durableKeys` gives and `addDurableAt` takes. */
export const DURABLE_KEY_BYTES = KEY_WORDS * Int32Array.BYTES_PER_ELEMENT;

/** The workers' view: what may be relied on in one job. */
export class ChunkSetReader {
  readonly #table: SlotTable;
  readonly #job: number;

  constructor(buffer: SharedArrayBuffer, job: number) {
    this.#table = new SlotTable(buffer);
    this.#job = job;
  }

  /** True when the chunk is durable, or was stored earlier in the same job. */
  has(id: ChunkId): boolean {
    const at = this.#table.find(keyOf(id));
    if (at < 0) return false;
    const state = this.#table.stateAt(at);
    return state === DURABLE || state === this.#job;
  }
}

const ID_BYTES = 32;
/** The key last made. Nothing waits while it is used. */
const scratchKey = new Int32Array(KEY_WORDS);
const scratchBytes = Buffer.from(scratchKey.buffer);

/** The first 16 bytes of an id, valid until the next call. A second id with the same would take 2^64 chunks. */
function keyOf(id: ChunkId): Int32Array {
  scratchBytes.write(id, 0, KEY_WORDS * 4, "hex");
  return scratchKey;
}

/** The keys of ids of 32 bytes each; each is valid until the next. */
function* keysIn(ids: Uint8Array): Generator<Int32Array> {
  for (let at = 0; at < ids.length; at += ID_BYTES) {
    scratchBytes.set(ids.subarray(at, at + KEY_WORDS * 4));
    yield scratchKey;
  }
}

/** A power of two with room for `ids` below the fill limit. */
function slotsFor(ids: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(CAPACITY_MIN, ids / FILL_MAX + 1)));
}
