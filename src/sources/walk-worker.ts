/**
 * Worker thread that walks one stretch after another and hands over a part for each request, so that memory stays flat:
 * what it met, or what each folder is like.
 */
import { parentPort, workerData } from "node:worker_threads";
import { WalkedBatchWriter, type WalkedColumns, buffersOf } from "../engine/walked-batch.js";
import { type FolderDigest, FolderDigests } from "./folder-digests.js";
import { Selection, type SelectionSpec } from "./selection.js";
import { TreeWalk, type WalkStretch } from "./walk-tree.js";

export interface WalkOrder {
  readonly spec: SelectionSpec;
  /** What is told: all that is met, as `WalkedColumns`, or a number for each folder, as `DigestedFolders`. */
  readonly tells: "entries" | "folders";
  /** Entries or folders in one part at most. */
  readonly batchMax: number;
}

/** The next part of the stretch that is being walked, or the first of another one. */
export type WalkRequest = "next" | WalkStretch;

/** The folders that the walk has been through meanwhile. */
export interface DigestedFolders {
  readonly count: number;
  readonly folders: readonly FolderDigest[];
}

/** An empty part ends the stretch. */
export type WalkAnswer = WalkedColumns | DigestedFolders;

if (parentPort !== null) {
  const port = parentPort;
  const { spec, tells, batchMax } = workerData as WalkOrder;
  const selection = new Selection(spec);
  const digests = tells === "folders" ? new FolderDigests() : undefined;
  let walk: TreeWalk | undefined;
  port.on("message", (request: WalkRequest) => {
    if (request !== "next") walk = new TreeWalk(selection, request, digests);
    if (digests === undefined) {
      const columns = columnsOf(walk, batchMax);
      port.postMessage(columns satisfies WalkAnswer, buffersOf(columns));
    } else port.postMessage(foldersOf(walk, digests, batchMax) satisfies WalkAnswer);
  });
}

function columnsOf(walk: TreeWalk | undefined, batchMax: number): WalkedColumns {
  const batch = new WalkedBatchWriter(batchMax);
  for (let entry = walk?.next(); entry !== undefined; entry = walk?.next()) {
    batch.add(entry);
    if (batch.isFull) break;
  }
  return batch.take();
}

function foldersOf(walk: TreeWalk | undefined, digests: FolderDigests, batchMax: number): DigestedFolders {
  while (digests.endedCount < batchMax && walk?.next() !== undefined);
  const folders = digests.take();
  return { count: folders.length, folders };
}
