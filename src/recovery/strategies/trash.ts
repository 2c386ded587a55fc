/**
 * Traces of a file in the XDG Trash of its users and of its file system. They are proof that somebody meant the
 * deletion, so they are only ever offered.
 */
import { lstat, readdir } from "node:fs/promises";
import {
  type BytePath,
  isWithin,
  joinPath,
  parentPath,
  pathBytes,
  pathFromBytes,
  relativeTo,
} from "../../base/paths.js";
import { readSmallFile } from "../regular-file.js";

/** A trashed thing that was, or held, the lost path. */
export interface TrashedFile {
  /** Where the content lies now. */
  readonly file: BytePath;
  /** The Trash folder. */
  readonly trash: BytePath;
  /** Below this folder nothing may be reached through a link: the Trash is its owner's to write to. */
  readonly root: BytePath;
  /** As the Trash notes it: local time without a zone; "" when it does not say. */
  readonly deletedAt: string;
}

/** Entries looked at in one Trash folder. */
const ENTRIES_MAX = 10_000;
const INFO_BYTES_MAX = 64 * 2 ** 10;
const INFO_SUFFIX = ".trashinfo";

/** Trashed files that were at `lost`, over the Trash folders of `homes` and of the file system that held it. */
export async function findInTrash(
  lost: BytePath,
  homes: readonly BytePath[],
  signal: AbortSignal,
): Promise<readonly TrashedFile[]> {
  const found: TrashedFile[] = [];
  for (const home of homes) {
    const trash = joinPath(home, ".local/share/Trash");
    found.push(...(await lookInto(trash, "/" as BytePath, lost, signal)));
  }
  for (const top of await topFolders(lost)) {
    for (const name of await namesIn(top)) {
      if (name === ".Trash") {
        const trash = joinPath(top, name);
        for (const uid of await namesIn(trash))
          found.push(...(await lookInto(joinPath(trash, uid), top, lost, signal)));
      } else if (/^\.Trash-\d+$/.test(name)) found.push(...(await lookInto(joinPath(top, name), top, lost, signal)));
    }
  }
  return found;
}

/** `base` is what relative paths in the entries count from. */
async function lookInto(trash: BytePath, base: BytePath, lost: BytePath, signal: AbortSignal): Promise<TrashedFile[]> {
  const found: TrashedFile[] = [];
  const infos = (await namesIn(joinPath(trash, "info"))).filter((name) => name.endsWith(INFO_SUFFIX));
  for (const name of infos.slice(0, ENTRIES_MAX)) {
    signal.throwIfAborted();
    const info = await readSmallFile(joinPath(joinPath(trash, "info"), name), INFO_BYTES_MAX, signal);
    const original = info === undefined ? undefined : originalPath(info.toString("latin1"), base);
    if (info === undefined || original === undefined || !isWithin(lost, original)) continue;
    const kept = joinPath(joinPath(trash, "files"), name.slice(0, -INFO_SUFFIX.length));
    const below = relativeTo(lost, original);
    const deletedAt = /^DeletionDate=(.*)$/m.exec(info.toString("latin1"))?.[1]?.trim() ?? "";
    const file = below === "" ? kept : joinPath(kept, below);
    found.push({ file, trash, root: trash, deletedAt });
  }
  return found;
}

function originalPath(info: string, base: BytePath): BytePath | undefined {
  const encoded = /^Path=(.*)$/m.exec(info)?.[1]?.trim();
  if (encoded === undefined || encoded === "") return undefined;
  const decoded = percentDecoded(encoded);
  return pathFromBytes(Buffer.from(decoded.startsWith("/") ? decoded : joinPath(base, decoded), "latin1"));
}

/** Percent-encoded bytes, to bytes as characters; what is no valid escape stays as it is. */
export function percentDecoded(text: string): string {
  return text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** The topmost folder of the file system that holds (or held) the path. */
async function topFolders(path: BytePath): Promise<readonly BytePath[]> {
  let folder = parentPath(path);
  let device: bigint | undefined;
  for (;;) {
    const parent = parentPath(folder);
    const here = await deviceOf(folder);
    const above = await deviceOf(parent);
    device ??= here;
    if (folder === "/" || (here !== undefined && here !== above)) return device === undefined ? [] : [folder];
    folder = parent;
  }
}

async function deviceOf(folder: BytePath): Promise<bigint | undefined> {
  try {
    return (await lstat(pathBytes(folder), { bigint: true })).dev;
  } catch {
    return undefined;
  }
}

/** Names in a folder, bytes as characters; none when it cannot be read. */
export async function namesIn(folder: BytePath): Promise<readonly string[]> {
  try {
    return (await readdir(pathBytes(folder), "buffer")).map((name) => name.toString("latin1"));
  } catch {
    return [];
  }
}
