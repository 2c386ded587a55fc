/**
 * Whether what is stored of a source is what stands there, so that a backup needs no walk. Events tell of changes, but
 * some need another look: times of a folder move with each name in it and are no change of their own; a file with
 * several names may be written through one that nobody watches; stores through a mapping and some asynchronous writes
 * make no event. Those paths are noted here and looked at one by one. Any doubt is told with its reason, and the source
 * is walked.
 */
import { type BytePath, parentPath, pathText } from "../base/paths.js";
import type { FileNode, NodeKind, StatTuple } from "../engine/types.js";
import type { SourceContext } from "./context.js";
import { isSameStat, lookAt, turn } from "./look.js";

/** A path that may differ from what is stored, as it stands there. */
export interface StandingPath {
  readonly path: BytePath;
  readonly kind: NodeKind;
  readonly stat: StatTuple;
}

export type Currency = (
  | { readonly is: "current"; /** All else is stored as it stands there. */ readonly standing: readonly StandingPath[] }
  | { readonly is: "doubtful"; readonly reason: string }
) & {
  /** To be called when the backup that began with this is made. */
  readonly backedUp: (backup: BackupFacts) => void;
};

export interface BackupFacts {
  /** True: all of the source was walked. */
  readonly isWhole: boolean;
  /** True: everything could be read. */
  readonly isComplete: boolean;
}

export interface CurrencyHooks {
  /** Why changes may not be heard or judged; undefined when all is well. */
  doubt(): string | undefined;
  /**
   * Resolves when everything that happened before the call is noted, but for what was dropped in floods of events:
   * gives how many of those there were. Undefined: that cannot be said.
   */
  fence(): Promise<number | undefined>;
  /** True while it is not known what became of some path. */
  isUnsure(): boolean;
  /** Paths with content or metadata that is not durable yet. */
  unstored(): Iterable<BytePath>;
  /** A file differs from what is registered and no event told: it is to be judged. */
  foundUnheard(path: BytePath): void;
}

/** What is unsure is waited for this long; a loss counts after half a second, ms. */
const SETTLE_MAX_MS = 1000;
const SETTLE_LOOK_MS = 5;
/** Paths that are noted for a look, each 200 bytes and 3 microseconds; beyond, a walk is as quick. */
const NOTED_MAX = 20_000;
/** A change this old would have been heard, ms. */
const UNHEARD_MS = 3000;
/** Files from this size on are looked at each time: images and databases are what is written without events. */
const LARGE_BYTES = 16 * 2 ** 20;

/** What was so when a backup began. */
interface Beginning {
  readonly mark: number;
  readonly floods: number | undefined;
}

export class SourceCurrency {
  readonly #context: SourceContext;
  readonly #hooks: CurrencyHooks;
  /** Grows with every backup that begins. */
  #mark = 1;
  /**
   * Folders whose names or metadata moved, and paths whose change could not be seen or read, with the mark after which
   * that was last so.
   */
  readonly #moved = new Map<BytePath, number>();
  /** After this mark more folders moved than are noted; 0: never. */
  #movedTooManyAt = 0;
  /** Files that may change without an event. */
  readonly #quiet = new Set<BytePath>();
  #isQuietFull = false;
  /** Why the last walk, if any, is no ground to stand on. */
  #unwalked: string | undefined = "nothing of it was walked since it is watched";
  /** Floods before the last whole walk began; undefined: not known. */
  #floodsWalked: number | undefined;

  constructor(context: SourceContext, hooks: CurrencyHooks) {
    this.#context = context;
    this.#hooks = hooks;
  }

  /** Something happened at a path: its folder's times may have moved. */
  heard(path: BytePath): void {
    this.folderMoved(parentPath(path));
  }

  folderMoved(folder: BytePath): void {
    this.#note(folder);
  }

  /** What changed here could not be looked at, or not be read to be made durable. */
  missed(path: BytePath): void {
    this.#note(path);
  }

  #note(path: BytePath): void {
    if (this.#moved.size >= NOTED_MAX && !this.#moved.has(path)) this.#movedTooManyAt = this.#mark;
    else this.#moved.set(path, this.#mark);
  }

  /** A path as it was found or stored. */
  saw(path: BytePath, node: Pick<FileNode, "kind" | "stat" | "linkCount">): void {
    if (node.kind === "file" && (node.linkCount > 1 || node.stat.sizeBytes >= LARGE_BYTES)) this.#changesQuietly(path);
  }

  /** A look through the source found that a path had changed, in ns since the epoch; no event had told. */
  changedBefore(path: BytePath, ctimeNs: bigint): void {
    const agedMs = this.#context.nowMs() - Number(ctimeNs / 1_000_000n);
    if (agedMs >= UNHEARD_MS) this.#changesQuietly(path);
  }

  #changesQuietly(path: BytePath): void {
    if (this.#quiet.size < NOTED_MAX) this.#quiet.add(path);
    else if (!this.#quiet.has(path)) this.#isQuietFull = true;
  }

  /** Paths that belong to the source no more, or are gone. */
  forget(path: BytePath): void {
    this.#quiet.delete(path);
  }

  #backedUp({ mark, floods }: Beginning, backup: BackupFacts): void {
    if (!backup.isComplete) {
      this.#unwalked = "some files could not be read at the last backup";
      return;
    }
    for (const [folder, movedAt] of this.#moved) if (movedAt < mark) this.#moved.delete(folder);
    if (!backup.isWhole) return;
    this.#unwalked = undefined;
    this.#floodsWalked = floods;
    if (this.#movedTooManyAt < mark) this.#movedTooManyAt = 0;
  }

  /** Whether what is stored is what stands there, now. `walkedBecause`: it is walked anyway, and nothing is judged. */
  async judge(walkedBecause?: string): Promise<Currency> {
    const mark = (this.#mark += 1);
    const floods = await this.#hooks.fence();
    const backedUp = (backup: BackupFacts): void => this.#backedUp({ mark, floods }, backup);
    const doubtful = (reason: string): Currency => ({ is: "doubtful", reason, backedUp });
    if (walkedBecause !== undefined) return doubtful(walkedBecause);
    const before = this.#doubt();
    if (before !== undefined) return doubtful(before);
    if (floods === undefined) return doubtful("the watcher was late");
    if (floods !== this.#floodsWalked) return doubtful("so many events came at once that some may be lost");
    if (!(await this.#settled())) return doubtful("changes were still being judged");
    const after = this.#doubt();
    if (after !== undefined) return doubtful(after);
    const standing = this.#standing();
    return typeof standing === "string" ? doubtful(standing) : { is: "current", standing, backedUp };
  }

  #doubt(): string | undefined {
    if (this.#unwalked !== undefined) return this.#unwalked;
    if (this.#movedTooManyAt > 0) return "more folders changed than are remembered";
    if (this.#isQuietFull) return "more files can change unheard than are remembered";
    const { registry } = this.#context.shared;
    const lost = registry.lostCount(this.#context.name);
    if (lost > 0) return `${String(lost)} lost or damaged files are not decided`;
    return this.#hooks.doubt();
  }

  async #settled(): Promise<boolean> {
    const { clock } = this.#context.shared;
    const untilMs = clock.monotonicMs() + SETTLE_MAX_MS;
    await turn(); // what the fence brought is looked at in the next turn
    while (this.#hooks.isUnsure()) {
      if (clock.monotonicMs() >= untilMs) return false;
      await clock.sleep(SETTLE_LOOK_MS, this.#context.signal);
    }
    return true;
  }

  /** Looks at every noted path; or why that leaves a doubt. */
  #standing(): readonly StandingPath[] | string {
    const { source, name, shared } = this.#context;
    const paths = new Set<BytePath>(this.#moved.keys());
    for (const path of this.#hooks.unstored()) paths.add(path);
    if (paths.size > NOTED_MAX) return "more changes are not durable yet than are looked at one by one";
    const standing: StandingPath[] = [];
    for (const path of this.#quiet) if (!paths.has(path) && this.#isMoved(path)) paths.add(path);
    for (const path of paths) {
      const look = lookAt(path);
      if (look.is === "there") {
        const { kind, stat } = look.node;
        const fits = kind !== "file" || source.fitsSize(stat.sizeBytes);
        if (fits && source.includes(path, kind)) standing.push({ path, kind, stat });
      } else if (look.is === "unknown" || shared.registry.get(name, path)?.state === "live") {
        return `${pathText(path)} could not be looked at`;
      }
    }
    return standing;
  }

  /** True when a file that may change unheard did so. */
  #isMoved(path: BytePath): boolean {
    const record = this.#context.shared.registry.get(this.#context.name, path);
    const look = lookAt(path);
    if (record?.state !== "live" || look.is !== "there") return record?.state === "live";
    if (isSameStat(record.stat, look.node.stat)) return false;
    this.#hooks.foundUnheard(path);
    return true;
  }
}
