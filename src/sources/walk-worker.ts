/** Worker thread that walks one tree and hands over a batch for each request, so that memory stays flat. */
import { parentPort, workerData } from "node:worker_threads";
import type { BytePath } from "../base/paths.js";
import { WalkedBatchWriter, type WalkedColumns, buffersOf } from "../engine/walked-batch.js";
import { Selection, type SelectionSpec } from "./selection.js";
import { type WalkedEntry, walkTree } from "./walk-tree.js";

export interface WalkOrder {
  readonly spec: SelectionSpec;
  readonly starts: readonly BytePath[];
  /** Entries in one batch at most. */
  readonly batchMax: number;
}

/** An empty batch ends the walk. */
export type WalkAnswer = WalkedColumns;

function* walkAll(order: WalkOrder): Generator<WalkedEntry> {
  const selection = new Selection(order.spec);
  for (const start of order.starts) yield* walkTree(selection, start);
}

if (parentPort !== null) {
  const port = parentPort;
  const order = workerData as WalkOrder;
  const entries = walkAll(order);
  port.on("message", () => {
    const batch = new WalkedBatchWriter(order.batchMax);
    for (let next = entries.next(); next.done !== true; next = entries.next()) {
      batch.add(next.value);
      if (batch.isFull) break;
    }
    const columns = batch.take();
    port.postMessage(columns satisfies WalkAnswer, buffersOf(columns));
  });
}
