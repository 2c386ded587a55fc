/**
 * Restoring a tree: folders first, then what is in them, folder by folder; metadata of folders last, for writing into
 * them changes their times. Files are put in place by the worker threads, in batches ordered by where their content
 * lies. Every path is anchored: a symbolic link that stands (or is swapped in) where a folder should be stops that
 * path, never leads the write elsewhere. What cannot be restored is listed; the rest goes on.
 */
import { statSync } from "node:fs";
import { errnoOf, HoldfastError } from "../base/errors.js";
import { type BytePath, pathBytes, pathText } from "../base/paths.js";
import { localFolderOf } from "../storage/open.js";
import type { RepositoryCore } from "./core.js";
import { isImmutable } from "./metadata.js";
import { assertPlace, FolderTree } from "./restore/folders.js";
import { FolderWork } from "./restore/folder-work.js";
import { Keeper } from "./restore/keep-first.js";
import { Ledger, type RestoreReport } from "./restore/ledger.js";
import { syncFileSystem } from "./restore/make-durable.js";
import { newStagingPrefix } from "./restore/place-name.js";
import type { Overwrite } from "./restore/protocol.js";
import { Writing } from "./restore/writing.js";
import type { Entry, FileNode } from "./types.js";

export type { RestoreAction, RestoreFailure, RestoreReport } from "./restore/ledger.js";
export { OVERWRITE, type Overwrite, type RestoredAs } from "./restore/protocol.js";

/** The repository as a restore needs it. */
export interface RestoreSource {
  readonly core: RepositoryCore;
}

export interface RestoreRequest {
  /** What to restore: any order, folders before what is in them; path order is the fastest. */
  readonly entries: AsyncIterable<Entry>;
  /**
   * Absolute paths are made again below this folder (made when missing). Undefined: their own places; what changed there
   * since it was last stored is stored before it is replaced or removed, or else left alone (`always`: replaced anyway).
   */
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
  /** Under which path the store knows what stands at an original place, where entries come with other paths. */
  readonly storedPath?: (path: BytePath) => BytePath;
  /** The kept state of a folder that has to be made on the way to an entry and is no entry itself. */
  readonly parentNode?: (path: BytePath) => FileNode | undefined;
  /** Told of each entry that was written (none that stood there already), and of each path that was removed, at once. */
  readonly onWritten?: (entry: Entry) => void;
  readonly onRemoved?: (place: { readonly path: BytePath; readonly source: string }) => void;
  /** Folders that `delete` never removes, beside the store. */
  readonly spare?: readonly BytePath[];
}

export interface RestoreProgress {
  readonly filesDone: number;
  readonly bytesDone: number;
}

/** Restores. Throws only when it cannot begin (the target) or is interrupted; everything else is in the report. */
export async function restore(
  source: RestoreSource,
  request: RestoreRequest,
  signal: AbortSignal,
  onProgress?: (progress: RestoreProgress) => void,
): Promise<RestoreReport> {
  const { core } = source;
  const storeFolder = localFolderOf(core.parts.backend.url);
  if (storeFolder === undefined) throw new HoldfastError("UNSUPPORTED", "restoring needs a store in a local folder");
  using tree = FolderTree.begin(request.target, request.dryRun);
  const ledger = new Ledger();
  const spared = sparedFolders([Buffer.from(storeFolder), ...(request.spare ?? []).map(pathBytes)]);
  const keeper = keeperFor(core, request, ledger, signal);
  const folders = new FolderWork(tree, { ...request, spared, ledger, keeper });
  const { overwrite, inPlace, dryRun, verify, sparse } = request;
  const onlyKept = keeper?.isStrict === true;
  const options = { overwrite, inPlace, dryRun, verify, sparse, onlyKept, stagingPrefix: newStagingPrefix() };
  const told = { onProgress, onWritten: request.onWritten };
  const writing = new Writing({ core, storeFolder, tree, folders, ledger, options, keeper, signal, ...told });
  try {
    for await (const entry of request.entries) {
      signal.throwIfAborted();
      try {
        assertPlace(entry.path);
        if (isImmutable(entry.node)) ledger.wasImmutable(entry.path);
        if (entry.node.kind === "folder") await folders.begin(entry);
        else await writing.add(entry);
      } catch (error) {
        signal.throwIfAborted();
        ledger.fail(entry.path, error);
      }
    }
  } finally {
    await writing.finish(); // also when interrupted: the folders must stay open until the workers are done
  }
  signal.throwIfAborted();
  await folders.finish(request.parentNode, signal);
  if (!request.dryRun) await makeDurable(folders, ledger, signal);
  ledger.kept = keeper?.kept ?? 0;
  return ledger.report();
}

/** What stands at the original places is kept before it goes; elsewhere the paths are not those of the store. */
function keeperFor(
  core: RepositoryCore,
  { target, dryRun, overwrite, storedPath = (path) => path }: RestoreRequest,
  ledger: Ledger,
  signal: AbortSignal,
): Keeper | undefined {
  if (target !== undefined || dryRun) return undefined;
  const warn = (path: BytePath, reason: string): void => ledger.warn(`${pathText(path)}: ${reason}`);
  return new Keeper({ core, storedPath, insists: overwrite === "always", warn, signal });
}

/** One sync for each file system that was written to: what is reported as restored survives a power cut. */
async function makeDurable(folders: FolderWork, ledger: Ledger, signal: AbortSignal): Promise<void> {
  for (const place of folders.devicePlaces()) {
    try {
      const synced = await folders.withFolder(place, async (fd) => await syncFileSystem(fd, signal));
      if (!synced) ledger.warn("the file system could not be synced: a power cut now could take restored files");
    } catch (error) {
      signal.throwIfAborted();
      ledger.fail(place, error);
    }
  }
}

function sparedFolders(folders: readonly Buffer[]): ReadonlySet<string> {
  const spared = new Set<string>();
  for (const folder of folders) {
    try {
      const { dev, ino } = statSync(folder, { bigint: true });
      spared.add(`${dev}:${ino}`);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
  }
  return spared;
}
