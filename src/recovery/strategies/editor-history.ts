/** Local history of VS Code and its kin: `User/History/<hash>/entries.json` beside copies of each save. */
import { type BytePath, joinPath } from "../../base/paths.js";
import { anchoredNames, anchoredSmallFile } from "../anchored-file.js";
import { isMapping } from "../parameters.js";
import { percentDecoded } from "./trash.js";

export interface SavedCopy {
  readonly file: BytePath;
  readonly savedAtMs: number;
}

/** Where the editors keep their history, below a home. */
const HISTORY_FOLDERS = [
  ".config/Code/User/History",
  ".config/Code - OSS/User/History",
  ".config/Code - Insiders/User/History",
  ".config/VSCodium/User/History",
  ".config/Cursor/User/History",
  ".vscode-server/data/User/History",
  ".vscode-server-insiders/data/User/History",
  ".local/share/code-server/User/History",
];
/** The editor keeps 50 copies of a file by default, and one folder for each file. */
const COPIES_MAX = 50;
const FILES_MAX = 5000;
const ENTRIES_BYTES_MAX = 2 ** 20;

/** Saved copies of a path below one home, newest first. */
export async function findInEditorHistory(
  lost: BytePath,
  home: BytePath,
  signal: AbortSignal,
): Promise<readonly SavedCopy[]> {
  for (const folder of HISTORY_FOLDERS) {
    const history = joinPath(home, folder);
    for (const name of anchoredNames(home, history).slice(0, FILES_MAX)) {
      signal.throwIfAborted();
      const list = joinPath(joinPath(history, name), "entries.json");
      const entries = await anchoredSmallFile(home, list, ENTRIES_BYTES_MAX, signal);
      const copies = entries === undefined ? undefined : copiesIn(entries, joinPath(history, name), lost);
      if (copies !== undefined) return copies;
    }
  }
  return [];
}

/** The copies of a history folder if it is the lost file's; the bytes are the editor's, so nothing is taken for granted. */
function copiesIn(bytes: Buffer, folder: BytePath, lost: BytePath): readonly SavedCopy[] | undefined {
  let document: unknown;
  try {
    document = JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
  if (!isMapping(document) || typeof document["resource"] !== "string" || !isResourceOf(document["resource"], lost))
    return undefined;
  const entries: unknown[] = Array.isArray(document["entries"]) ? document["entries"] : [];
  return entries
    .flatMap((entry): SavedCopy[] => {
      if (!isMapping(entry)) return [];
      const { id, timestamp } = entry;
      if (typeof id !== "string" || typeof timestamp !== "number" || !/^[\w.-]+$/.test(id) || id.startsWith("."))
        return [];
      return [{ file: joinPath(folder, id), savedAtMs: timestamp }];
    })
    .sort((a, b) => b.savedAtMs - a.savedAtMs)
    .slice(0, COPIES_MAX);
}

/** `file:///srv/app/a.json` or `vscode-remote://ssh-remote%2Bhost/srv/app/a.json`. */
function isResourceOf(resource: string, lost: BytePath): boolean {
  const match = /^(?:file|vscode-remote):\/\/[^/]*(\/.*)$/.exec(resource);
  if (match?.[1] === undefined) return false;
  return percentDecoded(Buffer.from(match[1], "utf8").toString("latin1")) === lost;
}
