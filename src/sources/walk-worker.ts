/** Worker thread that walks one tree and hands over a batch for each request, so that memory stays flat. */
import { parentPort, workerData } from "node:worker_threads";
import type { BytePath } from "../base/paths.js";
import { Selection, type SelectionSpec } from "./selection.js";
import { type WalkedEntry, walkTree } from "./walk-tree.js";

export interface WalkOrder {
  readonly spec: SelectionSpec;
  readonly starts: readonly BytePath[];
}

/** An empty batch ends the walk. */
export type WalkAnswer = readonly WalkedEntry[];

/** Entries in one batch at most. */
const BATCH_MAX = 512;

function* walkAll(order: WalkOrder): Generator<WalkedEntry> {
  const selection = new Selection(order.spec);
  for (const start of order.starts) yield* walkTree(selection, start);
}

if (parentPort !== null) {
  const port = parentPort;
  const entries = walkAll(workerData as WalkOrder);
  port.on("message", () => {
    const batch: WalkedEntry[] = [];
    for (let next = entries.next(); next.done !== true; next = entries.next()) {
      batch.push(next.value);
      if (batch.length >= BATCH_MAX) break;
    }
    port.postMessage(batch satisfies WalkAnswer);
  });
}
