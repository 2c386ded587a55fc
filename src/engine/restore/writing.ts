/**
 * What is no folder: gathered into windows, each of which is cut into batches for the worker threads. One window is
 * filled while another is worked on. Links wait for the name they are links of; a file whose places in the store fail
 * is looked up again, copy by copy, before it counts as damaged.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { deferred, mapLimited } from "../../base/concurrency.js";
import { asHoldfastError, type HoldfastError } from "../../base/errors.js";
import { type BytePath, nameOf, parentPath } from "../../base/paths.js";
import type { RepositoryCore } from "../core.js";
import type { Entry, FileNode } from "../types.js";
import { type LocatedFile, type WantedFile, batchesOf, locate, requestOf } from "./batches.js";
import type { FolderWork } from "./folder-work.js";
import type { FolderTree, OpenFolder } from "./folders.js";
import type { Ledger } from "./ledger.js";
import type { PutOptions, PutOutcome } from "./protocol.js";
import { type NodePlace, putLink, putNode } from "./put-node.js";

/** A window is closed at this many entries, bytes, or open folders (descriptors are few: often 1024 a process). */
const WINDOW_FILES_MAX = 2048;
const WINDOW_BYTES_AIM = 32 * 2 ** 20;
const WINDOW_FOLDERS_MAX = 256;
/** Windows under way beside the one being filled: the next begins while the last batches of one are finished. */
const WINDOWS_MAX = 2;
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
  readonly signal: AbortSignal;
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
  bytes = 0;

  get full(): boolean {
    if (this.bytes >= WINDOW_BYTES_AIM || this.folders.size >= WINDOW_FOLDERS_MAX) return true;
    return this.files.length + this.links.length >= WINDOW_FILES_MAX;
  }
}

export class Writing {
  readonly #with: WritingOptions;
  readonly #firsts = new Map<string, FirstName>();
  readonly #running = new Set<Promise<void>>();
  /** What broke a window, such as a local index that cannot be read: it ends the restore. */
  #fault: HoldfastError | undefined;
  #window = new Window();
  #batches = 0;
  #steps = 0;

  constructor(options: WritingOptions) {
    this.#with = options;
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
    this.#window = new Window();
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
    const located: LocatedFile[] = [];
    const unreadable: PendingFile[] = [];
    for (const file of files) {
      await this.#turn();
      const found = locate(this.#with.core.parts.catalog.chunks, file);
      if (found === undefined) unreadable.push(file);
      else located.push(found);
    }
    const firsts = new Map(files.map((file) => [file.entry, file.first]));
    const { core, signal } = this.#with;
    // No more than the threads can take: commits that come meanwhile do not wait behind a queue.
    await mapLimited(batchesOf(located), core.parts.pool.workers, signal, async (batch) => {
      const outcomes = await this.#place(batch);
      for (const [index, { wanted }] of batch.entries()) {
        const outcome = outcomes[index];
        const first = firsts.get(wanted.entry);
        if (outcome?.kind === "done" || outcome?.kind === "failed") this.#settled(wanted.entry, first, outcome);
        else unreadable.push({ ...wanted, first });
      }
    });
    for (const file of unreadable) await this.#tryOtherCopies(file);
  }

  /** Reading it chunk by chunk marks the copies that are bad; when all chunks have a good one, it is placed from those. */
  async #tryOtherCopies(file: PendingFile): Promise<void> {
    const { core, signal, ledger } = this.#with;
    const { entry, first } = file;
    try {
      await this.#probe(entry.node);
      const found = locate(core.parts.catalog.chunks, file);
      const [outcome] = found === undefined ? [] : await this.#place([found]);
      const message = "the stored chunks do not make up the file's digest";
      this.#settled(entry, first, outcome ?? { kind: "unreadable", message });
    } catch (error) {
      signal.throwIfAborted();
      ledger.filesDone += 1;
      ledger.fail(entry.path, error);
      first?.settle(false);
    }
  }

  /** Reads every chunk, also behind a bad one: each bad copy is marked, so that the next backup stores it again. */
  async #probe(node: FileNode): Promise<void> {
    const { core, signal } = this.#with;
    let fault: unknown;
    for (const { id } of node.chunks ?? []) {
      try {
        await core.parts.content.chunk(id, signal);
      } catch (error) {
        signal.throwIfAborted();
        fault ??= error;
      }
    }
    if (fault !== undefined) throw asHoldfastError(fault, "RECORD_DAMAGED");
  }

  async #place(batch: readonly LocatedFile[]): Promise<readonly PutOutcome[]> {
    const { core, storeFolder, options, signal } = this.#with;
    this.#batches += 1;
    const stagingPrefix = `${options.stagingPrefix}${this.#batches.toString(36)}-`;
    const request = requestOf(batch, storeFolder, { ...options, stagingPrefix });
    try {
      return (await core.parts.pool.place(request, signal)).outcomes;
    } catch (error) {
      signal.throwIfAborted();
      const { code, message } = asHoldfastError(error);
      return batch.map(() => ({ kind: "failed", code, message }));
    }
  }

  async #node(entry: Entry, folder: OpenFolder | undefined, first: FirstName | undefined): Promise<void> {
    const { options, signal, ledger } = this.#with;
    await this.#turn();
    try {
      const place = this.#nodePlace(entry, folder);
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
    this.#batches += 1;
    const staged = `${this.#with.options.stagingPrefix}${this.#batches.toString(36)}-n`;
    return { folder: folder?.anchored, name: nameOf(entry.path), staged };
  }

  #settled(entry: Entry, first: FirstName | undefined, outcome: PutOutcome): void {
    const { ledger, onProgress } = this.#with;
    ledger.outcome(entry.path, outcome);
    first?.settle(outcome.kind === "done" && outcome.holdsContent);
    onProgress?.({ filesDone: ledger.filesDone, bytesDone: ledger.bytesDone });
  }

  async #turn(): Promise<void> {
    this.#steps += 1;
    if (this.#steps % STEPS_PER_TURN === 0) await nextTurn();
  }
}

/** One inode in one state: a number that was given to another file meanwhile does not join the two. */
function linkKey(node: FileNode): string {
  const { dev, ino, mtimeNs } = node.stat;
  const content = node.sha256 ?? node.linkTarget ?? "";
  return [node.kind, dev, ino, mtimeNs, node.mode, node.uid, node.gid, content].join(":");
}
