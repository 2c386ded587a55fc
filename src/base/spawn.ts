/**
 * The one way to start another program: no shell, a clean environment, a time limit, bounded output, capabilities
 * dropped when the daemon holds any. The program gets its own process group so that the limit ends its children too.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { HoldfastError, errnoOf } from "./errors.js";
import { keepDescriptorsFromChildren } from "./inheritance.js";

export interface SpawnOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly cwd?: string;
  /** Added to the clean environment (PATH, HOME, LANG). Never secrets. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: Uint8Array | string;
  /** Output beyond this is an error (LIMIT_REACHED), bytes; default 64 MiB. */
  readonly outputBytesMax?: number;
  /** Runs as this user; only root may. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Descriptors that the program gets besides its streams, under the same numbers; they must be inheritable. */
  readonly inherits?: readonly number[];
}

export interface SpawnResult {
  readonly exitCode: number;
  readonly stdout: Buffer;
  /** The last 64 KiB at most. */
  readonly stderr: string;
}

const OUTPUT_BYTES_MAX = 64 * 2 ** 20;
const STDERR_BYTES_MAX = 64 * 2 ** 10;
/** After its group was killed, a program that still holds its pipes open is let go, ms. */
const PIPES_GRACE_MS = 1000;
const SETPRIV = "/usr/bin/setpriv";

/** Runs `command` to its end. A non-zero exit is a result, not an error. Throws SPAWN_FAILED, TIMEOUT, LIMIT_REACHED. */
export async function runProgram(command: readonly string[], options: SpawnOptions): Promise<SpawnResult> {
  options.signal.throwIfAborted();
  const [program, ...args] = withoutCapabilities(command);
  if (program === undefined) throw new HoldfastError("SPAWN_FAILED", "no program was named");
  keepDescriptorsFromChildren(options.inherits);
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      HOME: process.env["HOME"] ?? "/",
      LANG: "C.UTF-8",
      ...options.env,
    },
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  });
  return await new Promise<SpawnResult>((resolve, reject) => {
    const stdout: Buffer[] = [];
    let stdoutBytes = 0;
    let stderr = "";
    let failure: HoldfastError | undefined;
    let letGo: NodeJS.Timeout | undefined;
    const fail = (error: HoldfastError): void => {
      failure ??= error;
      killGroup(child.pid);
      // A grandchild that left the group may hold the pipes open for ever; nobody waits for what it prints.
      letGo ??= setTimeout(() => {
        for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.destroy();
      }, PIPES_GRACE_MS);
    };
    const limit = setTimeout(
      () => fail(new HoldfastError("TIMEOUT", `${command[0] ?? ""} ran longer than ${String(options.timeoutMs)} ms`)),
      options.timeoutMs,
    );
    const abort = (): void => fail(new HoldfastError("INTERRUPTED", `${command[0] ?? ""} was interrupted`));
    options.signal.addEventListener("abort", abort, { once: true });
    child.stdout.on("data", (part: Buffer) => {
      stdoutBytes += part.length;
      if (stdoutBytes > (options.outputBytesMax ?? OUTPUT_BYTES_MAX))
        fail(new HoldfastError("LIMIT_REACHED", `${command[0] ?? ""} printed too much`));
      else stdout.push(part);
    });
    child.stderr.on("data", (part: Buffer) => {
      stderr = (stderr + part.toString("utf8")).slice(-STDERR_BYTES_MAX);
    });
    child.stdin.on("error", () => undefined); // the program may end before it has read everything
    child.stdin.end(options.stdin ?? "");
    const finish = (): void => {
      clearTimeout(limit);
      clearTimeout(letGo);
      options.signal.removeEventListener("abort", abort);
    };
    child.on("error", (error) => {
      finish();
      const why = errnoOf(error) === "ENOENT" ? "is not installed" : error.message;
      reject(new HoldfastError("SPAWN_FAILED", `${command[0] ?? ""} ${why}`, { cause: error }));
    });
    child.on("close", (code) => {
      finish();
      if (failure !== undefined) reject(failure);
      else resolve({ exitCode: code ?? 128, stdout: Buffer.concat(stdout), stderr });
    });
  });
}

function withoutCapabilities(command: readonly string[]): readonly string[] {
  if (process.getuid?.() === 0 || process.env["HOLDFAST_AMBIENT_CAPS"] !== "1" || !existsSync(SETPRIV)) return command;
  return [SETPRIV, "--ambient-caps=-all", "--inh-caps=-all", "--", ...command];
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}
