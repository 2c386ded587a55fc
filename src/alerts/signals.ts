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
    {
      ...raise("file_lost", source, id, [
        ["kind", kind],
        ["incident", id],
      ]),
      files: paths,
    },
  ],
  "incident.healed": ({ id, source, paths, durationMs }) => [
    ...endOfIncident(source, id),
    {
      ...raise("file_recovered", source, "", [
        ["incident", id],
        ["took", formatDuration(durationMs)],
      ]),
      files: paths,
    },
  ],
  "incident.failed": ({ id, source, paths, message }) => [
    clear("file_lost", source, id),
    clear("incident_waiting", source, id),
    {
      ...raise("recovery_failed", source, id, [
        ["reason", message],
        ["incident", id],
      ]),
      files: paths,
    },
  ],
  "incident.held": ({ id, source, paths, reason }) => [
    clear("file_lost", source, id),
    {
      ...raise("incident_waiting", source, id, [
        ["reason", reason],
        ["incident", id],
      ]),
      files: paths,
    },
  ],
  "incident.closed": ({ id, source }) => endOfIncident(source, id),
  "backup.failed": ({ source, code, message }) =>
    source.map((name) =>
      raise("backup_failed", name, "", [
        ["error", code],
        ["reason", message],
      ]),
    ),
  "backup.finished": ({ source }) => source.map((name) => clear("backup_failed", name, "")),
  "backup.overdue": ({ source, ageMs, limitMs }) => [
    raise("backup_overdue", source, "", [
      ["newest copy", `${formatDuration(ageMs)} old`],
      ["target", formatDuration(limitMs)],
    ]),
  ],
  "backup.timely": ({ source }) => [clear("backup_overdue", source, "")],
  "store.full": ({ usedShare, freeBytes, writeFailed, code }) => [
    {
      ...raise("storage_full", "", "", [
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
    raise("integrity_check_failed", what, "", [
      ["error", code],
      ["reason", message],
    ]),
  ],
  "integrity.passed": ({ what }) => [clear("integrity_check_failed", what, "")],
  "files.missing": ({ source, match, detail }) => [
    raise("expected_missing", source, match, [
      ["expected", match],
      ["reason", detail],
    ]),
  ],
  "files.expected": ({ source, match }) => [clear("expected_missing", source, match)],
  "source.removed": ({ source, roots }) => [
    clear("backup_failed", source, ""),
    clear("backup_overdue", source, ""),
    clear("watch_degraded", source, "watch"),
    ...roots.map((root) => clear("watch_degraded", source, `root ${root}`)),
  ],
  "watch.degraded": ({ source, reason }) => [raise("watch_degraded", source, "watch", [["reason", reason]])],
  "watch.restored": ({ source }) => [clear("watch_degraded", source, "watch")],
  "root.gone": ({ source, root, reason }) => [
    {
      ...raise("watch_degraded", source, `root ${root}`, [
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

function raise(condition: Condition, source: string, cause: string, facts: Raise["facts"]): Raise {
  return { kind: "raise", condition, source, cause, files: 0, facts };
}

function clear(condition: Condition, source: string, cause: string): Clear {
  return { kind: "clear", condition, source, cause };
}
