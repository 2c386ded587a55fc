/**
 * Hostile content for each check, in this thread, where a crash or an endless loop would show at once: random bytes, valid
 * content that was mutated, cut, joined with another kind, nested deeply or given huge counts. Whatever it is, the answer is
 * a verdict that is one of the legal ones, in a fraction of the time that the worker allows, and holds nothing of the content.
 */
import { writeFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { gzipSync } from "node:zlib";
import type { Complaint, Format } from "../../src/monitor/validator.js";
import { FORMATS, VALIDATION_TIMEOUT_MS } from "../../src/monitor/validator.js";
import { type ContentCheck, buildValidator } from "../../src/monitor/validators/build.js";
import { formatSamples } from "../support/format-samples.js";
import { TempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
/** The same content in each run of the suite; another in each thorough one. */
const SEED = THOROUGH ? {} : { seed: 20_261_121 };
const RUNS = THOROUGH ? 20_000 : 150;
/** A check that needs files of its own is slower. */
const FILE_RUNS = THOROUGH ? 2000 : 20;
const LEGAL = ["invalid_structure", "schema_violation", "unchecked"];
const DETAIL_LENGTH_MAX = 300;
/** What one check of a small content may take at most, ms: a tenth of what ends the worker. */
const CHECK_MAX_MS = VALIDATION_TIMEOUT_MS / 10;
const RULES = {
  required: ["session", "inner.when"],
  unique: ["session"],
  timestamps: ["inner.when"],
  items: { path: "list", required: ["x"] },
};

type Check = (content: Buffer) => Promise<Complaint | undefined> | Complaint | undefined;

describe("each check, on hostile content", () => {
  let folder: TempFolder;
  let samples: ReadonlyMap<Format, Buffer>;
  before(async () => {
    folder = await TempFolder.create("fuzz");
    samples = formatSamples(folder);
  });
  after(async () => {
    await folder[Symbol.asyncDispose]();
  });

  const checks: readonly (readonly [ContentCheck, Format])[] = [
    ...FORMATS.map((kind) => [{ kind }, kind] as const),
    [{ kind: "json_text" }, "json"],
    [{ kind: "packed" }, "gzip"],
    [{ kind: "sqlite_header" }, "sqlite"],
    [{ kind: "magic", extension: ".png" }, "png"],
    [{ kind: "magic", extension: ".docx" }, "zip"],
    [{ kind: "size", bytesMin: 10, bytesMax: 1000 }, "text"],
    [{ kind: "rules", rules: RULES }, "json"],
    [{ kind: "rules", rules: RULES }, "yaml"],
  ];
  for (const [check, format] of checks) {
    const about = JSON.stringify(check) + (check.kind === format ? "" : ` of ${format}`);
    it(`gives a legal verdict in time: ${about}`, async function () {
      const sample = samples.get(format);
      if (sample === undefined) this.skip();
      await fuzz(await checkOf(check), sample, [...samples.values()]);
    });
  }

  it("gives a legal verdict in time: a schema with references to itself", async () => {
    const schemaFile = await folder.write(
      "schema.json",
      '{"$defs":{"n":{"type":["object","array","string","number","null","boolean"],"additionalProperties":{"$ref":"#/$defs/n"},"items":{"$ref":"#/$defs/n"}}},"$ref":"#/$defs/n","required":["session"]}',
    );
    const sample = samples.get("json");
    if (sample !== undefined) await fuzz(await checkOf({ kind: "schema", schemaFile }), sample, [...samples.values()]);
  });

  it("inflates no bomb beyond its limit, and expands none", async () => {
    const member = gzipSync(Buffer.alloc(8 * 2 ** 20));
    const entities = Array.from(
      { length: 30 },
      (_none, index) => `<!ENTITY e${String(index + 1)} "${`&e${String(index)};`.repeat(10)}">`,
    );
    const aliases = Array.from(
      { length: 30 },
      (_none, index) => `a${String(index + 1)}: &a${String(index + 1)} [${`*a${String(index)},`.repeat(9)}]`,
    );
    const bombs: readonly (readonly [ContentCheck, Buffer])[] = [
      [{ kind: "gzip" }, Buffer.concat(Array.from({ length: 60 }, () => member))], // 480 MiB
      [{ kind: "xml" }, Buffer.from(`<!DOCTYPE a [<!ENTITY e0 "x">${entities.join("")}]><a>&e30;</a>`)],
      [{ kind: "yaml" }, Buffer.from(`a0: &a0 [x]\n${aliases.join("\n")}\n`)],
      [{ kind: "rules", rules: RULES }, Buffer.from(`a0: &a0 [x]\n${aliases.join("\n")}\n`)],
    ];
    const beforeBytes = process.memoryUsage().rss;
    for (const [check, content] of bombs) await judge(await checkOf(check), content, VALIDATION_TIMEOUT_MS);
    expect((process.memoryUsage().rss - beforeBytes) / 2 ** 20, "MiB more").to.be.lessThan(400);
  });

  /** What the worker does with it; a check that wants a file gets one. */
  async function checkOf(check: ContentCheck): Promise<Check> {
    const validator = await buildValidator(check);
    if ("check" in validator) return (content) => validator.check(content);
    const file = folder.bytes("content.db");
    return async (content) => {
      writeFileSync(file, content);
      return await validator.checkFile(file, content);
    };
  }
});

async function fuzz(check: Check, sample: Buffer, others: readonly Buffer[]): Promise<void> {
  expect((await check(sample))?.kind, "the sample itself").to.be.oneOf([undefined, ...LEGAL]);
  const openings = ["[", '{"a":', "<a>", "- ", "a: {", "? ", "a = [", "[a."].map((opening) => nested(opening));
  const closed = [nested("[", "]"), nested('{"a":[', "]}"), Buffer.concat([Buffer.from("a = "), nested("[", "]")])];
  for (const content of [...openings, ...closed, ...openings]) await judge(check, content);
  const numRuns = check.constructor.name === "AsyncFunction" ? FILE_RUNS : RUNS;
  await fc.assert(
    fc.asyncProperty(hostile(sample, others), async (content) => {
      await judge(check, content);
    }),
    { numRuns, ...SEED },
  );
}

async function judge(check: Check, content: Buffer, limitMs = CHECK_MAX_MS): Promise<void> {
  const cpu = process.cpuUsage();
  const complaint = await check(content);
  const { user, system } = process.cpuUsage(cpu);
  expect((user + system) / 1000, "ms of processor time").to.be.lessThan(limitMs);
  if (complaint === undefined) return;
  expect(complaint.kind).to.be.oneOf(LEGAL);
  expect(complaint.detail.length).to.be.within(1, DETAIL_LENGTH_MAX);
}

function nested(opening: string, closing = ""): Buffer {
  return Buffer.from(opening.repeat(20_000) + closing.repeat(20_000));
}

/** Random bytes, a mutant of the sample, a part of it, a huge count in it, or it with a part of another kind. */
function hostile(sample: Buffer, others: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const place = fc.nat(Math.max(0, sample.length - 1));
  const edits = fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 16 });
  const counts = fc.array(fc.tuple(place, fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)), { minLength: 1, maxLength: 3 });
  return fc.oneof(
    fc.uint8Array({ maxLength: 4096 }).map((bytes) => Buffer.from(bytes)),
    fc.uint8Array({ maxLength: 512 }).map((bytes) => Buffer.concat([sample.subarray(0, 16), bytes])),
    edits.map((changes) => edited(sample, changes, 1)),
    counts.map((changes) => edited(sample, changes, 4)),
    place.map((end) => sample.subarray(0, end)),
    fc.tuple(place, place).map(([from, to]) => Buffer.concat([sample.subarray(0, from), sample.subarray(to)])),
    fc.tuple(place, fc.nat(40)).map(([from, times]) => repeated(sample, from, times)),
    fc.tuple(place, fc.constantFrom(...others)).map(([end, other]) => Buffer.concat([sample.subarray(0, end), other])),
  );
}

function edited(
  sample: Buffer,
  changes: readonly (readonly [at: number, value: number])[],
  lengthBytes: number,
): Buffer {
  const copy = Buffer.from(sample);
  for (const [at, value] of changes) copy.fill(value, at, Math.min(copy.length, at + lengthBytes));
  return copy;
}

/** The part behind a place, many times. */
function repeated(sample: Buffer, from: number, times: number): Buffer {
  const part = sample.subarray(from, from + 4096);
  return Buffer.concat([sample, ...Array.from({ length: times }, () => part)]);
}
