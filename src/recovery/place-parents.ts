/**
 * The folders above a file that is put back: opened step by step without following links, made again with their
 * metadata when they are gone. Also what placing needs of others, and how the system's errors are told.
 */
import { randomBytes } from "node:crypto";
import { type BigIntStats, fstatSync, statSync } from "node:fs";
import { type AnchoredFolder, openAnchored } from "../base/anchored.js";
import { STAGING_PREFIX } from "../base/atomic-file.js";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, joinPath, parentPath, pathBytes, pathText, relativeTo } from "../base/paths.js";
import { type MetadataGap, applyToDescriptor, nodeFromStat } from "../engine/metadata.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import type { Awaitable, OwnWrite } from "./ports.js";

/** Points that a placement passes; a crash may come after each. */
export type PlaceStep =
  "parents_ready" | "staged" | "proved" | "quarantined" | "announced" | "looked" | "exchanged" | "visible" | "synced";

/** What placing needs of others. */
export interface PlaceHost {
  /** Metadata of a folder that has to be made again. */
  folderNode(path: BytePath): Awaitable<FileNode | undefined>;
  /** Tells the watcher of our write; it becomes visible after that. */
  announce(write: OwnWrite): Awaitable<void>;
  /** Keeps the damaged file; must throw if it cannot, for then nothing is replaced. */
  keepDamaged(folder: AnchoredFolder, name: string, judged: StatTuple): Promise<void>;
  /** Told of each folder that was made, in the moment in which it stands. */
  onFolderMade?(path: BytePath): void;
  /** Told at each step, for logs and crash tests. */
  onStep?(step: PlaceStep): void;
}

export interface PlaceTarget {
  readonly path: BytePath;
  /** Configured root: trusted as it is; made again when it is gone. */
  readonly root: BytePath;
  /** The damaged file as it was judged; undefined: nothing is there. */
  readonly present: StatTuple | undefined;
  /** Incident id or the like, for the staging name: letters, digits, `_`. */
  readonly tag: string;
}

const NEW_FOLDER_MODE = 0o755;

/** Opens the parent folder, making what is missing with the metadata it had; runs `work`; maps the system's errors. */
export async function withParents<T>(
  target: PlaceTarget,
  host: PlaceHost,
  work: (folder: AnchoredFolder) => Promise<T>,
): Promise<T> {
  const made: { readonly folder: AnchoredFolder; readonly node: FileNode }[] = [];
  try {
    const trusted = nearestExisting(target.root);
    let folder = openAnchored(trusted, trusted);
    const isMade = new Set<AnchoredFolder>();
    try {
      for (const name of relativeTo(parentPath(target.path), trusted).split("/")) {
        if (name === "") continue;
        const next = await childOrMade(folder, name, target, host);
        if (next.node !== undefined) {
          made.unshift({ folder: next.folder, node: next.node });
          isMade.add(next.folder);
        }
        if (!isMade.has(folder)) folder.close();
        folder = next.folder;
      }
      host.onStep?.("parents_ready");
      return await work(folder);
    } finally {
      // What was put inside moved the times of the folders that we made.
      for (const entry of made) applyToDescriptor(entry.folder.fd, entry.node);
      folder.close();
      for (const entry of made) entry.folder.close();
    }
  } catch (error) {
    throw asTargetError(error, target.path);
  }
}

async function childOrMade(
  folder: AnchoredFolder,
  name: string,
  target: PlaceTarget,
  host: PlaceHost,
): Promise<{ readonly folder: AnchoredFolder; readonly node?: FileNode }> {
  try {
    return { folder: folder.child(name) };
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  const node = (await host.folderNode(joinPath(folder.path, name))) ?? nodeLikeFolder(folder);
  const isMade = (await makeFolder(folder, name, node, { tag: target.tag, host })) !== undefined;
  const child = folder.child(name);
  return isMade ? { folder: child, node } : { folder: child };
}

/**
 * Makes a folder under a staging name, gives it its metadata, and only then its name. Gives what could not be given
 * back; undefined: a folder of that name was made in the meantime and stands.
 */
export async function makeFolder(
  folder: AnchoredFolder,
  name: string,
  node: FileNode,
  made: { readonly tag: string; readonly host: PlaceHost },
): Promise<readonly string[] | undefined> {
  const { tag, host } = made;
  const staged = `${STAGING_PREFIX}${tag}-${randomBytes(6).toString("hex")}`;
  folder.mkdir(staged, 0o700);
  try {
    const child = folder.child(staged);
    let gaps: readonly MetadataGap[];
    try {
      gaps = applyToDescriptor(child.fd, node);
      const stat = tupleOf(fstatSync(child.fd, { bigint: true }));
      await host.announce({ path: joinPath(folder.path, name), stat, sha256: undefined });
    } finally {
      child.close();
    }
    if (!folder.verify()) throw unsafeTarget(joinPath(folder.path, name));
    // Never over another's, also an empty one: it may be open already to put something into it.
    if (!folder.renameFolderToFree(staged, folder, name)) {
      folder.rmdir(staged);
      return undefined;
    }
    // Before anything is waited for: whoever looks now finds the folder, and is to know whose it is.
    host.onFolderMade?.(joinPath(folder.path, name));
    await folder.sync();
    return gapTexts(gaps);
  } catch (error) {
    try {
      folder.rmdir(staged);
    } catch {
      // it was renamed, or is gone
    }
    throw error;
  }
}

function nodeLikeFolder(folder: AnchoredFolder): FileNode {
  return { ...nodeFromStat(fstatSync(folder.fd, { bigint: true })), mode: NEW_FOLDER_MODE };
}

/** The root itself, or the nearest folder above it when it is gone. */
function nearestExisting(root: BytePath): BytePath {
  let folder = root;
  while (folder !== "/" && statSync(pathBytes(folder), { throwIfNoEntry: false }) === undefined)
    folder = parentPath(folder);
  return folder;
}

/** What could not be given back, for people. */
export function gapTexts(gaps: readonly MetadataGap[]): readonly string[] {
  return gaps.map((gap) => `${gap.what}${gap.name === undefined ? "" : ` ${gap.name}`} not given back: ${gap.errno}`);
}

/** What a stat means for later comparison; of what is no file the size is 0, as it is registered. */
export function tupleOf(stat: BigIntStats): StatTuple {
  return {
    dev: stat.dev,
    ino: stat.ino,
    sizeBytes: stat.isFile() ? Number(stat.size) : 0,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
  };
}

/** Somebody swapped a folder on the way: nothing was written there. */
export function unsafeTarget(path: BytePath): HoldfastError {
  return new HoldfastError("TARGET_UNSAFE", `the folders above ${pathText(path)} were changed while it was restored`);
}

function asTargetError(error: unknown, path: BytePath): unknown {
  const errno = errnoOf(error);
  if (error instanceof HoldfastError || errno === undefined || errno === "ABORT_ERR") return error;
  const code = errno === "EACCES" || errno === "EPERM" ? "PERMISSION_DENIED" : "TARGET_IO";
  return new HoldfastError(code, `${pathText(path)} could not be written: ${errno}`, {
    details: { path: pathText(path), errno },
    cause: error,
  });
}
