/**
 * What each event of the bus means for alerts: which condition it raises or clears. Pure; holds no state. An incident
 * keeps its conditions alive under its own id, so that one healed incident does not end the alert about another.
 */
import type { EventCatalogue, EventName } from "../base/events.js";
import { pathText } from "../base/paths.js";
import { formatDuration, formatSize } from "../base/units.js";
import type { Condition } from "./rules.js";

export interface Raise {
  readonly kind: "raise";
  readonly condition: Condition;
  /** "" when it is about the whole. */
  readonly source: string;
  /** What keeps the condition alive: an incident id, or "" when the condition has only one cause. */
  readonly cause: string;
  /** Files concerned. */
  readonly files: number;
  /** For a threshold in shares. */
  readonly share?: number;
  /** Raised whatever the threshold says. */
  readonly isUrgent?: boolean;
  readonly facts: readonly (readonly [label: string, value: string])[];
}
export interface Clear {
  readonly kind: "clear";
  readonly condition: Condition;
  readonly source: string;
  readonly cause: string;
}
/** Names of files to show with the next message about losses in the source. */
export interface Sample {
  readonly kind: "sample";
  readonly source: string;
  readonly text: string;
}
export type Signal = Raise | Clear | Sample;

type Reading<N extends EventName> = (event: EventCatalogue[N]) => readonly Signal[];

/** The events that alerts listen to. */
export const READINGS = {
  "file.lost": ({ source, path, kind, detail }) => [
    { kind: "sample", source, text: `${pathText(path)} (${kind}${detail === "" ? "" : `: ${detail}`})` },
  ],
  "mass.loss": ({ source, losses }) =>
    losses.slice(0, 5).map(({ path, kind }) => ({ kind: "sample", source, text: `${pathText(path)} (${kind})` })),
  "incident.opened": ({ id, source, paths, kind }) => [
    raise("file_lost", source, id, paths, [
      ["kind", kind],
      ["incident", id],
    ]),
  ],
  "incident.healed": ({ id, source, paths, durationMs }) => [
    ...endOfIncident(source, id),
    raise("file_recovered", source, "", paths, [
      ["incident", id],
      ["took", formatDuration(durationMs)],
    ]),
  ],
  "incident.failed": ({ id, source, paths, message }) => [
    clear("file_lost", source, id),
    clear("incident_waiting", source, id),
    raise("recovery_failed", source, id, paths, [
      ["reason", message],
      ["incident", id],
    ]),
  ],
  "incident.held": ({ id, source, paths, reason }) => [
    clear("file_lost", source, id),
    raise("incident_waiting", source, id, paths, [
      ["reason", reason],
      ["incident", id],
    ]),
  ],
  "incident.closed": ({ id, source }) => endOfIncident(source, id),
  "backup.failed": ({ source, code, message }) =>
    source.map((name) =>
      raise("backup_failed", name, "", 0, [
        ["error", code],
        ["reason", message],
      ]),
    ),
  "backup.finished": ({ source }) => source.map((name) => clear("backup_failed", name, "")),
  "backup.overdue": ({ source, ageMs, limitMs }) => [
    raise("backup_overdue", source, "", 0, [
      ["newest copy", `${formatDuration(ageMs)} old`],
      ["target", formatDuration(limitMs)],
    ]),
  ],
  "backup.timely": ({ source }) => [clear("backup_overdue", source, "")],
  "store.full": ({ usedShare, freeBytes, writeFailed, code }) => [
    {
      ...raise("storage_full", "", "", 0, [
        ...(code === undefined ? [] : [["error", code] as const]),
        ["used", `${(usedShare * 100).toFixed(1)} %`],
        ["free", formatSize(freeBytes)],
        ["writing", writeFailed ? "stopped" : "still possible"],
      ]),
      share: usedShare,
      isUrgent: writeFailed,
    },
  ],
  "store.roomy": () => [clear("storage_full", "", "")],
  "integrity.failed": ({ what, code, message }) => [
    raise("integrity_check_failed", what, "", 0, [
      ["error", code],
      ["reason", message],
    ]),
  ],
  "integrity.passed": ({ what }) => [clear("integrity_check_failed", what, "")],
  "watch.degraded": ({ source, reason }) => [raise("watch_degraded", source, "watch", 0, [["reason", reason]])],
  "watch.restored": ({ source }) => [clear("watch_degraded", source, "watch")],
  "root.gone": ({ source, root, reason }) => [
    {
      ...raise("watch_degraded", source, `root ${root}`, 0, [
        ["folder", pathText(root)],
        ["reason", reason],
      ]),
      isUrgent: true,
    },
  ],
  "root.returned": ({ source, root }) => [clear("watch_degraded", source, `root ${root}`)],
} as const satisfies { readonly [N in EventName]?: Reading<N> };

export type HeardEvent = keyof typeof READINGS;

/** What an event means. */
export function signalsOf<N extends HeardEvent>(name: N, event: EventCatalogue[N]): readonly Signal[] {
  return (READINGS[name] as Reading<N>)(event);
}

function endOfIncident(source: string, id: string): readonly Clear[] {
  return [clear("file_lost", source, id), clear("recovery_failed", source, id), clear("incident_waiting", source, id)];
}

function raise(condition: Condition, source: string, cause: string, files: number, facts: Raise["facts"]): Raise {
  return { kind: "raise", condition, source, cause, files, facts };
}

function clear(condition: Condition, source: string, cause: string): Clear {
  return { kind: "clear", condition, source, cause };
}
