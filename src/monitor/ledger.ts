/**
 * holdfast's own writes, announced before they become visible, so that the watcher does not take them for someone
 * else's. A write is recognised by device, inode, size and mtime, once, and never by a window of time, which would
 * hide whoever else writes meanwhile.
 */
import type { BytePath } from "../base/paths.js";
import type { StatTuple } from "../engine/types.js";
import type { OwnWrite } from "./ports.js";

/** Announced writes that nobody has seen yet; the oldest is dropped (and then counts as a change, which is harmless). */
const ENTRIES_MAX = 200_000;

export class OwnWriteLedger {
  readonly #expected = new Map<BytePath, OwnWrite>();

  expect(write: OwnWrite): void {
    this.#expected.delete(write.path);
    this.#expected.set(write.path, write);
    if (this.#expected.size <= ENTRIES_MAX) return;
    const [oldest] = this.#expected.keys();
    if (oldest !== undefined) this.#expected.delete(oldest);
  }

  /** Whether this stat is an announced write that nobody has taken yet. */
  holds(path: BytePath, stat: StatTuple): boolean {
    const write = this.#expected.get(path);
    return write !== undefined && isSameContentStat(write.stat, stat);
  }

  /** The announced write that this stat is, taken out of the ledger; undefined when it is somebody else's. */
  take(path: BytePath, stat: StatTuple): OwnWrite | undefined {
    const write = this.#expected.get(path);
    if (write === undefined || !isSameContentStat(write.stat, stat)) return undefined;
    this.#expected.delete(path);
    return write;
  }
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
