/** Writing the nodes of trees into metadata packs, each node once, and nothing that the store has already. */
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack } from "../pack/format.js";
import { RecordSealer, chunkIdOf } from "../pack/record.js";
import type { PackWriter } from "../pack/writer.js";
import type { Compression } from "../codec/codec.js";
import type { ChunkId } from "../types.js";

export interface NodeWriterOptions {
  /** A writer for the next metadata pack. */
  readonly newPack: () => PackWriter;
  readonly keys: RepositoryKeys;
  readonly compression: Compression;
  /** True when the store has the node already. */
  readonly isStored: (id: ChunkId) => boolean;
}

export class NodeWriter implements AsyncDisposable {
  readonly #options: NodeWriterOptions;
  readonly #added = new Set<ChunkId>();
  readonly #packs: FinishedPack[] = [];
  #writer: PackWriter;
  #sealer: RecordSealer;

  constructor(options: NodeWriterOptions) {
    this.#options = options;
    this.#writer = options.newPack();
    this.#sealer = new RecordSealer(options.keys);
  }

  /** Keeps a node's bytes and gives its id. */
  async store(bytes: Buffer): Promise<ChunkId> {
    const id = chunkIdOf(this.#options.keys, bytes);
    if (this.#added.has(id) || this.#options.isStored(id)) return id;
    this.#added.add(id);
    await this.#writer.add(this.#sealer.seal("tree_node", bytes, this.#options.compression, id));
    if (this.#writer.full) await this.#closePack();
    return id;
  }

  async #closePack(): Promise<void> {
    const pack = await this.#writer.finish();
    if (pack !== undefined) this.#packs.push(pack);
    this.#writer = this.#options.newPack();
    this.#sealer = new RecordSealer(this.#options.keys);
  }

  /** The closed packs, to be moved into the store. */
  async finish(): Promise<readonly FinishedPack[]> {
    await this.#closePack();
    return this.#packs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]();
  }
}
