/**
 * Putting the files of a window in place: located, written by the worker threads in batches, brought to the disk
 * together, and only then named. A file whose places in the store fail is looked up again, copy by copy, before it
 * counts as damaged.
 */
import { closeSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { mapLimited } from "../../base/concurrency.js";
import { asHoldfastError, messageOf } from "../../base/errors.js";
import type { RepositoryCore } from "../core.js";
import { restoreFromParity } from "../self-repair.js";
import type { FileNode } from "../types.js";
import { type LocatedFile, type WantedFile, batchesOf, locate, requestOf } from "./batches.js";
import { syncWritten } from "./make-durable.js";
import { targetCode } from "./place-batch.js";
import { unlinkQuietly } from "./place-name.js";
import { NOT_WAITING, type PlaceAnswer, type PlaceRequest, type PutOptions, type PutOutcome } from "./protocol.js";

/** The event loop gets its turn after this many lookups: about 1 ms. */
const LOOKUPS_PER_TURN = 64;
const NOT_THE_DIGEST = "the stored chunks do not make up the file's digest";

export interface PlacingOptions {
  readonly core: RepositoryCore;
  readonly storeFolder: string;
  readonly options: PutOptions;
  readonly signal: AbortSignal;
}

/** Is called once for each file, when it is in place or will not be. */
type Settled<T extends WantedFile> = (file: T, outcome: PutOutcome) => void;

/** A batch that was written; its files wait for their names. */
interface WrittenBatch<T extends WantedFile> {
  readonly files: readonly LocatedFile<T>[];
  readonly request: PlaceRequest;
  readonly answer: PlaceAnswer;
  /** The files are open and this thread's to close. */
  isOurs: boolean;
}

/** Files that need another try. */
interface Again<T extends WantedFile> {
  readonly unreadable: T[];
  readonly unnamable: LocatedFile<T>[];
}

export class Placing {
  readonly #with: PlacingOptions;
  #batches = 0;
  #lookups = 0;
  /** The target turned out not to give names to files without one. */
  #namedOnly = false;

  constructor(options: PlacingOptions) {
    this.#with = options;
  }

  /** Throws INTERRUPTED and what breaks the local index; everything else is an outcome. */
  async place<T extends WantedFile>(files: readonly T[], settled: Settled<T>): Promise<void> {
    const { located, lost } = await this.#locateAll(files);
    const first = await this.#placeLocated(located, settled);
    if (first.unnamable.length > 0) this.#namedOnly = true;
    const second = await this.#placeLocated(first.unnamable, settled);
    const unreadable = [...lost, ...first.unreadable, ...second.unreadable];
    if (unreadable.length > 0) await this.#tryOtherCopies(unreadable, settled);
  }

  async #locateAll<T extends WantedFile>(files: readonly T[]): Promise<{ located: LocatedFile<T>[]; lost: T[] }> {
    const located: LocatedFile<T>[] = [];
    const lost: T[] = [];
    for (const file of files) {
      this.#lookups += 1;
      if (this.#lookups % LOOKUPS_PER_TURN === 0) await nextTurn();
      const found = locate(this.#with.core.parts.catalog.chunks, file);
      if (found === undefined) lost.push(file);
      else located.push(found);
    }
    return { located, lost };
  }

  async #placeLocated<T extends WantedFile>(files: LocatedFile<T>[], settled: Settled<T>): Promise<Again<T>> {
    const again: Again<T> = { unreadable: [], unnamable: [] };
    const { core, signal } = this.#with;
    const written: WrittenBatch<T>[] = [];
    // No more than the threads can take: commits that come meanwhile do not wait behind a queue.
    const { workers } = core.parts.pool;
    try {
      await mapLimited(batchesOf(files), workers, signal, async (batch) => {
        const done = await this.#write(batch, again, settled);
        if (done !== undefined) written.push(done);
      });
      if (!(await this.#sync(written, settled))) return again;
      await mapLimited(written, workers, signal, async (batch) => await this.#name(batch, again, settled));
    } finally {
      for (const batch of written) if (batch.isOurs) dropWaiting(batch);
    }
    return again;
  }

  /** Undefined when none of its files waits for its name. */
  async #write<T extends WantedFile>(
    files: readonly LocatedFile<T>[],
    again: Again<T>,
    settled: Settled<T>,
  ): Promise<WrittenBatch<T> | undefined> {
    const { core, storeFolder, options, signal } = this.#with;
    this.#batches += 1;
    const stagingPrefix = `${options.stagingPrefix}${this.#batches.toString(36)}-`;
    const request = requestOf(files, storeFolder, { ...options, stagingPrefix, namedOnly: this.#namedOnly });
    let answer: PlaceAnswer;
    try {
      answer = await core.parts.pool.place(request, signal);
    } catch (error) {
      signal.throwIfAborted();
      const { code, message } = asHoldfastError(error);
      for (const { wanted } of files) settled(wanted, { kind: "failed", code, message });
      return undefined;
    }
    for (const [index, { wanted }] of files.entries()) {
      const outcome = answer.outcomes.get(index);
      if (answer.waiting[index] !== NOT_WAITING || outcome === undefined) continue;
      if (outcome.kind === "unreadable") again.unreadable.push(wanted);
      else settled(wanted, outcome);
    }
    return answer.waiting.some((fd) => fd !== NOT_WAITING) ? { files, request, answer, isOurs: true } : undefined;
  }

  /** False when what was written did not get to the disk: it is given up. */
  async #sync<T extends WantedFile>(batches: readonly WrittenBatch<T>[], settled: Settled<T>): Promise<boolean> {
    const { signal } = this.#with;
    const waiting = batches.flatMap(waitingOf);
    const fds = waiting.map(({ fd }) => fd);
    try {
      const folderFds = new Set(waiting.map(({ file }) => file.folder.anchored.fd));
      if (fds.length > 0) await syncWritten({ fds, folderFds }, signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      const outcome = { kind: "failed", code: targetCode(error), message: messageOf(error) } as const;
      for (const { file } of waiting) settled(file, outcome);
      return false;
    }
  }

  async #name<T extends WantedFile>(batch: WrittenBatch<T>, again: Again<T>, settled: Settled<T>): Promise<void> {
    const { core, signal } = this.#with;
    const { folders, files } = batch.request;
    const { waiting, named, outcomes } = batch.answer;
    signal.throwIfAborted();
    try {
      const onlyKept = batch.request.options.onlyKept === true;
      const request = { folders, files, waiting, named, onlyKept };
      const { failed, unnamable } = await core.parts.pool.name(request, signal);
      batch.isOurs = false;
      const withoutName = new Set(unnamable);
      for (const { index, file } of waitingOf(batch)) {
        const located = batch.files[index];
        if (withoutName.has(index) && located !== undefined) again.unnamable.push(located);
        else settled(file, failed.get(index) ?? outcomes.get(index) ?? wholeFile(file.entry.node));
      }
    } catch (error) {
      signal.throwIfAborted(); // it did not begin: the files are dropped
      batch.isOurs = false; // the thread died: which files it closed nobody knows
      const { code, message } = asHoldfastError(error);
      for (const { file } of waitingOf(batch)) settled(file, { kind: "failed", code, message });
    }
  }

  /** Reading a file chunk by chunk marks the copies that are bad; when all chunks have a good one, it is placed from those. */
  async #tryOtherCopies<T extends WantedFile>(files: readonly T[], settled: Settled<T>): Promise<void> {
    const { core, signal } = this.#with;
    const found: LocatedFile<T>[] = [];
    for (const file of files) {
      try {
        await this.#probe(file.entry.node);
        const located = locate(core.parts.catalog.chunks, file);
        if (located === undefined) settled(file, { kind: "unreadable", message: NOT_THE_DIGEST });
        else found.push(located);
      } catch (error) {
        signal.throwIfAborted();
        settled(file, { kind: "failed", code: targetCode(error), message: messageOf(error) });
      }
    }
    const { unreadable } = await this.#placeLocated(found, settled);
    for (const file of unreadable) settled(file, { kind: "unreadable", message: NOT_THE_DIGEST });
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
    // What was read out of parity has no place of its own yet.
    await restoreFromParity(
      core,
      (node.chunks ?? []).map(({ id }) => id),
      signal,
    );
  }
}

function waitingOf<T extends WantedFile>({
  files,
  answer,
}: WrittenBatch<T>): { readonly index: number; readonly fd: number; readonly file: T }[] {
  return files.flatMap(({ wanted }, index) => {
    const fd = answer.waiting[index] ?? NOT_WAITING;
    return fd === NOT_WAITING ? [] : [{ index, fd, file: wanted }];
  });
}

/** What goes without saying in an answer: a new file with all its content and metadata. */
function wholeFile(node: FileNode): PutOutcome {
  return { kind: "done", action: "write", bytes: node.stat.sizeBytes, gaps: [], holdsContent: true };
}

/** Gives up files that got no name. */
function dropWaiting<T extends WantedFile>(batch: WrittenBatch<T>): void {
  for (const { index, fd, file } of waitingOf(batch)) {
    closeSync(fd);
    const staged = batch.answer.named.get(index)?.staged;
    if (staged !== undefined) unlinkQuietly(file.folder.anchored, staged);
  }
}
