/**
 * A write that a crash tore: the file has its length, but from some place on nothing but NULs, since those blocks never
 * reached the disk. That is damage of one file, however many there are, and no sign that somebody encrypts. Pure.
 */

/** Fewer NULs at the end say nothing, also of a text, which has no other. */
export const TORN_NULS_MIN = 8;

/**
 * What a torn version still holds: all before its tail of NULs. The whole when there is no such tail, or when the version
 * before ended so as well, as archives and images do.
 */
export function untornPart(before: Buffer, now: Buffer): Buffer {
  const end = endBeforeNuls(now);
  const isTorn = now.length - end >= TORN_NULS_MIN && before.length - endBeforeNuls(before) < TORN_NULS_MIN;
  return isTorn ? now.subarray(0, end) : now;
}

/** Whether content is the beginning of another, or all of it; nothing is the beginning of everything. */
export function isBeginningOf(part: Buffer, whole: Buffer): boolean {
  return part.length <= whole.length && part.equals(whole.subarray(0, part.length));
}

function endBeforeNuls(content: Buffer): number {
  return content.length - nulsAtEnd(content, content.length);
}

/** How many NULs the first `count` bytes end with. */
export function nulsAtEnd(bytes: Buffer, count: number): number {
  let nuls = 0;
  while (nuls < count && bytes[count - 1 - nuls] === 0) nuls += 1;
  return nuls;
}
