/** Codecs: what goes in comes out, and hostile bytes neither crash nor balloon. */
import { expect } from "chai";
import fc from "fast-check";
import { codecNamed, codecNumbered, PLAIN_BYTES_MAX } from "../../src/engine/codec/codec.js";
import { noise, thrownCode } from "../support/engine-keys.js";

const lz4 = codecNamed("lz4");
const zstd = codecNamed("zstd");

function prefixed(length: number, block: Uint8Array): Buffer {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(length);
  return Buffer.concat([prefix, block]);
}

describe("codecs", () => {
  it("gives back with lz4 what was compressed", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.integer({ min: 1, max: 400 }), (unit, times) => {
        const plain = Buffer.concat(Array.from({ length: times }, () => unit));
        const stored = lz4.compress(plain);
        if (stored !== undefined) expect(lz4.decompress(stored, plain.length).equals(plain)).to.equal(true);
      }),
    );
  });

  it("does not compress what does not shrink, nor the very short", () => {
    expect(lz4.compress(noise(1_000_000))).to.equal(undefined);
    expect(lz4.compress(noise(5000))).to.equal(undefined);
    expect(lz4.compress(Buffer.alloc(63))).to.equal(undefined);
    expect(lz4.compress(Buffer.alloc(64))?.length).to.be.lessThan(64);
  });

  it("compresses content that only begins like noise", () => {
    const plain = Buffer.concat([noise(100_000), Buffer.alloc(100_000, 0x20)]);
    expect(lz4.compress(plain)?.length).to.be.lessThan(110_000);
  });

  it("answers any bytes with the plain bytes or RECORD_DAMAGED", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(5000), (stored, plainBytes) => {
        expect(thrownCode(() => lz4.decompress(prefixed(plainBytes, stored), plainBytes))).to.be.oneOf([
          "none",
          "RECORD_DAMAGED",
        ]);
      }),
      { numRuns: 1000 },
    );
  });

  it("refuses a claimed length before it allocates anything for it", () => {
    const block = lz4.compress(Buffer.alloc(1000)) ?? Buffer.alloc(0);
    const before = process.memoryUsage().rss;
    for (const claimed of [PLAIN_BYTES_MAX, PLAIN_BYTES_MAX + 1, 2 ** 31, 2 ** 32 - 1]) {
      expect(thrownCode(() => lz4.decompress(prefixed(claimed, block.subarray(4)), claimed))).to.equal(
        "RECORD_DAMAGED",
      );
    }
    const lie = prefixed(2 ** 30, block.subarray(4));
    expect(() => lz4.decompress(lie, 1000)).to.throw("its LZ4 length is not the plain length");
    expect(thrownCode(() => lz4.decompress(block, 999))).to.equal("RECORD_DAMAGED");
    expect(process.memoryUsage().rss - before).to.be.lessThan(64 * 2 ** 20);
  });

  it("gives back plain bytes as they are, of the right length only", () => {
    const none = codecNamed("none");
    expect(none.decompress(Buffer.from("abc"), 3).toString()).to.equal("abc");
    expect(thrownCode(() => none.decompress(Buffer.from("abc"), 2))).to.equal("RECORD_DAMAGED");
  });

  it("knows its numbers and no others", () => {
    expect([0, 1, 2].map((number) => codecNumbered(number).name)).to.deep.equal(["none", "lz4", "zstd"]);
    expect(thrownCode(() => codecNumbered(3))).to.equal("REPO_FORMAT_UNSUPPORTED");
  });

  it("round-trips with zstd where Node has it and says so where not", () => {
    const plain = Buffer.from("zstd ".repeat(1000));
    if (!zstd.available) {
      expect(thrownCode(() => zstd.compress(plain))).to.equal("UNSUPPORTED");
      return;
    }
    const stored = zstd.compress(plain) ?? Buffer.alloc(0);
    expect(zstd.decompress(stored, plain.length).equals(plain)).to.equal(true);
    expect(thrownCode(() => zstd.decompress(stored, 10))).to.equal("RECORD_DAMAGED");
    expect(thrownCode(() => zstd.decompress(noise(100), 10))).to.equal("RECORD_DAMAGED");
  });
});
