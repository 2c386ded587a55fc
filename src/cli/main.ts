/** The entry of the `holdfast` command: hands the command line to the program and ends with its exit code. */
import { systemClock } from "../base/clock.js";
import { EXIT } from "../base/error-codes.js";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { holdfastVersion } from "../daemon/version.js";
import { watchOutput } from "./output.js";
import { commandWord, runCommandLine } from "./program.js";

/** Commands that handle signals by themselves, and whose work is not what they print. */
const LONG_RUNNING = new Set(["daemon", "protect"]);

const args = process.argv.slice(2);
const stop = new AbortController();
const isLongRunning = LONG_RUNNING.has(commandWord(args));
if (!isLongRunning) {
  const interrupt = (): void => {
    if (stop.signal.aborted) process.exit(EXIT.interrupted); // the second Ctrl-C does not wait
    stop.abort(new HoldfastError("INTERRUPTED", "interrupted"));
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  process.on("SIGHUP", interrupt); // the terminal has gone: what was mounted is unmounted
}
watchOutput((end) => {
  // Who protects goes on, whether anybody listens or not.
  if (!isLongRunning) process.exit(end === "unread" ? EXIT.ok : EXIT.failed);
});
const exitCode = await runCommandLine(args, {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  clock: systemClock,
  signal: stop.signal,
  isTerminal: process.stdin.isTTY && process.stdout.isTTY,
  version: await holdfastVersion(),
});
process.exitCode = exitCode;
// Output that is still on its way (a pipe) is written before the process ends. What could not be written is told in the
// turn after this, and ends the process then; a reader that has gone changes nothing.
process.stdout.write("", (error) => {
  if (error instanceof Error && errnoOf(error) !== "EPIPE") setImmediate(() => process.exit(exitCode));
  else process.exit(exitCode);
});
