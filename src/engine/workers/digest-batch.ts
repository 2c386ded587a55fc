/** Proving the content of a batch of files, in a worker thread: their chunks are read and opened, their digests compared. */
import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { HoldfastError } from "../../base/errors.js";
import type { PlaceRequest } from "../restore/protocol.js";
import { type ReadTools, StoredContent } from "../restore/stored-content.js";

/** The codec's outputs are freed when the event loop turns: it does so after this many bytes. */
const BYTES_PER_TURN = 8 * 2 ** 20;

export interface DigestRequest extends Pick<PlaceRequest, "storeFolder" | "objects" | "places"> {
  readonly files: readonly {
    readonly firstPlace: number;
    readonly placeCount: number;
    /** Undefined: none was kept, only that every chunk opens is proved. */
    readonly sha256: string | undefined;
  }[];
}

/** Positions of the files whose content is not what it should be, or cannot be read from these places. */
export async function digestBatch(
  request: DigestRequest,
  tools: ReadTools,
  checkCancelled: () => void,
): Promise<readonly number[]> {
  using stored = new StoredContent(request, tools);
  const failed: number[] = [];
  let bytesSinceTurn = 0;
  for (const [index, { firstPlace, placeCount, sha256 }] of request.files.entries()) {
    const digest = createHash("sha256");
    try {
      for (const bytes of stored.chunks(firstPlace, placeCount)) {
        digest.update(bytes);
        bytesSinceTurn += bytes.length;
        if (bytesSinceTurn < BYTES_PER_TURN) continue;
        bytesSinceTurn = 0;
        checkCancelled();
        await nextTurn();
      }
      if (sha256 !== undefined && digest.digest("hex") !== sha256) failed.push(index);
    } catch (error) {
      checkCancelled();
      if (!(error instanceof HoldfastError)) throw error;
      failed.push(index);
    }
  }
  return failed;
}
