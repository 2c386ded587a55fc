/**
 * The metrics, on prom-client: implements `Observer` over a registry of its own and renders it for Prometheus. A label
 * set beyond the limit of a metric is dropped and counted, so that a mistake in a label cannot eat the memory. Rendering
 * gives the event loop a turn between metrics and is shared by scrapes that come at the same time.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { HoldfastError } from "../base/errors.js";
import type * as observe from "../base/observe.js";

/** Label sets of one metric: 1,000 sources with a few outcomes each. */
export const SERIES_PER_METRIC_MAX = 20_000;

/** Gauges of prom-client whose names end in `_total`, which promtool refuses. */
const REFUSED_DEFAULTS = [
  "nodejs_active_handles_total",
  "nodejs_active_requests_total",
  "nodejs_active_resources_total",
];

/** The loop's delay is sampled this often, ms: prom-client's own 10 ms would wake an idle daemon 100 times a second. */
const LOOP_SAMPLE_MS = 1000;
/** Of those samples, which hold the interval itself, nothing can be told; `nodejs_eventloop_lag_seconds` stays. */
const SAMPLED_DEFAULTS = ["min", "max", "mean", "stddev", "p50", "p90", "p99"].map(
  (name) => `nodejs_eventloop_lag_${name}_seconds`,
);

/** Seconds; from a few ms (one small file) to ten minutes (a whole folder). */
export const DURATION_BUCKETS_SECONDS: readonly number[] = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 600,
];

export interface MetricsOptions {
  readonly log: observe.Logger;
  /** Adds prom-client's metrics of this process; off in tests that count series. */
  readonly processMetrics: boolean;
  /** Labels of `holdfast_build_info`. */
  readonly build: { readonly version: string; readonly commit: string };
}

type MetricKind = "counter" | "gauge" | "histogram";

interface Declared {
  readonly kind: MetricKind;
  readonly labels: readonly string[];
  readonly metric: observe.Counter & observe.Gauge & InitialisedHistogram;
}

interface InitialisedHistogram extends observe.Histogram {
  zero(labels: observe.Labels): void;
}

export class Metrics implements observe.Observer {
  readonly log: observe.Logger;
  readonly #registry = new Registry();
  readonly #declared = new Map<string, Declared>();
  readonly #droppedSeries: Counter;
  #rendering: Promise<string> | undefined;

  constructor(options: MetricsOptions) {
    this.log = options.log;
    if (options.processMetrics) {
      collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: LOOP_SAMPLE_MS });
      for (const name of [...REFUSED_DEFAULTS, ...SAMPLED_DEFAULTS]) this.#registry.removeSingleMetric(name);
    }
    this.#droppedSeries = new Counter({
      name: "holdfast_metric_series_dropped_total",
      help: "Samples dropped because their metric had reached its limit of label sets.",
      registers: [this.#registry],
    });
    new Gauge({
      name: "holdfast_build_info",
      help: "Always 1; the labels say what runs.",
      labelNames: ["version", "commit", "node"],
      registers: [this.#registry],
    }).set({ ...options.build, node: process.version }, 1);
  }

  /** The Content-Type of what `render` gives. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  counter<L extends string>(spec: observe.MetricSpec<L>): observe.Counter<L> {
    return this.#declare("counter", spec);
  }

  gauge<L extends string>(spec: observe.MetricSpec<L>): observe.Gauge<L> {
    return this.#declare("gauge", spec);
  }

  histogram<L extends string>(spec: observe.MetricSpec<L>): observe.Histogram<L> {
    return this.#declare("histogram", spec);
  }

  /** Makes a histogram's series appear with zero observations. */
  zeroHistogram<L extends string>(spec: observe.MetricSpec<L>, labels: observe.Labels<L>): void {
    this.#declare("histogram", spec).zero(labels);
  }

  /** All metrics in the Prometheus text format. */
  async render(): Promise<string> {
    this.#rendering ??= this.#renderAll().finally(() => {
      this.#rendering = undefined;
    });
    return await this.#rendering;
  }

  async #renderAll(): Promise<string> {
    const parts: string[] = [];
    for (const { name } of this.#registry.getMetricsAsArray()) {
      parts.push(await this.#registry.getSingleMetricAsString(name));
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    return `${parts.join("\n\n")}\n`;
  }

  #declare(kind: MetricKind, spec: observe.MetricSpec): Declared["metric"] {
    const labels = [...(spec.labels ?? [])].sort();
    const known = this.#declared.get(spec.name);
    if (known !== undefined) {
      if (known.kind !== kind || known.labels.join() !== labels.join())
        throw new HoldfastError("INTERNAL", `the metric ${spec.name} was declared in two different ways`);
      return known.metric;
    }
    const metric = this.#create(kind, spec, new SeriesLimit(() => this.#droppedSeries.inc()));
    this.#declared.set(spec.name, { kind, labels, metric });
    return metric;
  }

  #create(kind: MetricKind, spec: observe.MetricSpec, limit: SeriesLimit): Declared["metric"] {
    const base = {
      name: spec.name,
      help: spec.help,
      labelNames: [...(spec.labels ?? [])],
      registers: [this.#registry],
    };
    const unsupported = (): never => {
      throw new HoldfastError("INTERNAL", `the metric ${spec.name} is no ${kind}`);
    };
    const none = { add: unsupported, set: unsupported, remove: unsupported, observe: unsupported, zero: unsupported };
    if (kind === "counter") {
      const counter = new Counter(base);
      return { ...none, add: (amount, labels) => limit.admit(labels, (safe) => counter.inc(safe, amount)) };
    }
    if (kind === "gauge") {
      const gauge = new Gauge(base);
      return {
        ...none,
        set: (value, labels) => limit.admit(labels, (safe) => gauge.set(safe, value)),
        remove: (labels) => limit.forget(labels, () => gauge.remove(labels)),
      };
    }
    const histogram = new Histogram({ ...base, buckets: [...(spec.buckets ?? DURATION_BUCKETS_SECONDS)] });
    return {
      ...none,
      observe: (value, labels) => limit.admit(labels, (safe) => histogram.observe(safe, value)),
      zero: (labels) => limit.admit(labels, (safe) => histogram.zero(safe)),
    };
  }
}

/** Counts the label sets of one metric and refuses new ones beyond the limit. */
class SeriesLimit {
  readonly #known = new Set<string>();
  readonly #onDrop: () => void;

  constructor(onDrop: () => void) {
    this.#onDrop = onDrop;
  }

  admit(labels: observe.Labels | undefined, record: (labels: Record<string, string>) => void): void {
    const key = labels === undefined ? "" : seriesKey(labels);
    if (!this.#known.has(key)) {
      if (this.#known.size >= SERIES_PER_METRIC_MAX) {
        this.#onDrop();
        return;
      }
      this.#known.add(key);
    }
    record({ ...labels });
  }

  forget(labels: observe.Labels, remove: () => void): void {
    this.#known.delete(seriesKey(labels));
    remove();
  }
}

function seriesKey(labels: observe.Labels): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}
