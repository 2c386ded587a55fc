/**
 * The port to whatever holds a repository's objects: a folder, later S3 and others. Objects are immutable, named by
 * a key of `/`-separated ASCII names (`packs/d/ab/abcd…`). Every method may be retried. Errors: OBJECT_MISSING,
 * OBJECT_EXISTS, STORE_FULL, STORE_READ_ONLY, STORE_IO, PERMISSION_DENIED. The contract suite is
 * `test/contract/backend.ts`.
 */

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** Time of the last write by the store's own clock, ms since the epoch. */
  readonly modifiedMs: number;
}

export interface SpaceInfo {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

export interface Backend extends AsyncDisposable {
  /** The place, without secrets, for messages. */
  readonly url: string;
  /** A folder on the store's own file system for files that `putFile` adopts; the lock's holder clears it (`clearStaging`). */
  readonly stagingFolder: string;
  /**
   * Stores bytes under a new key, durably: after it resolves the object survives a power cut, name included.
   * An equal object of that key is success (so a retry is harmless); a different one is OBJECT_EXISTS.
   */
  put(key: string, data: Uint8Array, signal: AbortSignal): Promise<void>;
  /** As `put`, adopting a staged, already synced file (it is gone afterwards). */
  putFile(key: string, stagedPath: string, signal: AbortSignal): Promise<void>;
  /** The whole object. Throws OBJECT_MISSING. */
  get(key: string, signal: AbortSignal): Promise<Buffer>;
  /** `length` bytes from `offset`; shorter only at the end of the object. Throws OBJECT_MISSING. */
  getRange(key: string, offset: number, length: number, signal: AbortSignal): Promise<Buffer>;
  /** Size and time, or undefined when there is no such object. */
  stat(key: string, signal: AbortSignal): Promise<ObjectInfo | undefined>;
  /** All objects whose key starts with `prefix`, in key order; staging files are not objects. */
  list(prefix: string, signal: AbortSignal): AsyncIterable<ObjectInfo>;
  /** Removes an object; missing is success. */
  delete(key: string, signal: AbortSignal): Promise<void>;
  /** Space of the place, or undefined when it has no such notion. */
  space(): Promise<SpaceInfo | undefined>;
}
