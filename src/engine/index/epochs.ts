/**
 * Garbage collections as the store remembers them: `gc/<epoch>/plan` before anything is deleted, `gc/<epoch>/done`
 * after. A plan without its end is carried out by whoever opens the repository next, before anything else is written.
 */
import { hasCode } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import type { Backend } from "../../storage/backend.js";
import { decodeDigested, encodeDigested } from "../digested-json.js";

/** What a collection deletes: keys of packs, fragments and commits that nothing refers to any more. */
export interface CollectionPlan {
  readonly epoch: number;
  readonly deletes: readonly string[];
}

const DIGITS = 8;

function epochKey(epoch: number, name: "plan" | "done"): string {
  return `gc/${String(epoch).padStart(DIGITS, "0")}/${name}`;
}

/** The newest epoch with a plan, and whether it was carried out. Epoch 0: there was none. */
export async function newestEpoch(
  backend: Backend,
  signal: AbortSignal,
): Promise<{ readonly epoch: number; readonly done: boolean }> {
  let epoch = 0;
  let done = true;
  for await (const { key } of backend.list("gc/", signal)) {
    const match = /^gc\/(\d+)\/(plan|done)$/.exec(key);
    if (match === null) continue;
    const found = Number(match[1]);
    if (found > epoch) done = false;
    epoch = Math.max(epoch, found);
    if (found === epoch && match[2] === "done") done = true;
  }
  return { epoch, done };
}

export async function writePlan(backend: Backend, plan: CollectionPlan, signal: AbortSignal): Promise<void> {
  await backend.put(epochKey(plan.epoch, "plan"), encodeDigested(JSON.stringify(plan)), signal);
}

/** Deletes what the plan names, then notes its end. Harmless when repeated. */
export async function carryOut(backend: Backend, plan: CollectionPlan, signal: AbortSignal): Promise<void> {
  for (const key of plan.deletes) await backend.delete(key, signal);
  await noteEnd(backend, plan.epoch, signal);
}

async function noteEnd(backend: Backend, epoch: number, signal: AbortSignal): Promise<void> {
  await backend.put(epochKey(epoch, "done"), Buffer.from(String(epoch), "utf8"), signal);
}

/**
 * The plan of the newest collection if it was not carried out to its end. One that is damaged or does not read is given
 * up for good, since what it names may be relied upon from now on: it is garbage of the next collection.
 */
export async function interruptedPlan(
  backend: Backend,
  log: Logger,
  signal: AbortSignal,
): Promise<CollectionPlan | undefined> {
  const { epoch, done } = await newestEpoch(backend, signal);
  if (done) return undefined;
  const plan = await readPlan(backend, epochKey(epoch, "plan"), signal);
  if (plan?.epoch === epoch) return plan;
  log.error("gc.plan_damaged", { epoch });
  await noteEnd(backend, epoch, signal);
  return undefined;
}

/** Finishes the newest collection if a crash cut it short. The caller holds the store's lock. */
export async function finishInterrupted(backend: Backend, log: Logger, signal: AbortSignal): Promise<number> {
  const plan = await interruptedPlan(backend, log, signal);
  if (plan === undefined) return (await newestEpoch(backend, signal)).epoch;
  log.info("gc.finishing", { epoch: plan.epoch, objects: plan.deletes.length });
  await carryOut(backend, plan, signal);
  return plan.epoch;
}

/**
 * Takes the number of the next collection with one that deletes nothing, so that one which another process is about to
 * begin cannot; gives the newest epoch then. The caller holds the store's lock.
 */
export async function fenceCollections(backend: Backend, log: Logger, signal: AbortSignal): Promise<number> {
  for (;;) {
    const epoch = (await finishInterrupted(backend, log, signal)) + 1;
    try {
      await writePlan(backend, { epoch, deletes: [] }, signal);
      await noteEnd(backend, epoch, signal);
      return epoch;
    } catch (error) {
      if (!hasCode(error, "OBJECT_EXISTS")) throw error; // it came first, and is carried out first
    }
  }
}

/** Undefined for a plan that is damaged or does not read. */
async function readPlan(backend: Backend, key: string, signal: AbortSignal): Promise<CollectionPlan | undefined> {
  try {
    return parsePlan(await backend.get(key, signal));
  } catch (error) {
    if (!hasCode(error, "STORE_IO")) throw error;
    return undefined;
  }
}

function parsePlan(bytes: Buffer): CollectionPlan | undefined {
  const value = decodeDigested(bytes);
  if (typeof value === "object" && value !== null && "epoch" in value && "deletes" in value) {
    const { epoch, deletes } = value;
    if (typeof epoch === "number" && Array.isArray(deletes) && deletes.every(isDeletable)) return { epoch, deletes };
  }
  return undefined;
}

/** Keys of everything that collections were to delete, as far as their plans can be read. */
export async function collectedKeys(backend: Backend, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const keys = new Set<string>();
  for await (const { key } of backend.list("gc/", signal)) {
    if (!key.endsWith("/plan")) continue;
    for (const deleted of (await readPlan(backend, key, signal))?.deletes ?? []) keys.add(deleted);
  }
  return keys;
}

/** Only what a collection may ever delete: a forged plan must not reach keys or configuration. */
function isDeletable(key: unknown): key is string {
  return typeof key === "string" && /^(packs|index|commits)\/[0-9a-z/]+$/.test(key);
}
