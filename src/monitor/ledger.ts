/**
 * holdfast's own writes, announced before they become visible, so that the watcher does not take them for someone
 * else's. A write is recognised by device, inode, size and mtime (a folder, whose times move with each name in it, by
 * device and inode), once, and never by a window of time, which would hide whoever else writes meanwhile.
 */
import type { BytePath } from "../base/paths.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import type { OwnWrite } from "./ports.js";

/** Paths with announced writes that nobody has seen yet; the oldest is dropped (and then counts as a change, which is harmless). */
const PATHS_MAX = 200_000;
/** Files of one lost folder that are healed at once each announce the folder, and one of them makes it. */
const WRITES_OF_PATH_MAX = 8;

export class OwnWriteLedger {
  readonly #expected = new Map<BytePath, readonly OwnWrite[]>();

  expect(write: OwnWrite): void {
    const writes = [...(this.#expected.get(write.path) ?? []), write].slice(-WRITES_OF_PATH_MAX);
    this.#expected.delete(write.path);
    this.#expected.set(write.path, writes);
    if (this.#expected.size <= PATHS_MAX) return;
    const [oldest] = this.#expected.keys();
    if (oldest !== undefined) this.#expected.delete(oldest);
  }

  /** Whether what stands there is an announced write that nobody has taken yet. */
  holds(path: BytePath, node: Pick<FileNode, "kind" | "stat">): boolean {
    return this.#expected.get(path)?.some((write) => isThat(write, node)) ?? false;
  }

  /** The announced write that stands there, taken out of the ledger; undefined when it is somebody else's. */
  take(path: BytePath, node: Pick<FileNode, "kind" | "stat">): OwnWrite | undefined {
    const writes = this.#expected.get(path) ?? [];
    const found = writes.find((write) => isThat(write, node));
    if (found === undefined) return undefined;
    if (writes.length === 1) this.#expected.delete(path);
    else
      this.#expected.set(
        path,
        writes.filter((write) => write !== found),
      );
    return found;
  }
}

function isThat(write: OwnWrite, { kind, stat }: Pick<FileNode, "kind" | "stat">): boolean {
  if (kind === "folder") return write.stat.ino === stat.ino && write.stat.dev === stat.dev;
  return isSameContentStat(write.stat, stat);
}

/** Same inode with the same size and mtime; ctime may differ. */
export function isSameContentStat(
  left: Pick<StatTuple, "dev" | "ino" | "sizeBytes" | "mtimeNs">,
  right: Pick<StatTuple, "dev" | "ino" | "sizeBytes" | "mtimeNs">,
): boolean {
  return (
    left.ino === right.ino &&
    left.dev === right.dev &&
    left.sizeBytes === right.sizeBytes &&
    left.mtimeNs === right.mtimeNs
  );
}
