/**
 * Looking into a backup as into a file system: one folder at a time, and any part of a file's content. Chunks are
 * verified by their id; a whole file is verified by its digest as well.
 */
import { HoldfastError } from "../base/errors.js";
import { type BytePath, pathText } from "../base/paths.js";
import type { RepositoryCore } from "./core.js";
import { findBackup } from "./snapshots.js";
import { ByteReader } from "./tree/bytes.js";
import { readState } from "./tree/codec.js";
import { type FolderPlace, folderItems } from "./tree/folder.js";
import { treeLeaves } from "./tree/reader.js";
import type { FileNode } from "./types.js";

/** One name in a folder of a backup. */
export interface FolderEntry {
  /** Bytes as characters, without the folder. */
  readonly name: string;
  readonly source: string;
  /** Undefined: a folder on the way to a source, of which nothing is kept. */
  readonly node: FileNode | undefined;
}

/** The repository as browsing needs it. */
export interface BrowseSource {
  readonly core: RepositoryCore;
}

/** A folder of a backup, from one of its names on, of one source or all. */
export interface FolderQuery extends FolderPlace {
  readonly source?: string;
}

/**
 * What stands directly in a folder of a backup, source after source, each in byte order; a name that several sources
 * hold comes once. Throws BACKUP_NOT_FOUND, and VERSION_NOT_FOUND when the backup has no such folder.
 */
export async function* backupFolder(
  { core }: BrowseSource,
  id: string,
  query: FolderQuery,
  signal: AbortSignal,
): AsyncGenerator<FolderEntry> {
  const { folder } = query;
  const { manifest, sources } = findBackup(core, id);
  const { load } = core.parts.content.nodes;
  const told = new Set<string>();
  const implied = new Map<string, string>();
  const isShared = sources.length > 1;
  let found = false;
  for (const { name: source, root } of sources) {
    if (query.source !== undefined && query.source !== source) continue;
    for await (const { name, value } of folderItems(load, root, query, signal)) {
      found = true;
      if (told.has(name)) continue;
      if (value === undefined) {
        implied.set(name, implied.get(name) ?? source);
        continue;
      }
      if (isShared) told.add(name);
      yield { name, source, node: nodeOf(value) };
    }
  }
  for (const [name, source] of implied) if (!told.has(name)) yield { name, source, node: undefined };
  if (found || folder === "/" || (await backupNode({ core }, id, folder, signal))?.kind === "folder") return;
  throw new HoldfastError("VERSION_NOT_FOUND", `${pathText(folder)} is no folder in ${manifest.backup_id}`);
}

/** What a backup keeps of a path itself; undefined when nothing. */
export async function backupNode(
  { core }: BrowseSource,
  id: string,
  path: BytePath,
  signal: AbortSignal,
): Promise<FileNode | undefined> {
  const { load } = core.parts.content.nodes;
  for (const { root } of findBackup(core, id).sources) {
    // A path's own entry comes before everything below it.
    for await (const [first] of treeLeaves(load, root, path, signal)) {
      if (first?.path === path) return nodeOf(first.value);
      break;
    }
  }
  return undefined;
}

/** Bytes `offsetBytes` to before `endBytes` of a file, in parts. Throws RECORD_DAMAGED, CHUNK_MISSING. */
export async function* contentRange(
  { core }: BrowseSource,
  node: FileNode,
  range: { readonly offsetBytes: number; readonly endBytes: number },
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const { content } = core.parts;
  const { offsetBytes, endBytes } = range;
  if (offsetBytes <= 0 && endBytes >= node.stat.sizeBytes) {
    yield* content.content(node, signal);
    return;
  }
  let startBytes = 0;
  for (const { id, lengthBytes } of node.chunks ?? []) {
    if (startBytes >= endBytes) return;
    const from = Math.max(offsetBytes - startBytes, 0);
    const to = Math.min(endBytes - startBytes, lengthBytes);
    startBytes += lengthBytes;
    if (from >= to) continue;
    const bytes = await content.chunk(id, signal);
    if (bytes.length !== lengthBytes) throw new HoldfastError("RECORD_DAMAGED", `chunk ${id} has another length`);
    yield bytes.subarray(from, to);
  }
}

function nodeOf(value: Buffer): FileNode {
  const reader = new ByteReader(value);
  const { node } = readState(reader);
  reader.end();
  return node;
}
