/**
 * Every parser of stored bytes against bytes that were changed after they were written: it gives a value or one of our
 * own errors, soon and without taking memory for lengths that are only claimed. Checksums are made to fit again where
 * a parser would else stop there, as somebody would who can write to an unencrypted store.
 */
import { expect } from "chai";
import { performance } from "node:perf_hooks";
import { crc32 } from "node:zlib";
import { type ErrorCode, HoldfastError } from "../../src/base/errors.js";
import type { BytePath } from "../../src/base/paths.js";
import { codecNamed, CODEC_NUMBERS, type CodecName } from "../../src/engine/codec/codec.js";
import { commitKey, decodeCommit } from "../../src/engine/commit-log.js";
import { encodeSlot, parseSlot } from "../../src/engine/crypto/slots.js";
import { decodeDigested, encodeDigested } from "../../src/engine/digested-json.js";
import { decodeFragment, encodeFragment } from "../../src/engine/index/fragments.js";
import { decodeLocations, encodeLocations } from "../../src/engine/index/locations.js";
import { encodeBundle, readBundle } from "../../src/engine/pack/bundle.js";
import {
  encodePackFooter,
  encodePackHeader,
  encodeTrailer,
  type PackEntry,
  parsePackFooter,
  parsePackHeader,
  parseTrailer,
} from "../../src/engine/pack/format.js";
import { provePack } from "../../src/engine/pack/prove.js";
import { chunkIdOf, RecordOpener, RecordSealer } from "../../src/engine/pack/record.js";
import { memorySource } from "../../src/engine/pack/source.js";
import { TreeBuilder } from "../../src/engine/tree/builder.js";
import { ByteReader } from "../../src/engine/tree/bytes.js";
import { encodeState, readState } from "../../src/engine/tree/codec.js";
import { decodeDelta, encodeDelta } from "../../src/engine/tree/delta.js";
import { decodeNode } from "../../src/engine/tree/node.js";
import type { ChunkId, FileNode } from "../../src/engine/types.js";
import {
  encodeFrame,
  encodeSegmentHeader,
  NO_HASH,
  parseFrame,
  parseSegmentHeader,
} from "../../src/engine/wal/segment.js";
import { seededRandom } from "../support/crash-disk.js";
import { NEVER, noise, testKeys } from "../support/engine-keys.js";

const MUTANTS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 50_000 : 1500;
/** No single parse takes longer; generous, for other work may hold the processor. */
const PARSE_MS_MAX = 2000;
/** Nor more memory than the largest record twice. */
const PARSE_BYTES_MAX = 64 * 2 ** 20;
const KNOWN: ReadonlySet<ErrorCode> = new Set(["RECORD_DAMAGED", "OBJECT_DAMAGED", "REPO_FORMAT_UNSUPPORTED"]);

const keys = testKeys(false);
const opener = new RecordOpener(keys);
const idOf = (text: string): ChunkId => chunkIdOf(keys, Buffer.from(text));
const file: FileNode = {
  kind: "file",
  stat: { dev: 1n, ino: 2n, mtimeNs: -1n, ctimeNs: 3n, sizeBytes: 300 },
  mode: 0o644,
  uid: 0,
  gid: 1000,
  linkCount: 1,
  sha256: "cd".repeat(32),
  chunks: [
    { id: idOf("one"), lengthBytes: 200 },
    { id: idOf("two"), lengthBytes: 100 },
  ],
  xattrs: new Map([["user.x", Buffer.from("value")]]),
};
const state = { node: file, timeMs: 1, seq: 2 };
const entries: PackEntry[] = [
  { type: "chunk", id: idOf("one"), offsetBytes: 48, recordBytes: 200, plainBytes: 300 },
  {
    ...{ type: "bundle", id: idOf("two"), offsetBytes: 248, recordBytes: 90, plainBytes: 45 },
    inner: [{ id: idOf("three"), offsetBytes: 40, lengthBytes: 5 }],
  },
];
const delta = encodeDelta({
  ...{ source: "docs", seq: 2, timeMs: 1 },
  changes: [
    { kind: "upsert", path: "/a/file" as BytePath, state },
    { kind: "remove", path: "/a/gone" as BytePath },
  ],
});

/** A parser, and bytes that it reads. */
interface Target {
  readonly name: string;
  readonly bytes: Buffer;
  readonly parse: (bytes: Buffer) => unknown;
}

function sealed(type: "commit" | "chunk" | "bundle", plain: Buffer, codec: CodecName = "lz4"): Buffer {
  return Buffer.from(new RecordSealer(keys).seal(type, plain, codec).bytes);
}

/** Makes a record's checksum fit its bytes. */
function withRecordCrc(bytes: Buffer): Buffer {
  if (bytes.length >= 80) bytes.writeUInt32LE(crc32(bytes.subarray(80), crc32(bytes.subarray(0, 76))), 76);
  return bytes;
}

function withHeaderCrc(bytes: Buffer, at: number): Buffer {
  if (bytes.length >= at + 4) bytes.writeUInt32LE(crc32(bytes.subarray(0, at)), at);
  return bytes;
}

const commitHeader = {
  ...{ format: 1, number: 3, writer: "0123456789abcdef", seq: 1, previous: "0".repeat(64), timeMs: 1 },
  body: { kind: "deltas", firstSeq: 1, lastSeq: 2 },
};

function decodeForgedCommit(json: Buffer): unknown {
  return decodeCommit(opener, commitKey("0123456789abcdef", 1), sealed("commit", json));
}

function codecTargets(): Target[] {
  const plain = Buffer.from("some text that shrinks, ".repeat(400));
  return (Object.keys(CODEC_NUMBERS) as CodecName[])
    .filter((name) => codecNamed(name).available)
    .flatMap((name) => {
      const codec = codecNamed(name);
      const stored = codec.compress(plain) ?? plain;
      const claims = [plain.length, 0, 16 * 2 ** 20, 2 ** 32 - 1];
      return claims.map((claim) => ({
        name: `${name} that claims ${String(claim)} bytes`,
        bytes: stored,
        parse: (bytes: Buffer) => codec.decompress(bytes, claim),
      }));
    });
}

async function treeNodes(): Promise<Buffer[]> {
  const nodes: Buffer[] = [];
  const builder = new TreeBuilder(async (bytes) => {
    nodes.push(Buffer.from(bytes));
    return await Promise.resolve(idOf(String(nodes.length)));
  });
  for (let index = 0; index < 40; index += 1) {
    await builder.add(`/a/${String(index).padStart(3, "0")}` as BytePath, noise(4000, index + 1));
  }
  await builder.finish();
  return nodes;
}

async function targets(): Promise<Target[]> {
  const nodes = await treeNodes();
  const bundle = encodeBundle([
    { id: idOf("x"), plain: Buffer.from("x") },
    { id: idOf("yy"), plain: Buffer.from("yy") },
  ]).plain;
  const slot = await encodeSlot({
    ...{ repositoryId: keys.repositoryId, masters: [Buffer.alloc(32, 3)], createdMs: 1 },
    secret: { kind: "raw", bytes: Buffer.alloc(32, 4) },
  });
  const segment = { segment: 1, encrypted: false, repositoryId: Buffer.from(keys.repositoryId), salt: "ab".repeat(16) };
  const frame = { seq: 7, groupStartBytes: 80, recordCount: 2, previousHash: NO_HASH };
  return [
    { name: "an entry state", bytes: encodeState(state), parse: (bytes) => readState(new ByteReader(bytes)) },
    { name: "a delta", bytes: delta, parse: decodeDelta },
    {
      name: "a fragment",
      bytes: encodeFragment({
        packs: [{ kind: "d", sha256: "12".repeat(32), sizeBytes: 500, entries }],
        supersedes: [],
      }),
      parse: decodeFragment,
    },
    {
      name: "places of a chunk",
      bytes: encodeLocations([
        { pack: 1, offsetBytes: 48, recordBytes: 200, lengthBytes: 300, innerOffsetBytes: 4, suspect: false },
      ]),
      parse: decodeLocations,
    },
    { name: "a tree leaf", bytes: nodes[0] ?? Buffer.alloc(0), parse: decodeNode },
    { name: "an inner tree node", bytes: nodes.at(-1) ?? Buffer.alloc(0), parse: decodeNode },
    { name: "a bundle", bytes: bundle, parse: readBundle },
    {
      name: "a pack header",
      bytes: encodePackHeader("d", keys.repositoryId),
      parse: (b) => parsePackHeader(b, keys.repositoryId),
    },
    {
      name: "a pack footer",
      bytes: encodePackFooter({ trailerOffsetBytes: 400, trailerBytes: 90 }),
      parse: parsePackFooter,
    },
    { name: "a pack trailer", bytes: encodeTrailer(entries), parse: parseTrailer },
    { name: "a record", bytes: sealed("bundle", bundle), parse: (bytes) => opener.open(withRecordCrc(bytes)) },
    {
      name: "a commit",
      bytes: sealed("commit", Buffer.from(JSON.stringify(commitHeader))),
      parse: (bytes) => decodeCommit(opener, commitKey("0123456789abcdef", 1), bytes),
    },
    { name: "a commit's header", bytes: Buffer.from(JSON.stringify(commitHeader)), parse: decodeForgedCommit },
    {
      name: "a segment header",
      bytes: encodeSegmentHeader(segment),
      parse: (bytes) => parseSegmentHeader(withHeaderCrc(bytes, 76)),
    },
    {
      name: "a commit frame",
      bytes: encodeFrame(frame, delta),
      parse: (bytes) => decodeDelta(parseFrame(bytes).payload),
    },
    { name: "a key slot", bytes: slot, parse: parseSlot },
    { name: "a digested document", bytes: encodeDigested('{"epoch":1}'), parse: decodeDigested },
    ...codecTargets(),
  ];
}

/** Numbers that break sums: in 1, 2, 4 and 8 bytes. */
const EXTREMES = [Buffer.alloc(1, 255), Buffer.of(0, 128), Buffer.alloc(4, 255), Buffer.alloc(8, 255), Buffer.alloc(8)];

/** The bytes with one to four random changes. */
function mutated(original: Buffer, random: () => number): Buffer {
  let bytes = Buffer.from(original);
  const below = (count: number): number => Math.floor(random() * count);
  for (let left = 1 + below(4); left > 0; left -= 1) {
    const at = below(bytes.length + 1);
    const other = below(bytes.length + 1);
    const [from, to] = at < other ? [at, other] : [other, at];
    const change = below(6);
    if (change === 0 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
    else if (change === 1) (EXTREMES[below(EXTREMES.length)] ?? bytes).copy(bytes, at);
    else if (change === 2) bytes = bytes.subarray(0, at);
    else if (change === 3) bytes = Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
    else if (change === 4) bytes = Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
    else bytes = Buffer.concat([bytes.subarray(0, at), noise(1 + below(20), below(1000) + 1), bytes.subarray(at)]);
  }
  return Buffer.from(bytes);
}

/** Parses; only errors that say what is wrong with the bytes are let pass. */
function expectTame(target: Target, bytes: Buffer): void {
  const before = process.memoryUsage().arrayBuffers;
  const startMs = performance.now();
  try {
    target.parse(bytes);
  } catch (error) {
    if (!(error instanceof HoldfastError) || !KNOWN.has(error.code)) throw error;
  }
  expect(performance.now() - startMs, "ms").to.be.lessThan(PARSE_MS_MAX);
  expect(process.memoryUsage().arrayBuffers - before, "bytes").to.be.lessThan(PARSE_BYTES_MAX);
}

describe("stored bytes that were changed", function () {
  this.timeout(1_800_000);
  const seed = Math.floor(Math.random() * 2 ** 31);

  it(`are a value or damaged to every parser, soon and in little memory (seed ${String(seed)})`, async () => {
    const random = seededRandom(seed);
    for (const target of await targets()) {
      for (let mutant = 0; mutant < MUTANTS; mutant += 1) {
        const bytes = mutated(target.bytes, random);
        try {
          expectTame(target, Buffer.from(bytes));
        } catch (error) {
          throw new Error(`${target.name} ${bytes.toString("hex")}: ${String(error)}`, { cause: error });
        }
      }
    }
  });

  it(`of a whole pack are proven or found damaged, never more (seed ${String(seed)})`, async () => {
    const random = seededRandom(seed);
    const pack = packOf(["one", "two", "three ".repeat(200)]);
    const sha256 = "00".repeat(32);
    for (let mutant = 0; mutant < MUTANTS / 5; mutant += 1) {
      const bytes = mutated(pack, random);
      try {
        const proof = await provePack(memorySource(bytes), sha256, opener, NEVER);
        expect(proof.entries.length).to.be.lessThan(1000);
      } catch (error) {
        if (error instanceof HoldfastError && KNOWN.has(error.code)) continue;
        throw new Error(`${bytes.toString("hex")}: ${String(error)}`, { cause: error });
      }
    }
  });
});

/** The bytes of an unencrypted pack with these chunks. */
function packOf(contents: readonly string[]): Buffer {
  const parts = [encodePackHeader("d", keys.repositoryId)];
  const listed: PackEntry[] = [];
  let offsetBytes = 48;
  for (const content of contents) {
    const bytes = sealed("chunk", Buffer.from(content));
    const plainBytes = Buffer.byteLength(content);
    listed.push({ type: "chunk", id: idOf(content), offsetBytes, recordBytes: bytes.length, plainBytes });
    parts.push(bytes);
    offsetBytes += bytes.length;
  }
  const trailer = Buffer.from(new RecordSealer(keys).seal("trailer", encodeTrailer(listed), "lz4").bytes);
  return Buffer.concat([
    ...parts,
    trailer,
    encodePackFooter({ trailerOffsetBytes: offsetBytes, trailerBytes: trailer.length }),
  ]);
}
