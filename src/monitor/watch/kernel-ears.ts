/**
 * Ears that ask the kernel themselves (inotify by koffi). Every folder is watched before it is listed, also those that
 * come later, so nothing that is made in them goes unheard; no event is dropped on the way; and when the kernel's queue
 * ran over, it says so, which @parcel/watcher keeps to itself. (That one also loses what comes in the moment in which it
 * hands over a batch: of 600 files that were saved under a busy processor, one was not heard of.)
 */
import { type Dirent, closeSync, read, readdirSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { systemClock } from "../../base/clock.js";
import { deferred } from "../../base/concurrency.js";
import { errnoOf, messageOf } from "../../base/errors.js";
import type { InotifyCalls } from "../../base/native-inotify.js";
import { type BytePath, joinPath, pathBytes, pathFromText, pathText, relativeTo } from "../../base/paths.js";
import { reach } from "../../base/reach.js";
import type { Ear, EarHooks, Ears, HeardEvent } from "./ear-port.js";
import { IN, type InotifyEvent, parseInotifyEvents } from "./inotify-events.js";

const MASK =
  IN.modify |
  IN.attributes |
  IN.movedFrom |
  IN.movedTo |
  IN.create |
  IN.delete |
  IN.deleteSelf |
  IN.moveSelf |
  IN.onlyFolder |
  IN.dontFollow |
  IN.excludeUnlinked;
const ROOT_GOES = IN.deleteSelf | IN.moveSelf | IN.unmount;
const READ_BYTES = 2 ** 18;
/**
 * While much happens it is read after pauses, ms: a read for each event costs five times what reading many at once does.
 * The kernel's queue holds 16,384 events by default, three million a second.
 */
const READ_PAUSE_MS = 5;
/** The first event is passed on at once; those that follow it gather for this long, and longer when they are many, ms. */
const GATHER_MS = 50;
const GATHER_MANY_MS = 250;
const MANY = 512;
/** Folders looked into before events get a turn. */
const SLICE = 64;
/** A folder that is always there. */
const ANYWHERE = "/" as BytePath;
/** Errors of a folder that went meanwhile, or that nobody may look into. */
const PASSING = ["ENOENT", "ENOTDIR", "EACCES", "EPERM", "ELOOP", "ENAMETOOLONG", "EIO", "ESTALE"];

/** A watched folder, and the watched folders in it. */
class Folder {
  readonly ear: KernelEar;
  readonly above: Folder | undefined;
  /** Its name in the folder above; of the topmost its whole path. */
  readonly name: string;
  readonly watch: number;
  readonly inner = new Map<string, Folder>();
  isGone = false;

  constructor(ear: KernelEar, above: Folder | undefined, name: string, watch: number) {
    this.ear = ear;
    this.above = above;
    this.name = name;
    this.watch = watch;
  }

  get path(): BytePath {
    return this.above === undefined ? (this.name as BytePath) : joinPath(this.above.path, this.name);
  }
}

export class KernelEars implements Ears, AsyncDisposable {
  readonly batchMax = Infinity;
  readonly #calls: InotifyCalls;
  readonly #queue: number;
  readonly #buffer = Buffer.alloc(READ_BYTES);
  readonly #onFlood: () => void;
  readonly #byWatch = new Map<number, Folder[]>();
  readonly #ears = new Set<KernelEar>();
  #floods = 0;
  #timer: NodeJS.Timeout | undefined;
  #readTimer: NodeJS.Timeout | undefined;
  #readMs = -Infinity;
  #passedMs = -Infinity;
  #passedCount = 0;
  #isClosed = false;
  readonly #ended = deferred<undefined>();

  /** `onFlood`: the kernel has dropped events. Throws when there is no queue to be had (EMFILE). */
  constructor(calls: InotifyCalls, onFlood: () => void) {
    this.#calls = calls;
    this.#onFlood = onFlood;
    this.#queue = calls.openQueue();
    this.#read();
  }

  async listen(root: string, shallow: boolean, hooks: EarHooks): Promise<Ear> {
    const ear = new KernelEar(this, { root: pathFromText(root), shallow, hooks });
    this.#ears.add(ear);
    try {
      await ear.renew();
    } catch (error) {
      await ear.close();
      throw error;
    }
    return ear;
  }

  floods(): number {
    return this.#floods;
  }

  async settle(): Promise<void> {
    for (const ear of this.#ears) await ear.explored();
    this.#pass();
  }

  /** Closes all ears and the queue. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all([...this.#ears].map(async (ear) => await ear.close()));
    if (this.#readTimer !== undefined) {
      clearTimeout(this.#readTimer);
      this.#read();
    }
    // The read that waits is given the end of a watch.
    this.#calls.unwatch(this.#queue, this.#calls.watch(this.#queue, MASK, pathBytes(ANYWHERE)));
    await this.#ended.promise;
    closeSync(this.#queue);
  }

  forget(ear: KernelEar): void {
    this.#ears.delete(ear);
  }

  /**
   * Watches a folder, or finds that it is watched; what was known under its name and is another folder is forgotten.
   * Undefined: it went, or may not be watched. Throws where the system allows no more (ENOSPC).
   */
  watch(ear: KernelEar, above: Folder | undefined, name: string): Folder | undefined {
    const before = above === undefined ? ear.top : above.inner.get(name);
    const path = above === undefined ? (name as BytePath) : joinPath(above.path, name);
    let watch: number;
    try {
      watch = reach(path, (place) => this.#calls.watch(this.#queue, MASK, place));
    } catch (error) {
      if (before !== undefined) this.release(before);
      if (PASSING.includes(errnoOf(error) ?? "")) return undefined;
      throw error;
    }
    if (before?.watch === watch && !before.isGone) return before;
    const folder = new Folder(ear, above, name, watch);
    const others = this.#byWatch.get(watch);
    if (others === undefined) this.#byWatch.set(watch, [folder]);
    else others.push(folder);
    if (before !== undefined) this.release(before);
    above?.inner.set(name, folder);
    return folder;
  }

  /** Ends the watches of a folder and of all in it. */
  release(folder: Folder): void {
    if (folder.above?.inner.get(folder.name) === folder) folder.above.inner.delete(folder.name);
    const open = [folder];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      open.push(...next.inner.values());
      next.isGone = true;
      this.#releaseOne(next);
    }
  }

  #releaseOne(folder: Folder): void {
    const rest = (this.#byWatch.get(folder.watch) ?? []).filter((one) => one !== folder);
    if (rest.length > 0) {
      this.#byWatch.set(folder.watch, rest);
    } else if (this.#byWatch.delete(folder.watch)) {
      try {
        this.#calls.unwatch(this.#queue, folder.watch);
      } catch {
        // The folder is gone and its watch with it.
      }
    }
  }

  #read(): void {
    this.#readTimer = undefined;
    read(this.#queue, this.#buffer, 0, READ_BYTES, null, (error, lengthBytes) => {
      if (this.#isClosed || error !== null) this.#ended.resolve(undefined);
      if (this.#isClosed) return;
      if (error !== null) {
        for (const ear of this.#ears) ear.failed(`the queue of events cannot be read: ${error.message}`);
        return;
      }
      for (const event of parseInotifyEvents(this.#buffer.subarray(0, lengthBytes))) this.#take(event);
      this.passSoon();
      this.#readSoon();
    });
  }

  /** At once after a quiet moment, so that a single event is not kept waiting. */
  #readSoon(): void {
    const nowMs = systemClock.monotonicMs();
    const isBusy = nowMs - this.#readMs < READ_PAUSE_MS;
    this.#readMs = nowMs;
    if (isBusy) this.#readTimer = setTimeout(() => this.#read(), READ_PAUSE_MS);
    else this.#read();
  }

  #take(event: InotifyEvent): void {
    if ((event.mask & IN.overflow) !== 0) {
      this.#floods += 1;
      this.#onFlood();
      return;
    }
    const folders = this.#byWatch.get(event.watch) ?? []; // none: released since
    for (const folder of [...folders]) {
      if ((event.mask & IN.ignored) !== 0) this.release(folder);
      else folder.ear.take(folder, event);
    }
  }

  /** What was heard is passed on: at once, or when more has gathered. */
  passSoon(): void {
    if (this.#timer !== undefined || this.#isClosed) return;
    const gatherMs = this.#passedCount > MANY ? GATHER_MANY_MS : GATHER_MS;
    const waitMs = this.#passedMs + gatherMs - systemClock.monotonicMs();
    if (waitMs <= 0) this.#pass();
    else this.#timer = setTimeout(() => this.#pass(), waitMs);
  }

  #pass(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#passedMs = systemClock.monotonicMs();
    this.#passedCount = 0;
    for (const ear of this.#ears) this.#passedCount += ear.pass();
  }
}

interface EarOptions {
  readonly root: BytePath;
  readonly shallow: boolean;
  readonly hooks: EarHooks;
}

class KernelEar implements Ear {
  readonly #ears: KernelEars;
  readonly #options: EarOptions;
  readonly #heard = new Map<BytePath, HeardEvent["type"]>();
  /** Folders that came and are to be looked into. */
  readonly #fresh: Folder[] = [];
  #exploring: Promise<void> | undefined;
  #hasFailed = false;
  #isClosed = false;
  top: Folder | undefined;

  constructor(ears: KernelEars, options: EarOptions) {
    this.#ears = ears;
    this.#options = options;
  }

  /**
   * Everything below the root, or what is below the folders, is watched as it stands there now; throws where the root is
   * gone or no more can be watched.
   */
  async renew(folders?: readonly string[]): Promise<void> {
    if (folders === undefined || this.#hasFailed || this.top?.isGone !== false) await this.#renewAll();
    else await this.#renewIn(folders);
  }

  async #renewAll(): Promise<void> {
    const { root, shallow } = this.#options;
    this.#hasFailed = false;
    this.top = this.#ears.watch(this, undefined, root);
    if (this.top === undefined) throw new Error(`${pathText(root)} cannot be watched`);
    if (!shallow) await this.#look([this.top], false);
  }

  async #renewIn(folders: readonly string[]): Promise<void> {
    await this.explored();
    const [known, fresh]: [Folder[], Folder[]] = [[], []];
    for (const folder of folders) {
      const found = this.#wayTo(pathFromText(folder));
      if (found !== undefined) (found.isFresh ? fresh : known).push(found.folder);
    }
    await this.#look(known, false);
    await this.#look(fresh, true);
  }

  /** The folder as it is watched, or the first above it that was not and is now; undefined: it went. */
  #wayTo(path: BytePath): { readonly folder: Folder; readonly isFresh: boolean } | undefined {
    let folder = this.top;
    for (const name of relativeTo(path, this.#options.root).split("/")) {
      if (folder === undefined || name === "") break;
      const before = folder.inner.get(name);
      folder = this.#ears.watch(this, folder, name);
      if (folder !== undefined && folder !== before) return { folder, isFresh: true };
    }
    return folder === undefined ? undefined : { folder, isFresh: false };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.top !== undefined) this.#ears.release(this.top);
    this.#ears.forget(this);
    await this.#exploring;
  }

  /** Resolves when no folder waits to be looked into. */
  async explored(): Promise<void> {
    while (this.#exploring !== undefined) await this.#exploring;
  }

  failed(message: string): void {
    if (this.#hasFailed || this.#isClosed) return;
    this.#hasFailed = true; // once is enough, until it listens anew
    this.#options.hooks.failed(message);
  }

  take(folder: Folder, { mask, name }: InotifyEvent): void {
    if (name === "") {
      const goes = (mask & ROOT_GOES) !== 0;
      if (!goes) this.#note(folder.path, "update");
      else if (folder === this.top) this.#note(folder.path, "delete");
      return;
    }
    const path = joinPath(folder.path, name);
    const isFolder = (mask & IN.onFolder) !== 0 && !this.#options.shallow;
    if ((mask & (IN.create | IN.movedTo)) !== 0) {
      this.#note(path, "create");
      if (isFolder) this.#came(folder, name);
    } else if ((mask & (IN.delete | IN.movedFrom)) !== 0) {
      this.#note(path, "delete");
      const inner = isFolder ? folder.inner.get(name) : undefined;
      if (inner === undefined) return;
      this.#ears.release(inner);
      this.#came(folder, name); // two that swapped their names: the other one came before this one is told to have gone
    } else {
      this.#note(path, "update");
      // what could not be watched because nobody might read it: now it can be, perhaps
      if (isFolder && !folder.inner.has(name)) this.#came(folder, name);
    }
  }

  /** Gives what gathered to the listener; how much it was. */
  pass(): number {
    const count = this.#heard.size;
    if (count === 0) return 0;
    const events = [...this.#heard].map(([path, type]) => ({ path: pathText(path), type }));
    this.#heard.clear();
    this.#options.hooks.heard(events);
    return count;
  }

  #note(path: BytePath, type: HeardEvent["type"]): void {
    if (type !== "update" || !this.#heard.has(path)) this.#heard.set(path, type);
  }

  /** A folder came: it is watched before it is listed, and what is in it is told. */
  #came(above: Folder, name: string): void {
    const folder = this.#watchOrFail(above, name);
    if (folder === undefined) return;
    this.#fresh.push(folder);
    this.#exploring ??= this.#explore();
  }

  async #explore(): Promise<void> {
    try {
      // Again: a look that never waited is over before the next event of the same delivery is taken.
      while (this.#fresh.length > 0 && !this.#isClosed) await this.#look(this.#fresh, true);
    } catch (error) {
      this.failed(messageOf(error));
    } finally {
      this.#exploring = undefined;
      this.#ears.passSoon(); // what the delivery itself brought may be passed on already
    }
  }

  /** Watches all folders below those in `open`, which is emptied. `isNew`: everything in them is told. */
  async #look(open: Folder[], isNew: boolean): Promise<void> {
    let count = 0;
    for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
      if (this.#isClosed) return;
      if (!folder.isGone) open.push(...this.#lookInto(folder, isNew));
      count += 1;
      if (count % SLICE === 0) await turn();
    }
  }

  /** Watches the folders in a folder; gives them. Throws where the system has no room to list it. */
  #lookInto(folder: Folder, isNew: boolean): readonly Folder[] {
    const { path } = folder;
    const entries = entriesIn(path);
    if (entries === undefined) return []; // what is watched below it stays so; if it went, that is told
    const found = new Map<string, Folder>();
    for (const entry of entries) {
      if (isNew) this.#note(joinPath(path, entry.name), "create");
      const inner = entry.isDirectory() ? this.#ears.watch(this, folder, entry.name) : undefined;
      if (inner !== undefined) found.set(entry.name, inner);
    }
    for (const [name, inner] of folder.inner) if (!found.has(name)) this.#ears.release(inner);
    return [...found.values()];
  }

  #watchOrFail(above: Folder, name: string): Folder | undefined {
    try {
      return this.#ears.watch(this, above, name);
    } catch (error) {
      this.failed(messageOf(error));
      return undefined;
    }
  }
}

/** Undefined when it is gone or may not be read; throws when the system lacks what a listing takes (EMFILE, ENOMEM). */
function entriesIn(folder: BytePath): readonly Dirent[] | undefined {
  try {
    return reach(folder, (place) => readdirSync(place, { withFileTypes: true, encoding: "latin1" }));
  } catch (error) {
    if (PASSING.includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
