/** Commands that show backups as a file system: mount, serve webdav. Both stay in the foreground until Ctrl-C. */
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError, asHoldfastError } from "../../base/errors.js";
import { type BytePath, pathFromText, pathText } from "../../base/paths.js";
import { formatSize, parseSizeBytes } from "../../base/units.js";
import { browseLibrary } from "../browse-library.js";
import { type CommandContext, type CommandSpec, type Options, argument, isSet, textOption } from "../command.js";
import { printable } from "../output.js";

const CACHE_OPTION = { flags: "--cache <size>", description: "content kept in memory (default: 64MiB)" } as const;
const CACHE_BYTES_MIN = 16 * 2 ** 20;
const CACHE_BYTES_MAX = 4 * 2 ** 30;
const CACHE_BYTES = 64 * 2 ** 20;
/** The same trouble is told once in this time, ms. */
const TROUBLE_PAUSE_MS = 1_000;

export const browseCommands: readonly CommandSpec[] = [
  {
    name: "mount",
    summary: "Show all backups as a read-only file system in an empty folder, until Ctrl-C.",
    arguments: [{ name: "folder", description: "an empty folder" }],
    options: [
      { flags: "--allow-other", description: "let other users look too, as far as stored permissions let them" },
      CACHE_OPTION,
    ],
    examples: ["holdfast mount /mnt", "ls /mnt/latest/etc", "cp -a /mnt/latest/srv/app /srv/app.restored"],
    run: mountBackups,
  },
];

async function mountBackups(context: CommandContext, args: readonly string[], options: Options): Promise<number> {
  const path = pathFromText(argument(args, 0));
  const cacheBytes = cacheSize(options);
  const { output, signal, clock } = context;
  const { BackupMount } = await import("../../browse/mount.js");
  const library = browseLibrary(await context.api("alone"));
  const mounting = {
    path,
    allowOther: isSet(options, "allowOther"),
    library,
    clock,
    cacheBytes,
    tell: (line: string) => output.say(line),
    onTrouble: troubleTeller(context),
  };
  await using mounted = await BackupMount.open(mounting, signal);
  const backups = await library.backups(signal);
  if (output.json) output.jsonLine({ mount_point: pathText(path), backups: backups.length });
  else output.print(`${backups.length} backups are in ${printable(pathText(path))}; press Ctrl-C to unmount.`);
  await Promise.race([mounted.served, aborted(signal)]);
  if (!signal.aborted) output.say(`${printable(pathText(path))} was unmounted`);
  return EXIT.ok;
}

function cacheSize(options: Options): number {
  const text = textOption(options, "cache");
  const bytes = text === undefined ? CACHE_BYTES : parseSizeBytes(text);
  if (bytes >= CACHE_BYTES_MIN && bytes <= CACHE_BYTES_MAX) return bytes;
  const range = `${formatSize(CACHE_BYTES_MIN)} to ${formatSize(CACHE_BYTES_MAX)}`;
  throw new HoldfastError("USAGE", `--cache is ${range}`);
}

/** Tells what could not be read, not more often than once in a while. */
function troubleTeller(context: CommandContext): (place: { backupId: string; path: BytePath }, error: unknown) => void {
  let quietUntilMs = 0;
  return ({ backupId, path }, thrown) => {
    const nowMs = context.clock.monotonicMs();
    if (nowMs < quietUntilMs) return;
    quietUntilMs = nowMs + TROUBLE_PAUSE_MS;
    const error = asHoldfastError(thrown);
    context.output.say(`${backupId}:${printable(pathText(path))}: ${printable(error.message)} (${error.code})`);
  };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
