/**
 * Makes a backup of some sources: walks them, or takes what is stored where the monitor vouches for it, hands the
 * engine what it needs to know of the host and of git, and says what could not be read. What it means for schedules and
 * alerts is `policy/`'s business.
 */
import { hostname } from "node:os";
import { HoldfastError, asHoldfastError, hasCode } from "../base/errors.js";
import { type BytePath, isWithin, parentPath, pathText } from "../base/paths.js";
import { runProgram } from "../base/spawn.js";
import type { CompressionConfiguration } from "../config/configuration.js";
import type { BackupContext, BackupRequest, Repository, WalkedEntry } from "../engine/repository.js";
import type { Manifest } from "../engine/types.js";
import type { CreateBackupRequest, JobProgress } from "../api/services.js";
import type { Currency } from "../monitor/currency.js";
import type { BackupOutcome, LeftOut } from "../policy/backup-jobs.js";
import { WALKERS } from "../sources/files.js";
import type { ProtectedSource } from "./protected-source.js";
import type { SourceBook } from "./source-book.js";

const GIT_TIMEOUT_MS = 5_000;
/** Git is asked what state a source is in, and must run nothing that the repository configures. */
const GIT_SAFE = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*"];

/** Entries between two places at which the walk of a source that was stored before is parted for several threads. */
const STRETCH_ENTRIES = 10_000;
/** What a path whose file system is not mounted counts as. */
const HIDDEN_ERRNO = "ENODEV";

/** What is known of a source besides its files, and a backup must heed. */
export interface WatchKnowledge {
  /** Why the storage of a source is away; undefined when it is there as far as anybody can tell. */
  awayReason(source: ProtectedSource): Promise<string | undefined>;
  /** Folders of a source whose files cannot be seen now, since a mount is away or lies over them. */
  hiddenPoints(source: ProtectedSource): Promise<readonly BytePath[]>;
  /** True while a loss or damage of the path is not decided: what stands there now is not to become its newest version. */
  isUndecided(source: string, path: BytePath): boolean;
  /** When a reading of the monitor began that found a path with this content, wall ms. */
  verifiedMs(source: string, path: BytePath, sha256: string): number | undefined;
  /** A backup found that the content of a path changed though nobody wrote it. */
  suspect(source: string, path: BytePath): void;
  /** Whether what is stored of a source is what stands there, now; `walkedBecause`: it is walked in any case. */
  currency(source: string, walkedBecause: string | undefined): Promise<Currency>;
}

export class BackupWork {
  readonly #repository: Repository;
  readonly #book: SourceBook;
  readonly #version: string;
  readonly #watch: WatchKnowledge;

  constructor(repository: Repository, book: SourceBook, version: string, watch: WatchKnowledge) {
    this.#repository = repository;
    this.#book = book;
    this.#version = version;
    this.#watch = watch;
  }

  /** The sources of a request; empty = all. Throws SOURCE_NOT_FOUND, and USAGE when nothing is protected. */
  check(names: readonly string[]): readonly ProtectedSource[] {
    const sources = names.length === 0 ? this.#book.all() : names.map((name) => this.#book.get(name));
    if (sources.length > 0) return sources;
    throw new HoldfastError("USAGE", "nothing is protected, so there is nothing to back up", {
      hint: "Add a folder: `holdfast protect PATH`.",
    });
  }

  /**
   * Makes the backup. A source whose folder or storage is away is left out, also when that shows while it is read: then
   * the others are begun anew, which is quick since what was read is stored. Throws what the engine throws.
   */
  async run(
    request: CreateBackupRequest,
    signal: AbortSignal,
    onProgress: (progress: JobProgress) => void,
  ): Promise<BackupOutcome> {
    const leftOut: LeftOut[] = [];
    let sources: ProtectedSource[] = [];
    for (const source of this.check(request.sources)) {
      const error = await this.#away(source);
      if (error === undefined) sources.push(source);
      else leftOut.push({ source: source.name, error });
    }
    for (;;) {
      sources = this.#asTheyAreNow(sources);
      if (sources.length === 0) return { manifest: undefined, leftOut };
      const reading = new AwayDuring();
      try {
        return { manifest: await this.#make({ request, sources, reading }, signal, onProgress), leftOut };
      } catch (error) {
        const { away } = reading;
        if (away === undefined || signal.aborted) throw error;
        leftOut.push(away);
        sources = sources.filter(({ name }) => name !== away.source);
      }
    }
  }

  /**
   * A reload may have exchanged or taken away a source meanwhile. From here to the question of what is current nothing is
   * waited for, so that nobody vouches for the new one by a walk of the old.
   */
  #asTheyAreNow(sources: readonly ProtectedSource[]): ProtectedSource[] {
    return sources.map(({ name }) => this.#book.find(name)).filter((source) => source !== undefined);
  }

  async #make(
    { request, sources, reading }: BackupOrder,
    signal: AbortSignal,
    onProgress: (progress: JobProgress) => void,
  ): Promise<Manifest> {
    const first = sources[0]?.folders[0];
    const views = await Promise.all(sources.map(async (source) => await this.#viewOf(source, request, signal)));
    const manifest = await this.#repository.createBackup(
      {
        type: request.type,
        sources: views.map(({ source, walk, currency: _currency, ...scope }) => ({
          name: source.name,
          roots: source.folders,
          walk: reading.follow(source.name, walk),
          ...scope,
          // A damaged file that waits for a decision keeps its last good version.
          heldBack: (path) => this.#watch.isUndecided(source.name, path),
          verifiedMs: (path, sha256) => this.#watch.verifiedMs(source.name, path, sha256),
          onSuspect: (path) => this.#watch.suspect(source.name, path),
          encryptionRequired: source.configuration.encryptionRequired,
        })),
        tags: request.tags,
        ...compressionOf(request, sources),
        context: this.#contextOf(first, signal),
      },
      signal,
      (progress) =>
        onProgress({
          files_done: progress.filesSeen,
          files_total: null,
          bytes_done: progress.bytesRead,
          bytes_total: null,
        }),
    );
    for (const { source, currency } of views) {
      const made = manifest.sources.find((each) => each.source === source.name);
      if (made !== undefined)
        currency.backedUp({ isWhole: made.walked === true, isComplete: made.files_unreadable === 0 });
    }
    return manifest;
  }

  /** Where and of what the backup is made; git is asked while the sources are read. */
  async #contextOf(folder: BytePath | undefined, signal: AbortSignal): Promise<BackupContext> {
    const git = folder === undefined ? undefined : await gitState(folder, signal);
    return {
      hostname: hostname(),
      gitCommit: git?.commit ?? null,
      gitBranch: git?.branch ?? null,
      systemVersion: `holdfast ${this.#version}`,
    };
  }

  /** What of a source a backup looks at: a full one reads everything, others only what may differ from what is stored. */
  async #viewOf(source: ProtectedSource, request: CreateBackupRequest, signal: AbortSignal): Promise<SourceView> {
    const because = walkedBecause(request);
    const currency = await this.#watch.currency(source.name, because);
    const whole = { source, currency, walk: this.#heeding(source, signal) };
    if (currency.is === "doubtful") return { ...whole, walkedBecause: because ?? currency.reason };
    if ((await this.#watch.hiddenPoints(source)).length > 0)
      return { ...whole, walkedBecause: "a disk below it is away or hidden" };
    return { source, currency, walk: only(currency.standing), restIsStored: true };
  }

  /**
   * The empty folder below an unmounted disk can be walked, and what is away must not be noted as gone. Of a disk below
   * the root that is away, or hidden by another, the last state stays; it counts as one path that could not be read.
   */
  async *#heeding(source: ProtectedSource, signal: AbortSignal): AsyncGenerator<Iterable<WalkedEntry>> {
    const hidden = new Set(await this.#hiddenPoints(source));
    const partedAt = WALKERS > 1 ? await this.#repository.evenPaths(source.name, STRETCH_ENTRIES, signal) : [];
    for await (const entries of source.files.walkPacked(signal, partedAt.map(parentPath))) {
      yield hidden.size === 0 ? entries : [...entries].filter(({ path }) => !isBelowOne(hidden, path));
    }
    // What went away while it was read looks removed.
    const error = await this.#away(source);
    if (error !== undefined) throw error;
    for (const point of await this.#hiddenPoints(source)) hidden.add(point);
    yield [...hidden].map((path) => ({ path, errno: HIDDEN_ERRNO }));
  }

  /** Those below which something is stored. */
  async #hiddenPoints(source: ProtectedSource): Promise<readonly BytePath[]> {
    const stored: BytePath[] = [];
    for (const point of await this.#watch.hiddenPoints(source)) {
      if (await this.#isStoredBelow(source.name, point)) stored.push(point);
    }
    return stored;
  }

  async #isStoredBelow(source: string, point: BytePath): Promise<boolean> {
    for await (const { path } of this.#repository.currentEntries(source, point)) if (path !== point) return true;
    return false;
  }

  async #away(source: ProtectedSource): Promise<HoldfastError | undefined> {
    const reason = await this.#watch.awayReason(source);
    return reason === undefined ? undefined : new HoldfastError("SOURCE_ROOT_GONE", reason);
  }
}

function isBelowOne(points: ReadonlySet<BytePath>, path: BytePath): boolean {
  for (const point of points) if (isWithin(path, point)) return true;
  return false;
}

/** Why a backup walks whatever is known; undefined: it need not. */
function walkedBecause({ type, rescan }: CreateBackupRequest): string | undefined {
  if (type === "full") return "a full backup reads everything";
  return rescan === true ? "it was asked for" : undefined;
}

/** A source as a backup sees it. */
interface SourceView {
  readonly source: ProtectedSource;
  readonly currency: Currency;
  readonly walk: AsyncIterable<Iterable<WalkedEntry>>;
  readonly restIsStored?: boolean;
  readonly walkedBecause?: string;
}

async function* only(entries: readonly WalkedEntry[]): AsyncGenerator<readonly WalkedEntry[]> {
  await Promise.resolve();
  yield entries;
}

interface BackupOrder {
  readonly request: CreateBackupRequest;
  readonly sources: readonly ProtectedSource[];
  readonly reading: AwayDuring;
}

/** Remembers which source went away while it was read. */
class AwayDuring {
  away: LeftOut | undefined;

  async *follow(source: string, walk: AsyncIterable<Iterable<WalkedEntry>>): AsyncGenerator<Iterable<WalkedEntry>> {
    try {
      yield* walk;
    } catch (error) {
      if (hasCode(error, "SOURCE_ROOT_GONE")) this.away = { source, error: asHoldfastError(error) };
      throw error;
    }
  }
}

/** The request's word wins, then what all its sources agree on; else the engine's own choice. */
function compressionOf(
  request: CreateBackupRequest,
  sources: readonly ProtectedSource[],
): Pick<BackupRequest, "compression"> {
  if (!request.compression) return { compression: "none" };
  const wanted = new Set(sources.map(({ configuration }) => compressionName(configuration.compression)));
  const [only] = wanted;
  return wanted.size !== 1 || only === undefined ? {} : { compression: only };
}

/** Undefined: the engine's choice. */
function compressionName({ kind, level }: CompressionConfiguration): BackupRequest["compression"] {
  if (kind === "auto") return undefined;
  return kind === "zstd" && level !== undefined ? `zstd:${level}` : kind;
}

/** Commit and branch of the git work tree that holds a folder; undefined outside one or without git. */
async function gitState(
  folder: BytePath,
  signal: AbortSignal,
): Promise<{ readonly commit: string; readonly branch: string } | undefined> {
  try {
    const command = ["git", ...GIT_SAFE, "rev-parse", "HEAD", "--abbrev-ref", "HEAD"];
    const options = { timeoutMs: GIT_TIMEOUT_MS, signal, cwd: pathText(folder), env: { GIT_OPTIONAL_LOCKS: "0" } };
    const { exitCode, stdout } = await runProgram(command, options);
    const [commit, branch] = stdout.toString("utf8").split("\n");
    return exitCode === 0 && commit !== undefined && branch !== undefined ? { commit, branch } : undefined;
  } catch {
    return undefined; // no git, no folder: the backup's own walk says what matters
  }
}
