/**
 * All roots of a source: opens and closes their ears, and tells apart a storage that went away, a folder that was
 * replaced, and a folder that was deleted.
 */
import { type BytePath, isWithin, pathText } from "../base/paths.js";
import type { SourceContext } from "./context.js";
import type { Ground } from "./missing.js";
import type { SourceWatch, WatchRoot } from "./ports.js";
import type { Registry } from "./registry.js";
import { type RootHooks, RootWatch } from "./root-watch.js";
import { InnerMounts } from "./watch/inner-mounts.js";
import { type Mount, type RootIdentity, coveringMount, judgeRoot, readMounts } from "./watch/mounts.js";
import type { NativeWatcher } from "./watch/native.js";

export interface RootsHooks extends Omit<RootHooks, "degraded"> {
  degraded(key: string, reason: string | undefined): void;
  /** The storage of a root is away: nothing below it is judged. */
  gone(root: BytePath): void;
  /** The root folder was deleted: everything below it is missing. */
  deleted(root: BytePath): void;
  /** What was known of folders below the root counts no more. */
  forget(root: BytePath): void;
}

type RootState = { readonly is: "there" } | { readonly is: "gone" | "deleted"; readonly reason: string };

interface KeptRoot {
  readonly watch: RootWatch;
  /** Device numbers that its storage had; a mount gets another one each time. */
  readonly devices: Set<string>;
  state: RootState;
}

/** Mounts are read again after this long when much is looked at, ms; no verdict of a loss rests on it. */
const RECENT_MS = 250;
const DELETED_REASON = "the protected folder itself was deleted";

export class Roots {
  readonly #context: SourceContext;
  readonly #hooks: RootsHooks;
  readonly #roots: readonly KeptRoot[];
  /** File systems mounted below the roots that belong to the source. */
  readonly #inner: InnerMounts;
  /** The grounds of a moment ago, for looks at many files on unusual devices. */
  #recent: (path: BytePath, dev: bigint) => Ground = () => ({ is: "sound" });
  #recentMs = -Infinity;
  #isClosed = false;
  #isOpen = false;

  constructor(context: SourceContext, native: NativeWatcher | undefined, pollMs: number, hooks: RootsHooks) {
    this.#context = context;
    this.#hooks = hooks;
    const { clock, actors } = context.shared;
    const options = { clock, native, pollMs, actors };
    this.#roots = mergedRoots(context.source.roots).map((root) => ({
      watch: new RootWatch(root, options, this.#hooksOf(root.folder)),
      devices: new Set(),
      state: { is: "there" },
    }));
    this.#inner = new InnerMounts(
      this.#roots.map(({ watch }) => watch.root.folder),
      (point, reason) => hooks.degraded(`mount:${point}`, reason),
    );
  }

  /** Judges each root against what was known before the restart, and opens the ears of those that are there. */
  async open(): Promise<void> {
    for (const root of this.#roots) {
      root.watch.identity = parseIdentity(await this.#context.shared.registry.readNote(this.#noteOf(root)));
      if (root.watch.identity !== undefined) root.devices.add(root.watch.identity.dev);
    }
    if (this.#context.source.crossMounts)
      this.#inner.take(await this.#context.shared.registry.readNote(this.#mountsNote));
    this.check();
    await Promise.all(this.#roots.filter((root) => root.state.is === "there").map((root) => root.watch.open()));
    this.#isOpen = true;
  }

  close(): void {
    this.#isClosed = true;
    for (const { watch } of this.#roots) watch.close();
  }

  of(path: BytePath): RootWatch | undefined {
    return this.#keptOf(path)?.watch;
  }

  isRoot(path: BytePath): boolean {
    return this.#roots.some(({ watch }) => watch.root.folder === path);
  }

  isThere(path: BytePath): boolean {
    return this.#keptOf(path)?.state.is === "there";
  }

  /** False for a folder on a file system that is mounted below the root. */
  isOnRootDevice(path: BytePath, dev: bigint): boolean {
    const root = this.of(path);
    if (root?.identity === undefined || root.identity.dev === String(dev)) return true;
    return this.#roots.some(({ watch }) => isWithin(watch.root.folder, path));
  }

  get goneReason(): string | undefined {
    for (const { state, watch } of this.#roots)
      if (state.is !== "there") return `${pathText(watch.root.folder)}: ${state.reason}`;
    return undefined;
  }

  /** Why changes may not be heard; undefined when all are. */
  get doubt(): string | undefined {
    for (const { watch } of this.#roots) {
      const { doubt } = watch;
      if (doubt !== undefined) return `${pathText(watch.root.folder)}: ${doubt}`;
    }
    return undefined;
  }

  get ears(): "inotify" | "sweep" {
    return this.#roots.some(({ watch }) => watch.earless === undefined) ? "inotify" : "sweep";
  }

  /** Looks at every root. */
  check(): void {
    this.#look();
  }

  /** Looks at the roots and mounts, now; the answer tells what each path, registered on that device, stands on. */
  grounds(): (path: BytePath, dev?: bigint) => Ground {
    const before = new Map(this.#roots.map((root) => [root, root.watch.identity?.mountId]));
    const mounts = this.#look();
    return (path, dev) => {
      const root = this.#keptOf(path);
      if (root === undefined) return { is: "away", detail: "no root holds it" };
      if (root.state.is === "gone") return { is: "away", detail: root.state.reason };
      if (root.state.is === "deleted") return { is: "deleted", detail: root.state.reason };
      if (before.get(root) !== undefined && before.get(root) !== root.watch.identity?.mountId)
        return { is: "away", detail: "its storage was away a moment ago" }; // the look through it that follows tells
      return this.#groundBelow(root, path, { dev, mounts });
    };
  }

  /** True when what stands at a path, on this device, is not of the source's storage, because that is away. */
  isForeign(path: BytePath, dev: bigint): boolean {
    const root = this.#keptOf(path);
    const isUsual = root?.state.is === "there" && root.watch.identity?.dev === String(dev);
    if (isUsual && this.#inner.isEmpty) return false;
    const nowMs = this.#context.shared.clock.monotonicMs();
    if (nowMs - this.#recentMs >= RECENT_MS) {
      this.#recent = this.grounds();
      this.#recentMs = nowMs;
    }
    return this.#recent(path, dev).is === "away";
  }

  #groundBelow(
    root: KeptRoot,
    path: BytePath,
    on: { readonly dev: bigint | undefined; readonly mounts: readonly Mount[] },
  ): Ground {
    const covering = coveringMount(path, root.watch.root.folder, on.mounts);
    if (covering === undefined) {
      const missing = this.#inner.missingAbove(path, on.mounts);
      return missing === undefined ? { is: "sound" } : { is: "away", detail: missing };
    }
    const isReached = this.#context.source.crossMounts && !(on.dev !== undefined && root.devices.has(String(on.dev)));
    return isReached ? { is: "sound" } : { is: "away", detail: `${pathText(covering.point)} is mounted over it` };
  }

  #look(): readonly Mount[] {
    const mounts = readMounts();
    if (this.#isClosed) return mounts;
    for (const root of this.#roots) this.#checkRoot(root, mounts);
    if (this.#context.source.crossMounts && this.#inner.look(mounts)) this.#note(this.#mountsNote, this.#inner.text());
    return mounts;
  }

  get #mountsNote(): string {
    return mountsNote(this.#context.name);
  }

  /** Without it a restart knows less, and that is all. */
  #note(name: string, value: string): void {
    void this.#context.shared.registry.writeNote(name, value).catch(() => undefined);
  }

  #keptOf(path: BytePath): KeptRoot | undefined {
    let best: KeptRoot | undefined;
    for (const root of this.#roots) {
      const { folder } = root.watch.root;
      if (isWithin(path, folder) && folder.length >= (best?.watch.root.folder.length ?? 0)) best = root;
    }
    return best;
  }

  #hooksOf(folder: BytePath): RootHooks {
    const { metrics } = this.#context.shared;
    return {
      changed: (heard) => {
        for (const kind of ["create", "update", "delete"] as const) metrics.events.add(heard.counts[kind], { kind });
        this.#hooks.changed(heard);
      },
      reconcile: (under, reason) => this.#hooks.reconcile(under, reason),
      recheck: (folders) => this.#hooks.recheck(folders),
      degraded: (reason) => this.#hooks.degraded(`ears:${folder}`, reason),
    };
  }

  #checkRoot(root: KeptRoot, mounts: readonly Mount[]): void {
    const { watch } = root;
    const verdict = watch.judge(mounts);
    switch (verdict.state) {
      case "there":
        this.#there(root, verdict.identity);
        return;
      case "replaced":
        if (root.state.is === "there") this.#gone(root, "another folder stands in its place");
        this.#there(root, verdict.identity);
        return;
      case "deleted":
        this.#deleted(root);
        return;
      case "gone":
        this.#gone(root, verdict.reason);
        return;
    }
  }

  #there(root: KeptRoot, identity: RootIdentity): void {
    const { watch, state } = root;
    const before = watch.identity;
    const isSame = before !== undefined && before.ino === identity.ino && before.mountId === identity.mountId;
    if (isSame && state.is === "there") {
      if (identity.storage === undefined || identity.storage === before.storage) return;
      watch.identity = identity; // known by its device's name only, until now
      this.#note(this.#noteOf(root), JSON.stringify(identity));
      return;
    }
    watch.identity = identity;
    root.devices.add(identity.dev);
    root.state = { is: "there" };
    this.#note(this.#noteOf(root), JSON.stringify(identity));
    if (state.is === "gone")
      this.#context.shared.bus.emit("root.returned", { source: this.#context.name, root: watch.root.folder });
    if (this.#isOpen) void this.#reopen(root);
  }

  /** New ears, then a look at everything: whatever happened meanwhile was not heard. */
  async #reopen({ watch }: KeptRoot): Promise<void> {
    this.#hooks.forget(watch.root.folder);
    watch.close();
    await watch.open();
    if (!this.#isClosed) await this.#hooks.reconcile(watch.root.folder, "root_returned");
  }

  #gone(root: KeptRoot, reason: string): void {
    if (root.state.is === "gone") return;
    root.state = { is: "gone", reason };
    root.watch.close();
    const { folder } = root.watch.root;
    this.#hooks.gone(folder);
    this.#context.shared.log.warn("watch.root_gone", { source: this.#context.name, root: pathText(folder), reason });
    this.#context.shared.bus.emit("root.gone", { source: this.#context.name, root: folder, reason });
  }

  #deleted(root: KeptRoot): void {
    if (root.state.is === "deleted") return;
    root.state = { is: "deleted", reason: DELETED_REASON };
    root.watch.close();
    this.#hooks.deleted(root.watch.root.folder);
  }

  #noteOf({ watch }: KeptRoot): string {
    return noteKey(this.#context.name, watch.root.folder);
  }
}

/**
 * Folders below the roots of a source whose files cannot be seen now: a file system that is not mounted, or, of a source
 * that does not reach into other file systems, one that is mounted over them. What is mounted now is remembered.
 */
export async function hiddenPointsOf(
  source: SourceWatch,
  registry: Pick<Registry, "readNote" | "writeNote">,
): Promise<readonly BytePath[]> {
  const folders = source.roots.map(({ folder }) => folder);
  const mounts = readMounts();
  if (!source.crossMounts) {
    const points = mounts.map(({ point }) => point);
    return points.filter((point) => folders.some((folder) => point !== folder && isWithin(point, folder)));
  }
  const inner = new InnerMounts(folders, () => undefined);
  inner.take(await registry.readNote(mountsNote(source.name)));
  if (inner.look(mounts)) await registry.writeNote(mountsNote(source.name), inner.text());
  return inner.away(mounts);
}

/**
 * Why a root of a source that nobody watches is away, compared with where it was when it was watched last. Undefined: all
 * are there, or were never seen.
 */
export async function awayReasonOf(
  source: SourceWatch,
  registry: Pick<Registry, "readNote">,
): Promise<string | undefined> {
  for (const { folder } of source.roots) {
    const before = parseIdentity(await registry.readNote(noteKey(source.name, folder)));
    if (before === undefined) continue;
    const verdict = judgeRoot(folder, before);
    if (verdict.state === "gone") return `${pathText(folder)}: ${verdict.reason}`;
    if (verdict.state === "deleted") return `${pathText(folder)}: ${DELETED_REASON}`;
  }
  return undefined;
}

/** Forgets where the roots of a source were when it was watched last. */
export async function forgetGroundOf(source: SourceWatch, registry: Pick<Registry, "writeNote">): Promise<void> {
  for (const { folder } of source.roots) await registry.writeNote(noteKey(source.name, folder), "");
}

function mountsNote(source: string): string {
  return `mounts:${source}`;
}

function noteKey(source: string, folder: BytePath): string {
  return `root:${source}:${folder}`;
}

/** One root for each folder: deep when any configured path in it is. */
function mergedRoots(roots: readonly WatchRoot[]): readonly WatchRoot[] {
  const merged = new Map<BytePath, WatchRoot>();
  for (const root of roots) {
    const other = merged.get(root.folder);
    merged.set(root.folder, {
      folder: root.folder,
      whole: root.whole || other?.whole === true,
      shallow: root.shallow && other?.shallow !== false,
    });
  }
  return [...merged.values()];
}

function parseIdentity(text: string | undefined): RootIdentity | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    const fields = value as Record<string, unknown>;
    const [dev, ino, mountId] = [fields["dev"], fields["ino"], fields["mountId"]];
    const [mountPoint, mountWhat, storage] = [fields["mountPoint"], fields["mountWhat"], fields["storage"]];
    if (typeof dev !== "string" || typeof ino !== "string" || typeof mountId !== "string") return undefined;
    if (typeof mountPoint !== "string" || typeof mountWhat !== "string") return undefined;
    return { dev, ino, mountId, mountPoint, mountWhat, ...(typeof storage === "string" ? { storage } : {}) };
  } catch {
    return undefined;
  }
}
