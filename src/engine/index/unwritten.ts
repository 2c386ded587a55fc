/**
 * What a batch of operations that is not written yet says of a key: an index of the batch, made when something is asked
 * and carried on as the batch grows.
 */
import type { LevelOperation } from "./level-store.js";

interface Seen {
  /** Operations that are in `values`. */
  count: number;
  /** By key, one byte for each character; undefined: deleted. */
  readonly values: Map<string, Buffer | undefined>;
}

export class Unwritten {
  readonly #seen = new WeakMap<readonly LevelOperation[], Seen>();

  /** The last word of the batch on a key; undefined: it says nothing. A value that is undefined was deleted. */
  find(operations: readonly LevelOperation[], key: Buffer): { readonly value: Buffer | undefined } | undefined {
    const seen = this.#seen.get(operations) ?? { count: 0, values: new Map<string, Buffer | undefined>() };
    this.#seen.set(operations, seen);
    for (; seen.count < operations.length; seen.count += 1) {
      const operation = operations[seen.count];
      if (operation === undefined || operation.key[0] !== key[0]) continue;
      seen.values.set(operation.key.toString("latin1"), operation.type === "put" ? operation.value : undefined);
    }
    const name = key.toString("latin1");
    return seen.values.has(name) ? { value: seen.values.get(name) } : undefined;
  }
}
