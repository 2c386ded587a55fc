/** Worker thread that walks one stretch after another and hands over a batch for each request, so that memory stays flat. */
import { parentPort, workerData } from "node:worker_threads";
import { WalkedBatchWriter, type WalkedColumns, buffersOf } from "../engine/walked-batch.js";
import { Selection, type SelectionSpec } from "./selection.js";
import { TreeWalk, type WalkStretch } from "./walk-tree.js";

export interface WalkOrder {
  readonly spec: SelectionSpec;
  /** Entries in one batch at most. */
  readonly batchMax: number;
}

/** The next batch of the stretch that is being walked, or the first of another one. */
export type WalkRequest = "next" | WalkStretch;

/** An empty batch ends the stretch. */
export type WalkAnswer = WalkedColumns;

if (parentPort !== null) {
  const port = parentPort;
  const { spec, batchMax } = workerData as WalkOrder;
  const selection = new Selection(spec);
  let walk: TreeWalk | undefined;
  port.on("message", (request: WalkRequest) => {
    if (request !== "next") walk = new TreeWalk(selection, request);
    const batch = new WalkedBatchWriter(batchMax);
    for (let entry = walk?.next(); entry !== undefined; entry = walk?.next()) {
      batch.add(entry);
      if (batch.isFull) break;
    }
    const columns = batch.take();
    port.postMessage(columns satisfies WalkAnswer, buffersOf(columns));
  });
}
