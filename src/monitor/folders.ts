/**
 * The folders of a source: which are known and when each last changed. A folder's time tells that a name in it came,
 * went or was replaced, so a look at the folders alone finds everything but writes in place. A folder that is seen for
 * the first time may already have folders in it that nobody watches; then the ears must be set anew.
 */
import { readdirSync } from "node:fs";
import type { NoticedBy } from "../base/events.js";
import { type BytePath, joinPath } from "../base/paths.js";
import { reach } from "../base/reach.js";
import type { SourceContext } from "./context.js";
import type { DirtyItem } from "./dirty.js";
import { FolderTree } from "./folder-tree.js";
import { type Look, isAsRegistered, lookAt, turn } from "./look.js";
import type { DatedRecord, RegistryRecord } from "./registry.js";

export interface FolderHooks {
  mark(path: BytePath, noticedBy: NoticedBy): void;
  /** A registered path is not in its folder. */
  missing(path: BytePath, known: DatedRecord, item: DirtyItem): Promise<void>;
  /** A folder came that may hold folders nobody watches. */
  foundUnwatched(folder: BytePath): void;
  room(): Promise<void>;
}

const SLICE = 256;

export class FolderKeeper {
  readonly #context: SourceContext;
  readonly #hooks: FolderHooks;
  readonly #known = new FolderTree();

  constructor(context: SourceContext, hooks: FolderHooks) {
    this.#context = context;
    this.#hooks = hooks;
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
    await this.#compare(folder, names, item);
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
      const look = lookAt(folder);
      if (look.is === "unknown") continue;
      if (look.is === "missing" || look.node.stat.mtimeNs !== mtimeNs) this.#hooks.mark(folder, "sweep");
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

  async #compare(folder: BytePath, names: Set<string>, item: DirtyItem): Promise<void> {
    const { shared, name, source } = this.#context;
    const prefixLength = joinPath(folder, "").length;
    let count = 0;
    for await (const known of shared.registry.children(name, folder)) {
      const { path, record } = known;
      count += 1;
      if (count % SLICE === 0) await turn();
      const isThere = names.delete(path.slice(prefixLength));
      if (!isThere) await this.#hooks.missing(path, known, item);
      else if (this.#differs(path, record)) this.#hooks.mark(path, item.noticedBy);
    }
    for (const child of names) {
      const path = joinPath(folder, child);
      count += 1;
      if (count % SLICE === 0) await turn();
      if (source.includes(path) || source.includes(path, "folder") || source.mayContain(path))
        this.#hooks.mark(path, item.noticedBy);
    }
  }

  #differs(path: BytePath, record: RegistryRecord): boolean {
    const look = lookAt(path);
    if (look.is !== "there") return look.is === "missing";
    if (look.node.kind === "folder") return this.#known.get(path) !== look.node.stat.mtimeNs;
    return record.state !== "live" || !isAsRegistered(record, look.node);
  }
}
