/**
 * What the daemon costs while nothing happens: `node dist/bench/idle.js [--files N] [--seconds N] [--rest N]`. Memory
 * and processor time of the daemon and its children with 200,000 files protected: at the peak of the first backup, and
 * over a minute of rest after it (which begins `rest` seconds later); beside the goals. PSS counts a page that several
 * processes share once, RSS once for each; "private" is what no file backs.
 */
import { readFile, readdir } from "node:fs/promises";
import { Daemon, Workplace, machineText, makeFiles, numberOption, pause, print } from "./harness.js";

const FILE_BYTES = 2000;
/** Clock ticks of /proc/PID/stat a second: USER_HZ, 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** After the first backup the daemon ends its threads and tidies up; the idle minute begins later. */
const REST_SECONDS = 60;
const SAMPLE_EVERY_MS = 500;
const IDLE_PERCENT_GOAL = 0.5;
const IDLE_BYTES_GOAL = 150e6;
const PEAK_BYTES_GOAL = 200e6;

async function main(): Promise<void> {
  const files = numberOption("files", 200_000);
  const seconds = numberOption("seconds", 60);
  const restSeconds = numberOption("rest", REST_SECONDS);
  await using workplace = await Workplace.create();
  await makeFiles(workplace.at("data"), files, FILE_BYTES);
  await workplace.configure(workplace.at("data"));
  const startedMs = performance.now();
  using peak = new PeakWatch();
  await using daemon = await Daemon.start(workplace);
  print(await machineText());
  print(`protected ${String(files)} files in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  print(`peak of the first backup   PSS ${megabytes(peak.pssBytes)} (goal ${megabytes(PEAK_BYTES_GOAL)})`);
  await pause(restSeconds * 1000);
  const before = await usageOf(daemon.pid);
  await pause(seconds * 1000);
  const after = await usageOf(daemon.pid);
  const percent = ((after.cpuSeconds - before.cpuSeconds) / seconds) * 100;
  print(`idle for ${String(seconds)} s`);
  print(`  processor   ${percent.toFixed(2)} % of one core (goal ${String(IDLE_PERCENT_GOAL)} %)`);
  print(`  memory      PSS ${megabytes(after.pssBytes)} (goal ${megabytes(IDLE_BYTES_GOAL)})`);
  print(`              RSS ${megabytes(after.residentBytes)}, private ${megabytes(after.privateBytes)}`);
  for (const { name, pssBytes, residentBytes, privateBytes } of after.processes) {
    const each = `PSS ${megabytes(pssBytes)}, RSS ${megabytes(residentBytes)}, private ${megabytes(privateBytes)}`;
    print(`    ${name.padEnd(8)}  ${each}`);
  }
}

interface Memory {
  readonly pssBytes: number;
  readonly residentBytes: number;
  /** Proportional share of anonymous memory. */
  readonly privateBytes: number;
}

interface Usage extends Memory {
  readonly cpuSeconds: number;
  readonly processes: readonly (Memory & { readonly name: string })[];
}

/** Samples the memory of the daemon that this process has started and of its children, until it is disposed. */
class PeakWatch implements Disposable {
  pssBytes = 0;
  readonly #timer = setInterval(() => void this.#sample(), SAMPLE_EVERY_MS);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  async #sample(): Promise<void> {
    for (const pid of await familyOf(process.pid)) {
      const words = (await readFile(`/proc/${String(pid)}/cmdline`, "utf8").catch(() => "")).split("\0");
      if (!words.includes("daemon")) continue; // the harness asks for the status now and then
      const each = await Promise.all((await familyOf(pid)).map((member) => memoryOf(member)));
      this.pssBytes = Math.max(this.pssBytes, sumOf(each, "pssBytes"));
    }
  }
}

/** Sums over a process and all below it. */
async function usageOf(pid: number): Promise<Usage> {
  const pids = await familyOf(pid);
  const memories = await Promise.all(pids.map((member) => memoryOf(member)));
  const ticks = await Promise.all(pids.map((member) => ticksOf(member)));
  return {
    cpuSeconds: ticks.reduce((sum, each) => sum + each, 0) / TICKS_PER_SECOND,
    pssBytes: sumOf(memories, "pssBytes"),
    residentBytes: sumOf(memories, "residentBytes"),
    privateBytes: sumOf(memories, "privateBytes"),
    processes: memories.map((memory, index) => ({ ...memory, name: index === 0 ? "daemon" : "watcher" })),
  };
}

function sumOf(memories: readonly Memory[], field: keyof Memory): number {
  return memories.reduce((sum, memory) => sum + memory[field], 0);
}

/** Nothing of a process that has ended meanwhile. */
async function memoryOf(pid: number): Promise<Memory> {
  const rollup = await readFile(`/proc/${String(pid)}/smaps_rollup`, "utf8").catch(() => "");
  const bytesOf = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? 0) * 1024;
  return { pssBytes: bytesOf("Pss"), residentBytes: bytesOf("Rss"), privateBytes: bytesOf("Pss_Anon") };
}

async function ticksOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${String(pid)}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from field 3 on; utime is 14, stime 15
  return Number(fields[11]) + Number(fields[12]);
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

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

await main();
