/** A real LevelDB in a temporary folder, and an observer that remembers: what tests of stateful parts stand on. */
import { Level } from "level";
import type { Bucket, BucketWrite } from "../../src/alerts/bucket.js";
import type { Labels, LogFields, Observer } from "../../src/base/observe.js";
import { TempFolder } from "./temp-folder.js";

/** A state database of its own; `reopen` closes and opens it again, as a restart does. */
export class StateStore implements AsyncDisposable {
  readonly #folder: TempFolder;
  database: Level;

  private constructor(folder: TempFolder) {
    this.#folder = folder;
    this.database = new Level<string, string>(folder.at("state"));
  }

  static async create(): Promise<StateStore> {
    return new StateStore(await TempFolder.create("state"));
  }

  get location(): string {
    return this.#folder.at("state");
  }

  async reopen(): Promise<void> {
    await this.database.close();
    this.database = new Level<string, string>(this.location);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.database.close();
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** Keys and values in memory, as quick as promises are: for tests of time, where a disk would blur it. */
export class MemoryBucket implements Bucket {
  readonly values = new Map<string, string>();
  /** True: writing fails, as on a full disk. */
  isBroken = false;

  batch(writes: BucketWrite[]): Promise<void> {
    if (this.isBroken) return Promise.reject(new Error("no space left on device"));
    for (const write of writes) {
      if (write.type === "put") this.values.set(write.key, write.value);
      else this.values.delete(write.key);
    }
    return Promise.resolve();
  }

  async *iterator(range: { readonly gte: string; readonly lt: string }): AsyncIterable<[string, string]> {
    await Promise.resolve();
    for (const [key, value] of [...this.values].sort(([a], [b]) => (a < b ? -1 : 1)))
      if (key >= range.gte && key < range.lt) yield [key, value];
  }

  get(key: string): Promise<string | undefined> {
    return Promise.resolve(this.values.get(key));
  }

  put(key: string, value: string): Promise<void> {
    this.values.set(key, value);
    return Promise.resolve();
  }
}

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly event: string;
  readonly fields: LogFields;
}

/** An observer that keeps log lines and the values of metrics. */
export class RecordingObserver implements Observer {
  readonly lines: LogLine[] = [];
  readonly values = new Map<string, number>();
  /** Observations of histograms by name. */
  readonly observations = new Map<string, number[]>();

  readonly log = {
    debug: (event: string, fields: LogFields = {}) => this.#line("debug", event, fields),
    info: (event: string, fields: LogFields = {}) => this.#line("info", event, fields),
    warn: (event: string, fields: LogFields = {}) => this.#line("warn", event, fields),
    error: (event: string, fields: LogFields = {}) => this.#line("error", event, fields),
  };

  counter(spec: { readonly name: string }): { add(amount: number, labels?: Labels): void } {
    return {
      add: (amount, labels) => {
        const key = seriesName(spec.name, labels);
        this.values.set(key, (this.values.get(key) ?? 0) + amount);
      },
    };
  }

  gauge(spec: { readonly name: string }): {
    set(value: number, labels?: Labels): void;
    remove(labels: Labels): void;
  } {
    return {
      set: (value, labels) => void this.values.set(seriesName(spec.name, labels), value),
      remove: (labels) => void this.values.delete(seriesName(spec.name, labels)),
    };
  }

  histogram(spec: { readonly name: string }): { observe(value: number): void } {
    const seen = this.observations.get(spec.name) ?? [];
    this.observations.set(spec.name, seen);
    return { observe: (value) => void seen.push(value) };
  }

  /** The value of a series, such as `holdfast_alerts_total{channel=mail,outcome=delivered}`. */
  value(name: string, labels?: Labels): number | undefined {
    return this.values.get(seriesName(name, labels));
  }

  events(level?: LogLine["level"]): readonly string[] {
    return this.lines.filter((line) => level === undefined || line.level === level).map(({ event }) => event);
  }

  #line(level: LogLine["level"], event: string, fields: LogFields): void {
    this.lines.push({ level, event, fields });
  }
}

function seriesName(name: string, labels: Labels = {}): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? name : `${name}{${pairs.map(([label, value]) => `${label}=${value}`).join(",")}}`;
}
