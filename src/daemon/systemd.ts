/**
 * What the daemon tells systemd and what it gets from it: sd_notify messages (ready, status, reloading, stopping,
 * watchdog) and sockets that systemd opened for us. Away from systemd all of it does nothing. A message that cannot be
 * sent is logged and never stops the daemon: systemd decides what to make of the silence.
 */
import type { Clock, Timer } from "../base/clock.js";
import { messageOf } from "../base/errors.js";
import { nativeCalls } from "../base/native.js";
import type { Logger } from "../base/observe.js";
import { runProgram } from "../base/spawn.js";

/** Longer status lines are cut, characters. */
const STATUS_CHARACTERS_MAX = 250;
/** Messages that may wait for the fallback program; more are dropped (a beat follows a beat anyway). */
const PENDING_MAX = 16;
const NOTIFY_PROGRAM_TIMEOUT_MS = 5000;
/** The first file descriptor that systemd hands over. */
const FIRST_LISTEN_FD = 3;

/** The variables of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3) are read from and taken out of it. */
export type Environment = Record<string, string | undefined>;

export interface NotifierOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** `process.env`; what is read is removed, so that no child takes it for its own. */
  readonly environment: Environment;
  readonly pid: number;
  /** Sends one datagram to the socket; tests replace it. */
  readonly send?: (socketPath: string, message: string) => Promise<void>;
}

/** Speaks sd_notify. Messages go out in order; every method returns at once. */
export class SystemdNotifier implements AsyncDisposable {
  readonly #options: NotifierOptions;
  readonly #socketPath: string | undefined;
  readonly #watchdogMs: number | undefined;
  readonly #send: (socketPath: string, message: string) => Promise<void>;
  #tail: Promise<void> = Promise.resolve();
  #pending = 0;
  #beat: Timer | undefined;
  #isWithholding = false;

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.#send = options.send ?? sendNotification;
    const { environment, pid } = options;
    this.#socketPath = take(environment, "NOTIFY_SOCKET");
    const watchdogUsec = Number(take(environment, "WATCHDOG_USEC") ?? NaN);
    const watchdogPid = take(environment, "WATCHDOG_PID");
    const isForUs = watchdogPid === undefined || watchdogPid === String(pid);
    this.#watchdogMs = isForUs && watchdogUsec > 0 ? watchdogUsec / 1000 : undefined;
  }

  /** True when a service manager listens. */
  get isListenedTo(): boolean {
    return this.#socketPath !== undefined;
  }

  /** The daemon serves (at start, and again at the end of a reload); without a status the one before stays. */
  ready(status?: string): void {
    this.#notify(status === undefined ? "READY=1" : `READY=1\nSTATUS=${oneLine(status)}`);
  }

  /** One line for `systemctl status`. */
  status(status: string): void {
    this.#notify(`STATUS=${oneLine(status)}`);
  }

  /** A reload begins; `ready` without a status ends it. */
  reloading(): void {
    // systemd compares with CLOCK_MONOTONIC, which is what hrtime reads on Linux.
    const monotonicUsec = process.hrtime.bigint() / 1000n;
    this.#notify(`RELOADING=1\nMONOTONIC_USEC=${monotonicUsec.toString()}`);
  }

  /** The daemon ends; the watchdog rests from now on, TimeoutStopSec= takes its place. */
  stopping(status: string): void {
    this.#beat?.cancel();
    this.#notify(`STOPPING=1\nSTATUS=${oneLine(status)}`);
  }

  /**
   * Beats twice per watchdog period from this thread's event loop, and only while `isAdvancing()` says that queued work
   * moves: a loop that spins and a queue that stands still both end in a restart by systemd. Does nothing when the unit
   * has no WatchdogSec=.
   */
  startWatchdog(isAdvancing: () => boolean): void {
    if (this.#watchdogMs === undefined) return;
    this.#beat?.cancel();
    this.#beat = this.#options.clock.every(this.#watchdogMs / 2, () => this.#beatIf(isAdvancing()));
  }

  /** Stops the watchdog's beat and waits for messages under way. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#beat?.cancel();
    await this.#tail;
  }

  #beatIf(isAdvancing: boolean): void {
    if (isAdvancing) this.#notify("WATCHDOG=1");
    else if (!this.#isWithholding)
      this.#options.log.error("watchdog.withheld", { reason: "queued work does not advance" });
    this.#isWithholding = !isAdvancing;
  }

  #notify(message: string): void {
    const socketPath = this.#socketPath;
    if (socketPath === undefined || this.#pending >= PENDING_MAX) return;
    this.#pending += 1;
    this.#tail = this.#tail.then(async () => {
      try {
        await this.#send(socketPath, message);
      } catch (error) {
        this.#options.log.warn("systemd.notify_failed", { message: messageOf(error) });
      } finally {
        this.#pending -= 1;
      }
    });
  }
}

/**
 * Sends by a system call where koffi is installed. Else by the program systemd-notify, whose messages systemd takes
 * only with `NotifyAccess=all` (see docs/running.md).
 */
async function sendNotification(socketPath: string, message: string): Promise<void> {
  const native = nativeCalls();
  if (native !== undefined) {
    native.sendDatagram(socketPath, message);
    return;
  }
  const { exitCode, stderr } = await runProgram(["systemd-notify", ...message.split("\n")], {
    timeoutMs: NOTIFY_PROGRAM_TIMEOUT_MS,
    signal: AbortSignal.timeout(NOTIFY_PROGRAM_TIMEOUT_MS),
    env: { NOTIFY_SOCKET: socketPath },
  });
  if (exitCode !== 0) throw new Error(`systemd-notify ended with ${String(exitCode)}: ${stderr.trim()}`);
}

/** A listening socket that systemd opened; `server.listen({ fd })` takes it. */
export interface InheritedSocket {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit; "unknown" when it has none. */
  readonly name: string;
}

/** The sockets meant for this process, in the order of the socket unit; empty when not started by a socket unit. */
export function takeInheritedSockets(environment: Environment, pid: number): InheritedSocket[] {
  const listenPid = take(environment, "LISTEN_PID");
  const count = Number(take(environment, "LISTEN_FDS") ?? 0);
  const names = (take(environment, "LISTEN_FDNAMES") ?? "").split(":");
  if (listenPid !== String(pid) || !Number.isInteger(count) || count < 0) return [];
  return Array.from({ length: count }, (_, index) => {
    const name = names[index] ?? "";
    return { fd: FIRST_LISTEN_FD + index, name: name === "" ? "unknown" : name };
  });
}

function take(environment: Environment, name: string): string | undefined {
  const value = environment[name];
  Reflect.deleteProperty(environment, name);
  return value === "" ? undefined : value;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").slice(0, STATUS_CHARACTERS_MAX);
}
