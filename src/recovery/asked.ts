/**
 * What a person asks for: in a special way (the version of a time, or what one strategy has) or not, and what stood at the
 * path then. It is noted with the incident before anything is done, so that a heal that goes on after an interruption
 * places that or nothing, and replaces nothing that was worked on since.
 */
import { isoTime } from "../base/clock.js";
import { HoldfastError } from "../base/errors.js";
import { type BytePath, pathText } from "../base/paths.js";
import type { FileNode } from "../engine/types.js";
import { type RecoveryChain, chainOfOne } from "./chain.js";
import { databaseAt } from "./database-at.js";
import type { HealJob } from "./heal-path.js";
import type { AskedFor } from "./incident.js";
import { standingAt } from "./is-there.js";
import type { HealPolicy, RecoverOptions, VersionReader } from "./ports.js";

/** How a heal does what was asked for. */
export type HealHow = Pick<HealJob, "steps" | "wanted">;

/** Undefined: nothing special. */
export function askedFor({ atMs, strategy }: RecoverOptions): AskedFor | undefined {
  if (atMs !== undefined) return { atMs };
  return strategy === undefined ? undefined : { strategy };
}

/** The wish as it is noted: with what stands at the path now. */
export async function notedWish(path: BytePath, asked: AskedFor | undefined): Promise<AskedFor | undefined> {
  const standing = await standingAt(path);
  return standing === undefined ? asked : { ...asked, standing };
}

/** For people: `it was to be recovered as of ...`. */
export function wishText({ atMs, strategy }: AskedFor): string {
  const how = strategy === undefined ? "" : ` with the strategy ${strategy}`;
  return `it was to be recovered${atMs === undefined ? how : ` as of ${isoTime(atMs)}`}`;
}

/** Throws USAGE (no such strategy), VERSION_NOT_FOUND. */
export async function howAsked(
  { versions, chain }: { readonly versions: VersionReader; readonly chain: RecoveryChain },
  { path, policy }: { readonly path: BytePath; readonly policy: HealPolicy },
  { atMs, strategy }: AskedFor,
  signal: AbortSignal,
): Promise<HealHow> {
  if (atMs === undefined) return strategy === undefined ? {} : { steps: chainOfOne(strategy, policy.chain, chain) };
  const steps = [{ strategy: "latest_backup", parameters: { at_ms: atMs } }];
  return { steps, wanted: await versionAt(versions, path, atMs, signal) };
}

/** What a path was at a time. Of a database that had a log with commits then, no stored digest is that of the whole. */
async function versionAt(
  versions: VersionReader,
  path: BytePath,
  atMs: number,
  signal: AbortSignal,
): Promise<FileNode> {
  const version = await versions.entryAt(path, atMs);
  if (version?.node !== undefined) {
    const { sha256: _digest, gitBlobId: _blob, ...node } = version.node;
    return (await databaseAt(versions, path, atMs, signal)) === undefined ? version.node : node;
  }
  throw new HoldfastError("VERSION_NOT_FOUND", `${pathText(path)} has no version at ${isoTime(atMs)}`);
}
