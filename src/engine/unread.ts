/**
 * What of a store a start could not take in. The repository opens all the same and uses the rest; but what these objects
 * say is not known, so until they are read or given up nothing is removed that they may speak of.
 */
import { HoldfastError, hasCode } from "../base/errors.js";
import type { Backend } from "../storage/backend.js";
import type { RepositoryCore } from "./core.js";
import { UNREAD_SUFFIX } from "./wal/segment.js";

/** Keys of what was not taken in, or not as a whole. */
export function unreadKeys({ parts }: Pick<RepositoryCore, "parts">): ReadonlySet<string> {
  return new Set([...parts.catalog.commits.partial(), ...parts.unread.keys()]);
}

/**
 * To be asked before anything is removed for good: what was not taken in may refer to chunks that nothing else refers to,
 * or pin a backup. Throws RECORD_DAMAGED.
 */
export async function refuseUnread(core: RepositoryCore, signal: AbortSignal): Promise<void> {
  const [key] = await stillUnread(core, signal);
  if (key !== undefined) throw refusal(key);
}

/** The same for commits that came to the store without this process. Throws RECORD_DAMAGED, REPO_LOCKED. */
export async function refuseUnknown({ parts }: RepositoryCore, signal: AbortSignal): Promise<void> {
  const { backend, catalog, lease } = parts;
  for await (const { key } of backend.list("commits/", signal)) {
    if (catalog.commits.isApplied(key)) continue;
    lease?.assertHeld(); // whoever took over made it
    throw refusal(key);
  }
}

/** What was not taken in and is still there, under its key or that of a sealed segment. What cannot be looked at is there. */
export async function stillUnread({ parts }: RepositoryCore, signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  for (const key of unreadKeys({ parts })) {
    const names = key.startsWith("wal/") && !key.endsWith(UNREAD_SUFFIX) ? [key, `${key}${UNREAD_SUFFIX}`] : [key];
    for (const name of names) if (await isThere(parts.backend, name, signal)) found.push(name);
  }
  return found;
}

async function isThere(backend: Backend, key: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await backend.stat(key, signal)) !== undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!hasCode(error, "STORE_IO")) throw error;
    return true;
  }
}

function refusal(key: string): HoldfastError {
  const what = key.startsWith("commits/") ? "commit" : "object";
  const message = `the ${what} ${key} cannot be read, and what it refers to would be removed`;
  return new HoldfastError("RECORD_DAMAGED", message, {
    hint: `Run a repair with another copy of the store; without one, move the ${what}'s file away to give it up.`,
    details: { key },
  });
}
