/** Worker thread that walks one tree and hands over a batch for each request, so that memory stays flat. */
import { parentPort, workerData } from "node:worker_threads";
import type { BytePath } from "../base/paths.js";
import { WalkedBatchWriter, type WalkedColumns, buffersOf } from "../engine/walked-batch.js";
import { Selection, type SelectionSpec } from "./selection.js";
import { TreeWalk, type WalkedEntry } from "./walk-tree.js";

export interface WalkOrder {
  readonly spec: SelectionSpec;
  readonly starts: readonly BytePath[];
  /** Entries in one batch at most. */
  readonly batchMax: number;
}

/** An empty batch ends the walk. */
export type WalkAnswer = WalkedColumns;

/** The entries of one start after the other; undefined at the end. */
function entriesOf(order: WalkOrder): () => WalkedEntry | undefined {
  const selection = new Selection(order.spec);
  const walks = order.starts.map((start) => new TreeWalk(selection, start));
  return () => {
    for (let walk = walks[0]; walk !== undefined; walk = walks[0]) {
      const entry = walk.next();
      if (entry !== undefined) return entry;
      walks.shift();
    }
    return undefined;
  };
}

if (parentPort !== null) {
  const port = parentPort;
  const order = workerData as WalkOrder;
  const next = entriesOf(order);
  port.on("message", () => {
    const batch = new WalkedBatchWriter(order.batchMax);
    for (let entry = next(); entry !== undefined; entry = next()) {
      batch.add(entry);
      if (batch.isFull) break;
    }
    const columns = batch.take();
    port.postMessage(columns satisfies WalkAnswer, buffersOf(columns));
  });
}
