/**
 * What the benchmarks share: a private place for the built program, timed commands, the daemon's events over its
 * socket, medians and percentiles, and the line that says on what machine the figures were taken.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { projectPath } from "../test/support/project.js";

/** `BENCH_PROGRAM` names another build than the one that is installed. */
const PROGRAM = process.env["BENCH_PROGRAM"] ?? projectPath("bin", "holdfast");
const READY_LIMIT_MS = 600_000;
const EVENTS_PATH = "/api/v1/backup/events";

/** A folder of its own with all that a run needs, gone afterwards. */
export class Workplace implements AsyncDisposable {
  readonly path: string;
  readonly environment: Readonly<Record<string, string>>;

  private constructor(path: string) {
    this.path = path;
    this.environment = {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      HOME: path,
      LANG: "C.UTF-8",
      NO_COLOR: "1",
      HOLDFAST_STATE_DIR: join(path, "state"),
      HOLDFAST_SOCKET: join(path, "api.sock"),
      HOLDFAST_CONFIG: join(path, "holdfast.yaml"),
    };
  }

  /** `parent` should be on the disk to be measured, not on tmpfs. */
  static async create(parent = process.env["BENCH_DIR"] ?? tmpdir()): Promise<Workplace> {
    return new Workplace(await mkdtemp(join(parent, "holdfast-bench-")));
  }

  at(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** Configuration with one source; JSON is YAML. */
  async configure(sourcePath: string, extra: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const config = { store: this.at("store"), sources: [{ name: "data", paths: [sourcePath] }], ...extra };
    await writeFile(this.at("holdfast.yaml"), JSON.stringify(config));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
}

export interface Timed {
  readonly seconds: number;
  readonly stdout: string;
}

/** Runs a program to its end and takes the wall time; throws with its words when it fails. */
export async function timed(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
  cwd?: string,
): Promise<Timed> {
  const [program = "", ...args] = command;
  const started = performance.now();
  const child = spawn(program, args, { env: environment, cwd, stdio: ["ignore", "pipe", "pipe"] });
  const out: Buffer[] = [];
  const words: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => out.push(part));
  child.stderr.on("data", (part: Buffer) => words.push(part));
  const [code] = (await once(child, "close")) as [number | null];
  const seconds = (performance.now() - started) / 1000;
  if (code !== 0)
    throw new Error(`${command.join(" ")} ended with ${String(code)}:\n${Buffer.concat(words).toString()}`);
  return { seconds, stdout: Buffer.concat(out).toString("utf8") };
}

/** What one command took. */
export interface Cost {
  readonly seconds: number;
  readonly processorSeconds: number;
  readonly peakBytes: number;
}

export interface CostOptions {
  readonly environment: Readonly<Record<string, string>>;
  readonly cwd?: string | undefined;
  /** A file that `time` may write to. */
  readonly note: string;
}

/** Runs a command under time(1), which knows its processor time and its peak. */
export async function costOf(command: readonly string[], { environment, cwd, note }: CostOptions): Promise<Cost> {
  const format = "%U %S %M";
  const { seconds } = await timed(["/usr/bin/time", "-o", note, "-f", format, ...command], environment, cwd);
  const [user = NaN, system = NaN, kib = NaN] = (await readFile(note, "utf8")).trim().split(" ").map(Number);
  return { seconds, processorSeconds: user + system, peakBytes: kib * 2 ** 10 };
}

/** The command line of the built program, as a shell has it: node's own options are its business. */
export function holdfastCommand(...args: string[]): string[] {
  return [PROGRAM, ...args];
}

/** A daemon that runs while the benchmark lasts. */
export class Daemon implements AsyncDisposable {
  readonly pid: number;
  readonly #end: () => Promise<void>;

  private constructor(pid: number, end: () => Promise<void>) {
    this.pid = pid;
    this.#end = end;
  }

  /** Starts it and waits until every source is protected and nothing is pending. */
  static async start(workplace: Workplace): Promise<Daemon> {
    const [program = "", ...args] = holdfastCommand("daemon");
    const child = spawn(program, args, { env: workplace.environment, stdio: ["ignore", "ignore", "inherit"] });
    const closed = once(child, "close");
    const end = async (): Promise<void> => {
      child.kill("SIGTERM");
      await closed;
    };
    const started = performance.now();
    while (!(await isSettled(workplace))) {
      if (child.exitCode !== null) throw new Error("the daemon ended while it started; see its words above");
      if (performance.now() - started > READY_LIMIT_MS) {
        await end();
        throw new Error("the daemon did not get ready in time");
      }
      await pause(250);
    }
    return new Daemon(child.pid ?? 0, end);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}

async function isSettled(workplace: Workplace): Promise<boolean> {
  try {
    const { stdout } = await timed(holdfastCommand("status", "--json"), workplace.environment);
    const { daemon, sources } = JSON.parse(stdout) as {
      daemon: boolean;
      sources: readonly { state: string; pending_changes: number; newest_commit_at: string | null }[];
    };
    return daemon && sources.every((each) => each.state === "protected" && each.pending_changes === 0);
  } catch {
    return false; // not there yet; the caller has a limit
  }
}

export interface SeenEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** When it reached us, on this process's steady clock, ms. */
  readonly atMs: number;
}

/** Calls back for each event of the daemon until the signal aborts. Resolves when the stream is open. */
export async function followEvents(
  workplace: Workplace,
  signal: AbortSignal,
  onEvent: (event: SeenEvent) => void,
): Promise<void> {
  const socketPath = workplace.at("api.sock");
  const stream = request({ socketPath, path: EVENTS_PATH, headers: { accept: "text/event-stream" }, signal });
  stream.on("error", () => undefined); // the abort at the end
  stream.end();
  const [answer] = (await once(stream, "response")) as [IncomingMessage];
  if (answer.statusCode !== 200) throw new Error(`${EVENTS_PATH} answered ${String(answer.statusCode)}`);
  answer.on("error", () => undefined);
  const lines = createInterface(answer);
  lines.on("error", () => undefined); // it repeats the answer's
  lines.on("line", (line) => {
    if (!line.startsWith("data:")) return;
    const atMs = performance.now();
    const { name, data } = JSON.parse(line.slice("data:".length)) as Omit<SeenEvent, "atMs">;
    onEvent({ name, data, atMs });
  });
}

/** The value below which a share (0 to 1) of the values lies; NaN for none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** p50, p95, p99 and the worst, in ms. */
export function latencyText(valuesMs: readonly number[]): string {
  const show = (ms: number): string => ms.toFixed(1).padStart(8);
  const shares = [0.5, 0.95, 0.99, 1].map((share) => show(percentile(valuesMs, share)));
  return `p50${shares[0] ?? ""}  p95${shares[1] ?? ""}  p99${shares[2] ?? ""}  max${shares[3] ?? ""}  ms   (${String(valuesMs.length)} files)`;
}

/** Number and bytes of all regular files below a folder. By `find`, which knows names of any bytes. */
export async function folderSize(path: string): Promise<{ readonly files: number; readonly bytes: number }> {
  const { stdout } = await timed(["find", path, "-type", "f", "-printf", "%s\\n"], { PATH: process.env["PATH"] ?? "" });
  const sizes = stdout.split("\n").filter((line) => line !== "");
  return { files: sizes.length, bytes: sizes.reduce((sum, size) => sum + Number(size), 0) };
}

/** Waits; benchmarks own no fake clock. */
export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

/** `--name value` of the command line as a whole number. */
export function numberOption(name: string, fallback: number): number {
  const index = process.argv.indexOf(`--${name}`);
  const value = index < 0 ? fallback : Number(process.argv[index + 1]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number above 0`);
  return value;
}

/** Makes `count` files of `sizeBytes` pseudo-random text each, a hundred to a folder; gives their paths. */
export async function makeFiles(root: string, count: number, sizeBytes: number): Promise<string[]> {
  const paths: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const folder = join(root, `d${String(Math.floor(index / 100)).padStart(4, "0")}`);
    if (index % 100 === 0) await mkdir(folder, { recursive: true });
    const path = join(folder, `f${String(index).padStart(6, "0")}.txt`);
    await writeFile(path, fileText(index, sizeBytes));
    paths.push(path);
  }
  return paths;
}

/** Text that differs for each seed, compresses about as prose does, and is the same in every run. */
export function fileText(seed: number, sizeBytes: number): string {
  let state = (seed + 1) * 2_654_435_761;
  const words: string[] = [];
  for (let bytes = 0; bytes <= sizeBytes; bytes += 7) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    words.push((state >>> 12).toString(36).padStart(6, "x").slice(0, 6));
  }
  return words.join(" ").slice(0, sizeBytes);
}

/** What the figures were taken on, for the first line of a report. */
export async function machineText(): Promise<string> {
  const model = cpus()[0]?.model ?? "unknown processor";
  const version = (JSON.parse(await readFile(projectPath("package.json"), "utf8")) as { version: string }).version;
  const memory = `${(totalmem() / 2 ** 30).toFixed(1)} GiB`;
  return `holdfast ${version}, Node ${process.version}, Linux ${release()}, ${String(cpus().length)} x ${model}, ${memory}`;
}

/** Prints one line of the report. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
