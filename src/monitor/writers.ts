/**
 * Whether somebody has a file open for writing (/proc/PID/fd) or mapped so that stores reach it (/proc/PID/maps). Of
 * other users' processes only root sees anything.
 */
import { lstatSync, readFileSync, readdirSync, statSync } from "node:fs";
import type { Clock } from "../base/clock.js";
import type { BytePath } from "../base/paths.js";
import type { StatTuple } from "../engine/types.js";

type FileNumbers = Pick<StatTuple, "dev" | "ino">;

/** O_WRONLY and O_RDWR in the flags of fdinfo (octal). */
const WRITE_FLAGS = 0o3;
/** The owner's permission to write, in a mode. */
const OWNER_WRITE = 0o200;
/** A shared mapping that can be written: its permissions, then offset, device, inode and path. */
const SHARED_WRITABLE = /^\S+ .w.s \S+ \S+ (\d+) *(.*)$/gm;

/** True when a process other than ours holds the file open for writing, or has it mapped shared and writable. */
export function hasWriter(path: BytePath, stat: FileNumbers): boolean {
  for (const pid of namesIn("/proc")) {
    if (!/^\d+$/.test(pid) || pid === String(process.pid)) continue;
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      if (isOpenForWriting(pid, fd, stat)) return true;
    }
    if (isMappedForWriting(pid, path, stat)) return true;
  }
  return false;
}

/** What one look at all processes found serves those who ask this soon after, ms: a look takes longer than a file. */
const FRESH_MS = 500;

/**
 * Whether somebody writes to a file, where thousands are asked for at once, as after an attack: all writers are looked up
 * together, and the answer may be half a second old.
 */
export class RecentWriters {
  readonly #clock: Clock;
  #last: { readonly atMs: number; readonly found: Writers } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(path: BytePath, { dev, ino }: FileNumbers): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (this.#last === undefined || nowMs - this.#last.atMs >= FRESH_MS)
      this.#last = { atMs: nowMs, found: writersNow() };
    const { open, mapped } = this.#last.found;
    return open.has(`${String(dev)}:${String(ino)}`) || mapped.has(String(ino)) || mapped.has(path);
  }
}

interface Writers {
  /** `device:inode` of what is open for writing. */
  readonly open: ReadonlySet<string>;
  /** Inodes, and paths, of what is mapped shared and writable. */
  readonly mapped: ReadonlySet<string>;
}

function writersNow(): Writers {
  const open = new Set<string>();
  const mapped = new Set<string>();
  for (const pid of namesIn("/proc")) {
    if (!/^\d+$/.test(pid) || pid === String(process.pid)) continue;
    for (const fd of namesIn(`/proc/${pid}/fd`)) noteIfWriting(`/proc/${pid}/fd/${fd}`, open);
    for (const [inode, name] of sharedMappings(pid)) mapped.add(inode).add(name);
  }
  return { open, mapped };
}

function noteIfWriting(link: string, open: Set<string>): void {
  try {
    // The permissions of the link itself say how the descriptor was opened.
    if ((lstatSync(link).mode & OWNER_WRITE) === 0) return;
    const { dev, ino } = statSync(link, { bigint: true });
    open.add(`${String(dev)}:${String(ino)}`);
  } catch {
    // closed meanwhile, or not ours to see
  }
}

function isOpenForWriting(pid: string, fd: string, stat: FileNumbers): boolean {
  try {
    const found = statSync(`/proc/${pid}/fd/${fd}`, { bigint: true });
    if (found.ino !== stat.ino || found.dev !== stat.dev) return false;
    const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1"))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & WRITE_FLAGS) !== 0;
  } catch {
    return false; // closed meanwhile, or not ours to see
  }
}

/**
 * The device is not compared: that of a mapping is another than a stat tells on btrfs and overlay. A mapping of another
 * file with the same number only makes a verdict wait.
 */
function isMappedForWriting(pid: string, path: BytePath, { ino }: FileNumbers): boolean {
  return sharedMappings(pid).some(([inode, name]) => inode === String(ino) || name === path);
}

/** Inode and path of each mapping of a process that is shared and writable; none when it ended or is not ours to see. */
function sharedMappings(pid: string): readonly (readonly [inode: string, name: string])[] {
  try {
    const maps = readFileSync(`/proc/${pid}/maps`, "latin1");
    return [...maps.matchAll(SHARED_WRITABLE)].map(([, inode = "", name = ""]) => [inode, name]);
  } catch {
    return [];
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
