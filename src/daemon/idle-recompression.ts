/**
 * Recompression by the clock: while the machine has nothing else to do, and within the configured hours, packs are
 * written anew at a higher level. It ends the moment anything else begins: a job, changes to be stored, work of others.
 */
import { readFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import type { Clock, Timer } from "../base/clock.js";
import { messageOf } from "../base/errors.js";
import type { Counter, Observer } from "../base/observe.js";
import type { RecompressConfiguration } from "../config/configuration.js";
import type { RecompressOptions, RecompressReport } from "../engine/recompress.js";

/** A machine is idle when processes waited for a processor, or for a disk, in less than this share of the last 10 s. */
const PRESSURE_MAX = 0.1;
const LOOK_EVERY_MS = 60_000;
/** While it works it looks this often whether something else began, ms. */
const YIELD_EVERY_MS = 250;
/** After everything was tried it rests for this long, ms. */
const DONE_REST_MS = 6 * 3_600_000;
const DAY_MS = 86_400_000;
const MINUTES_PER_HOUR = 60;

export interface IdleRecompressionOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  /** As configured now; undefined: nothing is recompressed. */
  readonly settings: () => RecompressConfiguration | undefined;
  /** True while nothing of holdfast's own is under way. */
  readonly isQuiet: () => boolean;
  /** Share of time that somebody waits for processor or disk, 0 to 1. */
  readonly pressure: () => number;
  readonly run: (
    options: Pick<RecompressOptions, "compression" | "budgetBytes" | "goOn">,
    signal: AbortSignal,
  ) => Promise<RecompressReport>;
}

export class IdleRecompression implements AsyncDisposable {
  readonly #options: IdleRecompressionOptions;
  readonly #timer: Timer;
  readonly #bytes: Counter<"kind">;
  #running: Promise<void> | undefined;
  #abort = new AbortController();
  #restUntilMs = -Infinity;
  #day = 0;
  #readToday = 0;
  #isClosed = false;

  constructor(options: IdleRecompressionOptions) {
    this.#options = options;
    this.#bytes = options.observer.counter({
      name: "holdfast_recompress_bytes_total",
      help: "Bytes of packs that were read to be recompressed, and bytes that became free by it.",
      labels: ["kind"],
    });
    for (const kind of ["read", "saved"]) this.#bytes.add(0, { kind });
    this.#timer = options.clock.every(LOOK_EVERY_MS, () => this.#look());
  }

  /** Ends what is under way and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#timer.cancel();
    this.#abort.abort();
    await this.#running;
  }

  #look(): void {
    const { clock, settings, observer } = this.#options;
    const wanted = settings();
    if (wanted === undefined || this.#running !== undefined || this.#isClosed) return;
    if (clock.monotonicMs() < this.#restUntilMs || !this.#mayWork(wanted)) return;
    const day = Math.floor(clock.nowMs() / DAY_MS);
    if (day !== this.#day) [this.#day, this.#readToday] = [day, 0];
    const budgetBytes = wanted.bytesPerDay - this.#readToday;
    if (budgetBytes <= 0) return;
    this.#running = this.#work(wanted, budgetBytes)
      .catch((error: unknown) => {
        if (!this.#abort.signal.aborted) observer.log.warn("recompress.failed", { message: messageOf(error) });
      })
      .finally(() => (this.#running = undefined));
  }

  async #work(wanted: RecompressConfiguration, budgetBytes: number): Promise<void> {
    const { clock, run, observer } = this.#options;
    const abort = new AbortController();
    this.#abort = abort;
    const yielding = clock.every(YIELD_EVERY_MS, () => {
      if (!this.#options.isQuiet()) abort.abort();
    });
    try {
      const goOn = (): boolean => this.#mayWork(wanted);
      const report = await run({ compression: wanted.to, budgetBytes, goOn }, abort.signal);
      this.#readToday += report.bytesRead;
      this.#bytes.add(report.bytesRead, { kind: "read" });
      this.#bytes.add(report.bytesSaved, { kind: "saved" });
      if (report.isDone) this.#restUntilMs = clock.monotonicMs() + DONE_REST_MS;
      if (report.packsTried > 0) observer.log.info("recompress.done", { ...report });
    } finally {
      yielding.cancel();
    }
  }

  #mayWork(wanted: RecompressConfiguration): boolean {
    const { clock, isQuiet, pressure } = this.#options;
    return isWithin(wanted.between, new Date(clock.nowMs())) && isQuiet() && pressure() <= PRESSURE_MAX;
  }
}

/** True within the hours, local time; they may go over midnight. */
function isWithin(between: RecompressConfiguration["between"], time: Date): boolean {
  if (between === undefined) return true;
  const minute = time.getHours() * MINUTES_PER_HOUR + time.getMinutes();
  const { fromMinute, toMinute } = between;
  if (fromMinute <= toMinute) return minute >= fromMinute && minute < toMinute;
  return minute >= fromMinute || minute < toMinute;
}

/** The system's own figure where the kernel keeps it (PSI), else by its load. */
export function systemPressure(): number {
  const shares = ["cpu", "io"].map((what) => pressureOf(`/proc/pressure/${what}`));
  if (shares.every((share) => share !== undefined)) return Math.max(...shares);
  // Our own work is one of those that run.
  return Math.max(0, (loadavg()[0] ?? 0) - 1) / availableParallelism();
}

function pressureOf(path: string): number | undefined {
  try {
    const [, percent] = /^some avg10=(\d+(?:\.\d+)?)/.exec(readFileSync(path, "utf8")) ?? [];
    return percent === undefined ? undefined : Number(percent) / 100;
  } catch {
    return undefined;
  }
}
