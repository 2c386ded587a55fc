/**
 * A soak: random activity and random harm under a daemon that is killed and started again all the time. At the end the
 * registry equals the disk, every harm is healed, and nothing that was meant to go came back.
 */
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Sandbox } from "../program.js";
import { ACTIVITIES, prepare } from "./activities.js";
import { SoakedDaemon } from "./daemon.js";
import { Findings, judgeDisk, judgeIncidents, judgeRegistry, judgeRepository } from "./findings.js";
import { harmSomething } from "./harms.js";
import { type Scene, sceneOf } from "./scene.js";
import { World } from "./world.js";

export interface SoakOptions {
  readonly seed: number;
  /** How long activity goes on; starting, healing and judging come on top. */
  readonly activeMs: number;
  /** Time between two kills of the daemon, ms, at least and at most. */
  readonly killEveryMs: readonly [least: number, most: number];
  /** Log, story, and after a finding state and store, are kept here; undefined: in the sandbox, gone afterwards. */
  readonly keepAt?: string;
  readonly progress?: (line: string) => void;
}

export interface SoakOutcome {
  readonly activities: ReadonlyMap<string, number>;
  readonly harms: number;
  readonly healedAfterMs: readonly number[];
  readonly kills: number;
  readonly watcherKills: number;
  readonly stops: number;
  readonly files: number;
  readonly incidents: number;
  readonly findings: number;
  /** What was found wrong, with the history of each path; empty when nothing was. */
  readonly report: string;
}

const SOURCES = ["docs", "code", "app", "archive", "scratch"] as const;
/** The time in which everything has to be healed after the last act, on a machine that is busy. */
const HEAL_LIMIT_MS = 60_000;
const RENAMES_ASKED = 3;
const PROGRESS_MS = 15_000;
/**
 * Each time after so many ends the daemon is let look through everything: on a busy machine it would not come to that for
 * a quarter of an hour, and after ten minutes nobody can tell a second deletion, or a rename and save, from a loss.
 */
const ENDS_UNLOOKED_MAX = 3;
/** After this time a loss that was seen would be told, and a file that was wrongly taken for one be back. */
const QUIET_MS = 3_000;

/** Runs one soak to its judgement. */
export async function soak(options: SoakOptions): Promise<SoakOutcome> {
  await using sandbox = await Sandbox.create();
  const world = new World(sandbox.data, options.seed);
  const logFolder = options.keepAt ?? sandbox.home;
  mkdirSync(logFolder, { recursive: true });
  const daemon = new SoakedDaemon(sandbox, join(logFolder, `soak-${String(options.seed)}.log`));
  const scene = sceneOf(world, daemon, sandbox.home);
  await prepare(scene, sandbox.home);
  await sandbox.configure({ defaults: { exclude: [] }, sources: SOURCES.map((name) => sourceAt(world, name)) });
  daemon.begin();
  await daemon.settle();
  const run = new Run(scene, options);
  const findings = new Findings(world);
  try {
    await run.act();
    for (const restless of await run.rest()) findings.add("the daemon does not come to rest", restless);
    await judgeDisk(world, daemon, findings);
    const incidents = await judgeIncidents(daemon, findings);
    await daemon.end("SIGTERM");
    await judgeRegistry(sandbox, world, SOURCES, findings);
    await judgeRepository(sandbox, world, findings);
    for (const crash of daemon.crashes) findings.add("the daemon ended by itself", crash);
    return { ...run.outcome(), incidents, findings: findings.count, report: findings.text() };
  } finally {
    writeFileSync(join(logFolder, `soak-${String(options.seed)}.story`), world.story());
    if (options.keepAt !== undefined && findings.count > 0)
      for (const part of ["state", "store"] as const)
        cpSync(sandbox[part], join(logFolder, `soak-${String(options.seed)}.${part}`), { recursive: true });
  }
}

/** Asks about a few renamed files whether the repository knows of both names. */
async function settleRenames({ world, daemon }: Scene): Promise<void> {
  for (const [to, from] of [...world.renamed].slice(0, RENAMES_ASKED)) {
    if (!(await daemon.isRemoved(from))) return;
    if ((await daemon.newestDigest(to)) === world.files.get(to)) world.renamed.delete(to);
  }
}

function sourceAt(world: World, name: (typeof SOURCES)[number]): Record<string, unknown> {
  return { name, paths: [world.at(name)], on_delete: name === "scratch" ? "allow" : "heal" };
}

class Run {
  readonly #scene: Scene;
  readonly #options: SoakOptions;
  readonly #activities = new Map<string, number>();
  #harms = 0;
  #kills = 0;
  #watcherKills = 0;
  #stops = 0;

  constructor(scene: Scene, options: SoakOptions) {
    this.#scene = scene;
    this.#options = options;
  }

  /** Activity and kills side by side until the time is over. */
  async act(): Promise<void> {
    const endMs = performance.now() + this.#options.activeMs;
    await Promise.all([this.#work(endMs), this.#kill(endMs)]);
  }

  async #work(endMs: number): Promise<void> {
    const { world } = this.#scene;
    let toldMs = performance.now();
    while (performance.now() < endMs) {
      world.lookForHealed();
      await settleRenames(this.#scene);
      if (world.chance.share() < 0.25) await this.#harm();
      else await this.#workOnce();
      // Bursts and pauses, as people work.
      const pauseMs = world.chance.share() < 0.7 ? world.chance.whole(0, 60) : world.chance.whole(100, 900);
      await delay(pauseMs);
      if (performance.now() - toldMs < PROGRESS_MS) continue;
      toldMs = performance.now();
      this.#options.progress?.(this.#line());
    }
  }

  async #harm(): Promise<void> {
    const before = this.#scene.world.harms.size;
    if (await harmSomething(this.#scene)) this.#harms += this.#scene.world.harms.size - before;
  }

  async #workOnce(): Promise<void> {
    const activity = this.#scene.world.chance.weighted(ACTIVITIES);
    if (activity === undefined || !(await activity.run(this.#scene))) return;
    this.#activities.set(activity.name, (this.#activities.get(activity.name) ?? 0) + 1);
  }

  /** Ends the daemon in one way or another and starts it again, now and then. */
  async #kill(endMs: number): Promise<void> {
    const { world, daemon } = this.#scene;
    const [least, most] = this.#options.killEveryMs;
    // The choices of the activity must not depend on how fast this is: it has its own chance.
    const chance = new World(world.root, this.#options.seed + 1_000_003).chance;
    let ends = 0;
    for (;;) {
      await delay(Math.min(chance.whole(least, most), Math.max(0, endMs - performance.now())));
      if (performance.now() >= endMs) return;
      const kind = chance.share();
      if (kind < 0.15 && daemon.killWatcher()) {
        this.#watcherKills += 1;
        world.note("watcher killed");
        continue;
      }
      if (kind < 0.8) this.#kills += 1;
      else this.#stops += 1;
      world.note(kind < 0.8 ? "daemon killed" : "daemon told to stop");
      await daemon.end(kind < 0.8 ? "SIGKILL" : "SIGTERM");
      await delay(chance.whole(0, 2500));
      daemon.begin();
      world.note("daemon started");
      ends += 1;
      if (ends % ENDS_UNLOOKED_MAX === 0) await daemon.settle();
    }
  }

  /** Until everything is back and durable, or the limit; gives what is not at rest then. */
  async rest(): Promise<readonly string[]> {
    const { world, daemon } = this.#scene;
    if (!daemon.isUp) daemon.begin();
    await daemon.settle();
    const startMs = performance.now();
    while (performance.now() - startMs < HEAL_LIMIT_MS) {
      world.lookForHealed();
      if (world.harms.size === 0) break;
      await delay(200);
    }
    await delay(QUIET_MS);
    const restless = await daemon.settle();
    this.#options.progress?.(this.#line());
    return restless === undefined ? [] : [restless];
  }

  #line(): string {
    const { world, daemon } = this.#scene;
    const acts = [...this.#activities.values()].reduce((sum, count) => sum + count, 0);
    return `${String(acts)} activities, ${String(this.#harms)} harms (${String(world.harms.size)} open), ${String(this.#kills)} kills, ${String(world.files.size)} files, ${daemon.isUp ? "up" : "down"}`;
  }

  outcome() {
    const { world } = this.#scene;
    return {
      activities: this.#activities,
      harms: this.#harms,
      healedAfterMs: world.healedAfterMs,
      kills: this.#kills,
      watcherKills: this.#watcherKills,
      stops: this.#stops,
      files: world.files.size,
    };
  }
}
