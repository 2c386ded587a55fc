/**
 * Incidents: one loss or damage (or many at once) and what was done about it. An incident is written to the database
 * before anything is done for it, so that a crash in the middle is found and finished at the next start. States move
 * only along the table below. All paths of a mass incident are kept, in pages; the record itself shows the first few.
 */
import type { NoticedBy } from "../base/events.js";
import type { ErrorCode } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import type { LossKind } from "./strategy.js";

export const INCIDENT_STATES = [
  "open",
  "waiting",
  "noted",
  "healing",
  "healed",
  "failed",
  "denied",
  "returned",
  "respected",
] as const;
/**
 * open: seen, nothing decided · waiting: for a person · noted: told, nothing is to be done · healing: under way ·
 * healed · failed: nothing acceptable was found, or it could not be written · denied: a person accepted the loss ·
 * returned: the file came back without us · respected: deleted again after our restore, so its owner means it.
 */
export type IncidentState = (typeof INCIDENT_STATES)[number];

/** Allowed moves. A failed or noted incident can be tried again; a closed one stays closed. */
export const INCIDENT_TRANSITIONS: Readonly<Record<IncidentState, readonly IncidentState[]>> = {
  open: ["waiting", "noted", "healing", "returned", "respected", "failed"],
  waiting: ["healing", "denied", "returned", "respected"],
  noted: ["healing", "denied", "returned"],
  healing: ["healed", "failed", "waiting", "returned"],
  healed: [],
  failed: ["healing", "denied", "returned"],
  denied: [],
  returned: [],
  respected: [],
};

/** States in which something may still happen. */
export const OPEN_STATES: ReadonlySet<IncidentState> = new Set(["open", "waiting", "noted", "healing", "failed"]);

/** Points by what they are for; their sum is the score. */
export interface Score {
  /** 100: the last good content; nothing else counts then. */
  readonly identity: number;
  /** 60 a validator passed it · 30 none looks at such files · 0 refused, or not read. */
  readonly validity: number;
  /** 24 as new as the last good content · 18 at most an hour older · 12 a day · 6 30 days · 0 older, or unknown. */
  readonly freshness: number;
  /** 4 at least 90 % of the last good size · 2 at least half · 0 less, or a part by its own account. */
  readonly completeness: number;
  /** 1 only holdfast, root or the kernel could have written the bytes · 0 somebody else could. */
  readonly provenance: number;
}

/** One candidate as it was judged. */
export interface JudgedCandidate {
  readonly strategy: string;
  readonly origin: string;
  readonly fidelity: string;
  readonly modifiedAtMs?: number;
  readonly sizeBytes?: number;
  readonly sha256?: string;
  /** What was looked at and how it came out, one line each. */
  readonly checks: readonly string[];
  readonly verdict: "taken" | "offered" | "refused";
  readonly why: string;
  /** What speaks for it, in points; not in incidents of earlier versions. */
  readonly score?: Score;
  /** What a person would run to get these bytes. */
  readonly command?: string;
}

/** What became of asking one strategy; `skipped`: it was not asked, for something before it was taken. */
export const SEARCH_OUTCOMES = ["taken", "offered", "nothing", "failed", "skipped"] as const;

/** One strategy of a chain as it was asked. */
export interface SearchedStrategy {
  readonly strategy: string;
  readonly outcome: (typeof SEARCH_OUTCOMES)[number];
  /** Candidates that it had. */
  readonly found: number;
}

/** What was put back. */
export interface TakenCandidate {
  readonly strategy: string;
  readonly origin: string;
  /** True: the content is the last good one, byte for byte. */
  readonly identical: boolean;
  /** How long before the loss the content was last changed, ms; undefined when nobody knows. */
  readonly ageMs?: number;
  readonly sha256?: string;
  readonly sizeBytes: number;
  /** What could not be given back (an attribute, an owner), for people. */
  readonly gaps: readonly string[];
}

/** Bytes kept before they were replaced. */
export interface QuarantineReference {
  readonly path: BytePath;
  /** Name of the item in the incident's quarantine folder. */
  readonly item: string;
  readonly sizeBytes: number;
}

export interface IncidentFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface PutOff {
  readonly path: BytePath;
  /** A person had asked for the heal. */
  readonly isApproved: boolean;
}

/** What a person asked for: the best there is, or the version of a time (wall ms), or one strategy's. */
export interface AskedFor {
  readonly atMs?: number;
  readonly strategy?: string;
  /** What stood at the path then (`is-there.ts`); unset: nothing did, or nobody noted it. */
  readonly standing?: string;
}

/** Sums of an incident with many paths. */
export interface IncidentCounts {
  readonly healed: number;
  readonly failed: number;
  readonly returned: number;
}

export interface Incident {
  readonly id: string;
  readonly source: string;
  /** expected_missing: files that a source is expected to hold are not there; it has no paths. */
  readonly kind: LossKind | "mass" | "expected_missing";
  readonly state: IncidentState;
  /** The first paths, at most `INCIDENT_PATHS_SHOWN`. */
  readonly paths: readonly BytePath[];
  readonly pathCount: number;
  readonly noticedBy: NoticedBy | "person";
  /** The pattern of `expect` that does not hold. */
  readonly expected?: string;
  /** Told as an attack: only a person has it healed. */
  readonly isAttack?: true;
  readonly detail: string;
  /** When the loss was first seen, wall ms. */
  readonly seenAtMs: number;
  readonly openedAtMs: number;
  readonly updatedAtMs: number;
  readonly closedAtMs?: number;
  /** Why it is in its state, for people. */
  readonly reason: string;
  /** From the beginning of the work to its end, ms. */
  readonly durationMs?: number;
  readonly candidates: readonly JudgedCandidate[];
  /** Every strategy of the chain in its order; not in incidents of earlier versions, nor with many paths. */
  readonly searched?: readonly SearchedStrategy[];
  readonly notes: readonly string[];
  readonly taken?: TakenCandidate;
  readonly quarantined: readonly QuarantineReference[];
  readonly manualCommands: readonly string[];
  readonly failure?: IncidentFailure | undefined;
  readonly counts?: IncidentCounts;
  /** Its heal waits for the storage of this path, which was away, and goes on when that is back. */
  readonly putOff?: PutOff;
  /** A person's wish that its heal is to fulfil, also when it is carried on or tried again. */
  readonly asked?: AskedFor | undefined;
}

/** Paths that an incident's record shows. */
export const INCIDENT_PATHS_SHOWN = 100;

/** The part of a LevelDB sublevel (string keys and values) that incidents need. */
export interface IncidentDatabase {
  get(key: string): Promise<string | undefined>;
  /** `sync`: it is on disk when the promise resolves; without, a power cut may take it back. */
  batch(
    operations: (
      | { readonly type: "put"; readonly key: string; readonly value: string }
      | { readonly type: "del"; readonly key: string }
    )[],
    options?: { readonly sync: boolean },
  ): Promise<void>;
  iterator(range: {
    readonly gte: string;
    readonly lt: string;
    readonly reverse?: boolean;
    readonly limit?: number;
  }): AsyncIterable<[string, string]>;
}
