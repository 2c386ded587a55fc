/** A process of its own that asks who removed a file in the folder that it is given, and prints what it learns. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import { pathFromText } from "../../src/base/paths.js";
import { Actors } from "../../src/monitor/watch/actors.js";

const [folder = ""] = process.argv.slice(2);
const file = join(folder, "file");
const LISTENS_WITHIN_MS = 10_000;

async function probe(): Promise<string | undefined> {
  await using actors = new Actors({ clock: systemClock, log: silentObserver.log });
  actors.watch(pathFromText(folder));
  for (let waitedMs = 0; !actors.isListening && waitedMs < LISTENS_WITHIN_MS; waitedMs += 5) await delay(5);
  writeFileSync(file, "here");
  execFileSync("rm", [file]);
  const [actor] = await actors.whoDid("removed", [pathFromText(file)]);
  return actor?.program;
}

process.stdout.write(JSON.stringify({ uid: process.geteuid?.(), program: await probe() }));
