/**
 * What was begun and is not finished, and when it is taken up again: heals that a crash interrupted, heals that were
 * put off because the storage was away, and heals whose target could not be written or was not safe.
 */
import { mapLimited } from "../base/concurrency.js";
import { hasCode } from "../base/errors.js";
import { type BytePath, nameOf, parentPath, pathText } from "../base/paths.js";
import { wishText } from "./asked.js";
import type { RestoreMemory } from "./gate.js";
import type { IncidentHealer } from "./heal-incident.js";
import type { Incident } from "./incident.js";
import type { IncidentBook } from "./incident-book.js";
import { standingAt } from "./is-there.js";
import type { HealMode, HealPolicy, HealerOptions } from "./ports.js";
import { clearStagingOf } from "./staging.js";

export interface UnfinishedOptions extends Pick<HealerOptions, "observer" | "watch" | "policyFor"> {
  readonly book: IncidentBook;
  readonly memory: RestoreMemory;
  readonly incidents: IncidentHealer;
  /** Heals put-off incidents this many at a time. */
  readonly parallel: number;
  /** Runs something in the background; its failure is logged. */
  readonly work: (work: () => Promise<void>) => void;
  /** Does a job, now and, when the state cannot be written (a full disk), again until it can; throws what the job throws. */
  readonly untilWritten: (job: () => Promise<void>) => Promise<void>;
  /** Heals an incident when its turn has come. */
  readonly healNow: (incident: Incident, policy: HealPolicy, isApproved: boolean) => Promise<void>;
  readonly signal: AbortSignal;
}

/** How many incidents are looked at to find those whose target failed. */
const RETRIED_MAX = 200;
/** Saves of others that are named in a log line and in an incident. */
const KEPT_TOLD_MAX = 20;
/** Failures of the place, not of the content: no space, folders that moved, a link in the way. They may pass. */
const FAILURES_OF_TARGET: ReadonlySet<string | undefined> = new Set(["TARGET_IO", "TARGET_UNSAFE"]);

export class Unfinished {
  readonly #options: UnfinishedOptions;
  /** Incidents that a crash left undecided or unfinished, until their source is looked through, by id. */
  readonly #interrupted = new Map<string, Incident>();

  constructor(options: UnfinishedOptions) {
    this.#options = options;
  }

  /** Takes note of what was open at the end of the last run. */
  load(open: readonly Incident[]): void {
    for (const incident of open)
      if (incident.state === "open" || incident.state === "healing") this.#interrupted.set(incident.id, incident);
    for (const incident of this.#interrupted.values())
      if (!this.#isOfKnownSource(incident))
        this.#options.work(() => this.#options.untilWritten(() => this.#release(incident)));
  }

  /** A source was looked through, or a root of it is back: what waits in it is taken up. */
  resume(source: string): void {
    const { work, book } = this.#options;
    for (const incident of this.#interrupted.values())
      if (incident.source === source && this.#interrupted.delete(incident.id)) this.carryOn(incident.id);
    work(() => this.#retakeAll(book.putOffOf(source)));
  }

  /** Takes up an incident that was begun and is not finished. */
  carryOn(id: string): void {
    const { work, book, untilWritten } = this.#options;
    work(() => untilWritten(async () => this.#resume(await book.get(id))));
  }

  /** A heal was just put off: its storage may have come back between the look and the note of it. */
  onPutOff(id: string): void {
    this.#options.work(() => this.#retake(id));
  }

  /** Tries again what was put off or failed at its target; what no strategy could bring is left to a person. */
  async retry(): Promise<void> {
    const { book } = this.#options;
    await this.#retakeAll(book.putOffOf());
    for (const incident of await book.list({ onlyOpen: true, limit: RETRIED_MAX }))
      if (
        incident.state === "failed" &&
        FAILURES_OF_TARGET.has(incident.failure?.code) &&
        incident.putOff === undefined
      )
        await this.#healAgain(incident, incident.paths[0], false);
  }

  async #retakeAll(ids: readonly string[]): Promise<void> {
    const { parallel, signal } = this.#options;
    await mapLimited(ids, parallel, signal, (id) => this.#retake(id));
  }

  /** Heals what was put off, when its storage is there again. */
  async #retake(id: string): Promise<void> {
    const { book, watch } = this.#options;
    const incident = await book.get(id);
    if (incident.putOff === undefined) return;
    const { path, isApproved } = incident.putOff;
    if ((await watch.awayReasonOf(path)) === undefined) await this.#healAgain(incident, path, isApproved);
  }

  /** Several may find that an incident is due: the first that moves it heals it. */
  async #healAgain(incident: Incident, path: BytePath | undefined, isApproved: boolean): Promise<void> {
    const { policyFor, memory, book, healNow } = this.#options;
    if (path === undefined) return;
    try {
      const policy = policyFor(incident.source, path);
      const isAllowed = isHealedByItself(incident, policy) && memory.breakerReason(path) === undefined;
      if ((!isApproved && !isAllowed) || (await this.#isLeftAsItIs(incident, path))) return;
      const reason = isApproved ? "approved" : "under way";
      const healing = await book.change(incident.id, { state: "healing", reason, asked: incident.asked }, [
        incident.state,
      ]);
      await healNow(healing, policy, isApproved);
    } catch (error) {
      if (!hasCode(error, "INCIDENT_STATE") && !hasCode(error, "SOURCE_NOT_FOUND")) throw error;
    }
  }

  #isOfKnownSource({ source, paths: [path] }: Incident): boolean {
    if (path === undefined) return false;
    try {
      this.#options.policyFor(source, path);
      return true;
    } catch (error) {
      if (hasCode(error, "SOURCE_NOT_FOUND")) return false;
      throw error;
    }
  }

  /** What belongs to no source any more is a person's to decide. */
  async #release({ id, state }: Incident): Promise<void> {
    this.#interrupted.delete(id);
    const reason = "interrupted, and its source is not protected any more";
    const to = state === "open" ? "waiting" : "failed";
    await this.#options.incidents.conclude(await this.#options.book.get(id), to, reason);
  }

  /** Takes up what a crash left: staging files go, decisions are made again, heals are carried on. */
  async #resume(incident: Incident): Promise<void> {
    const { watch, book, policyFor, incidents, healNow, signal } = this.#options;
    if (incident.state !== "open" && incident.state !== "healing") return;
    const [path] = incident.paths;
    if (path === undefined) return;
    // In the list before the look: that may itself find the root back, and tell it while we wait.
    this.#interrupted.set(incident.id, incident);
    if ((await watch.awayReasonOf(path)) !== undefined) return; // until its storage is back
    if (!this.#interrupted.delete(incident.id)) return; // taken up meanwhile
    await this.#clearStaging(incident);
    if (await this.#isLeftAsItIs(incident, path)) return;
    const policy = policyFor(incident.source, path);
    const isBegun = incident.state === "healing";
    if (isBegun) await incidents.heal(await book.get(incident.id), incident.reason === "approved", signal);
    else if (isHealedByItself(incident, policy)) await healNow(incident, policy, false);
    else await incidents.hold(incident, "interrupted before it was decided: a person decides");
  }

  /**
   * A person's wish that was interrupted replaces only what stood there when it was said: anything else may have been
   * worked on since, and whoever asked can ask again.
   */
  async #isLeftAsItIs({ id, asked, updatedAtMs }: Incident, path: BytePath): Promise<boolean> {
    const standing = asked === undefined ? undefined : await standingAt(path);
    if (asked === undefined || standing === undefined || standing === asked.standing) return false;
    const { watch, book, incidents } = this.#options;
    const incident = await book.get(id);
    const { healedAtMs = 0 } = (await watch.lastGood(path)) ?? {};
    const reason = `${wishText(asked)}, and was interrupted: what stands there may have been worked on since and is left as it is; ask again if it is not that`;
    if (incident.state === "healing" && healedAtMs > updatedAtMs)
      await incidents.conclude(incident, "healed", "put back before the daemon was interrupted");
    else if (incident.state === "waiting") await incidents.conclude(incident, "returned", reason);
    else if (incident.state !== "failed") await incidents.conclude(incident, "failed", reason);
    return true;
  }

  /** Removes what was staged; what others saved meanwhile is kept, and told. */
  async #clearStaging({ id, source }: Incident): Promise<void> {
    const { book, policyFor, observer } = this.#options;
    const folders = new Map<BytePath, string[]>();
    for await (const { path } of book.pathsOf(id)) {
      const names = folders.get(parentPath(path)) ?? [];
      names.push(nameOf(path));
      folders.set(parentPath(path), names);
    }
    const kept: BytePath[] = [];
    for (const [folder, names] of folders)
      kept.push(...clearStagingOf({ root: policyFor(source, folder).root, folder }, id, names).kept);
    if (kept.length === 0) return;
    observer.log.warn("recovery.saves_kept", { id, source, paths: kept.slice(0, KEPT_TOLD_MAX).map(pathText) });
    const notes = kept.map(
      (path) => `saved by another program while holdfast was interrupted; it is at ${pathText(path)}`,
    );
    const incident = await book.get(id);
    await book.change(id, { notes: [...incident.notes, ...notes.slice(0, KEPT_TOLD_MAX)] });
  }
}

/** Modes in which a person decides, or nothing is done. */
const BY_PERSON: ReadonlySet<HealMode> = new Set(["ask", "mirror", "alert", "ignore"]);

/** True when the policy lets an incident be healed without a person. */
export function isHealedByItself({ kind, isAttack }: Incident, { mode, mass }: HealPolicy): boolean {
  return !BY_PERSON.has(mode) && isAttack !== true && (kind !== "mass" || mass === "heal");
}
