/**
 * One batch of a restore, in a worker thread: each file is written and staged; names are given when the whole window is
 * on disk (`name-batch.ts`). A file that fails does not stop the others.
 */
import { closeSync, readlinkSync } from "node:fs";
import { AnchoredFolder } from "../../base/anchored.js";
import { asHoldfastError, errnoOf, hasCode, HoldfastError, messageOf } from "../../base/errors.js";
import { fileCount, fileOrderAt } from "./file-columns.js";
import { unlinkQuietly } from "./place-name.js";
import {
  type FolderHandle,
  NOT_WAITING,
  type PlaceAnswer,
  type PlaceRequest,
  type PutOutcome,
  type StagedName,
} from "./protocol.js";
import { FilePutter } from "./put-file.js";
import { type ReadTools, StoredContent } from "./stored-content.js";

/** Writes the files of a batch. Throws INTERRUPTED, having dropped what it staged; everything else is in the answer. */
export async function placeBatch(
  request: PlaceRequest,
  tools: ReadTools,
  checkCancelled: () => void,
): Promise<PlaceAnswer> {
  using content = new StoredContent(request, tools);
  const putter = new FilePutter(request.options, tools.memory.readBack, checkCancelled);
  using batch = new Batch(request, { content, putter }, checkCancelled);
  for (let index = 0; index < fileCount(request.files); index += 1) await batch.put(index);
  return batch.handOver();
}

class Batch implements Disposable {
  readonly #request: PlaceRequest;
  readonly #content: StoredContent;
  readonly #checkCancelled: () => void;
  readonly #putter: FilePutter;
  readonly #folders: readonly PlacedFolder[];
  readonly #outcomes = new Map<number, PutOutcome>();
  readonly #named = new Map<number, StagedName>();
  readonly #waiting: Int32Array;

  constructor(
    request: PlaceRequest,
    { content, putter }: { readonly content: StoredContent; readonly putter: FilePutter },
    checkCancelled: () => void,
  ) {
    this.#request = request;
    this.#content = content;
    this.#checkCancelled = checkCancelled;
    this.#putter = putter;
    this.#folders = placedFolders(request.folders);
    this.#waiting = new Int32Array(fileCount(request.files)).fill(NOT_WAITING);
  }

  async put(index: number): Promise<void> {
    this.#checkCancelled();
    const order = fileOrderAt(this.#request.files, index);
    try {
      const place = this.#folders[order.folder];
      if (place?.isThere !== true) throw moved();
      const content = (): Iterable<Buffer> => this.#content.chunks(order.firstPlace, order.placeCount);
      const { outcome, waiting } = await this.#putter.put({ folder: place.folder, order, content });
      if (waiting !== undefined) this.#waiting[index] = waiting.fd;
      if (waiting?.named !== undefined) this.#named.set(index, waiting.named);
      // A plain new file goes without saying.
      if (waiting === undefined || outcome.action !== "write" || outcome.gaps.length > 0) {
        this.#outcomes.set(index, outcome);
      }
    } catch (error) {
      this.#outcomes.set(index, failedOutcome(error));
    }
  }

  /** The answer, whose receiver owns the open files from now on. */
  handOver(): PlaceAnswer {
    const waiting = this.#waiting.slice();
    this.#waiting.fill(NOT_WAITING);
    return { outcomes: this.#outcomes, waiting, named: this.#named };
  }

  [Symbol.dispose](): void {
    for (const [index, fd] of this.#waiting.entries()) {
      if (fd === NOT_WAITING) continue;
      closeSync(fd);
      const staged = this.#named.get(index)?.staged;
      const place = this.#folders[fileOrderAt(this.#request.files, index).folder];
      if (staged !== undefined && place !== undefined) unlinkQuietly(place.folder, staged);
    }
  }
}

/** A folder of a batch, and whether it was where it should be when the batch began. */
export interface PlacedFolder {
  readonly folder: AnchoredFolder;
  readonly isThere: boolean;
}

/** The folders of a request, whose descriptors stay the main thread's. */
export function placedFolders(handles: readonly FolderHandle[]): PlacedFolder[] {
  return handles.map(({ fd, path, root }) => {
    const folder = new AnchoredFolder(fd, path, root);
    return { folder, isThere: isInPlace(folder) };
  });
}

/** True while the folder is found under the path it was opened by. */
export function isInPlace(folder: AnchoredFolder): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${folder.fd}`, "latin1") === folder.path;
  } catch (error) {
    // The kernel tells no path that is longer than a page; step by step it can still be looked for.
    if (errnoOf(error) !== undefined) return folder.verify();
    throw error;
  }
}

export function moved(): HoldfastError {
  return new HoldfastError("TARGET_UNSAFE", "its folder was moved away while it was being restored");
}

/** The error as an outcome; an interruption is thrown on. */
export function failedOutcome(error: unknown): PutOutcome {
  if (hasCode(error, "INTERRUPTED")) throw error;
  if (isStoreFault(error)) return { kind: "unreadable", message: messageOf(error) };
  return { kind: "failed", code: targetCode(error), message: messageOf(error) };
}

function isStoreFault(error: unknown): boolean {
  return (["RECORD_DAMAGED", "OBJECT_MISSING", "STORE_IO"] as const).some((code) => hasCode(error, code));
}

/** The code of a failure at the target. */
export function targetCode(error: unknown): HoldfastError["code"] {
  const errno = errnoOf(error);
  if (errno === "EACCES" || errno === "EPERM") return "PERMISSION_DENIED";
  return asHoldfastError(error, "TARGET_IO").code;
}
