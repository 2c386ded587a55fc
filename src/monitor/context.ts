/** What the parts of one watched source share, and the metrics of the monitor. */
import type { Clock } from "../base/clock.js";
import type { Semaphore } from "../base/concurrency.js";
import type { EventBus } from "../base/events.js";
import type { Counter, Gauge, Logger, Observer } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import { Expectations } from "./expectations.js";
import { FileGroups } from "./groups.js";
import type { Arrivals } from "./intent/arrivals.js";
import type { GitKnowledge } from "./intent/git.js";
import type { OwnWriteLedger } from "./ledger.js";
import type { Pauses } from "./pauses.js";
import type { KnownVersions, MassLimits, SourceSettings, SourceWatch } from "./ports.js";
import type { Registry } from "./registry.js";
import { type ModeDecision, ModeRules } from "./rules.js";
import type { Actors } from "./watch/actors.js";
import type { StartScans } from "./start-scans.js";
import { UniqueFields } from "./unique-fields.js";
import { type FileValidation, ValidationRules } from "./validation.js";

export interface MonitorMetrics {
  readonly degraded: Gauge<"source">;
  readonly events: Counter<"kind">;
  readonly rescans: Counter<"reason">;
  readonly lost: Counter<"source" | "kind">;
  readonly files: Gauge<"source">;
  readonly bytes: Gauge<"source">;
  readonly pending: Gauge<"source">;
}

/** Declares the metrics of `docs/metrics.md` that belong to watching. */
export function monitorMetrics(observer: Observer): MonitorMetrics {
  const source = ["source"] as const;
  return {
    degraded: observer.gauge({
      name: "holdfast_watch_degraded",
      help: "1 while changes of the source may be noticed late.",
      labels: source,
    }),
    events: observer.counter({
      name: "holdfast_watch_events_total",
      help: "File system events heard, by kind.",
      labels: ["kind"],
    }),
    rescans: observer.counter({
      name: "holdfast_watch_rescans_total",
      help: "Times that a source or a part of it was looked through again, by reason.",
      labels: ["reason"],
    }),
    lost: observer.counter({
      name: "holdfast_files_lost_total",
      help: "Files found lost or damaged, by kind.",
      labels: ["source", "kind"],
    }),
    files: observer.gauge({ name: "holdfast_source_files", help: "Live protected files.", labels: source }),
    bytes: observer.gauge({ name: "holdfast_source_bytes", help: "Bytes of live protected files.", labels: source }),
    pending: observer.gauge({
      name: "holdfast_source_pending_changes",
      help: "Changes seen and not yet durable.",
      labels: source,
    }),
  };
}

/** Parts that all sources share. */
export interface SharedParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly bus: EventBus;
  readonly metrics: MonitorMetrics;
  readonly registry: Registry;
  readonly known: KnownVersions;
  readonly ledger: OwnWriteLedger;
  readonly pauses: Pauses;
  readonly validation: FileValidation;
  readonly arrivals: Arrivals;
  readonly startScans: StartScans;
  /** Content has begun to rest: soon there will be something to store. */
  readonly expectChange: () => void;
  readonly git: GitKnowledge;
  /** Turns at looking through a source, which takes a thread each time. */
  readonly walks: Semaphore;
  /** Undefined: nobody is asked who did it. */
  readonly actors: Actors | undefined;
  /** True: a process that is seen to attack is stopped. */
  readonly stopAttacker: boolean;
}

const DEFAULT_GRACE_MS = 500;
const DEFAULT_REST_MS = 250;
const DEFAULT_MASS: MassLimits = { files: 50, share: 0.2, minFiles: 10, withinMs: 60_000 };

/** One source with its settings resolved. */
export class SourceContext {
  readonly shared: SharedParts;
  readonly source: SourceWatch;
  readonly name: string;
  readonly graceMs: number;
  readonly restMs: number;
  readonly mass: MassLimits;
  readonly validationRules: ValidationRules;
  readonly canaries: readonly string[];
  readonly expectations: Expectations;
  readonly groups: FileGroups;
  readonly uniqueFields: UniqueFields;
  /** Aborted when the source is no longer watched. */
  readonly signal: AbortSignal;
  readonly #modes: ModeRules;

  constructor(shared: SharedParts, source: SourceWatch, settings: SourceSettings, signal: AbortSignal) {
    const folders = source.roots.map((root) => root.folder);
    this.shared = shared;
    this.source = source;
    this.name = source.name;
    this.graceMs = settings.graceMs ?? DEFAULT_GRACE_MS;
    this.restMs = settings.restMs ?? DEFAULT_REST_MS;
    this.mass = { ...DEFAULT_MASS, ...settings.mass };
    this.validationRules = new ValidationRules(folders, settings.validation);
    this.canaries = settings.canaries ?? [];
    this.expectations = new Expectations(settings.expect ?? [], folders);
    this.groups = new FileGroups(settings.groups ?? [], folders);
    this.uniqueFields = new UniqueFields({ ...shared, name: source.name, validationRules: this.validationRules });
    this.signal = signal;
    this.#modes = new ModeRules(source.name, folders, settings.mode, settings.rules);
  }

  /** The mode of a path and why. */
  modeOf(path: BytePath): ModeDecision {
    return this.#modes.decide(path, (tracked) => this.shared.git.isTracked(tracked));
  }

  /** Wall time, ms. */
  nowMs(): number {
    return this.shared.clock.nowMs();
  }
}
