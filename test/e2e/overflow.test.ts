/**
 * The kernel's queue of events runs over under a real daemon: its watcher is stopped for a moment, and more happens than
 * the queue holds. What was dropped is found by the look that the overflow starts.
 */
import { readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { inotifyCalls } from "../../src/base/native-inotify.js";
import { Sandbox, until } from "../support/program.js";
import { skip } from "../support/requirements.js";
import { SoakedDaemon } from "../support/soak/daemon.js";
import { sha256 } from "../support/soak/world.js";
import { stopProcess } from "../support/stopped.js";

const QUEUE_MAX = 100_000;
const LIMIT_MS = 40_000;
/** Files are looked at without a sign every five minutes; a write in place is seen by nothing else but its event. */
const SWEEP_MS = 300_000;

describe("a queue of events that ran over", () => {
  it("is known, and a write in place whose event was dropped is durable long before the next look at all files", async function () {
    const queue = Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "latin1"));
    if (queue > QUEUE_MAX) skip(this, `the kernel queues ${String(queue)} events here, which takes long to fill`);
    if (inotifyCalls() === undefined || process.env["HOLDFAST_NO_NATIVE"] === "1")
      skip(this, "koffi is not here, and without it an overflow is only guessed");
    await using sandbox = await Sandbox.create();
    const path = join(sandbox.data, "written-in-place");
    const busy = ["one", "two"].map((name) => join(sandbox.data, name));
    for (const name of [path, ...busy]) writeFileSync(name, "before");
    const daemon = new SoakedDaemon(sandbox, join(sandbox.home, "log"));
    const startMs = performance.now();
    daemon.begin();
    expect(await daemon.settle()).to.equal(undefined);

    const watcher = daemon.watcherPid ?? 0;
    await stopProcess(watcher);
    try {
      // The same event twice in a row would be one.
      for (let count = 0; count <= queue; count += 1) utimesSync(busy[count % 2] ?? path, count, count);
      writeFileSync(path, "after, and nobody heard");
    } finally {
      process.kill(watcher, "SIGCONT");
    }
    const known = /^holdfast_watch_rescans_total\{reason="overflow"\} [1-9]/m;
    await until("the overflow is known", LIMIT_MS, async () => known.test(await daemon.metrics()));
    const digest = sha256("after, and nobody heard");
    await until("it is durable", LIMIT_MS, async () => (await daemon.newestDigest(path)) === digest);
    expect(performance.now() - startMs).to.be.lessThan(SWEEP_MS);
    await daemon.end("SIGKILL");
  });
});
