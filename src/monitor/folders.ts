/**
 * The folders of a source: which are known and when each last changed. A folder's time tells that a name in it came,
 * went or was replaced, so a look at the folders alone finds everything but writes in place. A folder that is seen for
 * the first time may already have folders in it that nobody watches; then the ears must be set anew.
 */
import { readdirSync } from "node:fs";
import type { NoticedBy } from "../base/events.js";
import { type BytePath, joinPath, parentPath } from "../base/paths.js";
import { reach } from "../base/reach.js";
import type { SourceContext } from "./context.js";
import type { DirtyItem } from "./dirty.js";
import { FolderTree } from "./folder-tree.js";
import { type Look, NOTHING_TO_KEEP, folderTimeAt, isAsRegistered, lookAt, turn } from "./look.js";
import type { DatedRecord, ReadPath } from "./registry.js";
import { SettledFolders } from "./settled-folders.js";

export interface FolderHooks {
  mark(path: BytePath, noticedBy: NoticedBy): void;
  /** A registered path is not in its folder. */
  missing(path: BytePath, known: DatedRecord, item: DirtyItem): Promise<void>;
  /** A folder came that may hold folders nobody watches. */
  foundUnwatched(folder: BytePath): void;
  /** A sweep found a path that is not as it is known, changed last then; ns since the epoch. */
  foundChanged(path: BytePath, ctimeNs: bigint): void;
  room(): Promise<void>;
}

const SLICE = 256;

export class FolderKeeper {
  readonly #context: SourceContext;
  readonly #hooks: FolderHooks;
  readonly #known = new FolderTree();
  /** Those that a sweep need not compare. */
  readonly settled: SettledFolders;

  constructor(context: SourceContext, hooks: FolderHooks) {
    this.#context = context;
    this.#hooks = hooks;
    const { registry } = context.shared;
    // What cannot be written, as on a full disk, is left out where a folder's paths are read.
    this.settled = new SettledFolders(this.#known, () => registry.notWritable === undefined);
  }

  get count(): number {
    return this.#known.size;
  }

  /** A walk has seen the folder and is about to see everything in it. Tells whether it was known, and with this time. */
  walked(folder: BytePath, mtimeNs: bigint): "new" | "moved" | "known" {
    const before = this.#known.get(folder);
    this.#known.set(folder, mtimeNs);
    if (before === undefined) return "new";
    return before === mtimeNs ? "known" : "moved";
  }

  has(folder: BytePath): boolean {
    return this.#known.has(folder);
  }

  /** Forgets a folder and all below it. */
  forget(folder: BytePath): void {
    this.#known.forget(folder);
  }

  /** Something happened to a folder, or it is new: compares the names in it with what is registered. */
  async examine(folder: BytePath, look: Look & { readonly is: "there" }, item: DirtyItem): Promise<void> {
    const before = this.#known.get(folder);
    const { mtimeNs } = look.node.stat;
    if (before === mtimeNs && !item.thorough) return;
    this.#known.set(folder, mtimeNs);
    const names = this.#names(folder);
    if (names === undefined) return;
    const isNew = before === undefined;
    if (isNew && (names.size > 0 || item.noticedBy !== "event")) this.#hooks.foundUnwatched(folder);
    await this.#compare(folder, { look, names, item });
  }

  /** One look at every known folder; marks those that changed. Gives when it began, wall ms; undefined: it was cut short. */
  async sweep(): Promise<number | undefined> {
    const { shared, name } = this.#context;
    const sinceMs = this.#context.nowMs();
    let count = 0;
    for (const [folder, mtimeNs] of this.#known.entries()) {
      count += 1;
      if (count % SLICE === 0) await turn();
      if (this.#context.signal.aborted) return undefined;
      const nowNs = folderTimeAt(folder);
      if (nowNs !== undefined && nowNs !== mtimeNs) this.#hooks.mark(folder, "sweep");
    }
    await shared.pauses.looked(name, sinceMs);
    return sinceMs;
  }

  #names(folder: BytePath): Set<string> | undefined {
    try {
      return new Set(reach(folder, (place) => readdirSync(place, "latin1")));
    } catch {
      return undefined; // gone or not readable: its own look tells
    }
  }

  async #compare(
    folder: BytePath,
    { look, names, item }: { readonly look: Look; readonly names: Set<string>; readonly item: DirtyItem },
  ): Promise<void> {
    const { shared, name } = this.#context;
    const offer = this.settled.offerOf(folder);
    const prefixLength = joinPath(folder, "").length;
    const own = shared.registry.get(name, folder);
    let isAsKnown = own === undefined || (look.is === "there" && isAsRegistered(own, look.node));
    let count = 0;
    for await (const known of shared.registry.children(name, folder)) {
      const { path, record } = known;
      count += 1;
      if (count % SLICE === 0) await turn();
      const isThere = names.delete(path.slice(prefixLength));
      if (!isThere) await this.#hooks.missing(path, known, item);
      if (isThere ? !this.#isAsKnown(known, item) : record.state !== "removed") isAsKnown = false;
    }
    for (const child of names) {
      count += 1;
      if (count % SLICE === 0) await turn();
      if (this.#isNew(joinPath(folder, child), item)) isAsKnown = false;
    }
    if (isAsKnown) this.settled.settle(folder, offer);
  }

  /** Looks at a known path, and marks it where something is to be judged. */
  #isAsKnown({ path, record }: ReadPath, item: DirtyItem): boolean {
    const look = lookAt(path);
    const isSame = look.is === "there" && record.state === "live" && isAsRegistered(record, look.node);
    const isFolder = look.is === "there" && look.node.kind === "folder";
    const isMoved = isFolder && this.#known.get(path) !== look.node.stat.mtimeNs;
    if (look.is === "missing" || isMoved || (look.is === "there" && !isSame)) this.#mark(path, look, item);
    return isSame;
  }

  /** Marks a path that is not known where it may belong to the source; true when it does. */
  #isNew(path: BytePath, item: DirtyItem): boolean {
    const { source } = this.#context;
    if (!source.includes(path) && !source.includes(path, "folder") && !source.mayContain(path)) return false;
    const look = lookAt(path);
    this.#mark(path, look, item);
    if (look.is !== "there") return look.is === "unknown" && look.errno !== NOTHING_TO_KEEP;
    const { kind, stat } = look.node;
    return source.includes(path, kind) && (kind !== "file" || source.fitsSize(stat.sizeBytes));
  }

  #mark(path: BytePath, look: Look, item: DirtyItem): void {
    if (this.settled.offerOf(parentPath(path)) !== undefined && look.is === "there" && look.node.kind === "file")
      this.#hooks.foundChanged(path, look.node.stat.ctimeNs);
    this.#hooks.mark(path, item.noticedBy);
  }
}
