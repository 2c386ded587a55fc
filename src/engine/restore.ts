/**
 * Restoring a tree: folders first, then what is in them, folder by folder; metadata of folders last, for writing into
 * them changes their times. Every path is anchored: a symbolic link that stands (or is swapped in) where a folder
 * should be stops that path, never leads the write elsewhere. What cannot be restored is listed; the rest goes on.
 */
import { HoldfastError, asHoldfastError, errnoOf, messageOf } from "../base/errors.js";
import { type AnchoredFolder, openAnchored } from "../base/anchored.js";
import { STAGING_PREFIX } from "../base/atomic-file.js";
import { mapLimited } from "../base/concurrency.js";
import { type BytePath, joinPath, nameOf, parentPath, pathText } from "../base/paths.js";
import { type MetadataGap, applyToDescriptor } from "./metadata.js";
import { type FileRestorer, type RestoredAs, fileRestorer } from "./restore-file.js";
import type { Entry, FileNode } from "./types.js";

export const OVERWRITE = ["always", "if-changed", "never"] as const;
export type Overwrite = (typeof OVERWRITE)[number];

/** The repository as a restore needs it. */
export interface ContentSource {
  readContent(node: FileNode, signal: AbortSignal): AsyncIterable<Buffer>;
}

export interface RestoreRequest {
  /** What to restore: any order, folders before what is in them. */
  readonly entries: AsyncIterable<Entry>;
  /** Absolute paths are made again below this folder (made when missing); undefined: their own places. */
  readonly target: BytePath | undefined;
  readonly overwrite: Overwrite;
  /** Changes only the blocks of an existing file that differ, keeping its inode. Not safe against a crash midway. */
  readonly inPlace: boolean;
  /** Removes what stands in restored folders and is not among the entries. */
  readonly delete: boolean;
  readonly dryRun: boolean;
  /** Reads every written file back and compares it. */
  readonly verify: boolean;
  /** Runs of zeros become holes. */
  readonly sparse: boolean;
}

export type RestoreAction = RestoredAs | "folder" | "delete" | "skip";

export interface RestoreFailure {
  readonly path: BytePath;
  readonly code: string;
  readonly message: string;
}

export interface RestoreProgress {
  readonly filesDone: number;
  readonly bytesDone: number;
}

export interface RestoreReport {
  readonly restored: number;
  readonly skipped: number;
  readonly deleted: number;
  readonly bytes: number;
  readonly failed: readonly RestoreFailure[];
  /** What could not be given back (owners, attributes), one line each, at most `WARNINGS_MAX`. */
  readonly warnings: readonly string[];
  /** The first `PLAN_MAX` things done, or to be done. */
  readonly plan: readonly { readonly path: BytePath; readonly action: RestoreAction }[];
}

export const WARNINGS_MAX = 1_000;
export const PLAN_MAX = 1_000;
/** Failures listed; all are counted. */
const FAILED_MAX = 10_000;
/** Files of one folder written at the same time. */
const LANES = 8;
/** Entries of one folder handled together. */
const GROUP_MAX = 512;
/** Until its own mode is applied, a new folder lets nobody else in. */
const NEW_FOLDER_MODE = 0o700;

/** Restores. Throws only when it cannot begin (the target) or is interrupted; everything else is in the report. */
export async function restore(
  source: ContentSource,
  request: RestoreRequest,
  signal: AbortSignal,
  onProgress?: (progress: RestoreProgress) => void,
): Promise<RestoreReport> {
  const run = new RestoreRun(source, request, signal, onProgress);
  for await (const group of byFolder(request.entries)) {
    signal.throwIfAborted();
    await run.folderGroup(group);
  }
  await run.finish();
  return run.report();
}

interface PlannedFolder {
  readonly place: BytePath;
  readonly node: FileNode;
  /** Names that belong there; only kept when others are to be deleted. */
  readonly names: Set<string>;
}

class RestoreRun {
  readonly #request: RestoreRequest;
  readonly #signal: AbortSignal;
  readonly #files: FileRestorer;
  readonly #onProgress: ((progress: RestoreProgress) => void) | undefined;
  readonly #folders = new Map<BytePath, PlannedFolder>();
  readonly #failed: RestoreFailure[] = [];
  readonly #warnings: string[] = [];
  readonly #plan: { path: BytePath; action: RestoreAction }[] = [];
  #counts = { restored: 0, skipped: 0, deleted: 0, bytes: 0, files: 0 };

  constructor(
    source: ContentSource,
    request: RestoreRequest,
    signal: AbortSignal,
    onProgress: ((progress: RestoreProgress) => void) | undefined,
  ) {
    this.#request = request;
    this.#signal = signal;
    this.#onProgress = onProgress;
    this.#files = fileRestorer(source, request);
  }

  /** Entries of one folder: sub-folders are made, everything else is written. */
  async folderGroup(entries: readonly Entry[]): Promise<void> {
    const [first] = entries;
    if (first === undefined) return;
    const parent = parentPath(this.#placeOf(first.path));
    const names = this.#folders.get(parent)?.names;
    if (this.#request.delete) for (const entry of entries) names?.add(nameOf(entry.path));
    try {
      await using folder = this.#openFolder(parent);
      for (const entry of entries) if (entry.node.kind === "folder") this.#folder(folder, entry);
      const others = entries.filter((entry) => entry.node.kind !== "folder");
      await mapLimited(others, LANES, this.#signal, async (entry) => await this.#other(folder, entry));
    } catch (error) {
      this.#signal.throwIfAborted();
      for (const entry of entries) this.#fail(entry.path, error);
    }
  }

  /** Deletes what does not belong, and gives folders their metadata, the deepest first. */
  async finish(): Promise<void> {
    for (const folder of [...this.#folders.values()].reverse()) {
      this.#signal.throwIfAborted();
      try {
        await this.#finishFolder(folder);
      } catch (error) {
        this.#fail(folder.place, error);
      }
    }
  }

  report(): RestoreReport {
    const { restored, skipped, deleted, bytes } = this.#counts;
    const lists = { failed: this.#failed, warnings: this.#warnings, plan: this.#plan };
    return { restored, skipped, deleted, bytes, ...lists };
  }

  #placeOf(path: BytePath): BytePath {
    const { target } = this.#request;
    return target === undefined ? path : ((target === "/" ? path : `${target}${path}`) as BytePath);
  }

  /** The trusted part of the way: the target, or the root of the file system. */
  get #root(): BytePath {
    return this.#request.target ?? ("/" as BytePath);
  }

  /** Undefined in a dry run of a folder that is not there yet. */
  #openFolder(place: BytePath): MaybeFolder {
    try {
      const options = this.#request.dryRun ? {} : { makeMode: NEW_FOLDER_MODE };
      return new MaybeFolder(openAnchored(this.#root, place, options));
    } catch (error) {
      if (this.#request.dryRun && errnoOf(error) === "ENOENT") return new MaybeFolder(undefined);
      throw error;
    }
  }

  #folder({ folder }: MaybeFolder, entry: Entry): void {
    const place = this.#placeOf(entry.path);
    const name = nameOf(entry.path);
    if (name === "") return; // the root itself
    try {
      const present = folder?.lstat(name);
      if (present === undefined) {
        if (!this.#request.dryRun) folder?.mkdir(name, NEW_FOLDER_MODE);
        this.#note(entry.path, "folder");
        this.#counts.restored += 1;
      } else if (!present.isDirectory()) {
        throw new HoldfastError("TARGET_EXISTS", `${pathText(place)} exists and is no folder`);
      }
      this.#folders.set(place, { place, node: entry.node, names: new Set() });
    } catch (error) {
      this.#fail(entry.path, error);
    }
  }

  async #other({ folder }: MaybeFolder, entry: Entry): Promise<void> {
    try {
      const place = this.#placeOf(entry.path);
      const done = await this.#files.put(folder, { entry, place }, this.#signal);
      this.#note(entry.path, done.action);
      if (done.action === "skip") this.#counts.skipped += 1;
      else this.#counts.restored += 1;
      this.#counts.bytes += done.bytes;
      this.#warn(entry.path, done.gaps);
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#fail(entry.path, error);
    }
    this.#counts.files += 1;
    this.#onProgress?.({ filesDone: this.#counts.files, bytesDone: this.#counts.bytes });
  }

  async #finishFolder({ place, node, names }: PlannedFolder): Promise<void> {
    await using maybe = this.#openFolder(place);
    const { folder } = maybe;
    if (folder === undefined) return;
    if (this.#request.delete) {
      for (const name of folder.names()) if (!names.has(name)) this.#deleteBelow(folder, place, name);
    }
    if (!this.#request.dryRun) this.#warn(place, applyToDescriptor(folder.fd, node));
  }

  #deleteBelow(folder: AnchoredFolder, place: BytePath, name: string): void {
    if (name.startsWith(STAGING_PREFIX) && !this.#request.dryRun) return;
    this.#note(joinPath(place, name), "delete");
    this.#counts.deleted += 1;
    if (this.#request.dryRun) return;
    if (folder.lstat(name)?.isDirectory() !== true) {
      folder.unlink(name);
      return;
    }
    const child = folder.child(name);
    try {
      for (const below of child.names()) this.#deleteBelow(child, joinPath(place, name), below);
    } finally {
      child.close();
    }
    folder.rmdir(name);
  }

  #note(path: BytePath, action: RestoreAction): void {
    if (action !== "skip" && this.#plan.length < PLAN_MAX) this.#plan.push({ path, action });
  }

  #warn(path: BytePath, gaps: readonly MetadataGap[]): void {
    for (const gap of gaps) {
      if (this.#warnings.length >= WARNINGS_MAX) return;
      const what = gap.name === undefined ? gap.what : `${gap.what} ${gap.name}`;
      this.#warnings.push(`${pathText(path)}: ${what} not restored (${gap.errno})`);
    }
  }

  #fail(path: BytePath, error: unknown): void {
    if (this.#failed.length >= FAILED_MAX) return;
    const { code } = asHoldfastError(error, "TARGET_IO");
    this.#failed.push({ path, code: storeCode(error) ?? code, message: messageOf(error) });
  }
}

/** An open folder, or none (a dry run below a folder that is not there). */
class MaybeFolder implements AsyncDisposable {
  readonly folder: AnchoredFolder | undefined;

  constructor(folder: AnchoredFolder | undefined) {
    this.folder = folder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.folder?.[Symbol.asyncDispose]();
  }
}

function storeCode(error: unknown): string | undefined {
  const errno = errnoOf(error);
  if (errno === "EACCES" || errno === "EPERM") return "PERMISSION_DENIED";
  return error instanceof HoldfastError ? error.code : undefined;
}

/** Runs of entries that share a folder, at most `GROUP_MAX` long. */
async function* byFolder(entries: AsyncIterable<Entry>): AsyncGenerator<readonly Entry[]> {
  let group: Entry[] = [];
  let parent: BytePath | undefined;
  for await (const entry of entries) {
    const folder = parentPath(entry.path);
    if (group.length > 0 && (folder !== parent || group.length >= GROUP_MAX)) {
      yield group;
      group = [];
    }
    parent = folder;
    group.push(entry);
  }
  if (group.length > 0) yield group;
}
