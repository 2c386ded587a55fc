/**
 * What the system says of a process. Numbers of processes are given again, in a container often to the same program at
 * each start: number and start together tell one from a later one.
 */
import { readFileSync } from "node:fs";

/** Flag of kernel threads in /proc/PID/stat (PF_KTHREAD). */
const KERNEL_THREAD = 0x0020_0000;

/** What /proc/PID/stat says of a process; undefined: there is none, or it is not to be read. */
export interface ProcessStat {
  readonly parentPid: number;
  readonly isKernelThread: boolean;
  /** Clock ticks from the start of the system to that of the process. */
  readonly startTicks: number;
}

/** Reads /proc/PID/stat. */
export function processStat(pid: number, procFolder = "/proc"): ProcessStat | undefined {
  try {
    const text = readFileSync(`${procFolder}/${String(pid)}/stat`, "latin1");
    // The name stands in brackets and may hold anything, brackets too; field 3 (the state) comes behind the last.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [parentPid, flags, startTicks] = [fields[1], fields[6], fields[19]].map(Number);
    if (parentPid === undefined || flags === undefined || startTicks === undefined) return undefined;
    if (![parentPid, flags, startTicks].every(Number.isSafeInteger)) return undefined;
    return { parentPid, isKernelThread: (flags & KERNEL_THREAD) !== 0, startTicks };
  } catch {
    return undefined;
  }
}
