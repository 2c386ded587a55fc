/**
 * `open_files`: a deleted file that some process still holds open or mapped. Linux keeps its content until the last
 * close, so it is looked for first and copied at once. It even holds what was written after the last backup. Found by
 * the lost inode, or else by the name that the file had.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { HoldfastError } from "../../base/errors.js";
import type { HeldFile, ProcessFiles } from "../proc.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { fidelityByTime, msOfNs } from "../regular-file.js";

export function openFilesStrategy(processes: ProcessFiles): RecoveryStrategy {
  return {
    id: "open_files",
    effort: "perishable",
    async *find(lost: LostFile, _search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const seen = new Set<string>();
      const isOfLost = (held: HeldFile): boolean => held.path === lost.path || isInodeOf(lost, held);
      for (const held of await processes.heldOf(lost, isOfLost, signal)) {
        const identity = `${String(held.dev)}:${String(held.ino)}`;
        if (seen.has(identity)) continue;
        seen.add(identity);
        yield candidateOf(lost, held, isInodeOf(lost, held));
      }
    },
    prepare: (missed) => processes.lookEarly(missed),
  };
}

/**
 * The number of a deleted inode may be another file's a moment later, such as a program's nameless temporary file. That
 * one was made after the lost file was last known good; where birth is not told, the name must agree.
 */
function isInodeOf(lost: LostFile, held: HeldFile): boolean {
  const stat = lost.lastGood?.stat;
  if (stat?.dev !== held.dev || stat.ino !== held.ino) return false;
  return held.birthNs === 0n ? held.path === lost.path : held.birthNs <= stat.ctimeNs;
}

function candidateOf(lost: LostFile, held: HeldFile, isLostInode: boolean): Candidate {
  const modifiedAtMs = msOfNs(held.mtimeNs);
  return {
    strategy: "open_files",
    origin: `${held.how} of process ${String(held.pid)} (${held.program})`,
    fidelity: isLostInode ? "exact" : fidelityByTime(lost, modifiedAtMs),
    modifiedAtMs,
    sizeBytes: held.sizeBytes,
    ...(isLostInode ? { sameInode: true } : { ownerUid: held.uid }),
    notes: held.isWritable ? ["the process may still be writing to it"] : [],
    command: `cp ${held.link} RECOVERED`,
    open: (signal) => contentOf(held, signal),
  };
}

/** What a process had under a number when it was looked at may have been closed since, and the number be another file's. */
async function* contentOf(held: HeldFile, signal: AbortSignal): AsyncIterable<Buffer> {
  await using handle = await open(held.link, constants.O_RDONLY | constants.O_NONBLOCK);
  if (!(await isStillHeld(handle, held)))
    throw new HoldfastError("RECOVERY_FAILED", `${held.how} of process ${String(held.pid)} is another file now`);
  yield* handle.createReadStream({ start: 0, autoClose: false, signal }) as AsyncIterable<Buffer>;
}

async function isStillHeld(handle: FileHandle, held: HeldFile): Promise<boolean> {
  const { dev, ino, birthtimeNs } = await handle.stat({ bigint: true });
  return dev === held.dev && ino === held.ino && birthtimeNs === held.birthNs;
}
