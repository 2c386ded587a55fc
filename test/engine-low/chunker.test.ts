/** The chunker: what it cuts, how stable its cuts are, and that the kernel is what its source says. */
import { expect } from "chai";
import fc from "fast-check";
import { runProgram } from "../../src/base/spawn.js";
import { Chunker, gearTable, masksOf } from "../../src/engine/chunk/chunker.js";
import { CHUNK_PROFILES, type ChunkProfile } from "../../src/engine/chunk/profiles.js";
import { NEVER, noise, testKeys } from "../support/engine-keys.js";
import { PROJECT_ROOT } from "../support/project.js";

const KEY = testKeys().chunkerKey;
/** Small sizes, so that properties see many cuts. */
const TINY: ChunkProfile = { minBytes: 256, averageBytes: 1024, maxBytes: 4096 };

/** The same cut in plain JavaScript, as docs/repository-format.md describes it. */
function referenceCut(bytes: Uint8Array, profile: ChunkProfile): number {
  if (bytes.length <= profile.minBytes) return bytes.length;
  const table = new BigUint64Array(gearTable(KEY).buffer);
  const { strict, loose } = masksOf(profile);
  const end = Math.min(bytes.length, profile.maxBytes);
  let hash = 0n;
  for (let index = Math.max(0, profile.minBytes - 64); index < end; index += 1) {
    hash = BigInt.asUintN(64, (hash << 1n) + (table[bytes[index] ?? 0] ?? 0n));
    if (index < profile.minBytes) continue;
    if ((hash & (index < profile.averageBytes ? strict : loose)) === 0n) return index + 1;
  }
  return end;
}

function lengthsOf(chunker: Chunker, content: Uint8Array, profile: ChunkProfile): number[] {
  return [...chunker.chunksOf(content, profile)].map((chunk) => chunk.length);
}

function referenceLengths(content: Uint8Array, profile: ChunkProfile): number[] {
  const lengths: number[] = [];
  for (let from = 0; from < content.length; from += lengths.at(-1) ?? 1) {
    lengths.push(referenceCut(content.subarray(from), profile));
  }
  return lengths;
}

describe("chunker", () => {
  const chunker = new Chunker(KEY);

  it("gives chunks whose concatenation is the input, none outside the bounds", () => {
    fc.assert(
      fc.property(fc.nat(40_000), fc.nat(1000), (length, seed) => {
        const content = noise(length, seed + 1);
        const chunks = [...chunker.chunksOf(content, TINY)];
        expect(Buffer.concat(chunks).equals(content)).to.equal(true);
        for (const chunk of chunks.slice(0, -1)) expect(chunk.length).to.be.within(TINY.minBytes + 1, TINY.maxBytes);
      }),
      { numRuns: 200 },
    );
  });

  it("cuts where the plain reference cuts, on noise, on text and on runs", () => {
    const text = Buffer.from("a line of text that comes again and again\n".repeat(900));
    const runs = Buffer.concat([Buffer.alloc(20_000), noise(10_000), Buffer.alloc(9000, 0x61)]);
    for (const content of [noise(60_000, 3), text, runs, Buffer.alloc(0), noise(1), noise(TINY.minBytes)]) {
      expect(lengthsOf(chunker, content, TINY)).to.deep.equal(referenceLengths(content, TINY));
    }
  });

  it("cuts like the reference with the profiles of the format", () => {
    const content = noise(1_500_000, 5);
    for (const profile of [CHUNK_PROFILES.general, CHUNK_PROFILES.fine]) {
      expect(lengthsOf(chunker, content, profile)).to.deep.equal(referenceLengths(content, profile));
    }
  });

  it("moves few boundaries when something is inserted", () => {
    const before = noise(4_000_000, 11);
    const after = Buffer.concat([before.subarray(0, 1_234_567), Buffer.from("inserted"), before.subarray(1_234_567)]);
    const digest = (chunk: Uint8Array): string => Buffer.from(chunk).toString("latin1");
    const known = new Set([...chunker.chunksOf(before, CHUNK_PROFILES.fine)].map(digest));
    const chunks = [...chunker.chunksOf(after, CHUNK_PROFILES.fine)].map(digest);
    expect(chunks.filter((chunk) => !known.has(chunk)).length).to.be.at.most(2);
    expect(chunks.length).to.be.greaterThan(40);
  });

  it("keeps near the average it aims at", () => {
    const lengths = lengthsOf(chunker, noise(16_000_000, 13), CHUNK_PROFILES.general);
    expect(16_000_000 / lengths.length).to.be.within(180_000, 400_000);
  });

  it("cuts otherwise in another repository, so that sizes tell nothing", () => {
    const other = new Chunker(Buffer.alloc(32, 1));
    const content = noise(1_000_000, 17);
    expect(lengthsOf(other, content, CHUNK_PROFILES.fine)).to.not.deep.equal(
      lengthsOf(chunker, content, CHUNK_PROFILES.fine),
    );
  });

  it("runs the kernel that its source compiles to", async () => {
    const check = [process.execPath, "scripts/build-kernel.mjs", "--check"];
    const result = await runProgram(check, { timeoutMs: 50_000, signal: NEVER, cwd: PROJECT_ROOT });
    expect(result.stderr).to.equal("");
    expect(result.exitCode).to.equal(0);
  });
});
