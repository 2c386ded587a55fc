/**
 * What running processes hold open, read from /proc: deleted files (their content lives until the last close) and
 * writers of a file. Looks at one process at a time and lets others run in between. What it may not read, it skips:
 * without root, or CAP_SYS_PTRACE, those are other users' processes.
 */
import { readFileSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../base/clock.js";
import { type BytePath, pathFromBytes } from "../base/paths.js";

/** A deleted file that a process still holds. */
export interface HeldFile {
  readonly pid: number;
  /** Name of the program, at most 15 characters. */
  readonly program: string;
  /** `descriptor 7` or `mapping`. */
  readonly how: string;
  /** Opening this path opens the file. */
  readonly link: string;
  /** The name it had when it was deleted. */
  readonly path: BytePath;
  readonly dev: bigint;
  readonly ino: bigint;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  /** When the inode was made; 0 where the file system does not say. */
  readonly birthNs: bigint;
  readonly uid: number;
  /** A process may still be writing to it. */
  readonly isWritable: boolean;
}

/** A process with a file open for writing. */
export interface Writer {
  readonly pid: number;
  readonly program: string;
}

/** What we hold ourselves is known as pins. */
const OWN_PID = String(process.pid);
const DELETED = Buffer.from(" (deleted)", "latin1");
/** A finished look at all processes serves those who ask this soon after, ms: a batch does not look a thousand times. */
const FRESH_MS = 250;
/** How long a look runs before others get their turn, ms. */
const SLICE_MS = 5;

export class ProcessFiles {
  readonly #clock: Clock;
  readonly #procDir: string;
  #last: { readonly atMs: number; readonly found: Promise<readonly HeldFile[]> } | undefined;

  constructor(clock: Clock, procDir = "/proc") {
    this.#clock = clock;
    this.#procDir = procDir;
  }

  /** All deleted regular files that some other process holds open or mapped. At most 250 ms old. */
  async deletedFiles(signal: AbortSignal): Promise<readonly HeldFile[]> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#last === undefined || nowMs - this.#last.atMs > FRESH_MS) {
      this.#last = {
        atMs: nowMs,
        found: this.#eachProcess((pid) => (pid === OWN_PID ? [] : heldBy(this.#procDir, pid))),
      };
    }
    const found = await this.#last.found;
    signal.throwIfAborted();
    return found;
  }

  /** Other processes that have the inode open for writing. */
  async writersOf(dev: bigint, ino: bigint): Promise<readonly Writer[]> {
    return await this.#eachProcess((pid) => {
      if (pid === OWN_PID || !isWrittenBy(`${this.#procDir}/${pid}`, dev, ino)) return [];
      return [{ pid: Number(pid), program: programOf(`${this.#procDir}/${pid}`) }];
    });
  }

  async #eachProcess<T>(look: (pid: string) => readonly T[]): Promise<T[]> {
    const found: T[] = [];
    let sliceStartMs = this.#clock.monotonicMs();
    for (const pid of namesIn(this.#procDir)) {
      if (!/^\d+$/.test(pid)) continue;
      found.push(...look(pid));
      if (this.#clock.monotonicMs() - sliceStartMs < SLICE_MS) continue;
      await nextTurn();
      sliceStartMs = this.#clock.monotonicMs();
    }
    return found;
  }
}

function heldBy(procDir: string, pid: string): HeldFile[] {
  const folder = `${procDir}/${pid}`;
  return [...heldDescriptors(folder, Number(pid)), ...heldMappings(folder, Number(pid))];
}

function* heldDescriptors(folder: string, pid: number): Iterable<HeldFile> {
  for (const fd of namesIn(`${folder}/fd`)) {
    const link = `${folder}/fd/${fd}`;
    const target = attempt(() => readlinkSync(link, "buffer"));
    if (target === undefined || !endsWithDeleted(target)) continue;
    const held = describe(link, target, pid);
    if (held === undefined) continue;
    yield { ...held, how: `descriptor ${fd}`, program: programOf(folder), isWritable: isWriteFlag(folder, fd) };
  }
}

/** A file may be mapped with its descriptor closed; the mapping opens it as well as a descriptor does. */
function* heldMappings(folder: string, pid: number): Iterable<HeldFile> {
  const maps = attempt(() => readFileSync(`${folder}/maps`, "latin1"));
  if (maps?.includes(" (deleted)\n") !== true) return;
  for (const [, range, permissions, inode] of maps.matchAll(
    /^([0-9a-f]+-[0-9a-f]+) (\S+) \S+ \S+ (\d+) .* \(deleted\)$/gm,
  )) {
    if (range === undefined || inode === "0") continue;
    const link = `${folder}/map_files/${range.replace(/\b0+(?=[0-9a-f])/g, "")}`;
    const target = attempt(() => readlinkSync(link, "buffer"));
    if (target === undefined || !endsWithDeleted(target)) continue;
    const held = describe(link, target, pid);
    if (held === undefined) continue;
    const isWritable = permissions?.startsWith("rw") === true && permissions.endsWith("s");
    yield { ...held, how: "mapping", program: programOf(folder), isWritable };
  }
}

function describe(
  link: string,
  target: Buffer,
  pid: number,
): Omit<HeldFile, "how" | "program" | "isWritable"> | undefined {
  const stat = attempt(() => statSync(link, { bigint: true }));
  if (stat?.isFile() !== true || target[0] !== 0x2f) return undefined;
  return {
    pid,
    link,
    path: pathFromBytes(target.subarray(0, target.length - DELETED.length)),
    dev: stat.dev,
    ino: stat.ino,
    sizeBytes: Number(stat.size),
    mtimeNs: stat.mtimeNs,
    birthNs: stat.birthtimeNs,
    uid: Number(stat.uid),
  };
}

function isWrittenBy(folder: string, dev: bigint, ino: bigint): boolean {
  return namesIn(`${folder}/fd`).some((fd) => {
    const stat = attempt(() => statSync(`${folder}/fd/${fd}`, { bigint: true }));
    return stat?.ino === ino && stat.dev === dev && isWriteFlag(folder, fd);
  });
}

/** True when the descriptor was opened for writing (the last two bits of the octal flags: 1 write, 2 both). */
function isWriteFlag(folder: string, fd: string): boolean {
  const info = attempt(() => readFileSync(`${folder}/fdinfo/${fd}`, "latin1"));
  const flags = /^flags:\s*([0-7]+)$/m.exec(info ?? "")?.[1];
  return flags !== undefined && (Number.parseInt(flags, 8) & 3) !== 0;
}

function programOf(folder: string): string {
  return attempt(() => readFileSync(`${folder}/comm`, "utf8"))?.trim() ?? "?";
}

function namesIn(folder: string): string[] {
  return attempt(() => readdirSync(folder)) ?? [];
}

function endsWithDeleted(target: Buffer): boolean {
  return target.length > DELETED.length && target.subarray(target.length - DELETED.length).equals(DELETED);
}

/** Processes end while we look, and some may not be looked at: both are no answer, not an error. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
