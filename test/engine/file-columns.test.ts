/** The columns in which files travel to the threads of a restore: every field of every file comes out as it went in. */
import { expect } from "chai";
import fc from "fast-check";
import {
  FileColumnsWriter,
  fileCount,
  fileFolderAt,
  fileNameAt,
  fileOrderAt,
} from "../../src/engine/restore/file-columns.js";
import type { FileNode } from "../../src/engine/types.js";

const byteName = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 47 ? 97 : byte))).toString("latin1"));
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const orders = fc.array(
  fc.record({
    folder: fc.nat(1000),
    name: byteName,
    fresh: fc.boolean(),
    keptStampNs: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
    sizeBytes: fc.maxSafeNat(),
    mtimeNs: fc.bigInt({ min: -(2n ** 74n), max: 2n ** 74n - 1n }),
    sparse: fc.boolean(),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: uint32,
    gid: uint32,
    linkCount: uint32,
    sha256: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex")),
    attribute: fc.option(fc.uint8Array({ maxLength: 20 }), { nil: undefined }),
    firstPlace: fc.nat(),
    placeCount: fc.nat(),
  }),
  { maxLength: 20 },
);

describe("the columns that tell a thread what to restore", () => {
  it("give back each file as it was put in", () => {
    fc.assert(
      fc.property(orders, (files) => {
        const writer = new FileColumnsWriter(files.length);
        for (const { attribute, sizeBytes, mtimeNs, mode, uid, gid, linkCount, sha256, sparse, ...where } of files) {
          const stat = { dev: 0n, ino: 0n, ctimeNs: 0n, sizeBytes, mtimeNs };
          const xattrs = attribute === undefined ? {} : { xattrs: new Map([["user.x", attribute]]) };
          const holes = sparse ? { sparse } : {};
          const node: FileNode = { kind: "file", stat, mode, uid, gid, linkCount, sha256, ...xattrs, ...holes };
          writer.add(node, where);
        }
        const columns = structuredClone(writer.take());
        expect(fileCount(columns)).to.equal(files.length);
        for (const [index, { attribute, ...order }] of files.entries()) {
          const xattrs = attribute === undefined ? {} : { xattrs: new Map([["user.x", attribute]]) };
          expect(fileOrderAt(columns, index)).to.deep.equal({ ...order, ...xattrs });
          expect(fileNameAt(columns, index)).to.equal(order.name);
          expect(fileFolderAt(columns, index)).to.equal(order.folder);
        }
      }),
    );
  });
});
