/**
 * What the store holds and how long ago all of it was read and found whole, as metrics: looked at by the clock, never
 * when somebody scrapes. The time of the last whole check is kept in the state database.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { EventBus } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import type { RepositoryStats } from "../engine/types.js";
import { STORE_METRICS, VERIFY_OLDEST_AGE } from "../telemetry/series.js";

/** The store is counted this often; after a backup at once. */
const COUNT_EVERY_MS = 5 * 60_000;
const AGE_EVERY_MS = 60_000;
const KEY = "last-whole-check";

/** The part of a LevelDB sublevel that this needs. */
export interface GaugeBucket {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
}

export interface StoreGaugesOptions {
  readonly clock: Clock;
  readonly bus: EventBus;
  readonly observer: Observer;
  readonly bucket: GaugeBucket;
  readonly repository: { stats(): Promise<RepositoryStats> };
}

export class StoreGauges implements Disposable {
  readonly #options: StoreGaugesOptions;
  readonly #timers: readonly Timer[];
  readonly #unsubscribe: () => void;
  #checkedMs = 0;
  #isCounting = false;

  private constructor(options: StoreGaugesOptions) {
    this.#options = options;
    const { clock, bus } = options;
    this.#timers = [
      clock.every(COUNT_EVERY_MS, () => void this.count()),
      clock.every(AGE_EVERY_MS, () => this.#showAge()),
    ];
    this.#unsubscribe = bus.on("backup.finished", () => void this.count());
  }

  static async open(options: StoreGaugesOptions): Promise<StoreGauges> {
    const gauges = new StoreGauges(options);
    const known = Number(await options.bucket.get(KEY));
    if (known > 0) gauges.#checkedMs = Math.min(known, options.clock.nowMs());
    else await gauges.noteWholeCheck();
    gauges.#showAge();
    return gauges;
  }

  /** Everything stored was read and found whole just now. */
  async noteWholeCheck(): Promise<void> {
    const { clock, bucket } = this.#options;
    this.#checkedMs = clock.nowMs();
    this.#showAge();
    await bucket.put(KEY, String(this.#checkedMs));
  }

  /** Counts what the store holds. Never rejects. */
  async count(): Promise<void> {
    if (this.#isCounting) return;
    this.#isCounting = true;
    const { repository, observer } = this.#options;
    try {
      const stats = await repository.stats();
      const bytes = observer.gauge(STORE_METRICS.bytes);
      bytes.set(stats.logicalBytes, { kind: "logical" });
      bytes.set(stats.uniqueBytes, { kind: "unique" });
      bytes.set(stats.storedBytes, { kind: "stored" });
      observer.gauge(STORE_METRICS.chunks).set(stats.chunks);
      observer.gauge(STORE_METRICS.corrupt).set(stats.suspectChunks, { tier: "hot" });
    } catch (error) {
      observer.log.debug("store.not_counted", { error });
    } finally {
      this.#isCounting = false;
    }
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) timer.cancel();
    this.#unsubscribe();
  }

  #showAge(): void {
    const { observer, clock } = this.#options;
    observer.gauge(VERIFY_OLDEST_AGE).set(Math.max(0, clock.nowMs() - this.#checkedMs) / 1000);
  }
}
