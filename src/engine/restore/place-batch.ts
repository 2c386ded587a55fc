/**
 * One batch of a restore, in a worker thread: each file is put in place or staged; what replaces an existing file
 * waits until all of the batch's replacements are on disk. A file that fails does not stop the others. What was put
 * into a folder that somebody moved away meanwhile is not called restored.
 */
import { readlinkSync } from "node:fs";
import { AnchoredFolder } from "../../base/anchored.js";
import { asHoldfastError, errnoOf, hasCode, HoldfastError, messageOf } from "../../base/errors.js";
import type { RecordOpener } from "../pack/record.js";
import { unlinkQuietly } from "./place-name.js";
import type { FileOrder, PlaceAnswer, PlaceRequest, PutOutcome } from "./protocol.js";
import { FilePutter, type Replacement } from "./put-file.js";
import { StoredContent } from "./stored-content.js";
import { syncStaged } from "./make-durable.js";

const NEVER = new AbortController().signal;

/** Puts the files of a batch in place. Throws INTERRUPTED; everything else is in the answer. */
export async function placeBatch(
  request: PlaceRequest,
  opener: RecordOpener,
  checkCancelled: () => void,
): Promise<PlaceAnswer> {
  using content = new StoredContent(request, opener);
  const batch = new Batch(request, content, checkCancelled);
  try {
    for (const [index, order] of request.files.entries()) await batch.put(index, order);
    await batch.replace();
  } finally {
    batch.clear();
  }
  return { outcomes: batch.checkedOutcomes() };
}

class Batch {
  readonly #request: PlaceRequest;
  readonly #content: StoredContent;
  readonly #checkCancelled: () => void;
  readonly #putter: FilePutter;
  readonly #folders: readonly AnchoredFolder[];
  /** Folders that were where they should be when the batch began. */
  readonly #inPlace: readonly boolean[];
  readonly #outcomes: PutOutcome[] = [];
  readonly #waiting = new Map<number, Replacement>();

  constructor(request: PlaceRequest, content: StoredContent, checkCancelled: () => void) {
    this.#request = request;
    this.#content = content;
    this.#checkCancelled = checkCancelled;
    this.#putter = new FilePutter(request.options, checkCancelled);
    this.#folders = request.folders.map(({ fd, path, root }) => new AnchoredFolder(fd, path, root));
    this.#inPlace = this.#folders.map(isInPlace);
  }

  async put(index: number, order: FileOrder): Promise<void> {
    this.#checkCancelled();
    try {
      const folder = this.#folders[order.folder];
      if (folder === undefined || this.#inPlace[order.folder] !== true) throw moved();
      const content = (): Iterable<Buffer> => this.#content.chunks(order.firstPlace, order.placeCount);
      const result = await this.#putter.put({ folder, order, content });
      if ("outcome" in result) this.#outcomes[index] = result.outcome;
      else this.#waiting.set(index, result.replacement);
    } catch (error) {
      this.#outcomes[index] = failedOutcome(error);
    }
  }

  /** Renames what was staged over what was there: the old content goes only when the new one is sure to stay. */
  async replace(): Promise<void> {
    try {
      await syncStaged([...this.#waiting.values()], NEVER);
    } catch (error) {
      for (const index of this.#waiting.keys()) this.#outcomes[index] = failedOutcome(error);
      return;
    }
    for (const [index, { folder, staged, name, outcome }] of this.#waiting) {
      try {
        if (!isInPlace(folder)) throw moved();
        folder.rename(staged, folder, name);
        this.#outcomes[index] = outcome;
      } catch (error) {
        this.#outcomes[index] = failedOutcome(error);
      }
    }
  }

  /** Removes staging names that are left. */
  clear(): void {
    for (const { folder, staged } of this.#waiting.values()) unlinkQuietly(folder, staged);
  }

  checkedOutcomes(): PutOutcome[] {
    const inPlace = this.#folders.map(isInPlace);
    return this.#request.files.map((order, index) => {
      const outcome = this.#outcomes[index] ?? failedOutcome(new HoldfastError("INTERNAL", "a file was passed over"));
      return outcome.kind === "done" && inPlace[order.folder] !== true ? failedOutcome(moved()) : outcome;
    });
  }
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
function failedOutcome(error: unknown): PutOutcome {
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
