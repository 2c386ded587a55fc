/**
 * One folder of a tree, without what lies below it. Keys are whole paths in byte order, so the entries of a folder stand
 * between those of its subfolders; a subfolder's entries are skipped by going on after all of them, which costs one
 * descent for each subfolder however much is in it.
 */
import type { BytePath } from "../../base/paths.js";
import type { ChunkId } from "../types.js";
import type { TreeNode } from "./node.js";
import { type LoadNode, loadChild, openNode } from "./reader.js";

/** One name in a folder. `value` is undefined for a folder that is no entry itself but has entries below it. */
export interface FolderItem {
  readonly name: string;
  readonly value: Buffer | undefined;
}

/** Which folder, and from which of its names on (bytes as characters; all of them unless told). */
export interface FolderPlace {
  readonly folder: BytePath;
  readonly fromName?: string;
}

/** The names directly in a folder, in byte order of the paths; nothing when it holds nothing or is no folder. */
export async function* folderItems(
  load: LoadNode,
  rootId: ChunkId,
  { folder, fromName = "" }: FolderPlace,
  signal: AbortSignal,
): AsyncGenerator<FolderItem> {
  const prefix = folder === "/" ? "/" : `${folder}/`;
  const walk: FolderWalk = {
    prefix,
    end: `${prefix.slice(0, -1)}0`,
    from: `${prefix}${fromName}`,
    entered: new Set(),
  };
  yield* itemsBelow(load, await openNode(load, rootId, signal), walk, signal);
}

interface FolderWalk {
  /** What every path in the folder begins with. */
  readonly prefix: string;
  /** The first key after the folder: "0" follows "/" in byte order. */
  readonly end: string;
  /** Keys before this one are of no interest (any more). */
  from: string;
  /** Names that something was found below of, or that may be folders: told already. */
  readonly entered: Set<string>;
}

async function* itemsBelow(
  load: LoadNode,
  node: TreeNode,
  walk: FolderWalk,
  signal: AbortSignal,
): AsyncGenerator<FolderItem> {
  signal.throwIfAborted();
  if ("entries" in node) {
    for (const { path, value } of node.entries) {
      if (path < walk.from || path >= walk.end) continue;
      const item = itemOf(path, value, walk);
      if (item !== undefined) yield item;
    }
    return;
  }
  for (const [index, child] of node.children.entries()) {
    if (child.firstPath >= walk.end) return;
    const next = node.children[index + 1]?.firstPath;
    if (next !== undefined && next <= walk.from) continue;
    yield* itemsBelow(load, await loadChild(load, child, node.level, signal), walk, signal);
  }
}

function itemOf(path: string, value: Buffer, walk: FolderWalk): FolderItem | undefined {
  const rest = path.slice(walk.prefix.length);
  const cut = rest.indexOf("/");
  if (cut < 0) {
    if (rest === "") return undefined; // the root's own entry
    walk.entered.add(rest);
    return { name: rest, value };
  }
  const name = rest.slice(0, cut);
  walk.from = `${walk.prefix}${name}0`;
  if (walk.entered.has(name)) return undefined;
  walk.entered.add(name);
  return { name, value: undefined };
}
