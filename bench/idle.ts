/**
 * What the daemon costs while nothing happens: `node dist/bench/idle.js [--files N] [--seconds N]`. Memory (resident,
 * and the peak since the start) and processor time of the daemon and its children over a minute, with 100,000 files
 * protected.
 */
import { readFile, readdir } from "node:fs/promises";
import { Daemon, Workplace, machineText, makeFiles, numberOption, pause, print } from "./harness.js";

const FILE_BYTES = 2000;
/** Clock ticks of /proc/PID/stat a second: USER_HZ, 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** After the first backup the daemon tidies up; the idle minute begins later. */
const REST_MS = 15_000;

async function main(): Promise<void> {
  const files = numberOption("files", 100_000);
  const seconds = numberOption("seconds", 60);
  await using workplace = await Workplace.create();
  await makeFiles(workplace.at("data"), files, FILE_BYTES);
  await workplace.configure(workplace.at("data"));
  const startedMs = performance.now();
  await using daemon = await Daemon.start(workplace);
  print(await machineText());
  print(`protected ${String(files)} files in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  await pause(REST_MS);
  const before = await usageOf(daemon.pid);
  await pause(seconds * 1000);
  const after = await usageOf(daemon.pid);
  const share = (after.cpuSeconds - before.cpuSeconds) / seconds;
  print(`idle for ${String(seconds)} s: ${(share * 100).toFixed(2)} % of one core`);
  print(`resident ${mebibytes(after.residentBytes)} (peak of the start ${mebibytes(after.peakBytes)})`);
  print(`processes ${String(after.processes)}`);
}

interface Usage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly peakBytes: number;
  readonly processes: number;
}

/** Sums over a process and all below it. */
async function usageOf(pid: number): Promise<Usage> {
  const pids = await familyOf(pid);
  const each = await Promise.all(pids.map((member) => usageOfOne(member)));
  return {
    cpuSeconds: each.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    residentBytes: each.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
    peakBytes: each.reduce((sum, { peakBytes }) => sum + peakBytes, 0),
    processes: pids.length,
  };
}

async function usageOfOne(pid: number): Promise<Usage> {
  const stat = await readFile(`/proc/${String(pid)}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from field 3 on; utime is 14, stime 15
  const status = await readFile(`/proc/${String(pid)}/status`, "utf8");
  const kibibytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    residentBytes: kibibytes("VmRSS") * 1024,
    peakBytes: kibibytes("VmHWM") * 1024,
    processes: 1,
  };
}

async function familyOf(pid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of (await readdir("/proc")).filter((each) => /^\d+$/.test(each))) {
    const stat = await readFile(`/proc/${name}/stat`, "utf8").catch(() => "");
    const parent = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
    if (parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const family = [pid];
  for (let index = 0; index < family.length; index += 1) {
    for (const [child, parent] of parents) if (parent === family[index]) family.push(child);
  }
  return family;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

await main();
