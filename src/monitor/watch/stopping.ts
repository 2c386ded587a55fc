/**
 * Stops a process (SIGSTOP) that was seen to attack files, where that is configured. Never the init process, a kernel
 * thread, holdfast itself, what started it or what it started; and never a process that only has the number of the one
 * that was seen: its start time must be the same.
 */
import { messageOf } from "../../base/errors.js";
import type { Actor } from "../../base/events.js";
import { signalHeld } from "../../base/native-process.js";
import { processStat } from "../../base/process-stat.js";

/** What became of it; `why` is for people. */
export type StopOutcome = { readonly is: "stopped" } | { readonly is: "left"; readonly why: string };

/** Processes above each other that are looked at; deeper there is none of ours. */
const ANCESTORS_MAX = 64;

/** Stops the process of an actor, if it still is the same and may be stopped. */
export function stopProcess({ pid, startTicks, tool }: Actor): StopOutcome {
  if (tool !== undefined) return left(`it works for ${tool}`);
  if (startTicks === undefined) return left("it had ended before anybody could look");
  if (pid <= 1) return left("it is the init process");
  if (isOwn(pid)) return left("holdfast depends on it");
  try {
    const isSame = (): boolean => {
      const stat = processStat(pid);
      return stat?.startTicks === startTicks && !stat.isKernelThread;
    };
    const isStopped = signalHeld(pid, "SIGSTOP", isSame);
    if (isStopped === undefined) return left("the package koffi is not installed");
    return isStopped ? { is: "stopped" } : left("it has ended");
  } catch (error) {
    return left(messageOf(error));
  }
}

function left(why: string): StopOutcome {
  return { is: "left", why };
}

/** This process, what it runs below, and what runs below it. */
function isOwn(pid: number): boolean {
  return pid === process.pid || ancestorsOf(process.pid).includes(pid) || ancestorsOf(pid).includes(process.pid);
}

function ancestorsOf(pid: number): readonly number[] {
  const found: number[] = [];
  for (let above = processStat(pid)?.parentPid; above !== undefined && above > 0 && found.length < ANCESTORS_MAX;) {
    found.push(above);
    above = processStat(above)?.parentPid;
  }
  return found;
}
