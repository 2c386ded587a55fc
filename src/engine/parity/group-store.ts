/**
 * The parity groups of a store, and bytes of packs out of them: any range of a pack that is lost or damaged, as long as
 * of each block of 64 KiB enough other shards are whole. What comes out is checked by block; who uses it proves it again.
 */
import { crc32 } from "node:zlib";
import { HoldfastError, hasCode } from "../../base/errors.js";
import type { Backend } from "../../storage/backend.js";
import { packKey, type PackKind } from "../pack/format.js";
import {
  blockCount,
  checkDescription,
  PARITY_BLOCK_BYTES,
  PARITY_FOOTER_BYTES,
  PARITY_HEADER_BYTES,
  type ParityGroup,
  type ParityMember,
  parseDescription,
  parseParityFooter,
  parseParityHeader,
} from "./format.js";
import { ReedSolomon } from "./reed-solomon.js";

export const PARITY_PREFIX = "parity/";

/** A group as it lies in the store. */
export interface StoredGroup {
  readonly members: readonly ParityMember[];
  readonly parityCount: number;
  /** Keys of its parity objects by number; undefined where one is missing. */
  readonly keys: readonly (string | undefined)[];
}

/** A group with what its blocks should be; some 30 KB for a group of ten packs, so only those in use are kept. */
interface OpenGroup {
  readonly stored: StoredGroup;
  readonly group: ParityGroup;
  readonly code: ReedSolomon;
}

const OPEN_GROUPS_MAX = 4;

export class ParityStore {
  readonly #backend: Backend;
  readonly #repositoryId: Uint8Array;
  /** By pack key; undefined until somebody asks. */
  #byPack: Promise<ReadonlyMap<string, StoredGroup>> | undefined;
  readonly #open = new Map<StoredGroup, OpenGroup>();

  constructor(backend: Backend, repositoryId: Uint8Array) {
    this.#backend = backend;
    this.#repositoryId = repositoryId;
  }

  /** All groups whose description can be read. */
  async groups(signal: AbortSignal): Promise<StoredGroup[]> {
    const found = new Map<string, StoredGroup & { readonly keys: (string | undefined)[] }>();
    for await (const { key, sizeBytes } of this.#backend.list(PARITY_PREFIX, signal)) {
      const read = await this.#read(key, sizeBytes, signal);
      if (read === undefined) continue;
      const { members, parityCount } = read.group;
      const name = `${String(parityCount)} ${members.map(({ kind, sha256 }) => kind + sha256).join(" ")}`;
      const keys = new Array<string | undefined>(parityCount).fill(undefined);
      const known = found.get(name) ?? { members, parityCount, keys };
      if (read.number < parityCount) known.keys[read.number] ??= key;
      found.set(name, known);
    }
    return [...found.values()];
  }

  /** Forgets what it knows: groups were written or removed. */
  refresh(): void {
    this.#byPack = undefined;
    this.#open.clear();
  }

  /** The packs that have parity, by key. */
  async membersByKey(signal: AbortSignal): Promise<ReadonlyMap<string, ParityMember>> {
    const known = await this.#groupsByPack(signal);
    const members = [...known.values()].flatMap((group) => group.members);
    return new Map(members.map((member) => [packKey(member.kind, member.sha256), member]));
  }

  /** Bytes of a pack, its own where they are whole, made out of the others where not; undefined when that cannot be. */
  async range(
    pack: { readonly kind: PackKind; readonly sha256: string },
    place: { readonly offsetBytes: number; readonly lengthBytes: number },
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    const key = packKey(pack.kind, pack.sha256);
    const stored = (await this.#groupsByPack(signal)).get(key);
    const open = stored === undefined ? undefined : await this.#openGroup(stored, signal);
    if (open === undefined) return undefined;
    const index = open.group.members.findIndex(({ kind, sha256 }) => packKey(kind, sha256) === key);
    const end = Math.min(place.offsetBytes + place.lengthBytes, open.group.members[index]?.sizeBytes ?? 0);
    const first = Math.floor(place.offsetBytes / PARITY_BLOCK_BYTES);
    const parts: Buffer[] = [];
    for (let block = first; block * PARITY_BLOCK_BYTES < end; block += 1) {
      signal.throwIfAborted();
      const bytes = await this.#block(open, index, block, signal);
      if (bytes === undefined) return undefined;
      parts.push(bytes);
    }
    const from = place.offsetBytes - first * PARITY_BLOCK_BYTES;
    return Buffer.concat(parts).subarray(from, from + Math.max(0, end - place.offsetBytes));
  }

  async #groupsByPack(signal: AbortSignal): Promise<ReadonlyMap<string, StoredGroup>> {
    this.#byPack ??= this.groups(signal).then(byPack);
    try {
      return await this.#byPack;
    } catch (error) {
      this.#byPack = undefined;
      throw error;
    }
  }

  async #openGroup(stored: StoredGroup, signal: AbortSignal): Promise<OpenGroup | undefined> {
    const known = this.#open.get(stored);
    if (known !== undefined) return known;
    for (const key of stored.keys) {
      const info = key === undefined ? undefined : await this.#backend.stat(key, signal);
      const read = info === undefined ? undefined : await this.#read(info.key, info.sizeBytes, signal);
      if (read === undefined) continue;
      const code = new ReedSolomon(stored.members.length, stored.parityCount);
      const opened = { stored, group: read.group, code };
      if (this.#open.size >= OPEN_GROUPS_MAX) this.#open.clear();
      this.#open.set(stored, opened);
      return opened;
    }
    return undefined;
  }

  /** One whole block of a shard: as it lies there when it is whole, else out of enough others. */
  async #block(open: OpenGroup, index: number, block: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const own = await this.#shardBlock(open, index, block, signal);
    if (own !== undefined) return own;
    const { code, group } = open;
    const lengthBytes = Math.min(PARITY_BLOCK_BYTES, group.shardBytes - block * PARITY_BLOCK_BYTES);
    const shards: (Uint8Array | undefined)[] = [];
    let count = 0;
    for (let shard = 0; shard < code.dataCount + code.parityCount; shard += 1) {
      const isWanted = shard !== index && count < code.dataCount;
      const bytes = isWanted ? await this.#shardBlock(open, shard, block, signal) : undefined;
      if (bytes !== undefined) count += 1;
      shards.push(bytes === undefined ? undefined : padded(bytes, lengthBytes));
    }
    const made = code.reconstruct(shards)?.get(index);
    const bytes = made === undefined ? undefined : Buffer.from(made).subarray(0, dataLength(open.group, index, block));
    return bytes !== undefined && isExpected(open.group, index, block, bytes) ? bytes : undefined;
  }

  /** A block of a shard when it is there and what it should be. */
  async #shardBlock(
    { group, stored }: OpenGroup,
    shard: number,
    block: number,
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    const member = group.members[shard];
    const lengthBytes = dataLength(group, shard, block);
    const key = member === undefined ? stored.keys[shard - group.members.length] : packKey(member.kind, member.sha256);
    if (key === undefined) return undefined;
    const from = block * PARITY_BLOCK_BYTES + (member === undefined ? PARITY_HEADER_BYTES : 0);
    const bytes = lengthBytes === 0 ? Buffer.alloc(0) : await this.#rangeOrNone(key, from, lengthBytes, signal);
    return bytes !== undefined && isExpected(group, shard, block, bytes) ? bytes : undefined;
  }

  /** What cannot be read counts as damaged: that is what parity is for. */
  async #rangeOrNone(key: string, from: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    try {
      return await this.#backend.getRange(key, from, lengthBytes, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!hasCode(error, "OBJECT_MISSING") && !hasCode(error, "STORE_IO")) throw error;
      return undefined;
    }
  }

  async #read(
    key: string,
    sizeBytes: number,
    signal: AbortSignal,
  ): Promise<{ readonly number: number; readonly group: ParityGroup } | undefined> {
    try {
      const header = await this.#backend.getRange(key, 0, PARITY_HEADER_BYTES, signal);
      const footerFrom = Math.max(0, sizeBytes - PARITY_FOOTER_BYTES);
      const footer = await this.#backend.getRange(key, footerFrom, PARITY_FOOTER_BYTES, signal);
      const place = parseParityFooter(footer, sizeBytes);
      const description = await this.#backend.getRange(key, place.offsetBytes, place.lengthBytes, signal);
      checkDescription(description, footer);
      return { number: parseParityHeader(header, this.#repositoryId), group: parseDescription(description) };
    } catch (error) {
      signal.throwIfAborted();
      const codes = ["OBJECT_DAMAGED", "OBJECT_MISSING", "STORE_IO"];
      if (!(error instanceof HoldfastError) || !codes.includes(error.code)) throw error;
      return undefined;
    }
  }
}

function byPack(groups: readonly StoredGroup[]): ReadonlyMap<string, StoredGroup> {
  const packs = new Map<string, StoredGroup>();
  for (const group of groups) {
    for (const { kind, sha256 } of group.members) {
      const known = packs.get(packKey(kind, sha256));
      // While groups are made anew a pack is in two: the one with more parity is asked.
      if (known === undefined || partsOf(known) < partsOf(group)) packs.set(packKey(kind, sha256), group);
    }
  }
  return packs;
}

function partsOf({ keys }: StoredGroup): number {
  return keys.filter((key) => key !== undefined).length;
}

/** Stored bytes of a block: a pack may end in it or before it. */
function dataLength(group: ParityGroup, shard: number, block: number): number {
  const sizeBytes = group.members[shard]?.sizeBytes ?? group.shardBytes;
  return Math.max(0, Math.min(PARITY_BLOCK_BYTES, sizeBytes - block * PARITY_BLOCK_BYTES));
}

function isExpected(group: ParityGroup, shard: number, block: number, bytes: Buffer): boolean {
  if (block >= blockCount(group.shardBytes) || bytes.length !== dataLength(group, shard, block)) return false;
  return crc32(bytes) === group.checksums[shard]?.[block];
}

function padded(bytes: Buffer, lengthBytes: number): Uint8Array {
  if (bytes.length === lengthBytes) return bytes;
  const whole = new Uint8Array(lengthBytes);
  whole.set(bytes);
  return whole;
}
