/** Whether a file that was reported damaged still is, just before it would be replaced. */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { type BytePath, isTextPath, pathText } from "../base/paths.js";
import { reached } from "../base/reach.js";
import type { StatTuple } from "../engine/types.js";
import { isSameFile } from "./place.js";
import type { LiveWatch } from "./ports.js";
import type { LastGood, LossKind } from "./strategy.js";

/** A NUL tail is longer than this. */
const NUL_TAIL_BYTES = 512;

/**
 * Between the judgement and now the owner may have mended the file: what is there must still be damaged in the way it
 * was reported, or it is left alone.
 */
export async function isStillDamaged(
  watch: LiveWatch,
  lost: { readonly path: BytePath; readonly kind: LossKind },
  file: { readonly present: StatTuple; readonly good: LastGood },
  signal: AbortSignal,
): Promise<boolean> {
  const { present, good } = file;
  switch (lost.kind) {
    case "truncated":
      return present.sizeBytes < good.stat.sizeBytes;
    case "nul_tail":
      return await endsInNul(lost.path, present.sizeBytes);
    case "bit_rot":
      return isSameFile(present, good.stat);
    case "invalid_structure":
    case "schema_violation":
      // A name that is no text cannot be given to a validator.
      return (
        !isTextPath(lost.path) || (await watch.validate(pathText(lost.path), lost.path, signal)).verdict !== "valid"
      );
    case "overwritten":
    case "encrypted": // other than the good content, as the caller has seen; what the owner mends is registered anew
    case "deleted":
    case "requested":
      return true;
  }
}

async function endsInNul(path: BytePath, sizeBytes: number): Promise<boolean> {
  using place = reached(path);
  const handle = await open(place.bytes, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const tail = Buffer.alloc(NUL_TAIL_BYTES, 1);
    const { bytesRead } = await handle.read(tail, 0, NUL_TAIL_BYTES, Math.max(0, sizeBytes - NUL_TAIL_BYTES));
    return tail.subarray(0, bytesRead).every((byte) => byte === 0);
  } finally {
    await handle.close();
  }
}
