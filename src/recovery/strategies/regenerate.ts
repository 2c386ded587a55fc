/**
 * `regenerate`: a program of the owner's that makes the file anew. No shell, a time limit, a user of its own if asked.
 * With `{output}` among its arguments it writes to a private temporary file, which is judged before anything is put
 * back; without, it writes to the path itself, which is only allowed when nothing is there, and is judged afterwards.
 * Parameters: `script` (argv, the program absolute), `timeout_ms` (default 2 min), `user`, `cwd`.
 */
import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, isTextPath, parentPath, pathFromText, pathText } from "../../base/paths.js";
import { runProgram } from "../../base/spawn.js";
import { ParameterReader, type Parameters } from "../parameters.js";
import { readRegularFile, regularFileAt } from "../regular-file.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { type User, allUsers } from "./homes.js";

const ID = "regenerate";
const TIMEOUT_DEFAULT_MS = 2 * 60_000;
const TIMEOUT_MAX_MS = 24 * 3_600_000;
/** What the program may print; its file may be larger. */
const OUTPUT_BYTES_MAX = 16 * 2 ** 20;
/** The end of its complaints that people are shown. */
const STDERR_SHOWN = 500;

interface Script {
  readonly argv: readonly string[];
  readonly timeoutMs: number;
  readonly user: User | undefined;
  readonly cwd: string | undefined;
}

export function regenerateStrategy(): RecoveryStrategy {
  return {
    id: ID,
    effort: "runs",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const script = await scriptOf(search.parameters);
      if (!isTextPath(lost.path)) throw new HoldfastError("UNSUPPORTED", "the file's name cannot be an argument");
      const writesOutput = script.argv.some((arg) => arg.includes("{output}"));
      if (!writesOutput && lost.present !== undefined) {
        search.note("the script writes to the path itself, where the damaged file is: give it {output} to write to");
        return;
      }
      await using output = writesOutput ? await OutputFile.create(search.scratchDir, script.user) : undefined;
      const made = output?.path ?? lost.path;
      await run(script, lost.path, made, signal);
      const stat = await regularFileAt(made);
      if (stat === undefined) {
        search.note("the script ended well but made no file");
        return;
      }
      yield {
        strategy: ID,
        origin: `made by ${script.argv[0] ?? ""}`,
        fidelity: "newer",
        modifiedAtMs: Number(stat.mtimeNs / 1_000_000n),
        sizeBytes: Number(stat.size),
        notes: [],
        ...(writesOutput ? {} : { inPlace: true }),
        open: (inner) => readRegularFile(made, inner),
      };
    },
    advise: async (_lost, search) => {
      const { argv } = await scriptOf(search.parameters);
      return [argv.join(" ")];
    },
  };
}

async function scriptOf(parameters: Parameters): Promise<Script> {
  const reader = new ParameterReader(ID, parameters);
  const argv = reader.texts("script");
  const [program] = argv ?? [];
  if (argv === undefined || program === undefined || !isAbsolute(program))
    throw reader.wrong("script", "a list that begins with the absolute path of a program");
  const name = reader.text("user");
  const user = name === undefined ? undefined : (await allUsers()).find((entry) => entry.name === name);
  if (name !== undefined && user === undefined) throw reader.wrong("user", "the name of a user of this machine");
  const timeoutMs = reader.number("timeout_ms", { min: 1, max: TIMEOUT_MAX_MS }) ?? TIMEOUT_DEFAULT_MS;
  return { argv, timeoutMs, user, cwd: reader.text("cwd") };
}

/** A file to be made in a folder that the program's user may write to, and nobody else; gone when disposed. */
class OutputFile implements AsyncDisposable {
  readonly path: BytePath;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.path = pathFromText(join(folder, "output"));
  }

  static async create(scratchDir: string, user: User | undefined): Promise<OutputFile> {
    // The recovery's private folder cannot be entered by another user, so theirs lies in the system's.
    const isOther = user !== undefined && user.uid !== process.getuid?.();
    const folder = await mkdtemp(isOther ? join(tmpdir(), "holdfast-output-") : join(scratchDir, "output-"));
    if (isOther) await chown(folder, user.uid, user.gid);
    return new OutputFile(folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function run(script: Script, path: BytePath, output: BytePath, signal: AbortSignal): Promise<void> {
  const filled = script.argv.map((arg) =>
    arg.replaceAll("{output}", pathText(output)).replaceAll("{path}", pathText(path)),
  );
  const { user, cwd, timeoutMs } = script;
  const isOther = user !== undefined && user.uid !== process.getuid?.();
  const result = await runProgram(filled, {
    timeoutMs,
    signal,
    outputBytesMax: OUTPUT_BYTES_MAX,
    cwd: cwd ?? (output === path ? "/" : pathText(parentPath(output))),
    ...(user === undefined ? {} : { env: { HOME: user.home, USER: user.name } }),
    ...(isOther ? { user: { uid: user.uid, gid: user.gid } } : {}),
  });
  if (result.exitCode === 0) return;
  const complaint = result.stderr.trim().slice(-STDERR_SHOWN);
  throw new HoldfastError("RECOVERY_FAILED", `the script ended with ${String(result.exitCode)}: ${complaint}`);
}
