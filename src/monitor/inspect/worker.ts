/**
 * Worker thread that reads files for the monitor: digests, the ends of files, and the validators. Everything here may
 * meet hostile content; the daemon ends the whole thread when it takes too long or too much memory.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { errnoOf } from "../../base/errors.js";
import { pathBytes } from "../../base/paths.js";
import type { StatTuple } from "../../engine/types.js";
import type { Validator, Verdict } from "../validator.js";
import { type ContentCheck, buildValidator } from "../validators/build.js";
import type { Digest, InspectAnswer, InspectJob, InspectRequest, Inspection, Shape } from "./jobs.js";

/** Read window, bytes. */
const WINDOW_BYTES = 2 ** 20;
/** NULs at the end are counted back this far, bytes. */
const NUL_TAIL_BYTES_MAX = 64 * 2 ** 20;
/** Never follows a link, never waits for a FIFO's writer. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const validators = new Map<string, Validator>();

function answer(id: number, job: InspectJob): InspectAnswer {
  let fd: number | undefined;
  try {
    fd = openSync(pathBytes(job.path), OPEN_FLAGS);
    return job.kind === "digest"
      ? { id, digest: digestOf(fd) }
      : { id, inspection: inspect(fd, job.checks, job.sizeBytesMax) };
  } catch (error) {
    return { id, errno: errnoOf(error) ?? "EIO" };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function digestOf(fd: number): Digest {
  const hash = createHash("sha256");
  const window = Buffer.allocUnsafe(WINDOW_BYTES);
  const before = statOf(fd);
  for (let offset = 0; ;) {
    const count = readSync(fd, window, 0, WINDOW_BYTES, offset);
    if (count === 0) break;
    hash.update(window.subarray(0, count));
    offset += count;
  }
  return { sha256: hash.digest("hex"), before, after: statOf(fd) };
}

function inspect(fd: number, checks: readonly ContentCheck[], sizeBytesMax: number): Inspection {
  const sizeBytes = statOf(fd).sizeBytes;
  const shape = { sizeBytes, nulTailBytes: nulTail(fd, sizeBytes) } satisfies Shape;
  return { shape, verdict: judge(fd, checks, sizeBytes, sizeBytesMax) };
}

function judge(fd: number, checks: readonly ContentCheck[], sizeBytes: number, sizeBytesMax: number): Verdict {
  if (checks.length === 0) return { verdict: "unchecked", detail: "no check looks at such files" };
  if (sizeBytes > sizeBytesMax) return { verdict: "unchecked", detail: "larger than the limit for checks" };
  const content = readAll(fd, sizeBytes);
  const names: string[] = [];
  for (const check of checks) {
    const validator = validatorOf(check);
    names.push(validator.name);
    const complaint = validator.check(content);
    if (complaint !== undefined) return { verdict: "invalid", ...complaint };
  }
  return { verdict: "valid", detail: names.join(", ") };
}

function validatorOf(check: ContentCheck): Validator {
  if (check.kind === "schema") return buildValidator(check); // its file may have changed
  const key = JSON.stringify(check);
  const validator = validators.get(key) ?? buildValidator(check);
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

function nulTail(fd: number, sizeBytes: number): number {
  const window = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, sizeBytes, 65_536));
  let tail = 0;
  for (let end = sizeBytes; end > 0 && tail < NUL_TAIL_BYTES_MAX;) {
    const start = Math.max(0, end - window.length);
    const count = readSync(fd, window, 0, end - start, start);
    let zeros = 0;
    while (zeros < count && window[count - 1 - zeros] === 0) zeros += 1;
    tail += zeros;
    if (zeros < end - start) break;
    end = start;
  }
  return tail;
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
  port.on("message", ({ id, job }: InspectRequest) => port.postMessage(answer(id, job)));
}
