/**
 * Signals to a process that cannot meet another one of the same number: the process is held by a descriptor (pidfd)
 * while the caller looks whether it is the one that is meant. Through the optional package koffi.
 */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { bindNative, NativeError, systemCall } from "./koffi.js";

// Numbers of the Linux ABI; the same on x64 and arm64.
const SYS_PIDFD_SEND_SIGNAL = 424;
const SYS_PIDFD_OPEN = 434;

/**
 * Sends a signal to a process if `isMeant` holds while it cannot end unnoticed. False: it did not hold, or the process
 * is gone. Throws an Error with the system's `code` where it is not allowed, and undefined is returned where the system
 * has no such calls.
 */
export function signalHeld(pid: number, signal: NodeJS.Signals, isMeant: () => boolean): boolean | undefined {
  const calls = processCalls();
  if (calls === undefined) return undefined;
  const fd = calls.call(SYS_PIDFD_OPEN, pid, 0, 0);
  if (fd === undefined) return false;
  try {
    return isMeant() && calls.call(SYS_PIDFD_SEND_SIGNAL, fd, constants.signals[signal], 0) !== undefined;
  } finally {
    closeSync(fd);
  }
}

interface ProcessCalls {
  /** Undefined: there is no such process (any more). */
  call(number: number, first: number, second: number, third: number): number | undefined;
}

function processCalls(): ProcessCalls | undefined {
  return bindNative((koffi) => {
    const syscall = systemCall(
      koffi,
      "pidfd",
      "long syscall(long number, long first, long second, long third, long fourth)",
    );
    return {
      call: (number, first, second, third) => {
        try {
          return syscall(number, first, second, third, 0);
        } catch (error) {
          if (error instanceof NativeError && error.code === "ESRCH") return undefined;
          throw error;
        }
      },
    };
  });
}
