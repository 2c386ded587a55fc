/**
 * Carrying an incident through: one path or a hundred thousand, a few at a time, each path by one healer only; writes
 * down what came of it, counts it and tells the others.
 */
import type { Clock } from "../base/clock.js";
import { KeyedMutex, mapLimited } from "../base/concurrency.js";
import { asHoldfastError } from "../base/errors.js";
import type { EventBus } from "../base/events.js";
import type { Counter, Histogram, Observer } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { RestoreMemory } from "./gate.js";
import { type HealHow, wishText } from "./asked.js";
import {
  type AskedFor,
  INCIDENT_PATHS_SHOWN,
  type Incident,
  type IncidentFailure,
  type IncidentState,
  type QuarantineReference,
} from "./incident.js";
import { CANDIDATES_KEPT_MAX, type IncidentBook, type IncidentChange, type IncidentPath } from "./incident-book.js";
import { type HealJob, type HealResult, NOTHING_FOUND, type PathHealer } from "./heal-path.js";
import { isThere } from "./is-there.js";
import { isGoodSince } from "./good-since.js";
import type { HealPolicy, LiveWatch } from "./ports.js";
import { BatchCollector, type BatchReport, type RecoveryOutcome, type RecoveryResult } from "./report.js";

export interface IncidentHealerOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  readonly book: IncidentBook;
  readonly memory: RestoreMemory;
  readonly healer: PathHealer;
  readonly watch: Pick<LiveWatch, "lastGood">;
  readonly policyFor: (source: string, path: BytePath) => HealPolicy;
  /** How a heal does what a person asked for. Throws USAGE, VERSION_NOT_FOUND. */
  readonly howAsked: (
    about: { readonly path: BytePath; readonly policy: HealPolicy },
    asked: AskedFor,
    signal: AbortSignal,
  ) => Promise<HealHow>;
  /** Paths of one incident that are healed at the same time. */
  readonly parallel: number;
  /** Told when an incident was written down as put off. */
  readonly onPutOff: (id: string) => void;
}

/** Paths of a mass incident that are taken up at once; after each lot the sums are written down. */
const LOT = 1000;
const STATE_OF: Readonly<Record<RecoveryOutcome, IncidentState>> = {
  healed: "healed",
  failed: "failed",
  returned: "returned",
  waiting: "waiting",
  explained: "failed",
};
const DURATION_BUCKETS_S = [0.005, 0.01, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600];

export class IncidentHealer {
  readonly #options: IncidentHealerOptions;
  /** One healer per path at a time, whoever asks. */
  readonly #paths = new KeyedMutex();
  readonly #recoveries: Counter<"source" | "outcome">;
  readonly #durations: Histogram;

  constructor(options: IncidentHealerOptions) {
    this.#options = options;
    this.#recoveries = options.observer.counter({
      name: "holdfast_recoveries_total",
      help: "Paths that were to be recovered, by what came of it.",
      labels: ["source", "outcome"],
    });
    this.#durations = options.observer.histogram({
      name: "holdfast_recovery_duration_seconds",
      help: "Time from the begin of a path's recovery to its end.",
      buckets: DURATION_BUCKETS_S,
    });
  }

  /** Runs `work` while no one else heals the path. */
  async exclusively<T>(path: BytePath, work: () => Promise<T>): Promise<T> {
    return await this.#paths.run(path, work);
  }

  /** Heals an incident that is in state `healing`; closes it or lets it wait. The caller must not hold the path. */
  async heal(incident: Incident, byPerson: boolean, signal: AbortSignal): Promise<BatchReport> {
    if (incident.kind === "mass") return await this.#healMany(incident, byPerson, signal);
    const [path] = incident.paths;
    const collector = new BatchCollector(this.#options.clock.nowMs());
    if (path === undefined) return collector.report(0);
    const result = await this.exclusively(path, async () => {
      if (incident.asked === undefined) return await this.healOne(incident, { byPerson }, signal);
      return await this.#healAsAsked(incident, path, incident.asked, signal);
    });
    collector.add(resultOf(incident.id, path, result));
    return collector.report(result.durationMs);
  }

  /** Does what a person asked for before it was interrupted, or nothing. */
  async #healAsAsked(incident: Incident, path: BytePath, asked: AskedFor, signal: AbortSignal): Promise<HealResult> {
    const policy = this.#options.policyFor(incident.source, path);
    let how: HealHow;
    try {
      how = await this.#options.howAsked({ path, policy }, asked, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const { code, message } = asHoldfastError(error);
      const reason = `${wishText(asked)}, which cannot be done any more: ${message}`;
      const failure = { code, message };
      await this.#close(incident, "failed", { failure }, reason);
      return { ...NOTHING_FOUND, outcome: "failed", message: reason, failure, durationMs: 0 };
    }
    return await this.healOne(incident, { byPerson: true, ...how }, signal);
  }

  /** Heals a single-path incident in state `healing`; the caller holds the path. */
  async healOne(
    incident: Incident,
    how: Pick<HealJob, "byPerson" | "steps" | "wanted">,
    signal: AbortSignal,
  ): Promise<HealResult> {
    const path = incident.paths[0] as BytePath;
    const kind = incident.kind === "mass" || incident.kind === "expected_missing" ? "deleted" : incident.kind;
    const result = await this.#options.healer.heal({ ...this.#jobOf(incident, path, kind), ...how }, signal);
    this.#count(incident.source, path, result, how.byPerson);
    const putOff = result.isAway === true ? putOffOf(path, how.byPerson) : {};
    const change = { ...changeOf(result, incident), ...putOff };
    await this.#close(incident, STATE_OF[result.outcome], change, result.message);
    return result;
  }

  /** Tells that an incident waits for a person, having written it down. */
  async hold(incident: Incident, reason: string): Promise<Incident> {
    return await this.#close(incident, "waiting", {}, reason);
  }

  /** Moves an incident on and tells it. Throws INCIDENT_STATE when somebody else has moved it meanwhile. */
  async conclude(incident: Incident, state: IncidentState, reason: string): Promise<Incident> {
    return await this.#close(incident, state, {}, reason);
  }

  async #healMany(incident: Incident, byPerson: boolean, signal: AbortSignal): Promise<BatchReport> {
    const { clock, book } = this.#options;
    const startMs = clock.monotonicMs();
    const collector = new BatchCollector(clock.nowMs());
    const kept = [...incident.quarantined];
    const away: BytePath[] = [];
    const failures: IncidentFailure[] = [];
    let lot: IncidentPath[] = [];
    const work = async (): Promise<void> => {
      kept.push(...(await this.#healLot(incident, lot, { byPerson, collector, away, failures }, signal)));
      kept.length = Math.min(kept.length, INCIDENT_PATHS_SHOWN);
      lot = [];
      await book.change(incident.id, { counts: collector.counts });
    };
    for await (const entry of book.pathsOf(incident.id)) {
      lot.push(entry);
      if (lot.length >= LOT) await work();
    }
    await work();
    await this.#refreshFolders(incident, collector.healedFolders);
    const durationMs = clock.monotonicMs() - startMs;
    const report = collector.report(durationMs);
    const { healed, failed, returned, waiting } = report;
    const reason = `${String(healed)} came back, ${String(returned)} were there, ${String(failed + waiting)} did not`;
    const state = failed + waiting > 0 ? "failed" : healed > 0 ? "healed" : "returned";
    const candidates = report.results.flatMap((result) => result.candidates.slice(0, 1));
    const putOff = away[0] === undefined ? {} : putOffOf(away[0], byPerson);
    const failure = failures.find(({ code }) => code !== "RECOVERY_FAILED") ?? failures[0]; // what may pass is tried again
    const change = { durationMs, counts: collector.counts, candidates, quarantined: kept, failure, ...putOff };
    await this.#close(incident, state, change, reason);
    return report;
  }

  async #healLot(
    incident: Incident,
    lot: readonly IncidentPath[],
    batch: {
      readonly byPerson: boolean;
      readonly collector: BatchCollector;
      readonly away: BytePath[];
      /** One of each code. */
      readonly failures: IncidentFailure[];
    },
    signal: AbortSignal,
  ): Promise<readonly QuarantineReference[]> {
    const { byPerson, collector, away, failures } = batch;
    const shortestFirst = [...lot].sort((a, b) => a.path.length - b.path.length);
    const kept = await mapLimited(shortestFirst, this.#options.parallel, signal, async ({ path, kind }, inner) => {
      const onFolderMade = (folder: BytePath): void => void collector.healedFolders.add(folder);
      const job = { ...this.#jobOf(incident, path, kind), byPerson, onFolderMade };
      const found = await this.exclusively(
        path,
        async () => (await this.#goneSince(incident, path)) ?? (await this.#options.healer.heal(job, inner)),
      );
      const result = collector.healedFolders.has(path) ? asHealed(found) : found;
      this.#count(incident.source, path, result, byPerson);
      collector.add(resultOf(incident.id, path, result));
      if (result.isAway === true && away.length === 0) away.push(path);
      const { failure } = result;
      if (failure !== undefined && !failures.some(({ code }) => code === failure.code)) failures.push(failure);
      return result.quarantined;
    });
    return kept.flat();
  }

  /**
   * What stood again after this incident was cut short, or could not put all back, and is gone since: that was meant, or
   * is told as a loss of its own. A path that is lost still is none of these, whatever the clock says.
   */
  async #goneSince({ openedAtMs }: Incident, path: BytePath): Promise<HealResult | undefined> {
    const { watch } = this.#options;
    const state = (await watch.lastGood(path))?.state;
    const isMeant = state === "removing" || state === "removed";
    const isGone = isMeant || (state !== "lost" && (await isGoodSince(watch, path, openedAtMs)));
    if (!isGone || (await isThere(path))) return undefined;
    const message = "put back before, and gone again: that is judged by itself";
    return { ...NOTHING_FOUND, outcome: "healed", message, durationMs: 0 };
  }

  /** Deepest first: what was put into a folder has moved its times. */
  async #refreshFolders(incident: Incident, folders: ReadonlySet<BytePath>): Promise<void> {
    for (const folder of [...folders].sort((a, b) => b.length - a.length)) {
      const { root } = this.#options.policyFor(incident.source, folder);
      await this.#options.healer.refreshFolder(folder, root);
    }
  }

  #jobOf(incident: Incident, path: BytePath, kind: HealJob["kind"]): Omit<HealJob, "byPerson"> {
    const { source, seenAtMs, id } = incident;
    return { source, path, kind, seenAtMs, policy: this.#options.policyFor(source, path), incident: id };
  }

  #count(source: string, path: BytePath, result: HealResult, byPerson: boolean): void {
    this.#recoveries.add(1, { source, outcome: result.outcome });
    this.#durations.observe(result.durationMs / 1000);
    if (result.outcome === "healed") this.#options.memory.note(path, byPerson ? "person" : "itself");
  }

  async #close(incident: Incident, state: IncidentState, change: IncidentChange, reason: string): Promise<Incident> {
    const after = await this.#options.book.change(incident.id, { ...change, state, reason }, [incident.state]);
    const { id, source, pathCount } = after;
    const told = { id, source, paths: pathCount };
    const { bus, observer } = this.#options;
    observer.log.info(`incident.${state}`, { id, source, paths: pathCount, kind: after.kind, reason });
    if (state === "healed") bus.emit("incident.healed", { ...told, durationMs: after.durationMs ?? 0 });
    else if (state === "failed") bus.emit("incident.failed", { ...told, message: reason });
    else if (state === "waiting") bus.emit("incident.held", { ...told, reason });
    else if (state !== "healing" && state !== "open") bus.emit("incident.closed", { id, source, outcome: state });
    if (after.putOff !== undefined) this.#options.onPutOff(id);
    return after;
  }
}

/** A folder that a file in it brought back, before its own turn, did not come back by itself. */
function asHealed(result: HealResult): HealResult {
  if (result.outcome !== "returned") return result;
  return { ...result, outcome: "healed", message: "the folder was made again for what is in it" };
}

function putOffOf(path: BytePath, isApproved: boolean): IncidentChange {
  return { putOff: { path, isApproved } };
}

function changeOf(result: HealResult, incident: Incident): IncidentChange {
  const { candidates, searched, notes, manualCommands, taken, failure, durationMs } = result;
  return {
    candidates,
    searched,
    notes: [...new Set([...incident.notes, ...notes])].slice(0, CANDIDATES_KEPT_MAX),
    manualCommands,
    durationMs,
    quarantined: [...incident.quarantined, ...result.quarantined].slice(0, INCIDENT_PATHS_SHOWN),
    ...(taken === undefined ? {} : { taken }),
    ...(failure === undefined ? {} : { failure }),
  };
}

/** A path's result as reports show it. */
export function resultOf(incidentId: string | undefined, path: BytePath, result: HealResult): RecoveryResult {
  const { outcome, taken, durationMs, candidates, searched, notes, manualCommands, message } = result;
  return {
    path,
    outcome,
    ...(incidentId === undefined ? {} : { incidentId }),
    ...(taken === undefined ? {} : { taken }),
    durationMs,
    candidates,
    searched,
    notes,
    manualCommands,
    message,
  };
}
