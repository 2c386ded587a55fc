/**
 * holdfast's own writes, announced before they become visible, so that the watcher does not take them for someone
 * else's. A write is recognised by device, inode, size and mtime (a folder, whose times move with each name in it, by
 * device and inode), once, and never by a window of time, which would hide whoever else writes meanwhile.
 *
 * What was announced lately is in LevelDB too: the file may be in its place, and the daemon killed before it was seen
 * there. The next run has to know it for ours, or its next deletion, which its owner means, would be undone.
 */
import type { Clock } from "../base/clock.js";
import type { BytePath } from "../base/paths.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import type { OwnWrite } from "./ports.js";
import type { StateSublevel } from "./state-sublevel.js";

/** Paths with announced writes that nobody has seen yet; the oldest is dropped (and then counts as a change, which is harmless). */
const PATHS_MAX = 200_000;
/** Files of one lost folder that are healed at once each announce the folder, and one of them makes it. */
const WRITES_OF_PATH_MAX = 8;
/** What was announced before that says nothing about a deletion any more, ms. */
const KEPT_MS = 600_000;

export class OwnWriteLedger {
  readonly #expected = new Map<BytePath, readonly OwnWrite[]>();
  readonly #kept: KeptWrites | undefined;

  /** Without `kept` nothing outlives the process. */
  constructor(kept?: KeptWrites) {
    this.#kept = kept;
  }

  /** With what was announced moments before the last end. */
  static async open(store: StateSublevel, clock: Clock): Promise<OwnWriteLedger> {
    const kept = new KeptWrites(store, clock);
    const ledger = new OwnWriteLedger(kept);
    for (const write of await kept.load()) ledger.#remember(write);
    return ledger;
  }

  /** Resolves when a killed process would not forget it; what cannot be noted is remembered by this process alone. */
  async expect(write: OwnWrite): Promise<void> {
    this.#remember(write);
    await this.#kept?.note(write);
  }

  #remember(write: OwnWrite): void {
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

/** The last write of each path that was announced within the last minutes, in LevelDB. */
class KeptWrites {
  readonly #level: ReturnType<typeof ledgerOf>;
  readonly #clock: Clock;
  /** When each was noted, wall ms, oldest first. */
  readonly #notedAtMs = new Map<BytePath, number>();

  constructor(store: StateSublevel, clock: Clock) {
    this.#level = ledgerOf(store);
    this.#clock = clock;
  }

  /** Oldest first; what is older than that, or cannot be read, goes. */
  async load(): Promise<readonly OwnWrite[]> {
    const found: { readonly write: OwnWrite; readonly atMs: number }[] = [];
    const old: string[] = [];
    const nowMs = this.#clock.nowMs();
    for await (const [key, text] of this.#level.iterator()) {
      const noted = parseNoted(key as BytePath, text);
      if (noted === undefined || Math.abs(nowMs - noted.atMs) > KEPT_MS) old.push(key);
      else found.push(noted);
    }
    await this.#level.batch(old.map((key) => ({ type: "del", key })));
    found.sort((a, b) => a.atMs - b.atMs);
    for (const { write, atMs } of found) this.#notedAtMs.set(write.path, atMs);
    return found.map(({ write }) => write);
  }

  async note(write: OwnWrite): Promise<void> {
    const { path, stat, sha256 } = write;
    const atMs = this.#clock.nowMs();
    this.#notedAtMs.delete(path);
    const old = this.#takeOld(atMs);
    this.#notedAtMs.set(path, atMs);
    const { dev, ino, sizeBytes, mtimeNs } = stat;
    const text = JSON.stringify([atMs, String(dev), String(ino), sizeBytes, String(mtimeNs), sha256 ?? ""]);
    try {
      await this.#level.batch([
        ...old.map((key) => ({ type: "del" as const, key })),
        { type: "put", key: path, value: text },
      ]);
    } catch {
      // A heal does not fail for that: at worst it is not known for ours after a kill within the next moments.
    }
  }

  #takeOld(nowMs: number): readonly BytePath[] {
    const old: BytePath[] = [];
    for (const [path, atMs] of this.#notedAtMs) {
      if (nowMs - atMs <= KEPT_MS && this.#notedAtMs.size < PATHS_MAX) break;
      this.#notedAtMs.delete(path);
      old.push(path);
    }
    return old;
  }
}

function ledgerOf(store: StateSublevel) {
  return store.sublevel("own-writes");
}

function parseNoted(path: BytePath, text: string): { readonly write: OwnWrite; readonly atMs: number } | undefined {
  try {
    const fields: unknown = JSON.parse(text);
    if (!Array.isArray(fields)) return undefined;
    const [atMs, dev, ino, sizeBytes, mtimeNs, sha256] = fields as readonly unknown[];
    if (typeof atMs !== "number" || typeof sizeBytes !== "number" || typeof sha256 !== "string") return undefined;
    if (typeof dev !== "string" || typeof ino !== "string" || typeof mtimeNs !== "string") return undefined;
    const stat = { dev: BigInt(dev), ino: BigInt(ino), sizeBytes, mtimeNs: BigInt(mtimeNs) };
    return { write: { path, stat, sha256: sha256 === "" ? undefined : sha256 }, atMs };
  } catch {
    return undefined;
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
