/**
 * Drives the built program as a user would: runs `holdfast` commands and daemons as separate processes, each in its
 * own private home, state folder, store and socket, so that tests never meet each other or the machine's own files.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/** What `bin/holdfast` starts, where this build has put it together; else the compiled module. */
const BUILT = fileURLToPath(new URL("../../app/holdfast.js", import.meta.url));
const MAIN = existsSync(BUILT) ? BUILT : fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const COMMAND_TIMEOUT_MS = 60_000;
const START_TIMEOUT_MS = 20_000;

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as JSON; throws when it is none. */
  json(): unknown;
}

/** A private place for one test: folders, configuration, commands and at most one daemon. */
export class Sandbox implements AsyncDisposable {
  readonly home: string;
  /** A folder to protect. */
  readonly data: string;
  readonly store: string;
  readonly state: string;
  readonly socket: string;
  readonly configPath: string;
  #daemon: DaemonProcess | undefined;
  /** Whom the program runs as; undefined: this process's own user. */
  readonly #userId: number | undefined;

  private constructor(home: string, userId: number | undefined) {
    this.home = home;
    this.#userId = userId;
    this.data = join(home, "data");
    this.store = join(home, "store");
    this.state = join(home, "state");
    this.socket = join(home, "api.sock");
    this.configPath = join(home, "holdfast.yaml");
  }

  /** `parent`: where it lies, the temporary folder unless told. `userId`: whom the program runs as; only root can. */
  static async create(options: { readonly parent?: string; readonly userId?: number } = {}): Promise<Sandbox> {
    const home = await mkdtemp(join(options.parent ?? tmpdir(), "holdfast-e2e-"));
    const sandbox = new Sandbox(home, options.userId);
    await mkdir(sandbox.data);
    await sandbox.configure({});
    await sandbox.own();
    return sandbox;
  }

  /** Gives everything in the sandbox to the program's user. */
  async own(): Promise<void> {
    if (this.#userId === undefined) return;
    execFileSync("chown", ["-R", `${String(this.#userId)}:${String(this.#userId)}`, this.home]);
    await Promise.resolve();
  }

  /** What node is given to run a command of the program. */
  commandLine(...args: string[]): string[] {
    return [MAIN, ...args];
  }

  get environment(): Record<string, string> {
    return {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      HOME: this.home,
      LANG: "C.UTF-8",
      NO_COLOR: "1",
      HOLDFAST_STATE_DIR: this.state,
      HOLDFAST_SOCKET: this.socket,
      HOLDFAST_CONFIG: this.configPath,
      XDG_DATA_HOME: join(this.home, ".local/share"),
    };
  }

  /** Writes the configuration: the store, one source over `data`, and whatever is given (JSON is YAML). */
  async configure(
    extra: Readonly<Record<string, unknown>>,
    source: Readonly<Record<string, unknown>> = {},
  ): Promise<void> {
    const config = { store: this.store, sources: [{ name: "data", paths: [this.data], ...source }], ...extra };
    await writeFile(this.configPath, JSON.stringify(config, undefined, 2));
  }

  /** Runs one command to its end. */
  async run(...args: string[]): Promise<CommandResult> {
    return await runCommand(args, this.environment, this.#userId);
  }

  /** Runs a command that must succeed and gives its `--json` document. */
  async json<T>(...args: string[]): Promise<T> {
    const result = await this.run(...args, "--json");
    if (result.exitCode !== 0)
      throw new Error(`holdfast ${args.join(" ")}: exit ${String(result.exitCode)}\n${result.stderr}${result.stdout}`);
    return result.json() as T;
  }

  /** Starts the daemon and waits until it answers and its sources are protected. */
  async start(...args: string[]): Promise<DaemonProcess> {
    const daemon = new DaemonProcess(["daemon", ...args], this.environment, this.#userId);
    this.#daemon = daemon;
    await until("the daemon protects its sources", START_TIMEOUT_MS, async () => {
      if (daemon.exitCode !== undefined)
        throw new Error(`the daemon ended with ${String(daemon.exitCode)}:\n${daemon.output}`);
      return await this.isProtecting();
    });
    return daemon;
  }

  /** Whether a daemon answers and has looked at all its sources. */
  async isProtecting(): Promise<boolean> {
    if (!existsSync(this.socket)) return false;
    const status = await this.run("status", "--json");
    if (status.exitCode !== 0) return false;
    const { daemon: isDaemon, sources } = status.json() as {
      daemon: boolean;
      sources: { state: string; pending_changes: number }[];
    };
    // Before the daemon listens, `status` answers by itself.
    if (!isDaemon) return false;
    return sources.every((source) => source.state !== "scanning" && source.pending_changes === 0);
  }

  /** Takes a daemon that a test started in its own way; it is ended with the sandbox. */
  adopt(daemon: DaemonProcess): void {
    this.#daemon = daemon;
  }

  get daemon(): DaemonProcess {
    if (this.#daemon === undefined) throw new Error("no daemon was started");
    return this.#daemon;
  }

  /** Waits until every change seen is durable. */
  async settled(path: string, count = 1): Promise<void> {
    await until(`${path} has ${String(count)} stored versions`, 15_000, async () => {
      const result = await this.run("versions", path, "--json");
      return result.exitCode === 0 && versionsOf(result).length >= count;
    });
  }

  async incidents(): Promise<Incident[]> {
    const list = await this.json<Incident[] | { incidents: Incident[] }>("incidents");
    return Array.isArray(list) ? list : list.incidents;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon?.end("SIGKILL");
    await rm(this.home, { recursive: true, force: true, maxRetries: 5 });
  }
}

export interface Incident {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly paths_total: number;
  readonly paths: { readonly path: string }[];
  readonly strategy: string | null;
  readonly quarantined: boolean;
  readonly detail: string;
}

/** The versions in a `versions --json` answer. */
export function versionsOf(result: CommandResult): { time: string; change: string; sha256: string | null }[] {
  const document = result.json();
  return (Array.isArray(document) ? document : (document as { versions: unknown[] }).versions) as never;
}

/** A daemon in its own process; its output is kept for messages. */
export class DaemonProcess {
  readonly child: ChildProcess;
  output = "";
  #exitCode: number | undefined;
  readonly #ended: Promise<number>;

  constructor(args: readonly string[], environment: Record<string, string>, userId?: number) {
    this.child = spawn(process.execPath, [MAIN, ...args], {
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
      ...asUser(userId),
    });
    const collect = (part: Buffer): void => {
      this.output = (this.output + part.toString("utf8")).slice(-200_000);
    };
    this.child.stdout?.on("data", collect);
    this.child.stderr?.on("data", collect);
    this.#ended = new Promise((resolve) => {
      this.child.on("exit", (code, signal) => {
        this.#exitCode = code ?? (signal === null ? 1 : 128);
        resolve(this.#exitCode);
      });
    });
  }

  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** Sends the signal and waits for the end; gives the exit code. */
  async end(signal: NodeJS.Signals): Promise<number> {
    if (this.#exitCode === undefined) this.child.kill(signal);
    return await this.#ended;
  }
}

/** Runs `holdfast` with the given arguments. */
export async function runCommand(
  args: readonly string[],
  environment: Record<string, string>,
  userId?: number,
): Promise<CommandResult> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
    ...asUser(userId),
  });
  const limit = setTimeout(() => child.kill("SIGKILL"), COMMAND_TIMEOUT_MS);
  const out: Buffer[] = [];
  const words: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => out.push(part));
  child.stderr.on("data", (part: Buffer) => words.push(part));
  const exitCode = await new Promise<number>((resolve) => {
    child.on("close", (code) => resolve(code ?? 128));
  });
  clearTimeout(limit);
  const stdout = Buffer.concat(out).toString("utf8");
  return { exitCode, stdout, stderr: Buffer.concat(words).toString("utf8"), json: () => JSON.parse(stdout) as unknown };
}

function asUser(userId: number | undefined): { readonly uid?: number; readonly gid?: number } {
  return userId === undefined ? {} : { uid: userId, gid: userId };
}

/** Waits until `condition` holds; asks again every 50 ms and fails with `what` at the limit. */
export async function until(what: string, limitMs: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  const started = performance.now();
  while (!(await condition())) {
    if (performance.now() - started > limitMs) throw new Error(`not within ${String(limitMs)} ms: ${what}`);
    await delay(50);
  }
}
