/** How much two texts have in common, by lines. Pure. */

/** Share of lines of the shorter text that the other has too: 0 to 1. Blank lines do not count. */
export function lineSimilarity(a: Buffer, b: Buffer): number {
  const first = countedLines(a);
  const second = countedLines(b);
  const shorter = Math.min(first.total, second.total);
  if (shorter === 0) return 0;
  let common = 0;
  for (const [line, count] of first.counts) common += Math.min(count, second.counts.get(line) ?? 0);
  return common / shorter;
}

function countedLines(content: Buffer): { readonly counts: ReadonlyMap<string, number>; readonly total: number } {
  const counts = new Map<string, number>();
  let total = 0;
  for (const line of content.toString("latin1").split("\n")) {
    const text = line.trim();
    if (text === "") continue;
    counts.set(text, (counts.get(text) ?? 0) + 1);
    total += 1;
  }
  return { counts, total };
}
