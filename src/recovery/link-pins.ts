/**
 * Links to the files of critical sources, in hidden folders of their own file systems (`pin-folder.ts`): reflinks where
 * there are any, hard links elsewhere if they are allowed. What was deleted is given back from them without the
 * repository, also when it went while the daemon was down. Only what is stored is linked: a file counts when it stands
 * as its newest version was read.
 *
 * Links must do no harm: they are bounded in number; those of files that have no other name any more are let go after a
 * while, for they take space; and folders that hold none are removed.
 */
import { type BigIntStats, closeSync, fstatSync, lstatSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { writeFileDurably } from "../base/atomic-file.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import type { EventBus } from "../base/events.js";
import { ResourceStack } from "../base/lifecycle.js";
import type { Gauge, Observer } from "../base/observe.js";
import { type BytePath, joinPath, pathBytes, pathFromText, pathText } from "../base/paths.js";
import type { FileNode } from "../engine/types.js";
import { openToKeep } from "./open-to-keep.js";
import {
  type KeptLink,
  LINK_KINDS,
  type LinkKind,
  PinFolder,
  linkKey,
  placesOfLinks,
  sourceKey,
} from "./pin-folder.js";

/** Files that are linked at most, over all sources. */
const LINKS_MAX = 50_000;
/** Changed files that wait to be linked anew; further ones are linked with their next change. */
const WAITING_MAX = 50_000;
/** How often lost files are looked at, ms. */
const LOOK_EVERY_MS = 60_000;
/** Links of a file that was lost are kept this long, ms, */
const LOST_MS = 24 * 3_600_000;
/** and all of them together take this much space at most, bytes. */
const LOST_BYTES_MAX = 2 ** 30;
/** Files linked in one go before others get their turn. */
const SLICE_FILES = 200;
/** Names the folders that were made, one a line, so that a later start finds and clears them. */
const NOTES_NAME = "pin-folders";

/** A link as recovery uses it. */
export interface LinkedFile {
  readonly kind: LinkKind;
  /** Absolute path of the link. */
  readonly file: BytePath;
  readonly stat: BigIntStats;
  /** Of a reflink's content. */
  readonly sha256: string | undefined;
}

/** Who asks for links. */
export interface LinkReader {
  /** What is kept of a path; undefined when nothing is. */
  linkOf(source: string, path: BytePath): LinkedFile | undefined;
}

/** For where nothing is linked. */
export const NO_LINKS: LinkReader = { linkOf: () => undefined };

export interface LinkPinsOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  /** Sources whose files are linked, as of now. */
  readonly criticalSources: () => readonly string[];
  /** The stored regular files of a source. */
  readonly filesOf: (source: string) => AsyncIterable<{ readonly path: BytePath; readonly node: FileNode }>;
  /** What is stored of a path as its newest version; undefined when that is a removal, or nothing is. */
  readonly nodeOf: (path: BytePath) => Promise<FileNode | undefined>;
  readonly stateDir: string;
  readonly kinds: ReadonlySet<LinkKind>;
  /** Instead of 50,000. */
  readonly linksMax?: number;
}

interface LostSince {
  readonly path: BytePath;
  readonly source: string;
  readonly sinceMs: number;
}

export class LinkPins implements LinkReader, AsyncDisposable {
  readonly #options: LinkPinsOptions;
  readonly #links = new Map<string, KeptLink>();
  /** By path of the folder. */
  readonly #folders = new Map<BytePath, PinFolder>();
  /** Where links of a device's files go; undefined: nowhere. */
  readonly #places = new Map<bigint, PinFolder | undefined>();
  readonly #lost = new Map<string, LostSince>();
  readonly #waiting = new Map<BytePath, string>();
  readonly #resources = new ResourceStack();
  readonly #stop = new AbortController();
  readonly #count: Gauge<"kind">;
  #work: Promise<void> = Promise.resolve();
  #isDraining = false;
  #isFullTold = false;

  private constructor(options: LinkPinsOptions) {
    this.#options = options;
    this.#count = options.observer.gauge({
      name: "holdfast_recovery_linked_files",
      help: "Files of critical sources of which a link is kept on their own file system, by its kind.",
      labels: ["kind"],
    });
  }

  /** Finds what earlier runs have kept, and listens to the bus. */
  static async open(options: LinkPinsOptions): Promise<LinkPins> {
    const links = new LinkPins(options);
    const noted = await readFile(join(options.stateDir, NOTES_NAME), "latin1").catch(() => "");
    for (const path of noted.split("\n").filter((line) => line.startsWith("/"))) links.#adopt(path as BytePath);
    links.#listen();
    links.#tellCount();
    return links;
  }

  /** Files that are linked now. */
  get size(): number {
    return this.#links.size;
  }

  /** Resolves when everything told so far is linked. */
  async settled(): Promise<void> {
    let seen: Promise<void> | undefined;
    while (seen !== this.#work) {
      seen = this.#work;
      await seen;
    }
  }

  linkOf(source: string, path: BytePath): LinkedFile | undefined {
    const kept = this.#links.get(linkKey(source, path));
    const stat = kept?.folder.stat(kept);
    if (kept === undefined || stat === undefined) return undefined;
    return { kind: kept.kind, file: joinPath(kept.folder.path, kept.name), stat, sha256: kept.sha256 };
  }

  /** Lets go what was lost for too long, takes too much space, or belongs to no critical source any more. */
  look(): void {
    const nowMs = this.#options.clock.monotonicMs();
    let lostBytes = 0;
    for (const [key, { path, source, sinceMs }] of this.#lost) {
      const kept = this.#links.get(key);
      const stat = kept?.folder.stat(kept);
      const isBack = statOf(path) !== undefined;
      if (isBack) this.#enqueue(source, [path]);
      else lostBytes += Number(stat?.blocks ?? 0n) * 512;
      if (!isBack && (nowMs - sinceMs >= LOST_MS || lostBytes > LOST_BYTES_MAX)) this.#release(key);
      if (isBack || !this.#links.has(key)) this.#lost.delete(key);
    }
    const wanted = new Set(this.#options.kinds.size === 0 ? [] : this.#options.criticalSources().map(sourceKey));
    for (const key of [...this.#links.keys()]) if (!wanted.has(key.slice(0, 8))) this.#release(key);
    this.#tellCount();
  }

  /** The links stay: they are for what happens while nobody watches. Folders without any go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new HoldfastError("INTERRUPTED", "the daemon is stopping"));
    await this.#resources[Symbol.asyncDispose]();
    await this.settled();
    for (const [path, folder] of [...this.#folders]) if (folder.removeIfEmpty()) this.#folders.delete(path);
    await this.#note();
  }

  #listen(): void {
    const { bus, clock } = this.#options;
    const isWanted = (source: string): boolean =>
      this.#options.kinds.size > 0 && this.#options.criticalSources().includes(source);
    this.#resources.defer(
      bus.on("watch.ready", ({ source }) => {
        if (isWanted(source)) this.#do(() => this.#fill(source));
      }),
    );
    this.#resources.defer(
      bus.on("commit.durable", ({ source, paths }) => {
        if (isWanted(source)) this.#enqueue(source, paths);
      }),
    );
    this.#resources.defer(bus.on("file.removed", ({ source, path }) => this.#release(linkKey(source, path))));
    this.#resources.defer(bus.on("file.lost", ({ source, path }) => this.#noteLost(source, path)));
    this.#resources.defer(
      bus.on("mass.loss", ({ source, losses }) => {
        for (const { path } of losses) this.#noteLost(source, path);
      }),
    );
    const looking = clock.every(LOOK_EVERY_MS, () => this.look());
    this.#resources.defer(() => looking.cancel());
  }

  /** One piece of work after the other; a failing one is logged. */
  #do(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#options.observer.log.warn("links.failed", { message: messageOf(error) });
    });
  }

  #enqueue(source: string, paths: readonly BytePath[]): void {
    for (const path of paths) {
      if (this.#waiting.size >= WAITING_MAX) break;
      this.#waiting.set(path, source);
    }
    if (this.#isDraining || this.#waiting.size === 0) return;
    this.#isDraining = true;
    this.#do(async () => await this.#drain().finally(() => (this.#isDraining = false)));
  }

  async #drain(): Promise<void> {
    for (const [path, source] of this.#waiting) {
      this.#stop.signal.throwIfAborted();
      this.#waiting.delete(path);
      const node = await this.#options.nodeOf(path);
      if (node?.kind === "file") await this.#keep(source, path, node);
    }
    this.#tellCount();
  }

  /** Links every file of a source that has no link yet, and drops what belongs to none. */
  async #fill(source: string): Promise<void> {
    const seen = new Set<string>();
    for await (const { path, node } of this.#options.filesOf(source)) {
      this.#stop.signal.throwIfAborted();
      seen.add(linkKey(source, path));
      await this.#keep(source, path, node);
      if (seen.size % SLICE_FILES === 0) await nextTurn();
    }
    const prefix = sourceKey(source);
    for (const key of [...this.#links.keys()]) if (key.startsWith(prefix) && !seen.has(key)) this.#release(key);
    this.#tellCount();
  }

  /** Keeps what stands at the path if it is what is stored, instead of what was kept. */
  async #keep(source: string, path: BytePath, node: FileNode): Promise<void> {
    const key = linkKey(source, path);
    const held = this.#links.get(key);
    const stat = statOf(path);
    if (stat === undefined) {
      if (held !== undefined) this.#noteLost(source, path);
      return;
    }
    if (!isAsStored(stat, node) || (held !== undefined && isOf(held, stat, node))) return;
    if (held === undefined && this.#links.size >= (this.#options.linksMax ?? LINKS_MAX)) {
      if (!this.#isFullTold) this.#options.observer.log.warn("links.full", { source, limit: this.#links.size });
      this.#isFullTold = true;
      return;
    }
    const made = await this.#make(key, path, { stat, node });
    if (made === undefined) return;
    this.#release(key);
    this.#links.set(key, made);
  }

  async #make(key: string, path: BytePath, of: Found): Promise<KeptLink | undefined> {
    const { dev } = of.stat;
    for (const place of this.#places.has(dev) ? [undefined] : this.#placesFor(path, dev)) {
      const folder = place === undefined ? this.#places.get(dev) : await this.#folderAt(place);
      if (folder === undefined) continue;
      const made = linkIn(folder, this.#options.kinds, { key, path, ...of });
      if (made === "failed") return undefined; // of this file; others may do
      if (typeof made === "string") continue;
      this.#places.set(dev, folder);
      return made;
    }
    if (!this.#places.has(dev)) this.#options.observer.log.info("links.none", { folder: pathText(path) });
    this.#places.set(dev, this.#places.get(dev));
    return undefined;
  }

  #placesFor(path: BytePath, dev: bigint): readonly BytePath[] {
    return placesOfLinks(path, dev, pathFromText(this.#options.stateDir));
  }

  /** The folder at a place, made and noted when it is new. */
  async #folderAt(place: BytePath): Promise<PinFolder | undefined> {
    const known = this.#folders.get(place);
    if (known !== undefined) return known;
    const folder = PinFolder.open(place, true);
    if (folder === undefined) return undefined;
    this.#folders.set(place, folder);
    await this.#note();
    return folder;
  }

  /** Takes over what an earlier run kept in a folder. */
  #adopt(path: BytePath): void {
    const folder = PinFolder.open(path, false);
    if (folder === undefined) return;
    this.#folders.set(path, folder);
    for (const [key, kept] of folder.kept()) {
      const twin = this.#links.get(key);
      if (twin === undefined || ctimeOf(twin) < ctimeOf(kept)) this.#links.set(key, kept);
      const older = twin === undefined ? undefined : this.#links.get(key) === twin ? kept : twin;
      older?.folder.remove(older); // a crash came between the new one and the removal of the old
    }
  }

  #noteLost(source: string, path: BytePath): void {
    const key = linkKey(source, path);
    if (!this.#links.has(key) || this.#lost.has(key)) return;
    this.#lost.set(key, { source, path, sinceMs: this.#options.clock.monotonicMs() });
  }

  #release(key: string): void {
    const kept = this.#links.get(key);
    if (kept === undefined) return;
    this.#links.delete(key);
    this.#lost.delete(key);
    kept.folder.remove(kept);
  }

  async #note(): Promise<void> {
    const lines = [...this.#folders.keys()].map((path) => `${path}\n`).join("");
    await writeFileDurably(join(this.#options.stateDir, NOTES_NAME), Buffer.from(lines, "latin1"));
  }

  #tellCount(): void {
    const kinds = [...this.#links.values()].map(({ kind }) => kind);
    for (const kind of LINK_KINDS) this.#count.set(kinds.filter((each) => each === kind).length, { kind });
  }
}

/** A file that stands as it is stored. */
interface Found {
  readonly stat: BigIntStats;
  readonly node: FileNode;
}

/** The kind that the folder has and the settings allow; reflinks before hard links. */
function linkIn(
  folder: PinFolder,
  kinds: ReadonlySet<LinkKind>,
  { key, path, stat, node }: Found & { readonly key: string; readonly path: BytePath },
): ReturnType<PinFolder["hardLink"]> {
  if (folder.hasReflinks && kinds.has("reflink") && node.sha256 !== undefined) {
    const fd = openToKeep(path);
    if (fd === undefined) return "failed";
    try {
      if (!isAsStored(fstatSync(fd, { bigint: true }), node)) return "failed";
      const made = folder.reflink(key, fd, node.sha256);
      if (made !== "no_reflinks") return made;
    } finally {
      closeSync(fd);
    }
  }
  return kinds.has("hard_link") ? folder.hardLink(key, path, stat) : "no_reflinks";
}

/** True when what is kept is the very file, or has its content. */
function isOf(kept: KeptLink, stat: BigIntStats, node: FileNode): boolean {
  if (kept.kind === "reflink") return kept.sha256 === node.sha256;
  const own = kept.folder.stat(kept);
  return own?.ino === stat.ino && own.dev === stat.dev;
}

/** Without the device: its number may be another after a boot. */
function isAsStored(stat: BigIntStats, { stat: stored }: FileNode): boolean {
  return (
    stat.isFile() &&
    stat.ino === stored.ino &&
    Number(stat.size) === stored.sizeBytes &&
    stat.mtimeNs === stored.mtimeNs
  );
}

function ctimeOf(kept: KeptLink): bigint {
  return kept.folder.stat(kept)?.ctimeNs ?? 0n;
}

function statOf(path: BytePath): BigIntStats | undefined {
  try {
    return lstatSync(pathBytes(path), { bigint: true });
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
