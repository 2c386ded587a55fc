/** Pages of a list: a cursor is the position after the last entry, opaque to callers. */
import { HoldfastError } from "../base/errors.js";
import { API_LIMITS } from "./contract.js";

export interface Page {
  readonly items: readonly unknown[];
  /** Give it back as `cursor` for the next page; null on the last. */
  readonly next_cursor: string | null;
}

/** Takes one page out of a list and stops reading there. Throws USAGE for a cursor that is not ours. */
export async function pageOf(
  items: AsyncIterable<unknown> | Iterable<unknown>,
  query: { readonly limit?: number; readonly cursor?: string },
): Promise<Page> {
  const limit = Math.min(query.limit ?? API_LIMITS.pageDefault, API_LIMITS.pageMax);
  const start = query.cursor === undefined ? 0 : decodeCursor(query.cursor);
  const found: unknown[] = [];
  let position = 0;
  for await (const item of items) {
    if (position >= start + limit) return { items: found, next_cursor: encodeCursor(start + limit) };
    if (position >= start) found.push(item);
    position += 1;
  }
  return { items: found, next_cursor: null };
}

function encodeCursor(position: number): string {
  return Buffer.from(`p${position}`).toString("base64url");
}

function decodeCursor(cursor: string): number {
  const text = Buffer.from(cursor, "base64url").toString("latin1");
  const position = /^p\d{1,15}$/.test(text) ? Number(text.slice(1)) : NaN;
  if (!Number.isSafeInteger(position)) {
    throw new HoldfastError("USAGE", "the cursor is not one of ours", { hint: "Use next_cursor of the page before." });
  }
  return position;
}
