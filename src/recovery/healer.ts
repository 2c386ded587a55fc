/**
 * The door of healing: takes what the monitor reports lost or damaged, decides by mode and breaker, heals or holds,
 * and answers people. Handlers of events only note and enqueue; nothing they start ever throws back into the bus.
 */
import { join } from "node:path";
import type { EventCatalogue, LossEvent } from "../base/events.js";
import { type Timer, isRecent } from "../base/clock.js";
import { HoldfastError, asHoldfastError, messageOf } from "../base/errors.js";
import { randomHex } from "../base/ids.js";
import { ResourceStack } from "../base/lifecycle.js";
import { type BytePath, parentPath, pathText } from "../base/paths.js";
import { askedFor, howAsked, notedWish } from "./asked.js";
import { RecoveryChain } from "./chain.js";
import { ExpectedFiles, isExpectation } from "./expected-files.js";
import { PriorityLanes, RestoreMemory } from "./gate.js";
import { IncidentHealer, resultOf } from "./heal-incident.js";
import { type HealResult, PathHealer } from "./heal-path.js";
import { isLostAnew } from "./lost-anew.js";
import { MassLosses } from "./mass-losses.js";
import type { AskedFor, Incident, IncidentState } from "./incident.js";
import { IncidentBook, type IncidentPath } from "./incident-book.js";
import { isThere } from "./is-there.js";
import { restoreFromQuarantine } from "./quarantine-restore.js";
import type { HealMode, HealPolicy, HealerOptions, HealerSettings, RecoverOptions } from "./ports.js";
import { type Placement, PlacementNotes } from "./placement-notes.js";
import { ProcessFiles } from "./proc.js";
import { Quarantine, type QuarantinedFile } from "./quarantine.js";
import { BatchCollector, type BatchReport, type RecoveryResult } from "./report.js";
import { ScratchFolder } from "./scratch.js";
import { Unfinished } from "./unfinished.js";
import { CutShort, Unnoted, isNotWritten } from "./unnoted.js";

/** A path found missing or damaged by a scan. */
export type LossFinding = Pick<LossEvent, "source" | "path" | "kind" | "detail">;

export const DEFAULT_HEALER_SETTINGS: HealerSettings = {
  parallel: 4,
  writerWaitMs: 30_000,
  breakerPathRestores: 3,
  breakerPathWindowMs: 10 * 60_000,
  breakerRestoresPerMinute: 100,
  secondDeletionMs: 10 * 60_000,
  quarantineBytesMax: 20 * 2 ** 30,
  quarantineAgeMaxMs: 90 * 86_400_000,
};

/** Heals that may wait for a lane; further losses are held for a person rather than queued without end. */
const HEALS_WAITING_MAX = 10_000;
/** Findings of one source above this are one incident. */
const FINDINGS_SINGLE_MAX = 20;
/** Closed incidents looked at when the memory of restores is filled again at start. */
const MEMORY_INCIDENTS = 1000;
/** Modes in which a loss need not wait for a person. */
const HEALED_AT_ONCE: ReadonlySet<HealMode> = new Set(["protect", "append-only", "growing"]);
const PRUNE_EVERY_MS = 3_600_000;
/** How often what failed at its target or was put off is tried again. */
const RETRY_EVERY_MS = 10 * 60_000;
/** Quiet after a returned file before a mass incident is looked at, ms. */
const RETURNED_QUIET_MS = 5_000;

export class Healer implements AsyncDisposable {
  readonly #options: HealerOptions;
  readonly #settings: HealerSettings;
  readonly #book: IncidentBook;
  readonly #memory: RestoreMemory;
  readonly #lanes: PriorityLanes;
  readonly #chain: RecoveryChain;
  readonly #healer: PathHealer;
  readonly #incidents: IncidentHealer;
  readonly #unfinished: Unfinished;
  readonly #expected: ExpectedFiles;
  readonly #mass: MassLosses;
  readonly #quarantine: Quarantine;
  readonly #notes: PlacementNotes;
  readonly #cutShort = new CutShort();
  readonly #unnoted: Unnoted;
  readonly #resources = new ResourceStack();
  readonly #stop = new AbortController();
  readonly #working = new Set<Promise<void>>();
  /** Mass incidents to be looked at soon, because a file of theirs came back. */
  readonly #rechecks = new Map<string, Timer>();

  constructor(options: HealerOptions) {
    const { clock, observer, bus, versions, watch, stateDir, policyFor } = options;
    this.#options = options;
    this.#settings = { ...DEFAULT_HEALER_SETTINGS, ...options.settings };
    this.#book = new IncidentBook(options.database, clock);
    this.#memory = new RestoreMemory(clock, this.#settings);
    this.#lanes = new PriorityLanes(this.#settings.parallel);
    this.#quarantine = new Quarantine(join(stateDir, "quarantine"), clock, {
      sizeBytesMax: this.#settings.quarantineBytesMax,
      ageMsMax: this.#settings.quarantineAgeMaxMs,
    });
    const scratchParent = join(stateDir, "recovery");
    this.#notes = new PlacementNotes(join(scratchParent, "placing"), clock);
    const { strategies } = options;
    this.#chain = new RecoveryChain({ strategies, versions, watch, clock, observer, scratchParent });
    const { writerWaitMs, parallel } = this.#settings;
    const processes = new ProcessFiles(clock);
    const { chain, quarantine } = { chain: this.#chain, quarantine: this.#quarantine };
    this.#healer = new PathHealer({ clock, observer, versions, watch, chain, quarantine, processes, writerWaitMs });
    const { book, memory, healer } = { book: this.#book, memory: this.#memory, healer: this.#healer };
    const onPutOff = (id: string): void => this.#unfinished.onPutOff(id);
    this.#incidents = new IncidentHealer({
      ...{ clock, observer, bus, book, memory, healer, watch, policyFor, parallel, onPutOff },
      howAsked: (about, asked, signal) => howAsked({ versions, chain }, about, asked, signal),
    });
    this.#unfinished = new Unfinished({
      ...{ observer, watch, policyFor, book, memory, parallel, incidents: this.#incidents, signal: this.#stop.signal },
      work: (work) => this.#work(work),
      untilWritten: (job) => this.#unnoted.take(job),
      healNow: (incident, policy, isApproved) => this.#healNow(incident, policy, isApproved),
    });
    const { secondDeletionMs } = this.#settings;
    this.#mass = new MassLosses({
      ...{ clock, observer, bus, book, watch, policyFor, secondDeletionMs, incidents: this.#incidents },
      healNow: (incident, policy) => this.#healNow(incident, policy),
    });
    const work = (job: () => Promise<void>): void => this.#work(job);
    this.#unnoted = new Unnoted(clock, work);
    this.#expected = new ExpectedFiles({ clock, observer, bus, book, incidents: this.#incidents, work });
  }

  /** Reads what a crash left and listens to the bus; what was interrupted is finished when its source is ready. Call once. */
  async start(signal: AbortSignal): Promise<void> {
    await ScratchFolder.clear(join(this.#options.stateDir, "recovery"));
    const kept = await this.#notes.clear();
    if (kept.length > 0) this.#options.observer.log.warn("recovery.saves_kept", { paths: kept.map(pathText) });
    const open = await this.#book.load();
    await this.#rememberRestores();
    const { bus, clock } = this.#options;
    const unnoted = this.#unnoted;
    this.#resources.defer(() => unnoted[Symbol.dispose]());
    this.#resources.defer(bus.on("file.lost", (event) => this.#work(() => unnoted.take(() => this.#onLost(event)))));
    this.#resources.defer(bus.on("file.missed", (missed) => this.#prepare(missed)));
    this.#resources.defer(bus.on("mass.loss", (event) => this.#work(() => unnoted.take(() => this.#mass.take(event)))));
    this.#resources.defer(
      bus.on("file.returned", (event) => this.#work(() => this.#onReturned(event.source, event.path))),
    );
    this.#resources.defer(bus.on("incident.healed", ({ source }) => this.#recheckMassesSoon(source)));
    for (const name of ["watch.ready", "root.returned"] as const)
      this.#resources.defer(bus.on(name, ({ source }) => this.#unfinished.resume(source)));
    const pruning = clock.every(PRUNE_EVERY_MS, () => this.#work(() => this.#prune()));
    this.#resources.defer(() => pruning.cancel());
    const retrying = clock.every(RETRY_EVERY_MS, () => this.#work(() => this.#unfinished.retry()));
    this.#resources.defer(() => retrying.cancel());
    signal.throwIfAborted();
    this.#unfinished.load(open.filter((incident) => !isExpectation(incident)));
    this.#expected.start(open);
    this.#resources.defer(() => this.#expected[Symbol.dispose]());
  }

  /** Resolves when nothing is queued or under way. */
  async idle(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working);
  }

  /**
   * Heals a waiting, noted or failed incident at a person's word: any valid candidate will do, then a partial one.
   * Throws INCIDENT_NOT_FOUND, INCIDENT_STATE.
   */
  async approve(id: string, signal: AbortSignal): Promise<BatchReport> {
    const before = await this.#book.get(id);
    if (isExpectation(before))
      throw new HoldfastError(
        "INCIDENT_STATE",
        `incident ${id} names files that are expected: there is nothing to put back`,
      );
    const from = ["waiting", "noted", "failed"] as const;
    const asked = await this.#askedAgain(before);
    const incident = await this.#book.change(id, { state: "healing", reason: "approved", ...asked }, from);
    const inner = AbortSignal.any([signal, this.#stop.signal]);
    return await this.#orFailed(id, () => this.#incidents.heal(incident, true, inner));
  }

  /** Accepts the loss, or the content as it stands. Throws INCIDENT_NOT_FOUND, INCIDENT_STATE. */
  async deny(id: string): Promise<Incident> {
    const before = await this.#book.get(id);
    const reason = `denied: incident ${id}`;
    const denied = await this.#incidents.conclude(before, "denied", "a person accepted it as it is");
    for await (const { path } of this.#book.pathsOf(id)) {
      if (await isThere(path)) await this.#options.watch.acceptContent(path, reason);
      else await this.#options.watch.acceptRemoval(path, reason);
    }
    return denied;
  }

  /**
   * Recovers one path at a person's word. Throws USAGE (no such strategy), VERSION_NOT_FOUND (`atMs`), and INCIDENT_STATE
   * when the path is being healed already.
   */
  async recover(source: string, path: BytePath, options: RecoverOptions, signal: AbortSignal): Promise<RecoveryResult> {
    const inner = AbortSignal.any([signal, this.#stop.signal]);
    const policy = this.#options.policyFor(source, path);
    const asked = askedFor(options);
    const parts = { versions: this.#options.versions, chain: this.#chain };
    const how = asked === undefined ? {} : await howAsked(parts, { path, policy }, asked, inner);
    const kind = (await isThere(path)) ? ("requested" as const) : ("deleted" as const);
    const seenAtMs = this.#options.clock.nowMs();
    return await this.#incidents.exclusively(path, async () => {
      // Of what nobody knows no incident is made, which would stay open: it may be a slip of the hand.
      const isOpen = this.#book.openIncidentOf(path) !== undefined;
      const stored = kind === "deleted" && !isOpen ? await this.#options.versions.versions(path, { limit: 1 }) : [];
      const isKnown = kind !== "deleted" || isOpen || stored.length > 0;
      if (options.explain === true || options.to !== undefined || !isKnown) {
        const to = options.to === undefined ? {} : { to: options.to };
        const incident = `recover_${randomHex(8)}`;
        const base = { source, path, kind, seenAtMs, policy, incident, explain: options.explain === true };
        const heal = (): Promise<HealResult> => this.#healer.heal({ ...base, ...to, byPerson: true, ...how }, inner);
        const placement = options.to === undefined ? undefined : placementAt(options.to, incident);
        const healed = placement === undefined ? heal() : this.#notes.during(placement, heal);
        return resultOf(undefined, path, await healed);
      }
      const finding = { source, path, kind, detail: "asked for by a person", asked };
      const incident = await this.#takeUp(finding, seenAtMs, "person");
      const heal = (): Promise<HealResult> => this.#incidents.healOne(incident, { byPerson: true, ...how }, inner);
      return resultOf(incident.id, path, await this.#orFailed(incident.id, heal));
    });
  }

  /** Recovers what a scan found; many of one source are one incident. */
  async recoverAll(findings: readonly LossFinding[], signal: AbortSignal): Promise<BatchReport> {
    const inner = AbortSignal.any([signal, this.#stop.signal]);
    const startMs = this.#options.clock.monotonicMs();
    const collector = new BatchCollector(this.#options.clock.nowMs());
    for (const [source, found] of bySource(findings)) {
      if (found.length > FINDINGS_SINGLE_MAX) {
        const incident = await this.#mass.open(source, found, {
          seenAtMs: this.#options.clock.nowMs(),
          noticedBy: "scan",
        });
        const healing = await this.#book.change(incident.id, { state: "healing", reason: "asked for by a person" });
        collector.merge(await this.#orFailed(incident.id, () => this.#incidents.heal(healing, true, inner)));
        continue;
      }
      for (const finding of found) {
        inner.throwIfAborted();
        const result = await this.#incidents.exclusively(finding.path, async () => {
          const incident = await this.#takeUp(finding, this.#options.clock.nowMs(), "scan");
          const heal = (): Promise<HealResult> => this.#incidents.healOne(incident, { byPerson: true }, inner);
          return resultOf(incident.id, finding.path, await this.#orFailed(incident.id, heal));
        });
        collector.add(result);
      }
    }
    return collector.report(this.#options.clock.monotonicMs() - startMs);
  }

  /**
   * Puts quarantined bytes back to their place; what stands there is quarantined in turn, so a second call undoes the
   * first. Throws INCIDENT_NOT_FOUND, QUARANTINE_MISSING.
   */
  async restoreQuarantined(
    id: string,
    signal: AbortSignal,
  ): Promise<{ readonly incident: Incident; readonly putBack: readonly QuarantinedFile[] }> {
    const incident = await this.#book.get(id);
    const { putBack, kept } = await restoreFromQuarantine(
      {
        quarantine: this.#quarantine,
        watch: this.#options.watch,
        notes: this.#notes,
        rootOf: (path) => this.#options.policyFor(incident.source, path).root,
        exclusively: (path, work) => this.#incidents.exclusively(path, work),
      },
      id,
      signal,
    );
    const changed = await this.#book.change(id, { quarantined: kept });
    const reason = "a person put back what was in quarantine";
    for (const { path } of putBack) this.#work(() => this.#onReturned(changed.source, path, reason));
    return { incident: changed, putBack };
  }

  /** Newest first. */
  async incidents(filter: { readonly onlyOpen: boolean; readonly limit: number }): Promise<readonly Incident[]> {
    return await this.#book.list(filter);
  }

  /** By id or unique prefix. Throws INCIDENT_NOT_FOUND, INCIDENT_AMBIGUOUS. */
  async incident(idOrPrefix: string): Promise<Incident> {
    return await this.#book.find(idOrPrefix);
  }

  /** Whether an incident still is to be healed or decided. */
  isOpen(id: string): boolean {
    return this.#book.isOpen(id);
  }

  /** Every path of an incident. */
  async *incidentPaths(id: string): AsyncIterable<BytePath> {
    for await (const { path } of this.#book.pathsOf(id)) yield path;
  }

  /** Stops listening, interrupts what is under way (it is resumed at the next start) and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources[Symbol.asyncDispose]();
    for (const timer of this.#rechecks.values()) timer.cancel();
    this.#stop.abort(new HoldfastError("INTERRUPTED", "the daemon is stopping"));
    await this.idle();
  }

  // --- events ---------------------------------------------------------------------------------------------------------

  /** Runs something an event asked for; its failure is logged, never thrown. */
  #work(work: () => Promise<void>): void {
    const done = work().catch((error: unknown) => {
      if (this.#stop.signal.aborted) return;
      const { code, message } = asHoldfastError(error);
      // Somebody else decided about the incident first, and theirs counts.
      if (code === "INCIDENT_STATE") this.#options.observer.log.debug("recovery.outrun", { message });
      else this.#options.observer.log.error("recovery.fault", { code, message });
    });
    this.#working.add(done);
    void done.finally(() => this.#working.delete(done));
  }

  async #onLost(event: LossEvent): Promise<void> {
    const policy = this.#options.policyFor(event.source, event.path);
    if (policy.mode === "ignore") return;
    const isCrowded = this.#lanes.waitingCount >= HEALS_WAITING_MAX;
    const incident = await this.#openFor(event);
    if (incident === undefined) return;
    await this.#cutShort.carryOn(incident.id, () => this.#decide(incident, { event, policy, isCrowded }));
  }

  async #decide(
    incident: Incident,
    {
      event,
      policy,
      isCrowded,
    }: { readonly event: LossEvent; readonly policy: HealPolicy; readonly isCrowded: boolean },
  ): Promise<void> {
    // What was cut short while it was healed may have been put back just before, which says nothing of its owner.
    const mayBeMeant = incident.state === "open" && policy.mode !== "append-only";
    if (mayBeMeant && (await this.#isRespected(incident, event))) return;
    const hold = isCrowded ? "too many files are waiting to be healed" : this.#reasonToHold(policy, event.path);
    if (policy.mode === "alert")
      await this.#incidents.conclude(incident, "noted", "the mode is alert: nothing is done");
    else if (hold !== undefined) await this.#incidents.hold(incident, hold);
    else await this.#healNow(incident, policy);
  }

  /** What would take a while is looked up during the grace, where the mode lets a loss be healed at once. */
  #prepare({ source, path, seenAtMs }: EventCatalogue["file.missed"]): void {
    const policy = this.#options.policyFor(source, path);
    if (!HEALED_AT_ONCE.has(policy.mode) || this.#reasonToHold(policy, path) !== undefined) return;
    for (const strategy of this.#options.strategies) strategy.prepare?.({ path, seenAtMs });
  }

  /** Opens an incident for an event unless one tells of it; gives that when it could not be carried on. */
  async #openFor(event: LossEvent): Promise<Incident | undefined> {
    const { source, path, kind, noticedBy, detail, seenAtMs } = event;
    if (await this.#mass.holds(event)) return undefined;
    const open = this.#book.openIncidentOf(path);
    if (open !== undefined && this.#cutShort.take(open)) return await this.#book.get(open);
    const parts = { book: this.#book, incidents: this.#incidents, watch: this.#options.watch };
    if (open !== undefined && !(await isLostAnew(parts, event))) return undefined;
    if (this.#book.openIncidentOf(path) !== undefined) return undefined; // told twice, and the other was faster
    const incident = await this.#book.open({ source, kind, noticedBy, detail, seenAtMs, reason: "" }, [{ path, kind }]);
    this.#options.observer.log.warn("incident.opened", { id: incident.id, source, kind, path: pathText(path), detail });
    this.#options.bus.emit("incident.opened", { id: incident.id, source, paths: 1, kind });
    return incident;
  }

  /** A second deletion soon after our restore is meant: it is accepted and told. */
  async #isRespected(incident: Incident, loss: IncidentPath): Promise<boolean> {
    if (loss.kind !== "deleted" || !(await this.#isSecondDeletion(loss.path))) return false;
    await this.#options.watch.acceptRemoval(loss.path, "deleted again after holdfast had restored it");
    await this.#incidents.conclude(incident, "respected", "deleted again soon after it was restored, so it is meant");
    return true;
  }

  /** Only who keeps the registry knows whether what was put back was worked on, removed or made again since. */
  async #isSecondDeletion(path: BytePath): Promise<boolean> {
    const { healedAtMs = 0 } = (await this.#options.watch.lastGood(path)) ?? {};
    return isRecent(healedAtMs, this.#options.clock.nowMs(), this.#settings.secondDeletionMs);
  }

  #reasonToHold(policy: HealPolicy, path: BytePath): string | undefined {
    if (policy.mode === "ask" || policy.mode === "mirror") return `the mode is ${policy.mode}: a person decides`;
    return this.#memory.breakerReason(path);
  }

  /** Heals when its turn has come, unless somebody has moved the incident on until then: throws INCIDENT_STATE. */
  async #healNow(incident: Incident, policy: HealPolicy, isApproved = false): Promise<void> {
    await this.#lanes.run(policy.priority, async () => {
      const change = { state: "healing", reason: isApproved ? "approved" : "under way" } as const;
      const healing = await this.#book.change(incident.id, change, [incident.state]);
      await this.#incidents.heal(healing, isApproved, this.#stop.signal);
    });
  }

  async #onReturned(source: string, path: BytePath, reason = "the file came back by itself"): Promise<void> {
    const id = this.#book.openIncidentOf(path);
    if (id !== undefined) {
      const incident = await this.#book.get(id);
      if (incident.state !== "healing") await this.#incidents.conclude(incident, "returned", reason);
      return;
    }
    this.#recheckMassesSoon(source);
  }

  #recheckMassesSoon(source: string): void {
    for (const mass of this.#book.openMassesOf(source)) {
      if (this.#rechecks.has(mass)) continue;
      const timer = this.#options.clock.after(RETURNED_QUIET_MS, () => this.#work(() => this.#recheckMass(mass)));
      this.#rechecks.set(mass, timer);
    }
  }

  /** A mass incident is over when all its paths are there again. */
  async #recheckMass(id: string): Promise<void> {
    this.#rechecks.delete(id);
    const incident = await this.#book.get(id);
    if (incident.state !== "waiting" && incident.state !== "failed") return;
    for await (const { path, kind } of this.#book.pathsOf(id)) if (kind !== "deleted" || !(await isThere(path))) return; // a damaged file was never away
    await this.#incidents.conclude(incident, "returned", "all files are there again");
  }

  // --- helpers --------------------------------------------------------------------------------------------------------

  /** A heal that a person interrupts is over; one that our end or a full disk interrupts goes on. */
  async #orFailed<T>(id: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const incident = await this.#book.get(id);
      const isLeft = incident.state === "healing" && !this.#stop.signal.aborted;
      if (isLeft && isNotWritten(error)) this.#unfinished.carryOn(id);
      else if (isLeft) await this.#incidents.conclude(incident, "failed", `interrupted: ${messageOf(error)}`);
      throw error;
    }
  }

  /** An incident in state `healing` for a path that a person wants: the open one, or a new one. */
  async #takeUp(
    finding: Omit<LossFinding, "kind"> & {
      readonly kind: IncidentPath["kind"];
      readonly asked?: AskedFor | undefined;
    },
    seenAtMs: number,
    noticedBy: "person" | "scan",
  ): Promise<Incident> {
    const { source, path, kind, detail, asked } = finding;
    const change = { state: "healing", reason: "approved", asked: await notedWish(path, asked) } as const;
    const open = this.#book.openIncidentOf(path);
    if (open !== undefined) return await this.#book.change(open, change, ["open", "waiting", "noted", "failed"]);
    const fresh = { source, kind, noticedBy, detail, seenAtMs, reason: "", asked: change.asked };
    const incident = await this.#book.open(fresh, [{ path, kind }]);
    this.#options.bus.emit("incident.opened", { id: incident.id, source, paths: 1, kind });
    return await this.#book.change(incident.id, change);
  }

  /** What an approval asks for: what was asked for before and waits still, over what stands there now. */
  async #askedAgain({ kind, state, paths: [path], asked }: Incident): Promise<Pick<Incident, "asked">> {
    if (kind === "mass" || path === undefined) return {};
    return { asked: await notedWish(path, state === "waiting" ? asked : undefined) };
  }

  /** A restart must not forget what was restored just before: a path that is lost again and again waits for a person. */
  async #rememberRestores(): Promise<void> {
    const nowMs = this.#options.clock.nowMs();
    const newestFirst = await this.#book.list({ onlyOpen: false, limit: MEMORY_INCIDENTS });
    for (const { id, state, closedAtMs = 0 } of [...newestFirst].reverse()) {
      if (state !== "healed" || !isRecent(closedAtMs, nowMs, this.#settings.breakerPathWindowMs)) continue;
      for await (const { path } of this.#book.pathsOf(id))
        this.#memory.note(path, "person", Math.max(0, nowMs - closedAtMs));
    }
  }

  async #prune(): Promise<void> {
    const removed = await this.#quarantine.prune((id) => this.#book.isOpen(id), this.#stop.signal);
    if (removed.length > 0) this.#options.observer.log.info("quarantine.pruned", { incidents: removed.length });
  }
}

function bySource(findings: readonly LossFinding[]): ReadonlyMap<string, readonly LossFinding[]> {
  const groups = new Map<string, LossFinding[]>();
  for (const finding of findings) groups.set(finding.source, [...(groups.get(finding.source) ?? []), finding]);
  return groups;
}

/** A result at another place: the folder is a person's choice, and nothing is followed below it. */
function placementAt(to: BytePath, tag: string): Placement {
  return { path: to, root: parentPath(to), tag };
}

export type { Incident, IncidentState };
