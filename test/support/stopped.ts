/** A process that is held still: none of its threads runs on, not even one that was about to read. */
import { readdirSync, readFileSync } from "node:fs";
import { until } from "./program.js";

const LIMIT_MS = 10_000;

/**
 * Stops a process and waits until every thread of it stands. The signal alone is not enough: a thread that waits in a
 * read takes what is there when it is woken, and only then notices that it is to stop.
 */
export async function stopProcess(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  const folder = `/proc/${String(pid)}/task`;
  await until(`process ${String(pid)} stands still`, LIMIT_MS, () =>
    readdirSync(folder).every((thread) =>
      readFileSync(`${folder}/${thread}/stat`, "latin1")
        .replace(/^.*\) /s, "")
        .startsWith("T"),
    ),
  );
}
