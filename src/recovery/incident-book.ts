/**
 * Where incidents are kept: a record each, and all paths in pages of a thousand, so that 100,000 losses are one
 * incident that opens fast. Knows which single-path incidents are open, so that one path never has two.
 */
import type { Clock } from "../base/clock.js";
import { KeyedMutex } from "../base/concurrency.js";
import { HoldfastError } from "../base/errors.js";
import { ambiguousId, incidentId } from "../base/ids.js";
import type { BytePath } from "../base/paths.js";
import {
  INCIDENT_PATHS_SHOWN,
  INCIDENT_TRANSITIONS,
  type Incident,
  type IncidentDatabase,
  type IncidentState,
  OPEN_STATES,
} from "./incident.js";
import type { LossKind } from "./strategy.js";

/** Paths in one page: about 100 bytes each, so a page is near 100 KB. */
const PAGE_PATHS = 1000;
/** Closed incidents kept; the oldest go first. */
export const CLOSED_INCIDENTS_MAX = 10_000;
/** Candidates and notes that a record keeps. */
export const CANDIDATES_KEPT_MAX = 50;

/** One path of an incident. */
export interface IncidentPath {
  readonly path: BytePath;
  readonly kind: LossKind;
}

/** What a new incident starts with. */
export type NewIncident = Pick<
  Incident,
  "source" | "kind" | "noticedBy" | "detail" | "seenAtMs" | "reason" | "isAttack" | "expected" | "asked"
>;

/** What may be changed after opening. */
export type IncidentChange = Partial<
  Pick<
    Incident,
    | "reason"
    | "durationMs"
    | "candidates"
    | "searched"
    | "notes"
    | "taken"
    | "quarantined"
    | "manualCommands"
    | "failure"
    | "counts"
    | "detail"
    | "putOff"
    | "asked"
  >
> & { readonly state?: IncidentState };

export class IncidentBook {
  readonly #database: IncidentDatabase;
  readonly #clock: Clock;
  readonly #mutex = new KeyedMutex();
  /** Open single-path incidents by path, and open mass incidents by source, newest first. */
  readonly #openByPath = new Map<BytePath, string>();
  readonly #openMassesBySource = new Map<string, readonly string[]>();
  readonly #openIds = new Set<string>();
  /** Sources of the incidents that are put off, by id. */
  readonly #putOff = new Map<string, string>();

  constructor(database: IncidentDatabase, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  /** Reads which incidents are open (they are returned, oldest first) and drops the oldest closed ones. Call once. */
  async load(): Promise<readonly Incident[]> {
    const open: Incident[] = [];
    const closed: string[] = [];
    for await (const [, value] of this.#database.iterator(RECORDS)) {
      const incident = decode(value);
      if (OPEN_STATES.has(incident.state)) {
        open.push(incident);
        this.#remember(incident);
      } else closed.push(incident.id);
    }
    for (const id of closed.slice(0, Math.max(0, closed.length - CLOSED_INCIDENTS_MAX))) await this.#drop(id);
    return open;
  }

  /** Opens an incident in state `open` and writes it down. */
  async open(fresh: NewIncident, paths: readonly IncidentPath[]): Promise<Incident> {
    const nowMs = this.#clock.nowMs();
    const incident: Incident = {
      ...fresh,
      id: incidentId(nowMs),
      state: "open",
      paths: paths.slice(0, INCIDENT_PATHS_SHOWN).map((entry) => entry.path),
      pathCount: paths.length,
      openedAtMs: nowMs,
      updatedAtMs: nowMs,
      candidates: [],
      notes: [],
      quarantined: [],
      manualCommands: [],
    };
    this.#remember(incident);
    const record = { type: "put" as const, key: recordKey(incident.id), value: encode(incident) };
    try {
      await this.#database.batch([...pagesOf(incident.id, 0, paths), record], ON_DISK);
    } catch (error) {
      this.#forget(incident); // it is not there, and its paths may have another
      throw error;
    }
    return incident;
  }

  /** Adds paths to an open incident; the caller has made sure that they are new. */
  async addPaths(id: string, paths: readonly IncidentPath[]): Promise<Incident> {
    return await this.#mutex.run(id, async () => {
      const incident = await this.get(id);
      const firstPage = await this.#pageCount(id);
      const updated: Incident = {
        ...incident,
        paths: [...incident.paths, ...paths.map((entry) => entry.path)].slice(0, INCIDENT_PATHS_SHOWN),
        pathCount: incident.pathCount + paths.length,
        updatedAtMs: this.#clock.nowMs(),
      };
      const record = { type: "put" as const, key: recordKey(id), value: encode(updated) };
      await this.#database.batch([...pagesOf(id, firstPage, paths), record], ON_DISK);
      return updated;
    });
  }

  /**
   * Writes a change down. Throws INCIDENT_STATE when the table does not allow the move; `from` names the states that
   * the caller expects, so that two decisions about one incident cannot both win.
   */
  async change(id: string, change: IncidentChange, from?: readonly IncidentState[]): Promise<Incident> {
    return await this.#mutex.run(id, async () => {
      const before = await this.get(id);
      const state = change.state ?? before.state;
      const isMove = state !== before.state;
      const isExpected = from === undefined || from.includes(before.state);
      if (!isExpected || (isMove && !INCIDENT_TRANSITIONS[before.state].includes(state)))
        throw new HoldfastError("INCIDENT_STATE", `incident ${id} is ${before.state} and cannot become ${state}`, {
          details: { id, state: before.state },
        });
      const nowMs = this.#clock.nowMs();
      const isClosing = isMove && !OPEN_STATES.has(state);
      const after: Incident = {
        ...keptAt(before, state),
        ...change,
        state,
        updatedAtMs: nowMs,
        ...(isClosing ? { closedAtMs: nowMs } : {}),
        candidates: (change.candidates ?? before.candidates).slice(0, CANDIDATES_KEPT_MAX),
        notes: (change.notes ?? before.notes).slice(0, CANDIDATES_KEPT_MAX),
      };
      const record = { type: "put" as const, key: recordKey(id), value: encode(after) };
      await this.#database.batch([record], { sync: isMove && isDecision(before.state, state) });
      if (isClosing) this.#forget(after);
      else this.#notePutOff(after);
      return after;
    });
  }

  /** Throws INCIDENT_NOT_FOUND. */
  async get(id: string): Promise<Incident> {
    const value = await this.#database.get(recordKey(id));
    if (value === undefined) throw new HoldfastError("INCIDENT_NOT_FOUND", `there is no incident ${id}`);
    return decode(value);
  }

  /** By id or unique prefix. Throws INCIDENT_NOT_FOUND, INCIDENT_AMBIGUOUS. */
  async find(idOrPrefix: string): Promise<Incident> {
    if (idOrPrefix === "") return await this.get("");
    const start = recordKey(idOrPrefix);
    const ids: string[] = [];
    // An id has no letter beyond "~", and one that is whole comes before those that go on after it.
    for await (const [key] of this.#database.iterator({ gte: start, lt: `${start}~` })) {
      if (key === start) return await this.get(idOrPrefix);
      ids.push(key.slice(recordKey("").length));
    }
    if (ids.length > 1) throw ambiguousId("INCIDENT_AMBIGUOUS", "incidents", idOrPrefix, ids);
    return await this.get(ids[0] ?? idOrPrefix);
  }

  /** Newest first. */
  async list(filter: { readonly onlyOpen: boolean; readonly limit: number }): Promise<readonly Incident[]> {
    const found: Incident[] = [];
    for await (const [, value] of this.#database.iterator({ ...RECORDS, reverse: true })) {
      if (found.length >= filter.limit) break;
      const incident = decode(value);
      if (!filter.onlyOpen || OPEN_STATES.has(incident.state)) found.push(incident);
    }
    return found;
  }

  /** Every path of an incident, in the order they came. */
  async *pathsOf(id: string): AsyncIterable<IncidentPath> {
    for await (const [, value] of this.#database.iterator(pageRange(id))) {
      for (const [path, kind] of JSON.parse(value) as [BytePath, LossKind][]) yield { path, kind };
    }
  }

  /** The open single-path incident of a path. */
  openIncidentOf(path: BytePath): string | undefined {
    return this.#openByPath.get(path);
  }

  /** The open mass incidents of a source, newest first. */
  openMassesOf(source: string): readonly string[] {
    return this.#openMassesBySource.get(source) ?? [];
  }

  /** Incidents that are put off, of one source or of all; the oldest note first. */
  putOffOf(source?: string): readonly string[] {
    const all = [...this.#putOff];
    return all.flatMap(([id, itsSource]) => (source === undefined || source === itsSource ? [id] : []));
  }

  isOpen(id: string): boolean {
    return this.#openIds.has(id);
  }

  #remember(incident: Incident): void {
    const [first] = incident.paths;
    this.#openIds.add(incident.id);
    this.#notePutOff(incident);
    const { source, id } = incident;
    if (incident.kind === "mass") this.#openMassesBySource.set(source, [id, ...this.openMassesOf(source)]);
    else if (first !== undefined) this.#openByPath.set(first, incident.id);
  }

  #notePutOff({ id, source, putOff }: Incident): void {
    if (putOff === undefined) this.#putOff.delete(id);
    else this.#putOff.set(id, source);
  }

  #forget(incident: Incident): void {
    const [first] = incident.paths;
    this.#putOff.delete(incident.id);
    this.#openIds.delete(incident.id);
    const masses = this.openMassesOf(incident.source).filter((id) => id !== incident.id);
    if (masses.length > 0) this.#openMassesBySource.set(incident.source, masses);
    else this.#openMassesBySource.delete(incident.source);
    if (first !== undefined && this.#openByPath.get(first) === incident.id) this.#openByPath.delete(first);
  }

  async #pageCount(id: string): Promise<number> {
    for await (const [key] of this.#database.iterator({ ...pageRange(id), reverse: true, limit: 1 }))
      return Number(key.slice(-PAGE_DIGITS)) + 1;
    return 0;
  }

  async #drop(id: string): Promise<void> {
    const keys = [recordKey(id)];
    for await (const [key] of this.#database.iterator(pageRange(id))) keys.push(key);
    await this.#database.batch(keys.map((key) => ({ type: "del", key })));
  }
}

const ON_DISK = { sync: true };
/** States that a person chose or waits in. */
const DECIDED: ReadonlySet<IncidentState> = new Set(["waiting", "noted", "denied", "respected"]);

/**
 * What a power cut must not take back: what people were told or said. How a heal went is found again by looking: the
 * incident is `open` or `healing` on disk, and the file is there or not.
 */
function isDecision(from: IncidentState, to: IncidentState): boolean {
  return DECIDED.has(to) || (to === "healing" && from !== "open");
}

/** What still holds of an incident in a state: a move is a new decision, and what had come to an end is asked for anew. */
function keptAt(before: Incident, state: IncidentState): Incident {
  const { putOff, asked, ...rest } = before;
  const isMove = state !== before.state;
  const isAnew = state === "healing" && (before.state === "failed" || before.state === "noted");
  return {
    ...rest,
    ...(isMove || putOff === undefined ? {} : { putOff }),
    ...(isAnew || asked === undefined ? {} : { asked }),
  };
}

const PAGE_DIGITS = 6;
const RECORDS = { gte: "i!", lt: "i~" } as const;

function recordKey(id: string): string {
  return `i!${id}`;
}

function pageRange(id: string): { readonly gte: string; readonly lt: string } {
  return { gte: `p!${id}!`, lt: `p!${id}~` };
}

function pagesOf(
  id: string,
  firstPage: number,
  paths: readonly IncidentPath[],
): { readonly type: "put"; readonly key: string; readonly value: string }[] {
  const pages = [];
  for (let start = 0; start < paths.length; start += PAGE_PATHS) {
    const number = String(firstPage + start / PAGE_PATHS).padStart(PAGE_DIGITS, "0");
    const rows = paths.slice(start, start + PAGE_PATHS).map((entry) => [entry.path, entry.kind]);
    pages.push({ type: "put" as const, key: `p!${id}!${number}`, value: JSON.stringify(rows) });
  }
  return pages;
}

function encode(incident: Incident): string {
  return JSON.stringify(incident);
}

/** The database is ours alone, and LevelDB checks its blocks: what is read is what was written. */
function decode(value: string): Incident {
  return JSON.parse(value) as Incident;
}
