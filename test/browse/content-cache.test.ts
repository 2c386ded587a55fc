/** The memory between the kernel and the store: right bytes whatever is read how, within its budget, fetched once. */
import { expect } from "chai";
import fc from "fast-check";
import { createHash, randomBytes } from "node:crypto";
import { HoldfastError } from "../../src/base/errors.js";
import type { BytePath } from "../../src/base/paths.js";
import { BLOCK_BYTES, ContentCache } from "../../src/browse/content-cache.js";
import type { BackupLibrary, BrowseFile } from "../../src/browse/library.js";
import { rejection } from "../support/rejection.js";

const LIVE = new AbortController().signal;

/** A library that gives out bytes in memory and counts what it is asked for. */
class MemoryLibrary implements BackupLibrary {
  readonly contents = new Map<string, Buffer>();
  readonly reads: { readonly path: string; readonly offsetBytes: number; readonly lengthBytes: number }[] = [];
  runs = 0;
  failure: Error | undefined;

  add(path: string, bytes: Buffer): BrowseFile {
    this.contents.set(path, bytes);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    return { backupId: "b", path: path as BytePath, sizeBytes: bytes.length, sha256 };
  }

  backups(): Promise<never[]> {
    return Promise.resolve([]);
  }

  folder(): Promise<never[]> {
    return Promise.resolve([]);
  }

  async *read({ path }: BrowseFile, offsetBytes: number, lengthBytes: number): AsyncGenerator<Buffer> {
    this.reads.push({ path, offsetBytes, lengthBytes });
    await Promise.resolve();
    if (this.failure !== undefined) throw this.failure;
    const bytes = (this.contents.get(path) ?? Buffer.alloc(0)).subarray(offsetBytes, offsetBytes + lengthBytes);
    for (let at = 0; at < bytes.length; at += 300_001) yield bytes.subarray(at, at + 300_001);
  }

  async *readMany(): AsyncGenerator<{ sha256: string; bytes: Buffer }> {
    this.runs += 1;
    for (const bytes of this.contents.values()) {
      await Promise.resolve();
      yield { sha256: createHash("sha256").update(bytes).digest("hex"), bytes };
    }
  }
}

const RUN = { backupId: "b", folder: "/" as BytePath, source: "s", firstName: "a", count: 9 };

describe("content of files in memory", () => {
  it("gives the bytes of the file for any sequence of reads", async () => {
    const bytes = randomBytes(5 * BLOCK_BYTES + 777);
    const rangeArb = fc.tuple(fc.nat(bytes.length + 100), fc.integer({ min: 1, max: 2 * BLOCK_BYTES }));
    await fc.assert(
      fc.asyncProperty(fc.array(rangeArb, { maxLength: 12 }), async (ranges) => {
        const library = new MemoryLibrary();
        const file = library.add("/f", bytes);
        const cache = new ContentCache(library, LIVE);
        for (const [offsetBytes, lengthBytes] of ranges) {
          const parts = await cache.read(file, { offsetBytes, lengthBytes });
          expect(Buffer.concat(parts).equals(bytes.subarray(offsetBytes, offsetBytes + lengthBytes))).to.equal(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("fetches a file that is read in order once, in growing pieces", async () => {
    const library = new MemoryLibrary();
    const bytes = randomBytes(20 * BLOCK_BYTES);
    const file = library.add("/f", bytes);
    const cache = new ContentCache(library, LIVE);
    for (let offsetBytes = 0; offsetBytes < bytes.length; offsetBytes += 131_072) {
      await cache.read(file, { offsetBytes, lengthBytes: 131_072 });
    }
    const fetched = library.reads.reduce((total, read) => total + read.lengthBytes, 0);
    expect(fetched).to.equal(bytes.length);
    expect(library.reads.length).to.be.below(7);
  });

  it("fetches one block at a time of a file that is read here and there", async () => {
    const library = new MemoryLibrary();
    const file = library.add("/f", randomBytes(40 * BLOCK_BYTES));
    const cache = new ContentCache(library, LIVE);
    for (const block of [30, 5, 22, 11]) await cache.read(file, { offsetBytes: block * BLOCK_BYTES, lengthBytes: 10 });
    expect(library.reads.map(({ lengthBytes }) => lengthBytes)).to.deep.equal(Array(4).fill(BLOCK_BYTES));
  });

  it("asks once for what many readers want at the same time", async () => {
    const library = new MemoryLibrary();
    const file = library.add("/f", randomBytes(1000));
    const cache = new ContentCache(library, LIVE);
    await Promise.all(
      Array.from({ length: 50 }, async () => await cache.read(file, { offsetBytes: 0, lengthBytes: 9 })),
    );
    expect(library.reads).to.have.length(1);
  });

  it("stays within its budget", async () => {
    const library = new MemoryLibrary();
    const budgetBytes = 16 * BLOCK_BYTES;
    const cache = new ContentCache(library, LIVE, budgetBytes);
    for (let index = 0; index < 30; index += 1) {
      const file = library.add(`/f${index}`, randomBytes(BLOCK_BYTES + index));
      await cache.read(file, { offsetBytes: 0, lengthBytes: file.sizeBytes });
      expect(cache.sizeBytes).to.be.at.most(budgetBytes);
    }
  });

  it("takes the small files of a folder in one fetch", async () => {
    const library = new MemoryLibrary();
    const files = Array.from({ length: 9 }, (_, index) => library.add(`/f${index}`, randomBytes(100 + index)));
    const cache = new ContentCache(library, LIVE);
    const neighbours = (): Promise<typeof RUN> => Promise.resolve(RUN);
    for (const file of files) await cache.read(file, { offsetBytes: 0, lengthBytes: 200 }, neighbours);
    expect(library.runs).to.equal(1);
    expect(library.reads).to.deep.equal([]);
  });

  it("passes a failure to the reader and tries again at the next read", async () => {
    const library = new MemoryLibrary();
    const bytes = randomBytes(1000);
    const file = library.add("/f", bytes);
    const cache = new ContentCache(library, LIVE);
    library.failure = new HoldfastError("RECORD_DAMAGED", "a bit is wrong");
    const error = await rejection(cache.read(file, { offsetBytes: 0, lengthBytes: 10 }));
    expect(error).to.have.property("code", "RECORD_DAMAGED");
    library.failure = undefined;
    expect(Buffer.concat(await cache.read(file, { offsetBytes: 0, lengthBytes: 1000 })).equals(bytes)).to.equal(true);
  });

  it("refuses a file that ends before its size", async () => {
    const library = new MemoryLibrary();
    const file = { ...library.add("/f", randomBytes(1000)), sizeBytes: 2000 };
    const cache = new ContentCache(library, LIVE);
    const error = await rejection(cache.read(file, { offsetBytes: 0, lengthBytes: 2000 }));
    expect(error).to.have.property("code", "RECORD_DAMAGED");
  });
});
