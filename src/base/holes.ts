/** Writing a file so that runs of zeros become holes: what lies between them, to be written. */

/** A hole is made of whole blocks of the file; 4 KiB is what file systems have. */
const BLOCK = Buffer.alloc(4096);

/** Beginning and end of a part of some bytes. */
export type Run = readonly [start: number, end: number];

/** The parts of `bytes` that are no whole blocks of zeros; they stand at `offset` of their file, which tells the blocks. */
export function dataRuns(bytes: Buffer, offset: number): Run[] {
  const runs: Run[] = [];
  let start = 0;
  let at = 0;
  while (at < bytes.length) {
    const next = Math.min(bytes.length, at + BLOCK.length - ((offset + at) % BLOCK.length));
    if (isZero(bytes, at, next)) {
      if (at > start) runs.push([start, at]);
      start = next;
    }
    at = next;
  }
  if (at > start) runs.push([start, at]);
  return runs;
}

/** True for zeros only; at most 4 KiB. Most blocks show by their first byte that they are none of zeros. */
export function isZero(bytes: Buffer, from: number, to: number): boolean {
  return from === to || (bytes[from] === 0 && bytes.compare(BLOCK, 0, to - from, from, to) === 0);
}
