/**
 * Whether git can do without an object that is gone: a pack holds it, or nothing that git knows by a name (branches, tags,
 * reflogs, the index) needs it, as of what `git gc` and `git prune` take away. Any other was lost.
 */
import { closeSync, openSync, readSync, readdirSync } from "node:fs";
import { type BytePath, joinPath, pathBytes, pathText } from "../../base/paths.js";
import { runProgram } from "../../base/spawn.js";

/** No hooks, no filters, no network: the programs that are asked run none, the rest is shut off. */
export const SAFE_GIT_FLAGS = ["--no-optional-locks", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"];
export const SAFE_GIT_ENV = { GIT_NO_LAZY_FETCH: "1", GIT_TERMINAL_PROMPT: "0", GIT_CONFIG_NOSYSTEM: "1" };

/** What git needs and does not find, by id; `broken`: not even that can be told; `unknown`: git did not answer in time. */
export type MissingObjects = ReadonlySet<string> | "broken" | "unknown";

const LOOSE = /^objects\/([0-9a-f]{2})\/([0-9a-f]{38}|[0-9a-f]{62})$/;
/** Version 2 of an index of a pack: magic and version, 256 sums of ids by their first byte, the ids in order. */
const INDEX_MAGIC = 0xff744f63;
const INDEX_HEADER_BYTES = 8;
const SUM_BYTES = 4;
const IDS_FROM = INDEX_HEADER_BYTES + 256 * SUM_BYTES;
/** Of more ids with one first byte than this a pack is not asked; it would have a hundred million objects. */
const IDS_BYTES_MAX = 16 * 2 ** 20;
const PACKS_MAX = 1000;
/** A repository of ten million objects takes minutes. */
export const WALK_TIMEOUT_MS = 300_000;

/** The id of a loose object by its name below the git folder; undefined for any other file. */
export function looseObjectId(name: string): string | undefined {
  const [, first, rest] = LOOSE.exec(name) ?? [];
  return first === undefined || rest === undefined ? undefined : first + rest;
}

/** Whether the index of a pack that stands names the object. */
export function isPacked(git: BytePath, id: string): boolean {
  const folder = joinPath(git, "objects/pack");
  const names = namesIn(folder);
  const packs = names.filter((name) => name.endsWith(".idx") && names.includes(name.replace(/idx$/, "pack")));
  return packs.slice(0, PACKS_MAX).some((name) => isInIndex(joinPath(folder, name), Buffer.from(id, "hex")));
}

/** Asks git once what it needs and does not find. */
export async function missingObjects(git: BytePath, signal: AbortSignal): Promise<MissingObjects> {
  const roots = ["--all", "--reflog", "--indexed-objects"];
  const walk = ["rev-list", "--objects", "--quiet", "--missing=print", ...roots];
  try {
    const { exitCode, stdout } = await runProgram(["git", `--git-dir=${pathText(git)}`, ...SAFE_GIT_FLAGS, ...walk], {
      timeoutMs: WALK_TIMEOUT_MS,
      signal,
      env: SAFE_GIT_ENV,
    });
    if (exitCode !== 0) return "broken";
    const lines = stdout.toString("latin1").split("\n");
    return new Set(lines.filter((line) => line.startsWith("?")).map((line) => line.slice(1)));
  } catch {
    signal.throwIfAborted();
    return "unknown";
  }
}

function isInIndex(index: BytePath, id: Buffer): boolean {
  let fd: number | undefined;
  try {
    fd = openSync(pathBytes(index), "r");
    const first = id[0] ?? 0;
    const header = read(fd, INDEX_HEADER_BYTES, 0);
    if (header.readUInt32BE(0) !== INDEX_MAGIC || header.readUInt32BE(4) !== 2) return false;
    const sumAt = (byte: number): number =>
      byte < 0 ? 0 : read(fd ?? -1, SUM_BYTES, INDEX_HEADER_BYTES + byte * SUM_BYTES).readUInt32BE(0);
    const [from, to] = [sumAt(first - 1), sumAt(first)];
    const lengthBytes = Math.max(0, to - from) * id.length;
    if (lengthBytes > IDS_BYTES_MAX) return false;
    const ids = read(fd, lengthBytes, IDS_FROM + from * id.length);
    return hasId(ids, id);
  } catch {
    return false; // gone meanwhile, or no such index
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function hasId(ids: Buffer, id: Buffer): boolean {
  for (let low = 0, high = ids.length / id.length; low < high;) {
    const middle = Math.floor((low + high) / 2);
    const order = ids.subarray(middle * id.length, (middle + 1) * id.length).compare(id);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return false;
}

/** Throws when there is less. */
function read(fd: number, lengthBytes: number, position: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  if (readSync(fd, bytes, 0, lengthBytes, position) < lengthBytes) throw new Error("the index is cut off");
  return bytes;
}

function namesIn(folder: BytePath): readonly string[] {
  try {
    return readdirSync(pathBytes(folder), "latin1");
  } catch {
    return [];
  }
}
