/** Codecs: what goes in comes out, and hostile bytes neither crash nor balloon. */
import { expect } from "chai";
import fc from "fast-check";
import { codecNamed, codecNumbered, codecOf, PLAIN_BYTES_MAX } from "../../src/engine/codec/codec.js";
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
    expect(thrownCode(() => codecNumbered(3))).to.equal("RECORD_DAMAGED");
  });

  it("gives back with zstd what was compressed, at any level", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.integer({ min: 1, max: 2000 }),
        fc.integer({ min: 1, max: 22 }),
        (unit, times, level) => {
          const plain = Buffer.concat(Array.from({ length: times }, () => unit));
          const stored = zstd.compress(plain, level);
          if (stored === undefined) return;
          expect(zstd.opensTo(stored, plain)).to.equal(true);
          expect(zstd.decompress(stored, plain.length).equals(plain)).to.equal(true);
        },
      ),
      { numRuns: 30 },
    );
  });

  it("makes smaller frames at higher levels, and counts the level of a compression's name", () => {
    const text = Buffer.from(Array.from({ length: 20_000 }, (_, index) => `${index * index} `).join(""));
    const [usual = 0, high = 0] = (["zstd", "zstd:19"] as const).map((name) => {
      const { codec, level } = codecOf(name);
      return codec.compress(text, level)?.length ?? 0;
    });
    expect(high).to.be.within(1, usual - 1);
    expect(codecOf("zstd")).to.deep.equal({ codec: zstd, level: 3 });
    expect(codecOf("lz4")).to.deep.equal({ codec: lz4, level: undefined });
  });

  it("answers any bytes with the plain bytes or RECORD_DAMAGED, whatever a zstd frame claims", () => {
    const frame = Buffer.from(zstd.compress(Buffer.from("holdfast ".repeat(500))) ?? "");
    fc.assert(
      fc.property(fc.nat(frame.length - 1), fc.nat(255), fc.nat(5000), (at, value, plainBytes) => {
        const bent = Buffer.from(frame);
        bent[at] = value;
        expect(thrownCode(() => zstd.decompress(bent, plainBytes))).to.be.oneOf(["none", "RECORD_DAMAGED"]);
      }),
      { numRuns: 1000 },
    );
  });

  it("refuses a zstd frame that lies about its size, hides another behind it, or wants a large window", () => {
    const plain = Buffer.alloc(300_000, "abc");
    const frame = Buffer.from(zstd.compress(plain) ?? "");
    const refused = (stored: Buffer, plainBytes: number, why: string): void => {
      expect(() => zstd.decompress(stored, plainBytes)).to.throw(why);
    };
    refused(frame, plain.length - 1, "its zstd length is not the plain length");
    refused(Buffer.concat([frame, frame]), plain.length, "does not end where it should");
    refused(frame.subarray(0, -1), plain.length, "does not end where it should");
    refused(frame, PLAIN_BYTES_MAX + 1, "it claims");
    // Magic, a descriptor without a single segment and with 8 bytes of size, and a window of 2 GiB.
    const wide = Buffer.from("28b52ffdc0a8e0930400000000000100000", "hex");
    refused(wide, plain.length, "too large a window");
    const withDictionary = Buffer.from(frame);
    withDictionary[4] = (withDictionary[4] ?? 0) | 1;
    refused(withDictionary, plain.length, "wants a dictionary");
  });

  it("answers bytes that are no zstd frame with RECORD_DAMAGED", () => {
    const plain = Buffer.from("zstd ".repeat(1000));
    const stored = Buffer.from(zstd.compress(plain) ?? "");
    expect(thrownCode(() => zstd.decompress(stored, 10))).to.equal("RECORD_DAMAGED");
    expect(thrownCode(() => zstd.decompress(noise(100), 10))).to.equal("RECORD_DAMAGED");
  });
});
