/**
 * Writes the parity of one group: all packs are read side by side, a stripe at a time, and proven by their names before
 * their parity counts. The parity objects are staged and take their names last, so a crash leaves nothing half made.
 */
import { createHash, type Hash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import type { Backend } from "../../storage/backend.js";
import type { FileIo, IoFile } from "../../storage/file-io.js";
import { storeError } from "../../storage/store-error.js";
import { packKey } from "../pack/format.js";
import {
  blockCount,
  encodeDescription,
  encodeParityFooter,
  encodeParityHeader,
  PARITY_BLOCK_BYTES,
  PARITY_HEADER_BYTES,
  type ParityMember,
} from "./format.js";
import { PARITY_PREFIX } from "./group-store.js";
import { ReedSolomon } from "./reed-solomon.js";

/** Read of each pack at once; a group of ten and two keeps about 3 MiB. */
const STRIPE_BYTES = 4 * PARITY_BLOCK_BYTES;

export interface GroupOrder {
  readonly members: readonly ParityMember[];
  readonly parityCount: number;
}

export interface GroupContext {
  readonly backend: Backend;
  readonly io: FileIo;
  readonly repositoryId: Uint8Array;
  readonly signal: AbortSignal;
}

/** What became of an order: the bytes that were written, or the packs that are not what their names say. */
export type GroupOutcome =
  | { readonly kind: "written"; readonly sizeBytes: number; readonly keys: readonly string[] }
  | { readonly kind: "damaged"; readonly members: readonly ParityMember[] };

/** Makes and stores the parity of a group. Throws OBJECT_MISSING when a pack is gone, STORE_FULL, STORE_IO. */
export async function writeGroup(order: GroupOrder, context: GroupContext): Promise<GroupOutcome> {
  const { members, parityCount } = order;
  const shardBytes = Math.max(...members.map(({ sizeBytes }) => sizeBytes));
  const code = new ReedSolomon(members.length, parityCount);
  const checksums = Array.from({ length: members.length + parityCount }, () => new Uint32Array(blockCount(shardBytes)));
  const hashes = members.map(() => createHash("sha256"));
  const shards: ParityFile[] = [];
  try {
    for (let number = 0; number < parityCount; number += 1) {
      shards.push(await ParityFile.create(context, encodeParityHeader(order, number, context.repositoryId)));
    }
    for (let offset = 0; offset < shardBytes; offset += STRIPE_BYTES) {
      context.signal.throwIfAborted();
      const lengthBytes = Math.min(STRIPE_BYTES, shardBytes - offset);
      const data = await readStripe(order, context, { offset, lengthBytes, hashes, checksums });
      for (const [number, parity] of code.encode(data).entries()) {
        noteChecksums(checksums[members.length + number], offset, parity);
        await shards[number]?.write(parity);
      }
    }
    const damaged = members.filter(({ sha256 }, index) => hashes[index]?.digest("hex") !== sha256);
    if (damaged.length > 0) return { kind: "damaged", members: damaged };
    const description = encodeDescription({ members, parityCount, shardBytes, checksums });
    const footer = encodeParityFooter(PARITY_HEADER_BYTES + shardBytes, description);
    let sizeBytes = 0;
    const keys: string[] = [];
    for (const shard of shards) {
      keys.push(await shard.store([description, footer]));
      sizeBytes += shard.sizeBytes;
    }
    return { kind: "written", sizeBytes, keys };
  } finally {
    for (const shard of shards) await shard[Symbol.asyncDispose]();
  }
}

interface Stripe {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly hashes: readonly Hash[];
  readonly checksums: readonly Uint32Array[];
}

/** A stripe of every pack, zeros behind the ends of the shorter ones. */
async function readStripe(
  { members }: GroupOrder,
  { backend, signal }: GroupContext,
  { offset, lengthBytes, hashes, checksums }: Stripe,
): Promise<Uint8Array[]> {
  return await Promise.all(
    members.map(async ({ kind, sha256, sizeBytes }, index) => {
      const whole = new Uint8Array(lengthBytes);
      if (offset >= sizeBytes) return whole;
      const bytes = await backend.getRange(packKey(kind, sha256), offset, lengthBytes, signal);
      hashes[index]?.update(bytes);
      noteChecksums(checksums[index], offset, bytes);
      whole.set(bytes);
      return whole;
    }),
  );
}

function noteChecksums(checksums: Uint32Array | undefined, offset: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += PARITY_BLOCK_BYTES) {
    checksums?.set([crc32(bytes.subarray(at, at + PARITY_BLOCK_BYTES))], (offset + at) / PARITY_BLOCK_BYTES);
  }
}

/** One parity object in the staging folder. */
class ParityFile implements AsyncDisposable {
  readonly #context: GroupContext;
  readonly #path: string;
  readonly #hash = createHash("sha256");
  #file: IoFile | undefined;
  #sizeBytes = 0;
  #isStored = false;

  private constructor(context: GroupContext, path: string, file: IoFile) {
    this.#context = context;
    this.#path = path;
    this.#file = file;
  }

  static async create(context: GroupContext, header: Buffer): Promise<ParityFile> {
    const name = `${STAGING_PREFIX}parity-${randomBytes(12).toString("hex")}`;
    const path = join(context.backend.stagingFolder, name);
    const opened = await context.io.create(path).catch((error: unknown) => {
      throw storeError(error, "writing parity");
    });
    const file = new ParityFile(context, path, opened);
    try {
      await file.write(header);
      return file;
    } catch (error) {
      await file[Symbol.asyncDispose]();
      throw error;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    try {
      await this.#file?.write([bytes], this.#sizeBytes);
    } catch (error) {
      throw storeError(error, "writing parity");
    }
    this.#sizeBytes += bytes.length;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Ends the object and gives it its name; gives its key. */
  async store(end: readonly Uint8Array[]): Promise<string> {
    for (const part of end) await this.write(part);
    const { backend, signal } = this.#context;
    try {
      await this.#file?.sync();
      await this.#file?.close();
    } catch (error) {
      throw storeError(error, "writing parity");
    }
    this.#file = undefined;
    const key = `${PARITY_PREFIX}${this.#hash.digest("hex")}`;
    await backend.putFile(key, this.#path, signal);
    this.#isStored = true;
    return key;
  }

  /** Removes the staging file unless it was stored. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close().catch(() => undefined); // its content is thrown away
    if (!this.#isStored) await this.#context.io.unlink(this.#path).catch(() => undefined); // cleared with the folder
  }
}
