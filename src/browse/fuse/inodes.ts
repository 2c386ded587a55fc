/**
 * What the kernel knows of us by number. Numbers are made from the backup and the path (or the inode of hard links), so
 * that they are the same at each mount. A place stays here for as long as the kernel refers to it.
 */
import { createHash } from "node:crypto";
import type { BytePath } from "../../base/paths.js";
import type { BrowseNode } from "../library.js";

/** Something with a number: the root (no backup), a backup (path `/`), or an entry of one. */
export interface Place {
  readonly backupId: string;
  readonly path: BytePath;
  readonly node: BrowseNode;
}

export const ROOT_NODE_ID = 1;
/** Numbers are of 52 bits, so that they are exact as a JavaScript number. */
const NUMBER_HEX_DIGITS = 13;
const NUMBER_MAX = 2 ** 52;

interface Held extends Place {
  readonly identity: string;
  lookups: number;
}

export class Inodes {
  readonly #held = new Map<number, Held>();
  readonly #root: Place;

  constructor(root: Place) {
    this.#root = root;
  }

  /** Places that the kernel refers to. */
  get size(): number {
    return this.#held.size;
  }

  place(nodeId: number): Place | undefined {
    return nodeId === ROOT_NODE_ID ? this.#root : this.#held.get(nodeId);
  }

  /** The number that a place has, or would get. */
  numberOf(place: Place): number {
    const identity = identityOf(place);
    let number = numberFor(identity);
    for (let held = this.#held.get(number); held !== undefined; held = this.#held.get(number)) {
      if (held.identity === identity) break;
      number = number + 1 < NUMBER_MAX ? number + 1 : ROOT_NODE_ID + 1;
    }
    return number;
  }

  /** Counts one look-up of a place; gives its number. */
  take(place: Place): number {
    const number = this.numberOf(place);
    const held = this.#held.get(number);
    if (held === undefined) this.#held.set(number, { ...place, identity: identityOf(place), lookups: 1 });
    else held.lookups += 1;
    return number;
  }

  /** The kernel forgets so many look-ups. */
  forget(nodeId: number, count: number): void {
    const held = this.#held.get(nodeId);
    if (held === undefined) return;
    held.lookups -= count;
    if (held.lookups <= 0) this.#held.delete(nodeId);
  }
}

/** Names of one file share a number when they shared an inode and still were the same when they were stored. */
function identityOf({ backupId, path, node }: Place): string {
  if (node.kind === "folder" || node.linkCount < 2) return `${backupId}\0${path}`;
  const { inode, sha256 = "", mtimeNs, mode, source } = node;
  return [backupId, "", source, inode, sha256, mtimeNs, mode].join("\0");
}

function numberFor(identity: string): number {
  const digits = createHash("sha256").update(identity, "latin1").digest("hex").slice(0, NUMBER_HEX_DIGITS);
  return Math.max(Number.parseInt(digits, 16), ROOT_NODE_ID + 1);
}
