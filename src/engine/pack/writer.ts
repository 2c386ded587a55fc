/** Writes one pack into a staging file, hashing as it goes; buffered, one write behind what is added, one fsync at the end. */
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import { HoldfastError } from "../../base/errors.js";
import { type FileIo, type IoFile, systemIo } from "../../storage/file-io.js";
import { storeError } from "../../storage/store-error.js";
import type { RepositoryKeys } from "../keys.js";
import {
  encodePackFooter,
  encodePackHeader,
  encodeTrailer,
  type FinishedPack,
  PACK_BYTES_AIM,
  type PackEntry,
  type PackKind,
} from "./format.js";
import { RecordSealer, type SealedRecord } from "./record.js";

/** Bytes gathered before one write. */
const BUFFER_BYTES = 2 ** 20;
/** Records and bundled chunks in one pack: the trailer stays below 12 MiB and so within one record. */
const PACK_LISTED_MAX = 200_000;

export interface PackWriterOptions {
  readonly stagingFolder: string;
  readonly kind: PackKind;
  readonly keys: RepositoryKeys;
  readonly io?: FileIo;
}

/** Removes closed packs that are not needed from the staging folder; those that are in the store by now stay there. */
export async function discardPacks(packs: readonly FinishedPack[], io: FileIo): Promise<void> {
  // What cannot be removed, or is not there any more, is cleared with the staging folder.
  await Promise.allSettled(packs.map(({ stagingPath }) => io.unlink(stagingPath)));
}

export class PackWriter implements AsyncDisposable {
  readonly #options: PackWriterOptions;
  readonly #io: FileIo;
  readonly #hash = createHash("sha256");
  readonly #entries: PackEntry[] = [];
  readonly #path: string;
  #file: IoFile | undefined;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** Of what was given to the file; the last of it may be under way. */
  #writtenBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #listed = 0;
  #state: "open" | "finished" | "failed" = "open";

  /** Nothing is written before the first buffer is full. */
  constructor(options: PackWriterOptions) {
    this.#options = options;
    this.#io = options.io ?? systemIo;
    this.#path = join(options.stagingFolder, `${STAGING_PREFIX}pack-${randomBytes(12).toString("hex")}`);
    this.#push(encodePackHeader(options.kind, options.keys.repositoryId));
  }

  /** Bytes so far, without trailer and footer. */
  get sizeBytes(): number {
    return this.#writtenBytes + this.#waitingBytes;
  }

  /** True when it is time to finish it and begin another. */
  get full(): boolean {
    return this.sizeBytes >= PACK_BYTES_AIM || this.#listed >= PACK_LISTED_MAX;
  }

  /** True as long as no record was added. */
  get empty(): boolean {
    return this.#entries.length === 0;
  }

  /**
   * Adds a sealed record (also one copied raw from another pack or the log) and gives its offset. Its bytes are not
   * changed any more. STORE_FULL and STORE_IO are of a write that this or an earlier call began.
   */
  async add(record: SealedRecord): Promise<number> {
    this.#assertOpen();
    const offsetBytes = this.sizeBytes;
    this.#entries.push({
      type: record.type,
      id: record.id,
      offsetBytes,
      recordBytes: record.bytes.length,
      plainBytes: record.plainBytes,
      ...(record.inner === undefined ? {} : { inner: record.inner }),
    });
    this.#listed += 1 + (record.inner?.length ?? 0);
    this.#push(record.bytes);
    if (this.#waitingBytes >= BUFFER_BYTES) await this.#guarded(() => this.#flush());
    return offsetBytes;
  }

  /** Writes trailer and footer and syncs. Undefined when no record was added. The writer is closed afterwards. */
  async finish(): Promise<FinishedPack | undefined> {
    this.#assertOpen();
    if (this.empty) return undefined;
    const trailer = new RecordSealer(this.#options.keys).seal("trailer", encodeTrailer(this.#entries), "lz4");
    const trailerOffsetBytes = this.sizeBytes;
    this.#push(trailer.bytes);
    this.#push(encodePackFooter({ trailerOffsetBytes, trailerBytes: trailer.bytes.length }));
    await this.#guarded(async () => {
      await this.#flush();
      await this.#writing;
      await this.#file?.sync();
      await this.#file?.close();
    });
    this.#file = undefined;
    this.#state = "finished";
    return {
      kind: this.#options.kind,
      stagingPath: this.#path,
      sha256: this.#hash.digest("hex"),
      sizeBytes: this.sizeBytes,
      entries: this.#entries,
    };
  }

  /** Removes the staging file unless it was finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === "open") this.#state = "failed";
    await this.#writing.catch(() => undefined); // told already, or thrown away
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    await file.close().catch(() => undefined); // its content is thrown away
    await this.#io.unlink(this.#path).catch(() => undefined); // what stays is cleared with the staging folder
  }

  #push(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
  }

  /** Begins to write what waits, after what was written before: the next records are made meanwhile. */
  async #flush(): Promise<void> {
    await this.#writing;
    const file = (this.#file ??= await this.#io.create(this.#path));
    const parts = this.#waiting;
    const offsetBytes = this.#writtenBytes;
    this.#writtenBytes += this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#writing = file.write(parts, offsetBytes);
    this.#writing.catch(() => undefined); // heard by whoever comes next
    for (const part of parts) this.#hash.update(part);
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#state = "failed";
      throw storeError(error, "writing a pack");
    }
  }

  #assertOpen(): void {
    if (this.#state !== "open") throw new HoldfastError("INTERNAL", `a ${this.#state} pack was used`);
  }
}
