/**
 * A monitor over real folders (watch-bench.ts) whose losses a real healer puts back, out of the same small repository in
 * memory. Incidents are in a real LevelDB. What both of them tell is kept for the test to look at.
 */
import { Level } from "level";
import { systemClock } from "../../src/base/clock.js";
import type { EventCatalogue } from "../../src/base/events.js";
import { silentObserver } from "../../src/base/observe.js";
import type { BytePath } from "../../src/base/paths.js";
import type { FileNode, Version } from "../../src/engine/types.js";
import { recoveryStrategies } from "../../src/daemon/plugins.js";
import { Healer } from "../../src/recovery/healer.js";
import type { HealerSettings, VersionReader } from "../../src/recovery/ports.js";
import { type BenchOptions, type MemoryRepository, WatchBench } from "./watch-bench.js";

const NEVER = new AbortController().signal;

export interface HealingOptions extends BenchOptions {
  readonly healer?: Partial<HealerSettings>;
}

export class HealingBench implements AsyncDisposable {
  readonly watch: WatchBench;
  readonly healer: Healer;
  /** Of each healed incident, in order. */
  readonly healed: EventCatalogue["incident.healed"][] = [];
  /** Incidents that wait for a person or failed, with the reason. */
  readonly notHealed: string[] = [];
  readonly #incidents: Level;

  private constructor(watch: WatchBench, incidents: Level, { clock, healer }: HealingOptions) {
    this.watch = watch;
    this.#incidents = incidents;
    const versions = readerOf(watch.repository);
    const { bus, monitor } = watch;
    this.healer = new Healer({
      clock: clock ?? systemClock,
      observer: { ...silentObserver, log: { ...silentObserver.log, error: (event) => void watch.faults.push(event) } },
      bus,
      database: incidents.sublevel("incidents"),
      stateDir: watch.state.path,
      versions,
      watch: monitor,
      strategies: recoveryStrategies(versions, clock ?? systemClock),
      policyFor: (_source, path) => ({
        mode: monitor.explain(path).mode,
        priority: "high",
        accept: "newer_valid",
        chain: [{ strategy: "latest_backup", parameters: {} }],
        mass: "hold",
        root: watch.folder.bytes(),
      }),
      ...(healer === undefined ? {} : { settings: healer }),
    });
    bus.on("incident.healed", (event) => void this.healed.push(event));
    bus.on("incident.held", ({ reason }) => void this.notHealed.push(`held: ${reason}`));
    bus.on("incident.failed", ({ message }) => void this.notHealed.push(`failed: ${message}`));
  }

  static async create(options: HealingOptions = {}): Promise<HealingBench> {
    const watch = await WatchBench.create(options);
    const incidents = new Level(watch.state.at("incidents"));
    await incidents.open();
    const bench = new HealingBench(watch, incidents, options);
    await bench.healer.start(NEVER);
    return bench;
  }

  /** Paths that were put back. */
  get healedPaths(): number {
    return this.healed.reduce((sum, { paths }) => sum + paths, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.healer[Symbol.asyncDispose]();
    await this.#incidents.close();
    await this.watch[Symbol.asyncDispose]();
  }
}

/** The newest version of each path is all that there is. */
function readerOf(repository: MemoryRepository): VersionReader {
  const versions = (path: BytePath): readonly Version[] => {
    const entry = repository.current(path, "data");
    return entry === undefined ? [] : [{ ...entry, timeMs: 0 }];
  };
  return {
    versions,
    entryAt: (path) => versions(path)[0],
    pathsWithDigest: () => [],
    async *readContent(node: FileNode) {
      for await (const part of repository.readContent(node)) yield Buffer.from(part);
    },
  };
}
