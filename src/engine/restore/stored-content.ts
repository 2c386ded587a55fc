/**
 * The content of files out of a local store, read synchronously in a worker thread. Records are opened by their seal
 * alone: the caller compares the digest of the whole file, which proves every byte, before anything is put in place.
 * Neighbours share bundles, so opened records are kept for the length of a batch.
 */
import { join } from "node:path";
import { HoldfastError } from "../../base/errors.js";
import { type FileIo, type IoReaderNow, readFullyNow } from "../../storage/file-io.js";
import { storeError } from "../../storage/store-error.js";
import { parseHeader, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, type RecordOpener } from "../pack/record.js";
import { NOT_INSIDE, PLACE_NUMBERS, type PlaceRequest } from "./protocol.js";
import type { ReadMemory } from "./read-memory.js";

/** What a worker thread reads the store with. */
export interface ReadTools {
  readonly opener: RecordOpener;
  readonly memory: ReadMemory;
  readonly io: FileIo;
}

export class StoredContent implements Disposable {
  readonly #request: Pick<PlaceRequest, "storeFolder" | "objects" | "places">;
  readonly #opener: RecordOpener;
  readonly #memory: ReadMemory;
  readonly #io: FileIo;
  readonly #files = new Map<number, IoReaderNow>();

  /** The memory is nobody else's until this is disposed. */
  constructor(request: Pick<PlaceRequest, "storeFolder" | "objects" | "places">, { opener, memory, io }: ReadTools) {
    this.#request = request;
    this.#opener = opener;
    this.#memory = memory;
    this.#io = io;
  }

  /** The chunks at `count` places, each valid until the next is asked for. RECORD_DAMAGED, OBJECT_MISSING, STORE_IO. */
  *chunks(firstPlace: number, count: number): Generator<Buffer> {
    for (let index = firstPlace; index < firstPlace + count; index += 1) yield this.#chunk(index);
  }

  #chunk(index: number): Buffer {
    const at = index * PLACE_NUMBERS;
    const { places } = this.#request;
    const [object, offsetBytes, recordBytes] = [places[at] ?? 0, places[at + 1] ?? 0, places[at + 2] ?? 0];
    const [inside, lengthBytes] = [places[at + 3] ?? NOT_INSIDE, places[at + 4] ?? 0];
    const plain = this.#record(object, offsetBytes, recordBytes);
    const start = inside === NOT_INSIDE ? 0 : inside;
    const chunk = inside === NOT_INSIDE ? plain : plain.subarray(start, start + lengthBytes);
    if (chunk.length !== lengthBytes) throw damaged("a chunk has another length");
    return chunk;
  }

  #record(object: number, offsetBytes: number, recordBytes: number): Buffer {
    const place = { object, offsetBytes };
    const known = this.#memory.known(place);
    if (known !== undefined) return known;
    const sealed = this.#read(object, offsetBytes, recordBytes);
    const header = parseHeader(sealed);
    if (sealed.length !== RECORD_HEADER_BYTES + header.storedBytes) throw damaged("a record has another length");
    return this.#memory.keep(place, header.plainBytes, (room) => this.#opener.openPayload(sealed, header, room));
  }

  #read(object: number, offsetBytes: number, recordBytes: number): Buffer {
    if (recordBytes > RECORD_BYTES_MAX) throw damaged("a record is longer than records are");
    const window = this.#memory.sealed.ofSize(recordBytes).subarray(0, recordBytes);
    try {
      const count = readFullyNow(this.#open(object), window, offsetBytes);
      if (count < recordBytes) throw damaged("a pack is cut short");
      return window;
    } catch (error) {
      throw storeError(error, "reading the store");
    }
  }

  #open(object: number): IoReaderNow {
    const known = this.#files.get(object);
    if (known !== undefined) return known;
    const path = join(this.#request.storeFolder, this.#request.objects[object] ?? "");
    const file = this.#io.openNow(path);
    this.#files.set(object, file);
    return file;
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
    this.#memory.clear();
  }
}

function damaged(why: string): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", `the store does not give the content: ${why}`);
}
