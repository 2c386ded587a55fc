/**
 * Copies that editors keep away from the file, below a user's home: autosaves and backups of emacs, vim and nano in
 * folders of their own, where the whole path is the name (`!srv!app!notes.txt~`), and LibreOffice's recovery copies,
 * which its profile lists. No link is followed below the home.
 */
import { type BytePath, joinPath, nameOf, parentPath, pathFromText } from "../../base/paths.js";
import { anchoredNames, anchoredSmallFile } from "../anchored-file.js";
import { percentDecoded } from "./trash.js";

/** A copy below a home. */
export interface EditorCopy {
  readonly file: BytePath;
  /** Such as `emacs autosave`. */
  readonly label: string;
  /** Written before a save, so it holds what was before, whenever it was written. */
  readonly isOlder: boolean;
}

/** Where such copies are put by what people commonly configure, below a home. */
const COPY_FOLDERS = [
  ...[".emacs.d/backups", ".emacs.d/backup", ".emacs.d/auto-save", ".emacs.d/autosaves", ".emacs.d/auto-save-list"],
  ...[".config/emacs/backups", ".config/emacs/auto-save", ".cache/emacs/backups", ".cache/emacs/auto-save"],
  ...[
    ".saves",
    ".emacs-backups",
    ".vim/backup",
    ".vim/backups",
    ".local/share/nvim/backup",
    ".local/state/nvim/backup",
  ],
  ...[".nano/backups", ".nano", ".cache/nano/backups", ".local/share/nano"],
];
/** Names in one folder that are looked through. */
const NAMES_MAX = 20_000;
const OFFICE_PROFILES = [".config/libreoffice/4/user", ".config/libreofficedev/4/user", ".openoffice.org/3/user"];
const OFFICE_LIST_BYTES_MAX = 16 * 2 ** 20;
const OFFICE_ITEM = '<node oor:name="recovery_item_';
const OFFICE_ITEMS_MAX = 200;
const OFFICE_ITEM_LENGTH_MAX = 16_384;

/** Copies of a path below one home, in no order. */
export async function findEditorCopies(
  lost: BytePath,
  home: BytePath,
  signal: AbortSignal,
): Promise<readonly EditorCopy[]> {
  const found: EditorCopy[] = [];
  for (const folder of COPY_FOLDERS) {
    signal.throwIfAborted();
    const path = joinPath(home, folder);
    for (const name of anchoredNames(home, path).slice(0, NAMES_MAX)) {
      const copy = copyKind(lost, name);
      if (copy !== undefined) found.push({ file: joinPath(path, name), ...copy });
    }
  }
  for (const profile of OFFICE_PROFILES) {
    const user = joinPath(home, profile);
    const list = await anchoredSmallFile(
      home,
      joinPath(user, "registrymodifications.xcu"),
      OFFICE_LIST_BYTES_MAX,
      signal,
    );
    if (list !== undefined) found.push(...officeCopies(list.toString("utf8"), lost, user));
  }
  return found;
}

/** What a name that carries the whole path is a copy of the lost file as. */
function copyKind(lost: BytePath, name: string): Omit<EditorCopy, "file"> | undefined {
  const plain = lost.replaceAll("/", "!"); // nano; emacs doubles what was there before
  const stems = [lost.replaceAll("!", "!!").replaceAll("/", "!"), plain, lost.replaceAll("/", "%")];
  for (const stem of stems) {
    if (name === `#${stem}#`) return { label: "emacs autosave", isOlder: false };
    if (name === `${stem}~`) return { label: "editor backup", isOlder: true };
    const numbered = name.startsWith(stem) ? name.slice(stem.length) : "";
    if (/^(?:\.~\d+~|~\.\d+)$/.test(numbered)) return { label: "numbered editor backup", isOlder: true };
  }
  return undefined;
}

/**
 * Copies that the list of a LibreOffice profile has for the file: each item names the document (`OriginalURL`) and its
 * copy (`TempURL`). Only copies in the profile's own `backup` folder count.
 */
function officeCopies(list: string, lost: BytePath, user: BytePath): readonly EditorCopy[] {
  const found: EditorCopy[] = [];
  let at = list.indexOf(OFFICE_ITEM);
  for (let count = 0; at !== -1 && count < OFFICE_ITEMS_MAX; count += 1) {
    const item = list.slice(at, at + OFFICE_ITEM_LENGTH_MAX).split("</node>", 1)[0] ?? "";
    at = list.indexOf(OFFICE_ITEM, at + OFFICE_ITEM.length);
    if (pathOfUrl(valueOf(item, "OriginalURL")) !== lost) continue;
    const copy = pathOfUrl(
      valueOf(item, "TempURL")?.replace("$(userurl)", `file://${Buffer.from(user, "latin1").toString("utf8")}`),
    );
    if (copy === undefined || parentPath(copy) !== joinPath(user, "backup") || nameOf(copy).startsWith("..")) continue;
    found.push({ file: copy, label: "LibreOffice recovery copy", isOlder: false });
  }
  return found;
}

function valueOf(item: string, property: string): string | undefined {
  const match = new RegExp(`<prop oor:name="${property}"[^<>]*><value>([^<]*)</value>`).exec(item);
  return match?.[1]?.replaceAll("&apos;", "'").replaceAll("&quot;", '"').replaceAll("&amp;", "&");
}

/** The path of a `file:` address on this machine; undefined for any other. */
function pathOfUrl(url: string | undefined): BytePath | undefined {
  const path = /^file:\/\/(?:localhost)?(\/.*)$/.exec(url ?? "")?.[1];
  if (path === undefined) return undefined;
  const decoded = percentDecoded(Buffer.from(path, "utf8").toString("latin1"));
  return pathFromText(Buffer.from(decoded, "latin1").toString("utf8")) === decoded ? (decoded as BytePath) : undefined;
}
