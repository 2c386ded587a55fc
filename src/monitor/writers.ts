/** Whether somebody has a file open for writing, by /proc/PID/fd. Of other users' processes only root sees anything. */
import { readFileSync, readdirSync, statSync } from "node:fs";
import type { StatTuple } from "../engine/types.js";

/** O_WRONLY and O_RDWR in the flags of fdinfo (octal). */
const WRITE_FLAGS = 0o3;

/** True when a process other than ours holds the inode open for writing. */
export function hasWriter(stat: Pick<StatTuple, "dev" | "ino">): boolean {
  for (const pid of namesIn("/proc")) {
    if (!/^\d+$/.test(pid) || pid === String(process.pid)) continue;
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      if (isOpenForWriting(pid, fd, stat)) return true;
    }
  }
  return false;
}

function isOpenForWriting(pid: string, fd: string, stat: Pick<StatTuple, "dev" | "ino">): boolean {
  try {
    const found = statSync(`/proc/${pid}/fd/${fd}`, { bigint: true });
    if (found.ino !== stat.ino || found.dev !== stat.dev) return false;
    const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "latin1"))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & WRITE_FLAGS) !== 0;
  } catch {
    return false; // closed meanwhile, or not ours to see
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
