/**
 * What is no folder: gathered into windows, whose files are put in place together. One window is filled while others
 * are written and brought to the disk. Links wait for the name they are links of.
 */
import { type BigIntStats, readFileSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { deferred } from "../../base/concurrency.js";
import { asHoldfastError, type HoldfastError } from "../../base/errors.js";
import { type BytePath, nameOf, parentPath } from "../../base/paths.js";
import type { RepositoryCore } from "../core.js";
import type { Entry, FileNode } from "../types.js";
import type { WantedFile } from "./batches.js";
import { ForeignLogs } from "./foreign-logs.js";
import type { FolderWork } from "./folder-work.js";
import type { FolderTree, OpenFolder } from "./folders.js";
import type { Keeper, PresentThing } from "./keep-first.js";
import { stampOf } from "./kept-stamp.js";
import type { Ledger } from "./ledger.js";
import { Placing } from "./placing.js";
import type { PutOptions, PutOutcome } from "./protocol.js";
import { type NodePlace, putLink, putNode } from "./put-node.js";

/**
 * A window is closed at this many entries, bytes, or open folders. Its files are synced together: in smaller windows
 * that costs more than writing them, in larger ones the disk rests for too long.
 */
const WINDOW_FILES_MAX = 4096;
const WINDOW_BYTES_AIM = 64 * 2 ** 20;
const WINDOW_FOLDERS_MAX = 1024;
/** Windows under way beside the one being filled: one is written, one synced, and one named. */
const WINDOWS_MAX = 3;
/** Of the descriptors a process may have, windows take a half for files and a quarter for folders. */
const FILES_SHARE = 2;
const FOLDERS_SHARE = 4;
/** What the system allows unless told otherwise. */
const DESCRIPTORS_DEFAULT = 1024;
/** The event loop gets its turn after this many lookups or nodes: about 1 ms. */
const STEPS_PER_TURN = 64;
/** Inodes with several names that are remembered within one restore, some 200 bytes each. */
const LINKED_MAX = 1_000_000;

export interface WritingOptions {
  readonly core: RepositoryCore;
  readonly storeFolder: string;
  readonly tree: FolderTree;
  readonly folders: FolderWork;
  readonly ledger: Ledger;
  readonly options: PutOptions;
  /** Keeps what would be replaced; undefined: it need not be kept. */
  readonly keeper: Keeper | undefined;
  readonly signal: AbortSignal;
  /** Told of each entry as soon as it stands. */
  readonly onWritten: ((entry: Entry) => void) | undefined;
  readonly onProgress: ((progress: { filesDone: number; bytesDone: number }) => void) | undefined;
}

/** The first name of an inode with several. */
interface FirstName {
  readonly folder: BytePath;
  readonly name: string;
  /** Whether links to it may be made. */
  readonly ready: Promise<boolean>;
  readonly settle: (mayBeLinked: boolean) => void;
}

interface PendingFile extends WantedFile {
  readonly first: FirstName | undefined;
}

interface PendingLink {
  readonly entry: Entry;
  readonly folder: OpenFolder | undefined;
  readonly first: FirstName;
}

class Window {
  readonly files: PendingFile[] = [];
  readonly links: PendingLink[] = [];
  readonly folders = new Map<BytePath, OpenFolder | undefined>();
  readonly #limits: WindowLimits;
  bytes = 0;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  get full(): boolean {
    if (this.bytes >= WINDOW_BYTES_AIM || this.folders.size >= this.#limits.foldersMax) return true;
    return this.files.length + this.links.length >= this.#limits.filesMax;
  }
}

interface WindowLimits {
  readonly filesMax: number;
  readonly foldersMax: number;
}

/** By the descriptors that this process may have: every file of a window is open until it has its name. */
function windowLimits(): WindowLimits {
  const descriptors = descriptorsMax();
  return {
    filesMax: Math.min(WINDOW_FILES_MAX, Math.ceil(descriptors / FILES_SHARE / WINDOWS_MAX)),
    foldersMax: Math.min(WINDOW_FOLDERS_MAX, Math.ceil(descriptors / FOLDERS_SHARE / (WINDOWS_MAX + 1))),
  };
}

function descriptorsMax(): number {
  const limits = readFileSync("/proc/self/limits", "latin1");
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? DESCRIPTORS_DEFAULT);
}

export class Writing {
  readonly #with: WritingOptions;
  readonly #firsts = new Map<string, FirstName>();
  readonly #running = new Set<Promise<void>>();
  /** What broke a window, such as a local index that cannot be read: it ends the restore. */
  #fault: HoldfastError | undefined;
  readonly #limits = windowLimits();
  readonly #placing: Placing;
  readonly #logs: ForeignLogs;
  #window = new Window(this.#limits);
  #nodes = 0;
  #steps = 0;

  constructor(options: WritingOptions) {
    this.#with = options;
    this.#placing = new Placing(options);
    const { ledger, signal } = options;
    const { overwrite, dryRun } = options.options;
    this.#logs = new ForeignLogs({ ledger, overwrite, dryRun, signal });
  }

  /** Takes an entry that is no folder. Throws what hinders opening its folder. */
  async add(entry: Entry): Promise<void> {
    this.#with.folders.belongs(entry.path);
    const folder = this.#folderOf(parentPath(entry.path));
    const key = entry.node.linkCount > 1 ? linkKey(entry.node) : undefined;
    const known = key === undefined ? undefined : this.#firsts.get(key);
    if (known !== undefined) this.#window.links.push({ entry, folder, first: known });
    else await this.#addFirst(entry, folder, key === undefined ? undefined : this.#newFirst(key, entry.path));
    if (this.#window.full) await this.#flush();
  }

  /** Resolves when everything is done or, after an abort, has ended. Throws what made going on impossible. */
  async finish(): Promise<void> {
    await this.#flush();
    await Promise.all(this.#running);
    if (this.#fault !== undefined) throw this.#fault;
  }

  async #addFirst(entry: Entry, folder: OpenFolder | undefined, first: FirstName | undefined): Promise<void> {
    const { folders, signal } = this.#with;
    if (entry.node.kind !== "file") {
      await this.#node(entry, folder, first);
      return;
    }
    if (folder === undefined) {
      const bytes = entry.node.stat.sizeBytes;
      this.#settled(entry, first, { kind: "done", action: "write", bytes, gaps: [], holdsContent: true });
      return;
    }
    signal.throwIfAborted();
    const fresh = folders.isFresh(folder.place);
    this.#window.files.push({ entry, name: nameOf(entry.path), folder, fresh, first });
    this.#window.bytes += entry.node.stat.sizeBytes;
  }

  /** The folder, held open as long as the window. */
  #folderOf(place: BytePath): OpenFolder | undefined {
    const held = this.#window.folders.get(place);
    if (held !== undefined || this.#window.folders.has(place)) return held;
    const folder = this.#with.tree.open(place);
    this.#window.folders.set(place, folder);
    if (folder !== undefined) this.#with.folders.noteDevice(place, folder.anchored);
    return folder;
  }

  #newFirst(key: string, path: BytePath): FirstName | undefined {
    if (this.#firsts.size >= LINKED_MAX) return undefined;
    const { promise: ready, resolve: settle } = deferred<boolean>();
    const first = { folder: parentPath(path), name: nameOf(path), ready, settle };
    this.#firsts.set(key, first);
    return first;
  }

  async #flush(): Promise<void> {
    const window = this.#window;
    this.#window = new Window(this.#limits);
    while (this.#running.size >= WINDOWS_MAX) await Promise.race(this.#running);
    const run = this.#runWindow(window).finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** Never rejects; after an abort it only ends what it began. */
  async #runWindow(window: Window): Promise<void> {
    try {
      await this.#files(window.files);
      for (const link of window.links) await this.#link(link);
    } catch (error) {
      if (!this.#with.signal.aborted) this.#fault ??= asHoldfastError(error);
    } finally {
      for (const { first } of window.files) first?.settle(false); // does nothing when it is settled already
      for (const folder of window.folders.values()) if (folder !== undefined) this.#with.tree.release(folder);
    }
  }

  async #files(files: readonly PendingFile[]): Promise<void> {
    const mayGo = await this.#keepPresent(files);
    await this.#logs.setAside(mayGo);
    try {
      await this.#placing.place(mayGo, (file, outcome) => {
        this.#logs.settled(file, outcome.kind === "done");
        this.#settled(file.entry, file.first, outcome);
      });
    } finally {
      for (const file of mayGo) this.#logs.settled(file, false); // does nothing when it is settled already
    }
  }

  /** Keeps what stands where the files go; those that it could not be kept for are not restored. */
  async #keepPresent(files: readonly PendingFile[]): Promise<readonly PendingFile[]> {
    const { keeper, options } = this.#with;
    if (keeper === undefined || options.overwrite === "never") return files;
    const looked: { readonly file: PendingFile; readonly stat: BigIntStats | undefined }[] = [];
    for (const file of files) {
      await this.#turn();
      looked.push({ file, stat: file.fresh ? undefined : file.folder.anchored.lstat(file.name) });
    }
    const refused = await keeper.keep(looked.flatMap(({ file, stat }) => presentThing(file.entry, stat)));
    return looked.flatMap(({ file, stat }) => {
      const reason = refused.get(file.entry.path);
      if (reason === undefined) return stat === undefined ? [file] : [{ ...file, keptStampNs: stampOf(stat) }];
      this.#settled(file.entry, file.first, leftAlone(reason));
      return [];
    });
  }

  /** Keeps what stands where a node or link goes; false when it could not be, which is noted. */
  async #keepOne(entry: Entry, folder: OpenFolder | undefined, first: FirstName | undefined): Promise<boolean> {
    const { keeper, folders, options } = this.#with;
    if (keeper === undefined || folder === undefined || options.overwrite === "never") return true;
    if (folders.isFresh(folder.place)) return true;
    const refused = await keeper.keep(presentThing(entry, folder.anchored.lstat(nameOf(entry.path))));
    const reason = refused.get(entry.path);
    if (reason !== undefined) this.#settled(entry, first, leftAlone(reason));
    return reason === undefined;
  }

  async #node(entry: Entry, folder: OpenFolder | undefined, first: FirstName | undefined): Promise<void> {
    const { options, signal, ledger } = this.#with;
    await this.#turn();
    try {
      const place = this.#nodePlace(entry, folder);
      if (!(await this.#keepOne(entry, folder, first))) return;
      this.#settled(entry, first, await putNode(place, entry.node, options, signal));
    } catch (error) {
      first?.settle(false);
      signal.throwIfAborted();
      ledger.filesDone += 1;
      ledger.fail(entry.path, error);
    }
  }

  async #link({ entry, folder, first }: PendingLink): Promise<void> {
    const { options, signal, ledger } = this.#with;
    await this.#turn();
    signal.throwIfAborted();
    try {
      if (!(await this.#keepOne(entry, folder, undefined))) return;
      const done = (await first.ready) ? this.#tryLink(entry, folder, first) : undefined;
      if (done !== undefined) this.#settled(entry, undefined, done);
      else if (entry.node.kind !== "file") await this.#node(entry, folder, undefined);
      else if (folder !== undefined) {
        const fresh = this.#with.folders.isFresh(folder.place);
        await this.#files([{ entry, name: nameOf(entry.path), folder, fresh, first: undefined }]);
      } else
        ledger.outcome(entry.path, { kind: "done", action: "link", bytes: 0, gaps: [], holdsContent: options.dryRun });
    } catch (error) {
      signal.throwIfAborted();
      ledger.filesDone += 1;
      ledger.fail(entry.path, error);
    }
  }

  #tryLink(entry: Entry, folder: OpenFolder | undefined, first: FirstName): PutOutcome | undefined {
    const { tree, options } = this.#with;
    return tree.with(first.folder, (firstFolder) => {
      if (firstFolder === undefined) return undefined;
      return putLink(this.#nodePlace(entry, folder), { folder: firstFolder, name: first.name }, options);
    });
  }

  #nodePlace(entry: Entry, folder: OpenFolder | undefined): NodePlace {
    this.#nodes += 1;
    const staged = `${this.#with.options.stagingPrefix}n${this.#nodes.toString(36)}`;
    return { folder: folder?.anchored, name: nameOf(entry.path), staged };
  }

  #settled(entry: Entry, first: FirstName | undefined, outcome: PutOutcome): void {
    const { ledger, onProgress, onWritten } = this.#with;
    ledger.outcome(entry.path, outcome);
    if (outcome.kind === "done" && outcome.action !== "skip" && !this.#with.options.dryRun) onWritten?.(entry);
    first?.settle(outcome.kind === "done" && outcome.holdsContent);
    onProgress?.({ filesDone: ledger.filesDone, bytesDone: ledger.bytesDone });
  }

  async #turn(): Promise<void> {
    this.#steps += 1;
    if (this.#steps % STEPS_PER_TURN === 0) await nextTurn();
  }
}

function presentThing({ source, path }: Entry, stat: BigIntStats | undefined): PresentThing[] {
  return stat === undefined || stat.isDirectory() ? [] : [{ source, path, stat }];
}

function leftAlone(message: string): PutOutcome {
  return { kind: "failed", code: "TARGET_EXISTS", message };
}

/** One inode in one state: a number that was given to another file meanwhile does not join the two. */
function linkKey(node: FileNode): string {
  const { dev, ino, mtimeNs } = node.stat;
  const content = node.sha256 ?? node.linkTarget ?? "";
  return [node.kind, dev, ino, mtimeNs, node.mode, node.uid, node.gid, content].join(":");
}
