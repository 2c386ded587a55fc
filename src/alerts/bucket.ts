/** The part of a LevelDB sublevel (string keys, string values) that alerts keep their state in. */

export type BucketWrite =
  | { readonly type: "put"; readonly key: string; readonly value: string }
  | { readonly type: "del"; readonly key: string };

/** A sublevel of `level` with the default (utf8) encodings fits. */
export interface Bucket {
  batch(writes: BucketWrite[], options: WriteOptions): Promise<void>;
  iterator(range: { readonly gte: string; readonly lt: string }): AsyncIterable<[string, string]>;
}

export interface WriteOptions {
  readonly sync: boolean;
  readonly keyEncoding: "utf8";
}

/** All writes or none of them; on disk when it resolves, so that what was accepted does not die with the process. */
export async function writeDurably(bucket: Bucket, writes: readonly BucketWrite[]): Promise<void> {
  if (writes.length > 0) await bucket.batch([...writes], { sync: true, keyEncoding: "utf8" });
}

/** Every entry whose key starts with the prefix, in key order. */
export function entriesBelow(bucket: Bucket, prefix: string): AsyncIterable<[string, string]> {
  return bucket.iterator({ gte: prefix, lt: `${prefix}\uffff` });
}
