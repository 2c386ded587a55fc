/**
 * Judges files by the checks that their source asks for. Structure checks run in a worker with limits, commands as
 * programs. Also tells the shape of a file's end, by which truncation and NUL damage show.
 */
import { mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.js";
import { messageOf } from "../base/errors.js";
import { randomHex } from "../base/ids.js";
import { type BytePath, isTextPath, joinPath, nameOf, pathBytes, pathFromText, pathText } from "../base/paths.js";
import { runProgram } from "../base/spawn.js";
import type { ContentPart, Digest, PairVerdict, Shape } from "./inspect/jobs.js";
import { type InspectOutcome, Inspector } from "./inspect/inspector.js";
import { Inspectors } from "./inspect/inspectors.js";
import { quickShape } from "./inspect/shape.js";
import { isSmallText } from "./judge/quick.js";
import { matcherOf } from "./rules.js";
import {
  type Check,
  DEFAULT_VALIDATION,
  VALIDATION_BYTES_MAX,
  VALIDATION_TIMEOUT_MS,
  type ValidationRule,
  type Verdict,
} from "./validator.js";
import type { ContentCheck } from "./validators/build.js";

export type { Digest, Shape } from "./inspect/jobs.js";

/** Two versions are compared as far as this, bytes. */
const COMPARED_BYTES_MAX = 16 * 2 ** 20;

/** What a look at a file told. `shape` is undefined when the file could not be read. */
export interface FileJudgement {
  readonly shape: Shape | undefined;
  readonly verdict: Verdict;
}

/** The checks of one path, from the source's rules and the defaults. */
export interface ChecksOfPath {
  readonly checks: readonly Check[];
  readonly timeoutMs: number;
}

interface CompiledRule {
  readonly rule: ValidationRule;
  readonly matches: (path: BytePath, roots: readonly BytePath[]) => boolean;
}

/** Which checks apply to which path of one source. */
export class ValidationRules {
  readonly #roots: readonly BytePath[];
  readonly #rules: readonly CompiledRule[];

  /** Configured rules come first; the defaults apply where no configured rule names a structure check. */
  constructor(roots: readonly BytePath[], rules: readonly ValidationRule[] = []) {
    this.#roots = roots;
    this.#rules = [...rules, ...DEFAULT_VALIDATION].map((rule) => ({ rule, matches: matcherOf(rule.match) }));
  }

  checksFor(path: BytePath): ChecksOfPath {
    const checks = new Map<string, Check>();
    let timeoutMs = 0;
    for (const { rule, matches } of this.#rules) {
      if (!matches(path, this.#roots)) continue;
      timeoutMs = Math.max(timeoutMs, rule.timeoutMs ?? VALIDATION_TIMEOUT_MS);
      for (const written of rule.checks) {
        const check = written.kind === "magic" ? { ...written, extension: extensionOf(path) } : written;
        checks.set(JSON.stringify(check), check);
      }
    }
    return { checks: [...checks.values()], timeoutMs: timeoutMs === 0 ? VALIDATION_TIMEOUT_MS : timeoutMs };
  }
}

/** The ending of a name with its dot; "" when it has none. */
function extensionOf(path: BytePath): string {
  const name = nameOf(path);
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(dot) : "";
}

/** Looks at files; shared by all sources. */
export class FileValidation implements AsyncDisposable {
  readonly #inspectors: Inspectors;
  /** A thread of its own, so that a digest of a huge file does not hold up the checks. */
  readonly #reader: Inspector;
  /** And one for the comparison of versions, which is behind the changes and may lag. */
  readonly #comparers: Inspectors;
  readonly #scratchFolder: string;

  /** `scratchFolder` is a private folder of holdfast where older content is laid out to be judged. */
  constructor(clock: Clock, scratchFolder: string) {
    this.#inspectors = new Inspectors(clock);
    this.#reader = new Inspector(clock);
    this.#comparers = new Inspectors(clock);
    this.#scratchFolder = scratchFolder;
  }

  /** Judges the file at `content` by the checks of another path. Never throws but when aborted. */
  async judge(content: BytePath, { checks, timeoutMs }: ChecksOfPath, signal: AbortSignal): Promise<FileJudgement> {
    const inner = checks.filter((check): check is ContentCheck => check.kind !== "command");
    if (checks.length === 0) {
      const shape = quickShape(content);
      if (shape !== undefined)
        return { shape, verdict: { verdict: "unchecked", detail: "no check looks at such files" } };
    }
    const limits = { timeoutMs, sizeBytesMax: VALIDATION_BYTES_MAX };
    const looked = await this.#inspectors.use(
      async (inspector) => await inspector.inspect(content, inner, limits, signal),
      signal,
    );
    if (looked.outcome === "unreadable")
      return { shape: undefined, verdict: { verdict: "unchecked", detail: `it cannot be read (${looked.errno})` } };
    if (looked.outcome === "too_much")
      return { shape: undefined, verdict: { verdict: "unchecked", detail: looked.detail } };
    const { shape, verdict } = looked.value;
    if (verdict.verdict === "invalid") return { shape, verdict };
    return { shape, verdict: await commandVerdict(content, { checks, timeoutMs }, verdict, signal) };
  }

  /** SHA-256 of a file, or of a part of it, with its stat before and after; undefined when it cannot be read. */
  async digest(path: BytePath, signal: AbortSignal, part?: ContentPart): Promise<Digest | undefined> {
    const read = await this.#reader.digest(path, signal, part);
    return read.outcome === "done" ? read.value : undefined;
  }

  /**
   * SHA-256 of whole files with their stat before and after, in one turn; undefined for those that cannot be read or are
   * larger than this, and for all when the turn failed.
   */
  async digests(
    paths: readonly BytePath[],
    sizeBytesMax: number,
    signal: AbortSignal,
  ): Promise<readonly (Digest | undefined)[] | undefined> {
    const read = await this.#reader.digests(paths, sizeBytesMax, signal);
    return read.outcome === "done" ? read.value : undefined;
  }

  /** Digests of the values that a file's documents hold in these fields; none when it cannot be read as documents. */
  async fieldValues(path: BytePath, fields: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
    const limits = { timeoutMs: VALIDATION_TIMEOUT_MS, sizeBytesMax: VALIDATION_BYTES_MAX };
    const read = await this.#inspectors.use(
      async (inspector) => await inspector.fields(path, fields, limits, signal),
      signal,
    );
    return read.outcome === "done" ? read.value : [];
  }

  /** The same of bytes that come as a stream. */
  async fieldValuesOf(
    stream: AsyncIterable<Uint8Array>,
    forPath: BytePath,
    fields: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    return await this.#laidOut(stream, forPath, Infinity, (file) => this.fieldValues(file, fields, signal));
  }

  /** Judges bytes that come as a stream, laid out in a private file for the time of the check. */
  async judgeStream(
    stream: AsyncIterable<Uint8Array>,
    forPath: BytePath,
    checks: ChecksOfPath,
    signal: AbortSignal,
  ): Promise<FileJudgement> {
    return await this.#laidOut(stream, forPath, Infinity, (file) => this.judge(file, checks, signal));
  }

  /**
   * Why the file at `standing` looks encrypted or destroyed beside an older version of a path; undefined when it does
   * not or nobody can tell. The older version is read only when the new one is not in order by itself.
   */
  async suspicion(
    standing: BytePath,
    older: { readonly path: BytePath; readonly read: () => AsyncIterable<Uint8Array> },
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (isSmallText(standing)) return undefined;
    const limits = { timeoutMs: VALIDATION_TIMEOUT_MS, sizeBytesMax: COMPARED_BYTES_MAX };
    const compare = async (oldPath?: BytePath): Promise<InspectOutcome<PairVerdict>> =>
      await this.#comparers.use(
        async (inspector) => await inspector.comparePair({ path: standing, oldPath }, limits, signal),
        signal,
      );
    const alone = await compare();
    if (alone.outcome !== "done" || alone.value.is !== "unsure") return undefined;
    // One byte beyond the limit tells that the older version goes on.
    return await this.#laidOut(older.read(), older.path, COMPARED_BYTES_MAX + 1, async (oldPath) => {
      const pair = await compare(oldPath);
      return pair.outcome === "done" && pair.value.is === "suspicious" ? pair.value.reason : undefined;
    });
  }

  /** Runs `work` over the first bytes of a stream, laid out under the name of a path in a private folder. */
  async #laidOut<T>(
    stream: AsyncIterable<Uint8Array>,
    forPath: BytePath,
    bytesMax: number,
    work: (file: BytePath) => Promise<T>,
  ): Promise<T> {
    const folder = join(this.#scratchFolder, randomHex(8));
    const file = joinPath(pathFromText(folder), nameOf(forPath));
    await mkdir(folder, { recursive: true, mode: 0o700 });
    try {
      const handle = await open(pathBytes(file), "wx", 0o600);
      try {
        let roomBytes = bytesMax;
        for await (const part of stream) {
          await handle.writeFile(part.length > roomBytes ? part.subarray(0, roomBytes) : part);
          roomBytes -= part.length;
          if (roomBytes <= 0) break;
        }
      } finally {
        await handle.close();
      }
      return await work(file);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inspectors[Symbol.asyncDispose]();
    await this.#reader[Symbol.asyncDispose]();
    await this.#comparers[Symbol.asyncDispose]();
  }
}

async function commandVerdict(
  content: BytePath,
  { checks, timeoutMs }: ChecksOfPath,
  before: Verdict,
  signal: AbortSignal,
): Promise<Verdict> {
  let verdict = before;
  for (const check of checks) {
    if (check.kind !== "command") continue;
    const name = check.command[0] ?? "command";
    if (!isTextPath(content))
      return { verdict: "unchecked", detail: `${name} cannot be given a name that is not UTF-8` };
    const argv = check.command.map((argument) => argument.replaceAll("{file}", pathText(content)));
    try {
      const { exitCode } = await runProgram(argv, { timeoutMs, signal });
      if (exitCode !== 0)
        return {
          verdict: "invalid",
          kind: "invalid_structure",
          detail: `${name} refused it (exit ${String(exitCode)})`,
        };
      verdict = { verdict: "valid", detail: verdict.verdict === "valid" ? `${verdict.detail}, ${name}` : name };
    } catch (error) {
      signal.throwIfAborted();
      return { verdict: "unchecked", detail: `${name} could not judge it: ${messageOf(error)}` };
    }
  }
  return verdict;
}
