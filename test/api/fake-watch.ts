/** One protected source, for tests of routes and commands. */
import type { WatchService } from "../../src/api/watch-service.js";
import { pathText } from "../../src/base/paths.js";

/** `note` hears what was asked for. */
export function fakeWatch({ note }: { readonly note: (name: string, argument?: unknown) => void }): WatchService {
  return {
    sources: () => Promise.resolve([sourceDocument("data")]),
    protect: (request) => {
      note("protect", request);
      return Promise.resolve([sourceDocument(request.name ?? "new")]);
    },
    change: (name, request) => {
      note("change", [name, request]);
      return Promise.resolve(sourceDocument(name));
    },
    unprotect: (name) => {
      note("unprotect", name);
      return Promise.resolve(sourceDocument("data"));
    },
    pause: (path, durationMs, reason) => {
      note("pause", [path, durationMs, reason]);
      return Promise.resolve({ path: path ?? null, until: "2026-01-15T12:10:00.000Z", reason });
    },
    resume: () => Promise.resolve([]),
    explain: (path) =>
      Promise.resolve({
        path: pathText(path),
        source: "data",
        protected: true,
        mode: "protect",
        rule: "on_delete: heal",
        why: "it is named in sources",
        validators: [],
        recovery_chain: ["pinned", "latest_backup"],
        recovery_notes: ["pinned: nothing, because the source is not critical"],
      }),
  };
}

export function sourceDocument(name: string): never {
  return {
    name,
    paths: ["/data"],
    state: "protected",
    reason: null,
    files: 2,
    bytes: 10,
    pending_changes: 0,
    files_unreadable: name === "sealed" ? 2 : 0,
    on_delete: "heal",
    priority: "medium",
    newest_commit_at: "2026-01-15T11:59:00.000Z",
    last_backup_at: null,
    rpo_seconds: 900,
    expected_missing: [],
    added_at_run_time: false,
  } as never;
}
