/**
 * Which small files are worth fetching together: the names of a folder are cut into runs, and a run is fetched when a
 * second file of its folder is read. The cut does not depend on the order in which a program reads.
 */
import { type BytePath, nameOf, parentPath } from "../base/paths.js";
import type { Folder } from "./backup-tree.js";
import type { BrowseFile, BrowseNode, FileRun } from "./library.js";

/** Larger files are fetched alone, bytes; the API's own limit. */
export const SMALL_BYTES_MAX = 256 * 2 ** 10;
/** A run: at most so many names, and about so many bytes. */
const RUN_NAMES_MAX = 256;
const RUN_BYTES_MAX = 2 * 2 ** 20;
/** Folders of which it is known that they are being read. */
const FOLDERS_KEPT = 256;

export class FileRuns {
  /** The file of each folder that was read first. */
  readonly #firstRead = new Map<string, BytePath>();
  /** For each folder, the run that each name lies in, by the index of the run's first name. */
  readonly #starts = new WeakMap<Folder, Uint32Array>();

  /** Notes that a file's content is wanted: true when others of its folder were wanted before. */
  isFolderRead(file: BrowseFile): boolean {
    const key = `${file.backupId}\0${parentPath(file.path)}`;
    const first = this.#firstRead.get(key);
    if (first !== undefined) return first !== file.path;
    this.#firstRead.set(key, file.path);
    if (this.#firstRead.size > FOLDERS_KEPT) {
      for (const oldest of this.#firstRead.keys()) {
        this.#firstRead.delete(oldest);
        break;
      }
    }
    return false;
  }

  /** The run that a file of a folder lies in; undefined when it is not among its names. */
  runOf(file: BrowseFile, folder: Folder): FileRun | undefined {
    const index = folder.byName.get(nameOf(file.path));
    if (index === undefined) return undefined;
    const starts = this.#startsOf(folder);
    const first = starts[index] ?? index;
    let count = index - first + 1;
    while (starts[first + count] === first) count += 1;
    const node = folder.nodes[first];
    if (node === undefined) return undefined;
    const { name: firstName, source } = node;
    return { backupId: file.backupId, folder: parentPath(file.path), source, firstName, count };
  }

  #startsOf(folder: Folder): Uint32Array {
    const known = this.#starts.get(folder);
    if (known !== undefined) return known;
    const starts = cutIntoRuns(folder.nodes);
    this.#starts.set(folder, starts);
    return starts;
  }
}

function cutIntoRuns(nodes: readonly BrowseNode[]): Uint32Array {
  const starts = new Uint32Array(nodes.length);
  let [first, bytes] = [0, 0];
  for (const [index, node] of nodes.entries()) {
    const isFull = index - first >= RUN_NAMES_MAX || bytes >= RUN_BYTES_MAX;
    if (isFull || nodes[first]?.source !== node.source) [first, bytes] = [index, 0];
    starts[index] = first;
    if (node.kind === "file" && node.sizeBytes <= SMALL_BYTES_MAX) bytes += node.sizeBytes;
  }
  return starts;
}
