/**
 * Whether a loss that is told of a path with an incident is the one that this is about, or another that came after it. One
 * path never has two open incidents, and no loss may be passed over for one that is over.
 */
import type { LossEvent } from "../base/events.js";
import { isGoodSince } from "./good-since.js";
import type { IncidentHealer } from "./heal-incident.js";
import type { Incident } from "./incident.js";
import type { IncidentBook } from "./incident-book.js";
import type { LiveWatch } from "./ports.js";

export interface LostAnewParts {
  readonly book: IncidentBook;
  readonly incidents: Pick<IncidentHealer, "conclude" | "exclusively">;
  readonly watch: Pick<LiveWatch, "lastGood">;
}

/** True when what a path has an open incident of is over, and the path is lost all the same: that is another incident. */
export async function isLostAnew({ book, incidents, watch }: LostAnewParts, loss: LossEvent): Promise<boolean> {
  const { path } = loss;
  await incidents.exclusively(path, () => Promise.resolve()); // what is being done about it comes first
  const id = book.openIncidentOf(path);
  if (id !== undefined) {
    const incident = await book.get(id);
    if (!(await isOver(watch, incident, loss))) return false;
    await incidents.conclude(incident, "returned", "it stood again, and is lost or damaged once more");
  }
  const { state = "lost" } = (await watch.lastGood(path)) ?? {};
  return state === "lost";
}

/** A deletion is told once by each source, but for a start; damage is told with each new content, and is one as long as none was good. */
async function isOver(
  watch: LostAnewParts["watch"],
  { source, kind, state, openedAtMs }: Incident,
  loss: LossEvent,
): Promise<boolean> {
  if (kind === "requested") return state === "failed" || state === "waiting"; // nothing was lost then
  if (state !== "failed") return false;
  const isToldAnew = loss.kind === "deleted" && loss.noticedBy !== "start" && loss.source === source;
  return isToldAnew || (await isGoodSince(watch, loss.path, openedAtMs));
}
