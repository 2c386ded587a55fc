/**
 * What healing itself takes, under a real daemon: `node dist/bench/healing.js [--singles N] [--every MS] [--mass N]`. N
 * files of 4 KiB are deleted one by one, as a day's work loses them (below the brakes), and each is timed from the
 * verdict (the grace is over) to the healed incident (verified, on the disk, in its place). Then N files are deleted at
 * once, which is held for a person, and approved: all must come back, byte for byte.
 */
import { readFileSync } from "node:fs";
import { readFile, rm, unlink } from "node:fs/promises";
import {
  Daemon,
  type SeenEvent,
  Workplace,
  followEvents,
  holdfastCommand,
  latencyText,
  machineText,
  makeFiles,
  numberOption,
  pause,
  percentile,
  print,
  timed,
} from "./harness.js";

const FILE_BYTES = 4096;
const SINGLES = numberOption("singles", 100);
const MASS = numberOption("mass", 500);
/** Below the brakes (50 files of a source, 100 restores in 60 s), which must stay on. */
const EVERY_MS = numberOption("every", 650);
const SOURCES = ["left", "right"] as const;
const WAIT_LIMIT_MS = 120_000;
const GOAL_MS = { p50: 5, p95: 30 };
const CLOCK_TICKS_A_SECOND = 100;

/** Collects the daemon's events and lets one wait for them. */
class Events {
  readonly #seen: SeenEvent[] = [];

  note(event: SeenEvent): void {
    this.#seen.push(event);
  }

  /** The first event of a name at or after an index that fits; undefined: none in time. */
  async next(name: string, from: number, fits: (event: SeenEvent) => boolean): Promise<SeenEvent | undefined> {
    const startMs = performance.now();
    for (;;) {
      const found = this.#seen.slice(from).find((event) => event.name === name && fits(event));
      if (found !== undefined || performance.now() - startMs > WAIT_LIMIT_MS) return found;
      await pause(1);
    }
  }

  get count(): number {
    return this.#seen.length;
  }
}

/** A loss healed: from the verdict to the end of its incident, and the part of it that was the healing proper, ms. */
interface Heal {
  readonly totalMs: number;
  readonly healingMs: number;
}

async function main(): Promise<void> {
  await using workplace = await Workplace.create();
  const singles: string[][] = [];
  const each = Math.ceil(Math.max(SINGLES, 1000) / SOURCES.length);
  for (const name of SOURCES) singles.push(await makeFiles(workplace.at("data", name), each, FILE_BYTES));
  const many = await makeFiles(workplace.at("data", "many", "tree"), MASS, FILE_BYTES);
  const names = [...SOURCES, "many"];
  const sources = names.map((name) => ({ name, paths: [workplace.at("data", name)] }));
  await workplace.configure(workplace.at("data"), { sources });
  await using daemon = await Daemon.start(workplace);
  print(await machineText());
  const events = new Events();
  const stop = new AbortController();
  await followEvents(workplace, stop.signal, (event) => events.note(event));
  await measureSingles(inTurns(singles).slice(0, SINGLES), events, daemon.pid);
  await measureMass(workplace, many, events);
  stop.abort();
}

async function measureSingles(paths: readonly string[], events: Events, pid: number): Promise<void> {
  const heals: Heal[] = [];
  const before = processorSecondsOf(pid);
  let wrong = 0;
  for (const path of paths) {
    const next = pause(EVERY_MS);
    const expected = await readFile(path);
    const from = events.count;
    await unlink(path);
    const heal = await healOf(path, events, from);
    const found = await readFile(path).catch(() => undefined);
    if (heal === undefined || found?.equals(expected) !== true) wrong += 1;
    else heals.push(heal);
    await next;
  }
  const processorMs = ((processorSecondsOf(pid) - before) / Math.max(1, paths.length)) * 1000;
  print(`${String(heals.length)} of ${String(paths.length)} single losses of 4 KiB came back byte for byte`);
  const totals = heals.map(({ totalMs }) => totalMs);
  const [p50, p95] = [percentile(totals, 0.5), percentile(totals, 0.95)];
  const isMet = p50 <= GOAL_MS.p50 && p95 <= GOAL_MS.p95;
  print(`verdict -> healed     ${latencyText(totals)}`);
  print(`  the healing proper  ${latencyText(heals.map(({ healingMs }) => healingMs))}`);
  print(`  goal: p50 ${String(GOAL_MS.p50)}, p95 ${String(GOAL_MS.p95)} ms: ${isMet ? "met" : "MISSED"}`);
  print(`  ${processorMs.toFixed(1)} ms of the daemon's processor for each, with all that it does meanwhile`);
  if (wrong > 0) process.exitCode = 1;
}

async function healOf(path: string, events: Events, from: number): Promise<Heal | undefined> {
  const lost = await events.next("file.lost", from, ({ data }) => data["path"] === path);
  const opened = lost === undefined ? undefined : await events.next("incident.opened", from, () => true);
  if (lost === undefined || opened === undefined) return undefined;
  const healed = await events.next("incident.healed", from, ({ data }) => data["id"] === opened.data["id"]);
  if (healed === undefined) return undefined;
  return { totalMs: healed.atMs - lost.atMs, healingMs: Number(healed.data["durationMs"]) };
}

async function measureMass(workplace: Workplace, paths: readonly string[], events: Events): Promise<void> {
  const contents = await Promise.all(paths.map(async (path) => await readFile(path)));
  const from = events.count;
  await rm(workplace.at("data", "many", "tree"), { recursive: true });
  const removedMs = performance.now();
  const held = await events.next("incident.held", from, () => true);
  if (held === undefined) throw new Error("no incident was held");
  print(`${String(paths.length)} files deleted at once are one incident ${seconds(held.atMs - removedMs)} s later`);
  const approvedMs = performance.now();
  await timed(holdfastCommand("incidents", "approve", String(held.data["id"])), workplace.environment);
  const tookMs = performance.now() - approvedMs;
  let back = 0;
  for (const [index, path] of paths.entries()) {
    const found = await readFile(path).catch(() => undefined);
    if (found !== undefined && contents[index]?.equals(found) === true) back += 1;
  }
  const perFileMs = (tookMs / Math.max(1, back)).toFixed(1);
  print(
    `approved: ${String(back)} of ${String(paths.length)} came back in ${seconds(tookMs)} s, ${perFileMs} ms a file`,
  );
  if (back < paths.length) process.exitCode = 1;
}

/** The first of each, then the second of each, and so on. */
function inTurns(lists: readonly (readonly string[])[]): string[] {
  const longest = Math.max(...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, index) => lists.map((list) => list[index] ?? "")).flat();
}

/** User and system time of a process, s. */
function processorSecondsOf(pid: number): number {
  const fields =
    readFileSync(`/proc/${String(pid)}/stat`, "latin1")
      .split(") ")[1]
      ?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_A_SECOND;
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(2);
}

await main();
