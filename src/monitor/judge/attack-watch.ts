/**
 * The differential judge of one source: looks at each new version beside the one before it, and raises the alarm when
 * several look encrypted. In calm times it costs a change nothing: the change is accepted, and compared behind it. In a
 * burst it is compared first, so that an attack is stopped from being stored. After the alarm a suspicious version is no longer accepted: it is held, with all the others, in one incident that freezes
 * retention, until a person has decided.
 */
import type { LossEvent } from "../../base/events.js";
import { messageOf } from "../../base/errors.js";
import { type BytePath, joinPath, nameOf, parentPath, pathText } from "../../base/paths.js";
import type { Timer } from "../../base/clock.js";
import type { Entry } from "../../engine/types.js";
import type { SettledChange } from "../changes.js";
import type { SourceContext } from "../context.js";
import { isSameContentStat } from "../ledger.js";
import { lookAt, stampOf } from "../look.js";
import type { RegistryRecord } from "../registry.js";
import { decodeRecord, encodeRecord, withoutLoss } from "../registry-record.js";
import { matcherOf } from "../rules.js";
import { Attackers } from "./attackers.js";
import { Notes, Renames, type Suspicion, Suspicions } from "./suspicions.js";

/** Versions that wait to be compared; beyond, changes are accepted unseen. Each keeps a registry record, near 1 KiB. */
const WAITING_MAX = 10_000;
/** Changes accepted before they are compared; in a burst of more, each is compared first. */
const BEHIND_MAX = 16;
/** Held files are told together, ms. */
const TELL_AFTER_MS = 200;
/** What took the place of a missing file under a new name came at most this long before it was missed, ms. */
const PARTNER_WINDOW_MS = 60_000;
/** An encrypted copy is made of the version that is registered, which may have become durable this long after it was written. */
const REGISTERED_LATE_MS = 10_000;
/** Names looked at for the new place of one missing file. */
const PARTNERS_MAX = 4;
/** An encrypted copy is as large as its original, give or take a header. */
const PARTNER_SIZE_SLACK_BYTES = 65_536;

/** The version before, as it was when it was replaced. */
interface Baseline {
  readonly record: RegistryRecord;
  readonly entry: Entry;
}

/** A registered file that is not there any more. */
export interface Departed {
  readonly path: BytePath;
  readonly record: RegistryRecord;
  readonly seenAtMs: number;
}

export class AttackWatch {
  readonly #context: SourceContext;
  readonly #suspicions = new Suspicions();
  readonly #notes = new Notes();
  readonly #renames = new Renames();
  readonly #attackers: Attackers;
  readonly #isCanary: (path: BytePath) => boolean;
  /** What was there before a change that is not compared yet, by path. */
  readonly #waiting = new Map<BytePath, Baseline>();
  /** Path and stamp of what was compared just before it is accepted. */
  readonly #compared = new Map<BytePath, string>();
  readonly #resources: (() => void)[] = [];
  /** By path, until they are told together. */
  #held = new Map<BytePath, LossEvent>();
  #tellTimer: Timer | undefined;
  #running: Promise<void> | undefined;
  #isAlarmed = false;
  /** The incident that holds the attack, once it is known. */
  #incident: string | undefined;

  constructor(context: SourceContext, canaries: readonly string[]) {
    this.#context = context;
    this.#attackers = new Attackers(context.shared, context.name);
    const folders = context.source.roots.map((root) => root.folder);
    const matchers = canaries.map((pattern) => matcherOf(pattern));
    this.#isCanary = (path) => matchers.some((matches) => matches(path, folders));
  }

  /** Takes up what was known before a restart. Call once. */
  async start(): Promise<void> {
    const { bus, registry } = this.#context.shared;
    const state = readState(await registry.readNote(this.#noteName));
    for (const suspicion of state.suspicions) this.#suspicions.add(suspicion);
    this.#isAlarmed = state.isAlarmed;
    this.#incident = state.incident;
    // The end of any other incident says nothing of the attack, nor does one that is over before ours is known.
    const ended = ({ source, id }: { readonly source: string; readonly id: string }): void => {
      if (source === this.#context.name && this.#isAlarmed && id === this.#incident) this.#allClear();
    };
    this.#resources.push(
      bus.on("attack.held", ({ source, id }) => {
        if (source !== this.#context.name || !this.#isAlarmed || id === this.#incident) return;
        this.#incident = id;
        this.#save();
      }),
      bus.on("incident.healed", ended),
      bus.on("incident.closed", ended),
    );
  }

  /** True while an attack is held in an incident. */
  get isAlarmed(): boolean {
    return this.#isAlarmed;
  }

  /** Stops and waits; the signal is aborted before. */
  async stop(): Promise<void> {
    this.#tellTimer?.cancel();
    for (const end of this.#resources) end();
    await this.#running;
  }

  /** A change is about to be accepted: what was there before is remembered, to be compared behind it. */
  accepting({ path, node, record }: SettledChange): void {
    if (node.kind !== "file") return;
    if (record === undefined || record.state === "removed") {
      this.#notes.appeared(nameOf(path), parentPath(path), node.stat.sizeBytes, this.#steadyMs);
      return;
    }
    if (record.kind !== "file" || record.state !== "live" || this.#isOutOfScope(path)) return;
    const compared = this.#compared.get(path);
    this.#compared.delete(path);
    if (compared === stampOf(node.stat)) return;
    const waiting = this.#waiting.get(path);
    if (waiting !== undefined) {
      this.#waiting.delete(path); // the oldest version stays what later ones are compared with, at the end of the queue
      this.#waiting.set(path, waiting);
      this.#wake();
      return;
    }
    const entry = this.#context.shared.known.current(path, this.#context.name);
    if (entry === undefined || entry instanceof Promise || this.#waiting.size >= WAITING_MAX) return;
    this.#waiting.set(path, { record, entry });
    this.#wake();
  }

  /** In an attack or a burst: compares a change before it is accepted. True: it is held, and must not be accepted. */
  async holds({ path, node, record }: SettledChange): Promise<boolean> {
    const isCalm = !this.#isAlarmed && this.#waiting.size < BEHIND_MAX;
    if (isCalm || record?.kind !== "file" || this.#isOutOfScope(path)) return false;
    const baseline = await this.#baselineOf(path, record);
    const suspicion = baseline === undefined ? undefined : await this.#compareQuietly(path, baseline);
    this.#waiting.delete(path);
    if (suspicion !== undefined) this.#suspect(suspicion);
    if (suspicion !== undefined && this.#isAlarmed) return true;
    // What changed again before it was accepted stays; compared twice, it costs time and nothing else.
    if (this.#compared.size >= WAITING_MAX) this.#compared.clear();
    this.#compared.set(path, stampOf(node.stat));
    return false;
  }

  /**
   * A damage is about to be told. It counts as a suspicion when it looks like one. True: it belongs to an attack and is
   * told with it.
   */
  async takesDamage({ path, record }: SettledChange): Promise<boolean> {
    if (record?.kind !== "file" || this.#isOutOfScope(path)) return false;
    const baseline = await this.#baselineOf(path, record);
    const suspicion = baseline === undefined ? undefined : await this.#compareQuietly(path, baseline);
    if (suspicion !== undefined) this.#suspect(suspicion);
    return suspicion !== undefined && this.#isAlarmed;
  }

  /**
   * A file is gone. When its content stands encrypted under another name, that is a suspicion like any other. True: it
   * belongs to an attack and is told with it; the caller neither accepts the removal nor tells a loss. Answered at once
   * where nothing came lately that it could stand as.
   */
  takesDeparture(departed: Departed): boolean | Promise<boolean> {
    const { path, record } = departed;
    if (record.kind !== "file" || record.state !== "live") return false;
    const isCanary = this.#isCanary(path);
    if (!isCanary && !this.#context.shared.arrivals.mayConcern(path, record.stat)) return false;
    return this.#isOutOfScope(path) ? false : this.#takesDeparture(departed, isCanary);
  }

  async #takesDeparture(departed: Departed, isCanary: boolean): Promise<boolean> {
    const { path, record } = departed;
    const reason = isCanary ? "a canary file is gone" : await this.#encryptedElsewhere(departed);
    if (reason === undefined) return false;
    const suspicion = { path, reason, atMs: this.#context.nowMs(), clean: record, stamp: "", kind: "deleted" as const };
    this.#suspect(suspicion);
    return this.#isAlarmed;
  }

  get #steadyMs(): number {
    return this.#context.shared.clock.monotonicMs();
  }

  get #noteName(): string {
    return `attack:${this.#context.name}`;
  }

  #isOutOfScope(path: BytePath): boolean {
    const { shared } = this.#context;
    const isPaused = shared.pauses.covering(path, this.#context.nowMs()) !== undefined;
    return isPaused || this.#context.modeOf(path).mode === "ignore";
  }

  #wake(): void {
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    for (const [path, baseline] of this.#waiting) {
      if (this.#context.signal.aborted) return;
      const before = standingAt(path);
      const suspicion = await this.#compareQuietly(path, baseline);
      if (this.#waiting.get(path) !== baseline) continue; // held meanwhile
      // What changed under our eyes is compared with the same old version when its change is told.
      const isSame = before === standingAt(path);
      if (suspicion !== undefined) this.#suspect(suspicion);
      else if (isSame) this.#suspicions.drop(path);
      if (isSame || suspicion !== undefined) this.#waiting.delete(path);
    }
  }

  async #compareQuietly(path: BytePath, baseline: Baseline): Promise<Suspicion | undefined> {
    try {
      return await this.#compare(path, baseline);
    } catch (error) {
      if (this.#context.signal.aborted) return undefined;
      const { shared, name } = this.#context;
      shared.log.warn("watch.compare_failed", { source: name, path: pathText(path), message: messageOf(error) });
      return undefined;
    }
  }

  /** The clean version of a path: of the change that waits, of an earlier suspicion, or the current one. */
  async #baselineOf(path: BytePath, record: RegistryRecord): Promise<Baseline | undefined> {
    const waiting = this.#waiting.get(path);
    if (waiting !== undefined) return waiting;
    const entry = await this.#context.shared.known.current(path, this.#context.name);
    return entry === undefined ? undefined : { record, entry };
  }

  async #compare(path: BytePath, { record, entry }: Baseline): Promise<Suspicion | undefined> {
    const stamp = standingAt(path);
    if (stamp === undefined) return undefined;
    const reason = this.#isCanary(path) ? "a canary file was changed" : await this.#reasonAt(path, path, entry);
    return reason === undefined
      ? undefined
      : { path, reason, atMs: this.#context.nowMs(), clean: record, stamp, kind: "encrypted" };
  }

  /** Why the file at `standing` looks like an attacked version of the entry. */
  async #reasonAt(standing: BytePath, path: BytePath, { node }: Entry): Promise<string | undefined> {
    if (node.kind !== "file") return undefined;
    const { validation, known } = this.#context.shared;
    const { signal } = this.#context;
    return await validation.suspicion(standing, { path, read: () => known.readContent(node, signal) }, signal);
  }

  async #encryptedElsewhere(departed: Departed): Promise<string | undefined> {
    const partners = this.#partnersOf(departed);
    if (partners.length === 0) return undefined;
    const entry =
      this.#waiting.get(departed.path)?.entry ??
      (await this.#context.shared.known.current(departed.path, this.#context.name));
    if (entry === undefined) return undefined;
    for (const partner of partners) {
      const reason = await this.#reasonAt(partner, departed.path, entry);
      if (reason !== undefined) return `as ${pathText(partner)}, ${reason}`;
    }
    return undefined;
  }

  /** Where the content may stand now, changed: the same inode under another name, or a new name made of the old one. */
  #partnersOf({ path, record, seenAtMs }: Departed): readonly BytePath[] {
    const { arrivals } = this.#context.shared;
    const { stat } = record;
    const moved = arrivals.byInode(stat.dev, stat.ino);
    // A younger inode is another file that was given the number of the one that is gone.
    const isSameInode = moved !== undefined && moved.bornMs < record.registeredAtMs;
    if (isSameInode && moved.path !== path) {
      if (!isSameContentStat(moved, stat)) return [moved.path];
      this.#renames.renamed(path, moved.path, this.#steadyMs);
      return [];
    }
    const found: BytePath[] = [];
    const afterMs = Math.max(seenAtMs - PARTNER_WINDOW_MS, record.registeredAtMs - REGISTERED_LATE_MS);
    const start = joinPath(parentPath(path), stemOf(nameOf(path)));
    for (const arrival of arrivals.inFolder(parentPath(path), afterMs)) {
      const isNear = Math.abs(arrival.sizeBytes - stat.sizeBytes) <= PARTNER_SIZE_SLACK_BYTES;
      if (!isNear || !arrival.path.startsWith(start) || arrival.path === path) continue;
      found.push(arrival.path);
      if (found.length >= PARTNERS_MAX) break;
    }
    return found;
  }

  #suspect(suspicion: Suspicion): void {
    const { shared, name } = this.#context;
    const { path, reason } = suspicion;
    shared.log.warn("watch.suspicious", { source: name, path: pathText(path), reason });
    if (this.#isAlarmed) {
      this.#hold(suspicion);
      return;
    }
    this.#suspicions.add(suspicion);
    const nowMs = this.#context.nowMs();
    const hasSign = this.#notes.isSign(this.#steadyMs) || this.#renames.isSign(this.#steadyMs);
    if (this.#isCanary(path) || this.#suspicions.isAlarm(nowMs, hasSign)) this.#alarm(nowMs);
    this.#save();
  }

  /** What was accepted before the alarm is taken back: its last clean version is what counts. */
  #alarm(nowMs: number): void {
    const suspicions = this.#suspicions.recent(nowMs);
    this.#isAlarmed = true;
    this.#context.shared.log.error("watch.attack_suspected", { source: this.#context.name, paths: suspicions.length });
    for (const suspicion of suspicions) this.#hold(suspicion);
    this.#tellTimer?.cancel();
    void this.#tell(); // the alarm waits for nobody; what follows is told together
  }

  #hold(suspicion: Suspicion): void {
    const { path, reason, clean, stamp, kind } = suspicion;
    const { shared, name } = this.#context;
    if (standingAt(path) !== (stamp === "" ? undefined : stamp)) return; // healed or changed since
    const damage = stamp === "" ? {} : { damagedStamp: stamp };
    shared.registry.put(name, path, { ...withoutLoss(clean), state: "lost", lossKind: kind, ...damage });
    shared.metrics.lost.add(1, { source: name, kind });
    const detail = kind === "encrypted" ? `looks encrypted: ${reason}` : `replaced by an encrypted copy: ${reason}`;
    const loss: LossEvent = { source: name, path, kind, noticedBy: "event", seenAtMs: suspicion.atMs, detail };
    this.#held.set(path, loss);
    this.#tellTimer ??= shared.clock.after(TELL_AFTER_MS, () => void this.#tell());
  }

  async #tell(): Promise<void> {
    this.#tellTimer = undefined;
    const held = [...this.#held.values()];
    this.#held = new Map();
    const { shared, name, signal } = this.#context;
    const losses = await this.#attackers.name(held);
    if (losses.length > 0 && !signal.aborted) shared.bus.emit("mass.loss", { source: name, losses, isAttack: true });
  }

  #allClear(): void {
    this.#isAlarmed = false;
    this.#incident = undefined;
    this.#suspicions.clear();
    this.#attackers.clear();
    this.#context.shared.log.info("watch.attack_over", { source: this.#context.name });
    this.#save();
  }

  #save(): void {
    const { registry, log } = this.#context.shared;
    const suspicions = this.#suspicions.recent(this.#context.nowMs());
    const state = writeState({ isAlarmed: this.#isAlarmed, incident: this.#incident, suspicions });
    registry.writeNote(this.#noteName, state).catch((error: unknown) => {
      log.warn("watch.note_failed", { source: this.#context.name, message: messageOf(error) });
    });
  }
}

/** Stamp of the file that stands at a path; undefined when none does. */
function standingAt(path: BytePath): string | undefined {
  const look = lookAt(path);
  return look.is === "there" && look.node.kind === "file" ? stampOf(look.node.stat) : undefined;
}

/** The name without its last ending. */
function stemOf(name: string): string {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(0, dot) : name;
}

interface SavedState {
  readonly isAlarmed: boolean;
  readonly incident: string | undefined;
  readonly suspicions: readonly Suspicion[];
}

type SavedSuspicion = Omit<Suspicion, "clean"> & { readonly clean: string };

function writeState({ isAlarmed, incident, suspicions }: SavedState): string {
  const saved = suspicions.map((one) => ({ ...one, clean: encodeRecord(one.clean).toString("base64") }));
  return JSON.stringify({ isAlarmed, incident, suspicions: saved });
}

/** The database is ours alone; a record of another version is passed over. */
function readState(text: string | undefined): SavedState {
  if (text === undefined || text === "") return { isAlarmed: false, incident: undefined, suspicions: [] };
  const saved = JSON.parse(text) as Omit<SavedState, "suspicions"> & { readonly suspicions: readonly SavedSuspicion[] };
  const suspicions = saved.suspicions.flatMap((one) => {
    const clean = decodeRecord(Buffer.from(one.clean, "base64"));
    return clean === undefined ? [] : [{ ...one, clean }];
  });
  return { isAlarmed: saved.isAlarmed, incident: saved.incident, suspicions };
}
