/** What waits to be written to the registry. */
import { deletedRecordBytes } from "./registry-record.js";

/** Stands for a path that was deleted and whose record is in LevelDB: it is read when it is written. */
export interface Deletion {
  readonly deleted: string;
}

/** Undefined: the path is to be forgotten. */
export type Waiting = Buffer | Deletion | undefined;

export function isDeletion(value: Waiting): value is Deletion {
  return value !== undefined && !(value instanceof Buffer);
}

/** What is damaged, or is none, stays as it is. */
export function deletedBytes(stored: Buffer | undefined, { deleted }: Deletion): Buffer | undefined {
  return stored === undefined ? undefined : (deletedRecordBytes(stored, deleted) ?? stored);
}

/** The first of a map, in its order. */
export function firstOf<K, V>(map: ReadonlyMap<K, V>, count: number): readonly (readonly [K, V])[] {
  const first: (readonly [K, V])[] = [];
  for (const entry of map) {
    if (first.length >= count) break;
    first.push(entry);
  }
  return first;
}
