/**
 * Where damaged bytes are kept before they are replaced: `<state>/quarantine/<incident>/<item>.bytes` beside `<item>.json`,
 * which a person can read without the database. A file with one name is linked (its inode stays what it was), any
 * other is copied. What belongs to an open incident is never removed; of closed ones the oldest go when they are too
 * old, or when all together are too large. How old they are is counted from look to look (`quarantine-ages.ts`), so that
 * a clock that jumps ahead removes nothing.
 */
import { createHash } from "node:crypto";
import { type BigIntStats, closeSync, constants, createReadStream, fstatSync, linkSync } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { AnchoredFolder } from "../base/anchored.js";
import { syncFolder, unlinkIfThere, writeFileDurably } from "../base/atomic-file.js";
import { type Clock, isoTime } from "../base/clock.js";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { randomHex } from "../base/ids.js";
import { type BytePath, joinPath, pathFields, pathFromBytes, pathFromText } from "../base/paths.js";
import { nodeFromStat } from "../engine/metadata.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import type { QuarantineReference } from "./incident.js";
import { isMapping } from "./parameters.js";
import { isSameFile } from "./place.js";
import { tupleOf } from "./place-parents.js";
import { QuarantineAges } from "./quarantine-ages.js";

export interface QuarantineLimits {
  /** Bytes of closed incidents kept at most. */
  readonly sizeBytesMax: number;
  /** How long a closed incident's bytes are kept, ms; more while the daemon is down. */
  readonly ageMsMax: number;
}

/** Something kept, with what it needs to go back. */
export interface QuarantinedFile {
  readonly item: string;
  readonly path: BytePath;
  /** ISO time. */
  readonly keptAt: string;
  /** Absolute path of the kept bytes. */
  readonly file: string;
  readonly node: FileNode;
}

/** What is kept of one incident. */
interface Kept {
  readonly incident: string;
  readonly sizeBytes: number;
  /** When the newest of it was kept, wall ms. */
  readonly keptAtMs: number;
}

const COPY_BYTES = 2 ** 20;

export class Quarantine {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #limits: QuarantineLimits;
  readonly #ages: QuarantineAges;

  constructor(folder: string, clock: Clock, limits: QuarantineLimits) {
    this.#folder = folder;
    this.#ages = new QuarantineAges(`${folder}-ages.json`);
    this.#clock = clock;
    this.#limits = limits;
  }

  /**
   * Keeps the file at a name of an open folder. Throws TARGET_IO when it is not the one that was judged, and the
   * system's errors: then nothing may be replaced.
   */
  async keep(
    incident: string,
    source: { readonly folder: AnchoredFolder; readonly name: string; readonly judged: StatTuple },
    reason: string,
  ): Promise<QuarantineReference> {
    const place = join(this.#folder, incident);
    await mkdir(place, { recursive: true, mode: 0o700 });
    const { folder, name } = source;
    const fd = folder.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(fd, { bigint: true });
      if (!stat.isFile() || !isSameFile(tupleOf(stat), source.judged))
        throw new HoldfastError("TARGET_IO", "the damaged file was replaced while it was being kept");
      const item = randomHex(8);
      const path = joinPath(folder.path, name);
      const isLinked = stat.nlink === 1n && tryLink(folder.at(name), join(place, `${item}.bytes`));
      const copied = isLinked ? undefined : await copyOut(fd, join(place, `${item}.bytes`));
      const about = {
        ...pathFields(path),
        incident,
        reason,
        kept_at: isoTime(this.#clock.nowMs()),
        how: isLinked ? "link" : "copy",
        ...(copied === undefined ? {} : { sha256: copied }),
        ...describe(nodeFromStat(stat, { fd })),
      };
      await writeFileDurably(join(place, `${item}.json`), `${JSON.stringify(about, undefined, 2)}\n`);
      return { path, item, sizeBytes: Number(stat.size) };
    } finally {
      closeSync(fd);
    }
  }

  /** Everything kept of an incident, oldest first. */
  async items(incident: string): Promise<readonly QuarantinedFile[]> {
    const place = join(this.#folder, incident);
    const items: QuarantinedFile[] = [];
    for (const name of await namesIn(place)) {
      if (!name.endsWith(".json")) continue;
      const item = name.slice(0, -".json".length);
      const about: unknown = JSON.parse(await readFile(join(place, name), "utf8"));
      const file = join(place, `${item}.bytes`);
      const stat = await statOrNone(file);
      const path = recordedPath(about);
      if (stat === undefined || path === undefined) continue;
      items.push({
        item,
        path,
        file,
        keptAt: recordedText(about, "kept_at"),
        node: withRecorded(nodeFromStat(stat), about),
      });
    }
    return items.sort((a, b) => a.keptAt.localeCompare(b.keptAt));
  }

  /** Drops one item: it went back to its place. */
  async drop(incident: string, item: string): Promise<void> {
    await unlinkIfThere(join(this.#folder, incident, `${item}.bytes`));
    await unlinkIfThere(join(this.#folder, incident, `${item}.json`));
  }

  /** Removes what the limits no longer allow, oldest first; `isOpen` tells which incidents are not to be touched. */
  async prune(isOpen: (incident: string) => boolean, signal: AbortSignal): Promise<readonly string[]> {
    const closed: Kept[] = [];
    for (const incident of (await namesIn(this.#folder)).sort()) {
      signal.throwIfAborted();
      if (!isOpen(incident)) closed.push({ incident, ...(await this.#weigh(incident)) });
    }
    const nowMs = this.#clock.nowMs();
    const ages = await this.#ages.at(closed.map(nameOfKept), nowMs);
    const ageMs = (entry: Kept): number => ages.get(nameOfKept(entry)) ?? 0;
    let sizeBytes = closed.reduce((sum, entry) => sum + entry.sizeBytes, 0);
    const removed: string[] = [];
    for (const entry of closed.sort((a, b) => ageMs(b) - ageMs(a) || a.keptAtMs - b.keptAtMs)) {
      const isTooOld = ageMs(entry) > this.#limits.ageMsMax;
      if (!isTooOld && sizeBytes <= this.#limits.sizeBytesMax) continue;
      await rm(join(this.#folder, entry.incident), { recursive: true, force: true });
      sizeBytes -= entry.sizeBytes;
      removed.push(entry.incident);
    }
    await this.#ages.note(ages, nowMs); // last: a full disk has room by now
    return removed;
  }

  async #weigh(incident: string): Promise<{ readonly sizeBytes: number; readonly keptAtMs: number }> {
    let sizeBytes = 0;
    let keptAtMs = 0;
    for (const name of await namesIn(join(this.#folder, incident))) {
      const stat = await lstat(join(this.#folder, incident, name));
      sizeBytes += stat.size;
      // A linked file keeps its own times; the description's time is when it was kept.
      if (name.endsWith(".json")) keptAtMs = Math.max(keptAtMs, stat.mtimeMs);
    }
    return { sizeBytes, keptAtMs };
  }
}

/** For its age, which begins anew when more is kept for the incident, as when a person undoes a heal. */
function nameOfKept({ incident, keptAtMs }: Kept): string {
  return `${incident}@${String(Math.round(keptAtMs))}`;
}

/** A link in the quarantine to the damaged inode; false where links cannot be (another file system, no permission). */
function tryLink(from: Buffer, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (["EXDEV", "EPERM", "EMLINK", "EACCES", "EOPNOTSUPP"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  }
}

/** Copies an open file durably; gives the digest. */
async function copyOut(fd: number, to: string): Promise<string> {
  const hash = createHash("sha256");
  let copy: FileHandle | undefined;
  try {
    copy = await open(to, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    const bytes = createReadStream("", { fd, autoClose: false, start: 0, highWaterMark: COPY_BYTES });
    for await (const part of bytes as AsyncIterable<Buffer>) {
      hash.update(part);
      await copy.writeFile(part);
    }
    await copy.sync();
  } catch (error) {
    if (copy !== undefined) await unlinkIfThere(to);
    throw error;
  } finally {
    await copy?.close();
  }
  await syncFolder(join(to, ".."));
  return hash.digest("hex");
}

/** The metadata that a file needs to go back, as JSON. */
function describe(node: FileNode): Readonly<Record<string, unknown>> {
  const xattrs = [...(node.xattrs ?? [])].map(([name, value]) => [name, Buffer.from(value).toString("base64")]);
  return {
    size_bytes: node.stat.sizeBytes,
    mode: node.mode.toString(8).padStart(4, "0"),
    uid: node.uid,
    gid: node.gid,
    mtime_ns: String(node.stat.mtimeNs),
    xattrs: Object.fromEntries(xattrs) as Readonly<Record<string, string>>,
  };
}

/** The recorded metadata over the kept file's own, which a copy does not have. */
function withRecorded(own: FileNode, about: unknown): FileNode {
  if (!isMapping(about)) return own;
  const { mode, uid, gid, mtime_ns: mtimeNs, xattrs } = about;
  const names = isMapping(xattrs) ? Object.entries(xattrs) : [];
  return {
    ...own,
    linkCount: 1,
    mode: typeof mode === "string" ? Number.parseInt(mode, 8) : own.mode,
    uid: typeof uid === "number" ? uid : own.uid,
    gid: typeof gid === "number" ? gid : own.gid,
    stat: { ...own.stat, mtimeNs: typeof mtimeNs === "string" ? BigInt(mtimeNs) : own.stat.mtimeNs },
    xattrs: new Map(names.map(([name, value]) => [name, new Uint8Array(Buffer.from(String(value), "base64"))])),
  };
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

async function statOrNone(file: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(file, { bigint: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function recordedPath(about: unknown): BytePath | undefined {
  const encoded = recordedText(about, "path_b64");
  const text = recordedText(about, "path");
  if (encoded !== "") return pathFromBytes(Buffer.from(encoded, "base64"));
  return text === "" ? undefined : pathFromText(text);
}

function recordedText(about: unknown, name: string): string {
  const value = isMapping(about) ? about[name] : undefined;
  return typeof value === "string" ? value : "";
}
