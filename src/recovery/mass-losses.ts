/**
 * Mass losses: whatever a source loses at once is one incident, which one word of a person decides. An event that goes
 * on is held at its first files; those that follow join, and only when it is over anything may be put back.
 */
import { type Clock, isRecent } from "../base/clock.js";
import { KeyedMutex } from "../base/concurrency.js";
import type { EventBus, EventCatalogue, LossEvent } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import { counted } from "../base/units.js";
import type { IncidentHealer } from "./heal-incident.js";
import type { Incident, IncidentState } from "./incident.js";
import type { IncidentBook } from "./incident-book.js";
import { isGoodSince } from "./good-since.js";
import type { HealerOptions, HealPolicy } from "./ports.js";
import type { LossKind } from "./strategy.js";
import { isHealedByItself } from "./unfinished.js";
import { CutShort } from "./unnoted.js";

export interface MassParts {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  readonly book: IncidentBook;
  readonly incidents: IncidentHealer;
  readonly watch: HealerOptions["watch"];
  readonly policyFor: HealerOptions["policyFor"];
  readonly secondDeletionMs: number;
  healNow(incident: Incident, policy: HealPolicy): Promise<void>;
}

type MassLoss = EventCatalogue["mass.loss"];
type Lost = Pick<LossEvent, "path" | "kind" | "detail">;

/** States in which nothing of an incident was put back yet. */
const UNDECIDED: ReadonlySet<IncidentState> = new Set(["open", "waiting"]);

export class MassLosses {
  readonly #parts: MassParts;
  /** Events of one source one after another, so that two never open an incident each. */
  readonly #turns = new KeyedMutex();
  /** Incidents of events that go on, by source. After a restart they wait for a person. */
  readonly #goingOn = new Map<string, string>();
  readonly #cutShort = new CutShort();

  constructor(parts: MassParts) {
    this.#parts = parts;
  }

  /** Takes an event up: opens its incident or adds to it, and holds or heals it. */
  async take(event: MassLoss): Promise<void> {
    const toHeal = await this.#turns.run(event.source, async () => await this.#noted(event));
    if (toHeal === undefined) return;
    await this.#cutShort.carryOn(toHeal.id, () => this.#parts.healNow(toHeal, this.#policyOf(toHeal)));
  }

  /** Opens an incident of many paths and tells it. */
  async open(
    source: string,
    losses: readonly Lost[],
    how: Pick<Incident, "seenAtMs" | "noticedBy" | "isAttack">,
  ): Promise<Incident> {
    const { book, observer, bus } = this.#parts;
    const detail = losses[0]?.detail ?? "";
    const paths = losses.map(({ path, kind }) => ({ path, kind }));
    const incident = await book.open({ ...how, source, kind: "mass", detail, reason: "" }, paths);
    observer.log.warn("incident.opened", { id: incident.id, source, kind: "mass", paths: paths.length });
    bus.emit("incident.opened", { id: incident.id, source, paths: paths.length, kind: "mass" });
    return incident;
  }

  /**
   * True when an open mass incident of its source tells of a single loss already. One that failed, of which so little is
   * lost still, is healed once more where that needs no person.
   */
  async holds(loss: LossEvent): Promise<boolean> {
    const { book } = this.#parts;
    for (const id of book.openMassesOf(loss.source)) {
      if (!(await this.#isIn(id, loss))) continue;
      const incident = await book.get(id);
      if (!(await this.#tellsOf(incident, loss))) continue;
      const policy = this.#policyOf(incident);
      if (incident.state === "failed" && isHealedByItself(incident, policy))
        await this.#cutShort.carryOn(id, () => this.#parts.healNow(incident, policy));
      return true;
    }
    return false;
  }

  async #isIn(id: string, { path, kind }: LossEvent): Promise<boolean> {
    for await (const held of this.#parts.book.pathsOf(id)) if (held.path === path) return isSameLoss(held.kind, kind);
    return false;
  }

  /**
   * Whether an incident that has the path tells of this very loss: the path waits there for a decision, or is still to be
   * put back. What stood again since it was told as lost is lost anew, and judged like any other.
   */
  async #tellsOf({ state, openedAtMs }: Incident, { path, noticedBy, healedAtMs = 0 }: LossEvent): Promise<boolean> {
    if (UNDECIDED.has(state)) return true;
    if (noticedBy !== "start" || healedAtMs > openedAtMs) return false; // a loss is told once, but for a start
    return !(await isGoodSince(this.#parts.watch, path, openedAtMs));
  }

  /** Those losses of many that an incident tells of already. */
  async #toldBy(incident: Incident, lost: readonly LossEvent[]): Promise<ReadonlySet<LossEvent>> {
    const told = new Set<LossEvent>();
    const doubtful = lost.filter(({ noticedBy }) => noticedBy === "start" || UNDECIDED.has(incident.state));
    if (doubtful.length === 0) return told; // nothing is read for it
    const known = await this.#kindsOf(incident.id);
    for (const loss of doubtful)
      if (isSameLoss(known.get(loss.path), loss.kind) && (await this.#tellsOf(incident, loss))) told.add(loss);
    return told;
  }

  /** Writes the event down; gives the incident that is to be healed now. */
  async #noted(event: MassLoss): Promise<Incident | undefined> {
    const { source, isAttack, goesOn = false } = event;
    const meant = await this.#withoutMeant(event);
    const open = await this.#openIn(event, meant);
    const lost = await this.#withoutTold(source, meant, open);
    if (open === undefined) {
      this.#goingOn.delete(source); // somebody decided it meanwhile
      return await this.#opened(event, lost);
    }
    if (open.state !== "waiting")
      return await this.#cutShort.carryOn(open.id, async () => this.#decided(event, await this.#joined(open, lost)));
    const incident = await this.#joined(open, lost);
    if (isAttack) this.#goingOn.delete(source); // only a person puts back what was attacked
    if (isAttack && lost.length > 0) this.#parts.bus.emit("attack.held", { source, id: open.id });
    return goesOn ? undefined : await this.#over(incident);
  }

  /** After a start losses are told again: what another incident tells of is left to that. */
  async #withoutTold(
    source: string,
    lost: readonly LossEvent[],
    taking: Incident | undefined,
  ): Promise<readonly LossEvent[]> {
    const { book } = this.#parts;
    let left = lost;
    for (const id of book.openMassesOf(source)) {
      if (id === taking?.id) continue;
      const told = await this.#toldBy(await book.get(id), left);
      left = left.filter((loss) => !told.has(loss));
    }
    return left;
  }

  async #opened(event: MassLoss, lost: readonly LossEvent[]): Promise<Incident | undefined> {
    const { source, isAttack } = event;
    const [first] = lost;
    if (first === undefined) return undefined;
    const { seenAtMs, noticedBy } = first;
    const incident = await this.open(source, lost, { seenAtMs, noticedBy, ...(isAttack ? { isAttack } : {}) });
    return await this.#cutShort.carryOn(incident.id, () => this.#decided(event, incident));
  }

  /** Holds an incident that nothing was decided of yet; gives it when it is to be healed. */
  async #decided({ source, isAttack, goesOn }: MassLoss, incident: Incident): Promise<Incident | undefined> {
    const { bus, incidents } = this.#parts;
    if (isAttack) bus.emit("attack.held", { source, id: incident.id });
    if (goesOn === true && incident.state === "open") {
      this.#goingOn.set(source, incident.id);
      await incidents.hold(incident, `${counted(incident.pathCount, "file")} so far, and more are going`);
      return undefined;
    }
    if (isHealedByItself(incident, this.#policyOf(incident))) return incident;
    await incidents.hold(incident, heldBecause(incident));
    return undefined;
  }

  /** The event of a held incident is over: it is healed, or people are told how much it was. */
  async #over(incident: Incident): Promise<Incident | undefined> {
    const { id, source, pathCount: paths } = incident;
    if (this.#goingOn.get(source) !== id) return undefined;
    this.#goingOn.delete(source);
    if (isHealedByItself(incident, this.#policyOf(incident))) return incident;
    const reason = heldBecause(incident);
    await this.#parts.book.change(id, { reason }, ["waiting"]);
    this.#parts.bus.emit("incident.held", { id, source, paths, reason });
    return undefined;
  }

  /** The incident with what is new to it. */
  async #joined(open: Incident, lost: readonly LossEvent[]): Promise<Incident> {
    const { book } = this.#parts;
    if (lost.length === 0) return open;
    const known = await this.#kindsOf(open.id);
    const fresh = lost.filter((loss) => !known.has(loss.path));
    return fresh.length === 0 ? open : await book.addPaths(open.id, fresh);
  }

  /**
   * The incident that the losses of an event belong to: one that waits or could not be carried on, or one that failed, is
   * told again, and may be healed once more.
   */
  async #openIn({ source, isAttack, goesOn }: MassLoss, lost: readonly LossEvent[]): Promise<Incident | undefined> {
    const { book } = this.#parts;
    for (const id of book.openMassesOf(source)) {
      const incident = await book.get(id);
      if (incident.state === "waiting" || this.#cutShort.take(id)) return incident;
      const mayBeTaken = incident.state === "failed" && !isAttack && goesOn !== true;
      if (!mayBeTaken || !isHealedByItself(incident, this.#policyOf(incident))) continue;
      if ((await this.#toldBy(incident, lost)).size > 0) return incident;
    }
    return undefined;
  }

  /** Leaves out what nobody protects, and accepts what was deleted again soon after it was put back. */
  async #withoutMeant({ source, losses }: MassLoss): Promise<readonly LossEvent[]> {
    const { policyFor, watch, clock, secondDeletionMs } = this.#parts;
    const lost: LossEvent[] = [];
    for (const loss of losses) {
      const { mode } = policyFor(source, loss.path);
      const isAgain = isRecent(loss.healedAtMs ?? 0, clock.nowMs(), secondDeletionMs);
      if (mode === "ignore") continue;
      if (loss.kind === "deleted" && mode !== "append-only" && isAgain)
        await watch.acceptRemoval(loss.path, "deleted again after holdfast had restored it");
      else lost.push(loss);
    }
    return lost;
  }

  async #kindsOf(id: string): Promise<ReadonlyMap<BytePath, LossKind>> {
    const known = new Map<BytePath, LossKind>();
    for await (const { path, kind } of this.#parts.book.pathsOf(id)) known.set(path, kind);
    return known;
  }

  #policyOf({ source, paths: [first] }: Incident): HealPolicy {
    return this.#parts.policyFor(source, first ?? ("/" as BytePath));
  }
}

/** What an incident only misses is not there to be damaged. */
function isSameLoss(held: LossKind | undefined, told: LossKind): boolean {
  return held !== undefined && (held !== "deleted" || told === "deleted");
}

function heldBecause({ pathCount, isAttack }: Incident): string {
  return isAttack === true
    ? `${counted(pathCount, "attacked file")}: a person decides`
    : `${counted(pathCount, "file")} at once: a person decides`;
}
