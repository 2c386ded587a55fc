/**
 * Backups of what a daemon watches: `node dist/bench/watched.js [--files N] [--runs N]`. From the request on the socket
 * to the finished job, with nothing changed and right after changes; beside a forced walk, and the whole command.
 */
import { appendFile } from "node:fs/promises";
import { ApiClient } from "../src/api/client.js";
import type { BackupReport, JobDocument } from "../src/api/services.js";
import { socketTransport } from "../src/api/socket-transport.js";
import {
  Daemon,
  Workplace,
  holdfastCommand,
  latencyText,
  machineText,
  makeFiles,
  median,
  numberOption,
  pause,
  print,
  timed,
} from "./harness.js";

const FILE_BYTES = 2000;
const GOAL_MS = 50;
/** Backups begin at odd moments: the watcher's own pulse comes every two seconds. */
const PAUSE_MS = 437;
const CHANGES = [1, 10, 100, 1000];
/** Long enough for everything to be durable before the next round. */
const REST_MS = 3000;

interface Made {
  readonly ms: number;
  readonly report: BackupReport;
}

async function main(): Promise<void> {
  const files = numberOption("files", 100_000);
  const runs = numberOption("runs", 20);
  await using workplace = await Workplace.create();
  const paths = await makeFiles(workplace.at("data"), files, FILE_BYTES);
  await workplace.configure(workplace.at("data"));
  await using _daemon = await Daemon.start(workplace);
  const api = new ApiClient(socketTransport(workplace.at("api.sock")));
  const backUp = async (rescan = false): Promise<Made> => await timedBackup(api, rescan);
  print(await machineText());
  const first = await backUp();
  print(`${String(files)} files; the first backup walks (${first.report.sources[0]?.walked_because ?? "?"})`);
  const same: number[] = [];
  let walked = 0;
  for (let run = 0; run < runs; run += 1) {
    await pause(PAUSE_MS + run * 61);
    const { ms, report } = await backUp();
    same.push(ms);
    if (report.sources[0]?.walked !== false) walked += 1;
  }
  print(
    `nothing changed      ${latencyText(same)}; goal ${String(GOAL_MS)} ms, nothing walked; walked ${String(walked)}`,
  );
  const forced = await Promise.all([backUp(true)]);
  print(`forced walk          ${median(forced.map(({ ms }) => ms)).toFixed(0)} ms`);
  const commands: number[] = [];
  for (let run = 0; run < 5; run += 1) {
    await pause(PAUSE_MS);
    commands.push((await timed(holdfastCommand("create", "--quiet"), workplace.environment)).seconds * 1000);
  }
  print(`the whole command    ${median(commands).toFixed(0)} ms (holdfast create, nothing changed)`);
  for (const count of CHANGES) {
    for (let index = 0; index < count; index += 1)
      await appendFile(paths[(index * 97) % files] ?? "", `${String(count)}\n`);
    const { ms, report } = await backUp();
    const { files_changed: changed, walked: isWalked } = report.sources[0] ?? {};
    print(
      `${String(count).padStart(4)} changed at once  ${ms.toFixed(0)} ms (${String(changed)} in it, walked: ${String(isWalked)})`,
    );
    await pause(REST_MS);
  }
}

async function timedBackup(api: ApiClient, rescan: boolean): Promise<Made> {
  const signal = AbortSignal.timeout(600_000);
  const startedMs = performance.now();
  const job = await api.post<JobDocument>("/backups", { type: "incremental", rescan }, signal);
  const done = await api.waitForJob(job, signal);
  return { ms: performance.now() - startedMs, report: done.result as BackupReport };
}

await main();
