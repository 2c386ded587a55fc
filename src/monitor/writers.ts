/**
 * Whether somebody has a file open for writing (/proc/PID/fd) or mapped so that stores reach it (/proc/PID/maps). Of
 * other users' processes only root sees anything.
 */
import { readFileSync, readdirSync, statSync } from "node:fs";
import type { BytePath } from "../base/paths.js";
import type { StatTuple } from "../engine/types.js";

type FileNumbers = Pick<StatTuple, "dev" | "ino">;

/** O_WRONLY and O_RDWR in the flags of fdinfo (octal). */
const WRITE_FLAGS = 0o3;
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
  try {
    for (const [, inode, name] of readFileSync(`/proc/${pid}/maps`, "latin1").matchAll(SHARED_WRITABLE))
      if (inode === String(ino) || name === path) return true;
  } catch {
    // ended meanwhile, or not ours to see
  }
  return false;
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
