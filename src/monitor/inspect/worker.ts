/**
 * Worker thread that reads files for the monitor: digests, the ends of files, and the validators. Everything here may
 * meet hostile content; the daemon ends the whole thread when it takes too long or too much memory.
 */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { parentPort } from "node:worker_threads";
import { createGunzip } from "node:zlib";
import { errnoOf } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import { reach } from "../../base/reach.js";
import type { StatTuple } from "../../engine/types.js";
import { isOrdinary, suspicionOfPair } from "../judge/compare.js";
import { factsOf } from "../judge/facts.js";
import { randomOverwriteBytes } from "../judge/texture.js";
import { isBeginningOf, untornPart } from "../judge/torn.js";
import type { Complaint, FileValidator, Validator, Verdict } from "../validator.js";
import { type ContentCheck, buildValidator } from "../validators/build.js";
import type {
  ContentPart,
  Digest,
  InspectAnswer,
  InspectJob,
  InspectRequest,
  Inspection,
  PairVerdict,
} from "./jobs.js";
import { SAFE_READ_FLAGS, shapeOf } from "./shape.js";

/** Read window, bytes. */
const WINDOW_BYTES = 2 ** 20;

/** Into which content is read on its way to a digest: fresh memory for each file costs more than reading a small one. */
let digestWindow: Buffer | undefined;

const validators = new Map<string, Validator | FileValidator>();

async function answer(id: number, job: InspectJob): Promise<InspectAnswer> {
  let fd: number | undefined;
  try {
    if (job.kind === "pair") return { id, pair: await comparePair(job) };
    if (job.kind === "digests") return { id, digests: job.paths.map((path) => digestAt(path, job.sizeBytesMax)) };
    fd = reach(job.path, (place) => openSync(place, SAFE_READ_FLAGS));
    if (job.kind === "fields") return { id, values: await fieldsOf(fd, job) };
    return job.kind === "digest"
      ? { id, digest: await digestOf(fd, job.part) }
      : { id, inspection: await inspect(fd, job) };
  } catch (error) {
    return { id, errno: errnoOf(error) ?? "EIO" };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Of one file of many; undefined when it cannot be read or is larger. */
function digestAt(path: BytePath, sizeBytesMax: number): Digest | undefined {
  let fd: number | undefined;
  try {
    fd = reach(path, (place) => openSync(place, SAFE_READ_FLAGS));
    const before = statOf(fd);
    if (before.sizeBytes > sizeBytesMax) return undefined;
    return { sha256: plainDigest(fd, Infinity), before, after: statOf(fd) };
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

async function digestOf(fd: number, part: ContentPart | undefined): Promise<Digest> {
  const before = statOf(fd);
  const lengthBytes = part?.lengthBytes ?? Infinity;
  const sha256 = part?.isGzip === true ? await unpackedDigest(fd, lengthBytes) : plainDigest(fd, lengthBytes);
  return { sha256, before, after: statOf(fd) };
}

function plainDigest(fd: number, lengthBytes: number): string {
  const hash = createHash("sha256");
  for (const bytes of windowsOf(fd, lengthBytes)) hash.update(bytes);
  return hash.digest("hex");
}

/** The file's bytes from its beginning, a window at a time; each is read into again. */
function* windowsOf(fd: number, lengthBytes: number): Generator<Buffer> {
  const window = (digestWindow ??= Buffer.allocUnsafeSlow(WINDOW_BYTES));
  for (let offset = 0; offset < lengthBytes;) {
    const count = readSync(fd, window, 0, Math.min(WINDOW_BYTES, lengthBytes - offset), offset);
    if (count === 0) return;
    yield window.subarray(0, count);
    offset += count;
  }
}

/** What cannot be unpacked so far has the digest of what could. */
async function unpackedDigest(fd: number, lengthBytes: number): Promise<string> {
  const hash = createHash("sha256");
  let leftBytes = lengthBytes;
  const packed = function* (): Generator<Buffer> {
    for (const bytes of windowsOf(fd, Infinity)) yield Buffer.from(bytes); // what is queued must stay as it is
  };
  const unpacked = pipeline(packed, createGunzip(), async function (parts: AsyncIterable<Buffer>): Promise<void> {
    for await (const bytes of parts) {
      hash.update(bytes.subarray(0, leftBytes));
      leftBytes -= bytes.length;
      if (leftBytes <= 0) return;
    }
  });
  await unpacked.catch(() => undefined);
  return hash.digest("hex");
}

type Fields = Extract<InspectJob, { readonly kind: "fields" }>;

async function fieldsOf(fd: number, { fields, sizeBytesMax }: Fields): Promise<readonly string[]> {
  const { sizeBytes } = statOf(fd);
  if (sizeBytes > sizeBytesMax) return [];
  const { fieldValues } = await import("../validators/rules.js");
  return fieldValues(readAll(fd, sizeBytes), fields);
}

type Inspect = Extract<InspectJob, { readonly kind: "inspect" }>;

async function inspect(fd: number, job: Inspect): Promise<Inspection> {
  const sizeBytes = statOf(fd).sizeBytes;
  return { shape: shapeOf(fd, sizeBytes), verdict: await judge(fd, sizeBytes, job) };
}

async function judge(fd: number, sizeBytes: number, { path, checks, sizeBytesMax }: Inspect): Promise<Verdict> {
  if (checks.length === 0) return { verdict: "unchecked", detail: "no check looks at such files" };
  if (sizeBytes > sizeBytesMax) return { verdict: "unchecked", detail: "larger than the limit for checks" };
  const content = readAll(fd, sizeBytes);
  const names: string[] = [];
  let undecided: Complaint | undefined;
  for (const check of checks) {
    const validator = await validatorOf(check);
    const complaint = "check" in validator ? validator.check(content) : await validator.checkFile(path, content);
    if (complaint === undefined) names.push(validator.name);
    else if (complaint.kind === "unchecked") undecided ??= complaint;
    else return { verdict: "invalid", kind: complaint.kind, detail: complaint.detail };
  }
  return undecided === undefined
    ? { verdict: "valid", detail: names.join(", ") }
    : { verdict: "unchecked", detail: undecided.detail };
}

type Pair = Extract<InspectJob, { readonly kind: "pair" }>;

async function comparePair({ path, oldPath, sizeBytesMax }: Pair): Promise<PairVerdict> {
  const now = readPart(path, sizeBytesMax);
  const facts = await factsOf(now.content, path, now.isWhole);
  if (oldPath === undefined) return { is: isOrdinary(facts) ? "ordinary" : "unsure" };
  const before = readPart(oldPath, sizeBytesMax);
  const held = now.isWhole ? untornPart(before.content, now.content) : now.content;
  const isTorn = held.length < now.content.length;
  if (isTorn && isBeginningOf(held, before.content)) return { is: "ordinary" };
  const noise = randomOverwriteBytes(before.content, now.content);
  const heldFacts = isTorn ? await factsOf(held, path, false) : facts; // the structure of a torn file says nothing
  const reason = suspicionOfPair(await factsOf(before.content, oldPath, before.isWhole), heldFacts, noise);
  return reason === undefined ? { is: "ordinary" } : { is: "suspicious", reason };
}

function readPart(path: BytePath, sizeBytesMax: number): { readonly content: Buffer; readonly isWhole: boolean } {
  const fd = reach(path, (place) => openSync(place, SAFE_READ_FLAGS));
  try {
    const { sizeBytes } = statOf(fd);
    return { content: readAll(fd, Math.min(sizeBytes, sizeBytesMax)), isWhole: sizeBytes <= sizeBytesMax };
  } finally {
    closeSync(fd);
  }
}

async function validatorOf(check: ContentCheck): Promise<Validator | FileValidator> {
  if (check.kind === "schema") return await buildValidator(check); // its file may have changed
  const key = JSON.stringify(check);
  const validator = validators.get(key) ?? (await buildValidator(check));
  validators.set(key, validator);
  return validator;
}

function readAll(fd: number, sizeBytes: number): Buffer {
  const content = Buffer.allocUnsafe(sizeBytes);
  let offset = 0;
  while (offset < sizeBytes) {
    const count = readSync(fd, content, offset, sizeBytes - offset, offset);
    if (count === 0) break;
    offset += count;
  }
  return content.subarray(0, offset);
}

function statOf(fd: number): StatTuple {
  const stats = fstatSync(fd, { bigint: true });
  return {
    dev: stats.dev,
    ino: stats.ino,
    sizeBytes: Number(stats.size),
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
  };
}

if (parentPort !== null) {
  const port = parentPort;
  port.on("message", ({ id, job }: InspectRequest) => {
    void answer(id, job).then((result) => port.postMessage(result));
  });
}
