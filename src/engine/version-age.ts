/**
 * How old versions are, for a thinning that must not believe a wrong clock. What happened between two commits is known
 * from their times alone; where these lie further apart than is likely, the clock may have jumped ahead, and the gap counts
 * for no more than half of the time that versions are kept. So a clock that is ahead, however far, makes versions older by
 * that much at most: the younger half stays. What is really old after a long rest is thinned a little later.
 */

/** Two commits that lie no further apart than this are believed, whatever is kept. A backup a day is usual. */
const BELIEVED_GAP_MS = 7 * 86_400_000;

/**
 * The wall time before which versions are older than `keptMs`. `commits` are all that are known, in any order; a clock
 * that was set back makes nothing older.
 */
export function oldBeforeMs(
  commits: Iterable<{ readonly number: number; readonly timeMs: number }>,
  nowMs: number,
  keptMs: number,
): number {
  if (keptMs <= 0) return nowMs; // every version but the current one, whatever the clock says
  let laterMs = nowMs;
  let leftMs = keptMs;
  for (const { timeMs } of [...commits].sort((a, b) => b.number - a.number)) {
    const gapMs = laterMs - timeMs;
    if (gapMs <= 0) continue; // made while the clock was ahead
    const isBelieved = gapMs <= Math.max(BELIEVED_GAP_MS, keptMs / 2);
    const countedMs = isBelieved ? gapMs : keptMs / 2;
    if (countedMs >= leftMs) return isBelieved ? laterMs - leftMs : timeMs + 1;
    leftMs -= countedMs;
    laterMs = timeMs;
  }
  return laterMs - leftMs;
}
