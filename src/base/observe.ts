/**
 * How modules speak of what they do: metrics and log lines, as ports. A module declares its own metrics beside its
 * code and is handed an `Observer`; `telemetry/` implements it with prom-client and winston. No path, file or backup
 * id is ever a label. Log lines are an event name and fields, no string building; secrets are `Secret` and print as
 * `[secret]`.
 */

export interface MetricSpec<L extends string = string> {
  /** Full name with prefix and unit, such as `holdfast_protect_lag_seconds`. */
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly L[];
  /** Upper bounds for a histogram, in the unit of the name. */
  readonly buckets?: readonly number[];
}

export type Labels<L extends string = string> = Readonly<Record<L, string>>;

export interface Counter<L extends string = string> {
  add(amount: number, labels?: Labels<L>): void;
}
export interface Gauge<L extends string = string> {
  set(value: number, labels?: Labels<L>): void;
  /** Drops one series, for example of a source that is gone. */
  remove(labels: Labels<L>): void;
}
export interface Histogram<L extends string = string> {
  observe(value: number, labels?: Labels<L>): void;
}

export type LogFields = Readonly<Record<string, unknown>>;

/** Level by who must act: error = a person now, warn = a person soon, info = for the record, debug = for developers. */
export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

/** Declaring the same metric twice gives the same one. */
export interface Observer {
  readonly log: Logger;
  counter<L extends string>(spec: MetricSpec<L>): Counter<L>;
  gauge<L extends string>(spec: MetricSpec<L>): Gauge<L>;
  histogram<L extends string>(spec: MetricSpec<L>): Histogram<L>;
}

const nothing = (): void => undefined;

/** Says nothing and counts nothing. */
export const silentObserver: Observer = {
  log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
  counter: () => ({ add: nothing }),
  gauge: () => ({ set: nothing, remove: nothing }),
  histogram: () => ({ observe: nothing }),
};

/** A value that must never be seen: prints, inspects and serialises as `[secret]`. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself; call it only where it is used. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}
