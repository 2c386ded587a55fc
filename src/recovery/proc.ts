/**
 * What running processes hold open, read from /proc: deleted files (their content lives until the last close) and
 * writers of a file. Looks at one process at a time and lets others run in between. What it may not read, it skips:
 * without root, or CAP_SYS_PTRACE, those are other users' processes.
 */
import { readFileSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../base/clock.js";
import { type BytePath, nameOf, pathFromBytes } from "../base/paths.js";

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
/** Early looks: what is told within this time is looked for together, and they come so far apart at least, ms. */
const EARLY_GATHER_MS = 20;
const EARLY_APART_MS = 400;
/** What an early look did not find need not be looked for again for so long, ms; longer than a grace and a mass. */
const EARLY_KEPT_MS = 10_000;
/** Missing paths that wait for an early look; of more the look is made when they are healed. */
const EARLY_PATHS_MAX = 256;

/** How long a process that can hold nothing is passed over, ms. */
const IDLE_KEPT_MS = 30_000;

/** A file that is missing, and when it was first missed, wall ms: another deletion of the path is another loss. */
export interface MissedFile {
  readonly path: BytePath;
  readonly seenAtMs: number;
}

/** A look at all processes that began after these paths were missed. */
interface EarlyLook {
  readonly atMs: number;
  readonly missed: ReadonlyMap<BytePath, number>;
  readonly found: Promise<readonly HeldFile[]>;
}

export class ProcessFiles {
  readonly #clock: Clock;
  readonly #procDir: string;
  #last: { readonly atMs: number; readonly found: Promise<readonly HeldFile[]> } | undefined;
  /** Missing paths that wait for an early look, and when they were first missed. */
  #waiting = new Map<BytePath, number>();
  #early: EarlyLook | undefined;
  readonly #idle: IdleProcesses;

  constructor(clock: Clock, procDir = "/proc") {
    this.#clock = clock;
    this.#procDir = procDir;
    this.#idle = new IdleProcesses(clock);
  }

  /** Looks at all processes in a moment, for all that is told as missing until then. */
  lookEarly({ path, seenAtMs }: MissedFile): void {
    if (this.#waiting.size >= EARLY_PATHS_MAX) return;
    this.#waiting.set(path, seenAtMs);
    if (this.#waiting.size > 1) return; // a timer runs
    const restMs = (this.#early?.atMs ?? -Infinity) + EARLY_APART_MS - this.#clock.monotonicMs();
    this.#clock.after(Math.max(EARLY_GATHER_MS, restMs), () => {
      const missed = this.#waiting;
      this.#waiting = new Map();
      this.#early = { atMs: this.#clock.monotonicMs(), missed, found: this.#lookAtAll() };
    });
  }

  /**
   * Which processes hold what a missing path was. When nobody was seen to by a look that began after it had gone, nobody
   * is by now: a file without a name can only be had from who has it. Who does is looked at anew.
   */
  async heldOf(
    missed: MissedFile,
    isOfIt: (held: HeldFile) => boolean,
    signal: AbortSignal,
  ): Promise<readonly HeldFile[]> {
    const early = this.#early;
    const isKnown =
      early?.missed.get(missed.path) === missed.seenAtMs && this.#clock.monotonicMs() - early.atMs <= EARLY_KEPT_MS;
    if (isKnown && !(await early.found).some(isOfIt)) {
      signal.throwIfAborted();
      return [];
    }
    return (await this.deletedFiles(signal)).filter(isOfIt);
  }

  /** All deleted regular files that some other process holds open or mapped. At most 250 ms old. */
  async deletedFiles(signal: AbortSignal): Promise<readonly HeldFile[]> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#last === undefined || nowMs - this.#last.atMs > FRESH_MS)
      this.#last = { atMs: nowMs, found: this.#lookAtAll() };
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

  async #lookAtAll(): Promise<readonly HeldFile[]> {
    this.#idle.forgetOld();
    return await this.#eachProcess((pid) => (pid === OWN_PID ? [] : heldBy(`${this.#procDir}/${pid}`, this.#idle)));
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

/**
 * Processes that had neither descriptors nor memory when they were looked at: the kernel's own threads, two of three on a
 * small machine. The number of a process's folder in /proc is of that process alone, also when its pid is given again.
 */
class IdleProcesses {
  readonly #clock: Clock;
  readonly #inodes = new Map<string, number>();
  #sinceMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The kernel starts programs from threads of its own: nothing is idle for ever. */
  forgetOld(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs < IDLE_KEPT_MS) return;
    this.#inodes.clear();
    this.#sinceMs = nowMs;
  }

  has(folder: string, inode: number): boolean {
    return this.#inodes.get(folder) === inode;
  }

  add(folder: string, inode: number): void {
    this.#inodes.set(folder, inode);
  }
}

function heldBy(folder: string, idle: IdleProcesses): HeldFile[] {
  const inode = attempt(() => statSync(folder, { throwIfNoEntry: false })?.ino);
  if (inode === undefined || idle.has(folder, inode)) return [];
  const pid = Number(nameOf(folder as BytePath));
  const fds = namesIn(`${folder}/fd`);
  const maps = attempt(() => readFileSync(`${folder}/maps`, "latin1"));
  if (fds.length === 0 && maps === "") idle.add(folder, inode);
  return [...heldDescriptors(folder, pid, fds), ...heldMappings(folder, pid, maps)];
}

function* heldDescriptors(folder: string, pid: number, fds: readonly string[]): Iterable<HeldFile> {
  for (const fd of fds) {
    const link = `${folder}/fd/${fd}`;
    const target = attempt(() => readlinkSync(link, "buffer"));
    if (target === undefined || !endsWithDeleted(target)) continue;
    const held = describe(link, target, pid);
    if (held === undefined) continue;
    yield { ...held, how: `descriptor ${fd}`, program: programOf(folder), isWritable: isWriteFlag(folder, fd) };
  }
}

/** A file may be mapped with its descriptor closed; the mapping opens it as well as a descriptor does. */
function* heldMappings(folder: string, pid: number, maps: string | undefined): Iterable<HeldFile> {
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
