/** Reed-Solomon parity: the published vectors of this code, and any loss that it can bear. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { inverse, multiply, power } from "../../src/engine/parity/galois.js";
import {
  encodeDescription,
  encodeParityFooter,
  encodeParityHeader,
  type ParityGroup,
  parseDescription,
  parseParityFooter,
  parseParityHeader,
} from "../../src/engine/parity/format.js";
import { ReedSolomon } from "../../src/engine/parity/reed-solomon.js";
import { codeOf, thrownCode } from "../support/engine-keys.js";

const byte = fc.integer({ min: 0, max: 255 });

describe("the field of 256 elements", () => {
  it("has the published products of the polynomial 0x11d", () => {
    // klauspost/reedsolomon galois_test.go, after Backblaze's GaloisTest.java
    expect([multiply(3, 4), multiply(7, 7), multiply(23, 45)]).to.deep.equal([12, 21, 41]);
    expect([power(2, 2), power(5, 20), power(13, 7)]).to.deep.equal([4, 235, 43]);
  });

  it("is a field", () => {
    fc.assert(
      fc.property(byte, byte, byte, (a, b, c) => {
        expect(multiply(a, b)).to.equal(multiply(b, a));
        expect(multiply(a, multiply(b, c))).to.equal(multiply(multiply(a, b), c));
        expect(multiply(a, b ^ c)).to.equal(multiply(a, b) ^ multiply(a, c));
        if (a !== 0) expect(multiply(a, inverse(a))).to.equal(1);
      }),
    );
  });
});

describe("Reed-Solomon", () => {
  it("makes the published parity of five shards", () => {
    // Backblaze ReedSolomonTest.testOneEncode, klauspost TestOneEncode
    const data = [
      [0, 1],
      [4, 5],
      [2, 3],
      [6, 7],
      [8, 9],
    ].map((shard) => Uint8Array.from(shard));
    const parity = new ReedSolomon(5, 5).encode(data).map((shard) => [...shard]);
    expect(parity).to.deep.equal([
      [12, 13],
      [10, 11],
      [14, 15],
      [90, 91],
      [94, 95],
    ]);
  });

  it("gives back any shards that are lost, as many as there is parity, and says when it cannot", () => {
    const arbitrary = fc.record({ data: fc.integer({ min: 1, max: 14 }), parity: fc.integer({ min: 1, max: 5 }) });
    fc.assert(
      fc.property(arbitrary, fc.infiniteStream(fc.nat()), ({ data, parity }, stream) => {
        const code = new ReedSolomon(data, parity);
        const shards = Array.from({ length: data }, () => new Uint8Array(randomBytes(20)));
        const all: (Uint8Array | undefined)[] = [...shards, ...code.encode(shards)];
        const lose = (): void => void (all[(stream.next().value ?? 0) % all.length] = undefined);
        for (let lost = 0; lost < parity; lost += 1) lose();
        const made = code.reconstruct(all);
        for (const [index, shard] of shards.entries())
          expect(Buffer.from(all[index] ?? made?.get(index) ?? []).equals(shard)).to.equal(true);
        for (let left = data; left < all.length + 1; left += 1) all[left - data] = undefined;
        expect(code.reconstruct(all)).to.equal(undefined);
      }),
      { numRuns: 60 },
    );
  });

  it("works on any range of the shards alone", () => {
    const code = new ReedSolomon(3, 2);
    const shards = [0, 1, 2].map(() => new Uint8Array(randomBytes(100)));
    const [parity] = code.encode(shards);
    const [part] = code.encode(shards.map((shard) => shard.subarray(40, 60)));
    expect(part).to.deep.equal(parity?.subarray(40, 60));
  });

  it("refuses more shards than the field has elements", async () => {
    expect(await codeOf(Promise.resolve().then(() => new ReedSolomon(250, 6)))).to.equal("USAGE");
  });
});

describe("a parity object", () => {
  const repositoryId = randomBytes(32);
  const group: ParityGroup = {
    members: [
      { kind: "d", sha256: "ab".repeat(32), sizeBytes: 100_000 },
      { kind: "m", sha256: "cd".repeat(32), sizeBytes: 5 },
    ],
    parityCount: 1,
    shardBytes: 100_000,
    checksums: [Uint32Array.of(1, 2), Uint32Array.of(3, 0), Uint32Array.of(5, 0xffffffff)],
  };

  it("is read back as it was written", () => {
    expect(parseDescription(encodeDescription(group))).to.deep.equal(group);
    expect(parseParityHeader(encodeParityHeader(group, 0, repositoryId), repositoryId)).to.equal(0);
    const description = encodeDescription(group);
    const footer = encodeParityFooter(1000, description);
    const expected = { offsetBytes: 1000, lengthBytes: description.length };
    expect(parseParityFooter(footer, 1000 + description.length + footer.length)).to.deep.equal(expected);
  });

  it("is whole or damaged, whatever its bytes", () => {
    const good = encodeDescription(group);
    fc.assert(
      fc.property(fc.nat(good.length - 1), byte, fc.nat(good.length), (at, value, length) => {
        const bytes = Buffer.from(good);
        bytes[at] = value;
        for (const each of [bytes, bytes.subarray(0, length)])
          expect(thrownCode(() => parseDescription(each))).to.be.oneOf(["OBJECT_DAMAGED", "none", undefined]);
      }),
    );
    expect(thrownCode(() => parseParityHeader(randomBytes(48), repositoryId))).to.equal("OBJECT_DAMAGED");
    expect(thrownCode(() => parseParityFooter(randomBytes(24), 100))).to.equal("OBJECT_DAMAGED");
  });
});
