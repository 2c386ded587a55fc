/** Commands that show backups as a file system: mount, serve webdav. Both stay in the foreground until Ctrl-C. */
import { randomBytes } from "node:crypto";
import type { StatusDocument } from "../../api/services.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError, asHoldfastError } from "../../base/errors.js";
import { Secret } from "../../base/observe.js";
import { type BytePath, pathFromText, pathText } from "../../base/paths.js";
import { counted, formatSize, parseSizeBytes } from "../../base/units.js";
import { browseLibrary } from "../browse-library.js";
import { type CommandContext, type CommandSpec, type Options, argument, isSet, textOption } from "../command.js";
import { type Output, printable } from "../output.js";

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
    examples: ["holdfast mount /mnt/backups", "holdfast mount /mnt/backups --allow-other --cache 256MiB"],
    run: mountBackups,
  },
  {
    name: "serve webdav",
    summary: "Serve all backups over WebDAV, read-only, with a password made for this run, until Ctrl-C.",
    options: [
      { flags: "--listen <address>", description: "HOST:PORT (default: 127.0.0.1:0, any free port)" },
      {
        flags: "--allow-remote",
        description: "also listen where others can reach it; nothing is encrypted on the way",
      },
    ],
    examples: ["holdfast serve webdav", "holdfast serve webdav --listen 127.0.0.1:8088"],
    run: serveWebdav,
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
  const isAlone = await worksAlone(context);
  // From here on an end that somebody asks for is a good one: nothing that is asked may be interrupted.
  if (output.json) output.jsonLine({ mount_point: pathText(path), backups: backups.length });
  else output.print(`${counted(backups.length, "backup")} in ${printable(pathText(path))}; press Ctrl-C to unmount.`);
  if (isAlone) tellAlone(output);
  await Promise.race([mounted.served, aborted(signal)]);
  if (!signal.aborted) output.say(`${printable(pathText(path))} was unmounted`);
  return EXIT.ok;
}

async function worksAlone(context: CommandContext): Promise<boolean> {
  const api = await context.api("alone");
  const { daemon } = await api.get<Pick<StatusDocument, "daemon">>("/status", context.signal);
  return !daemon;
}

/** Without a daemon this process holds the repository: whoever wants to write meanwhile should know why it waits. */
function tellAlone(output: Output): void {
  output.say("No daemon runs: the repository is in use by this command until it ends.");
}

/** Bytes of randomness in a password; it is written in hex, which no program takes for an option or a name of its own. */
const PASSWORD_BYTES = 16;
const LOOPBACK = /^(?:127(?:\.\d{1,3}){3}|::1|localhost)$/;

async function serveWebdav(context: CommandContext, _args: readonly string[], options: Options): Promise<number> {
  const { host, port } = listenAddress(textOption(options, "listen") ?? "127.0.0.1:0", isSet(options, "allowRemote"));
  const { output, signal, clock } = context;
  const { WEBDAV_USER, WebdavServer } = await import("../../browse/webdav.js");
  const password = new Secret(randomBytes(PASSWORD_BYTES).toString("hex"));
  const library = browseLibrary(await context.api("alone"));
  await using server = await WebdavServer.listen({ library, clock, host, port, password }, signal);
  const isAlone = await worksAlone(context);
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${server.port}/`;
  if (output.json) {
    output.jsonLine({ url, user: WEBDAV_USER, password: password.reveal() });
  } else {
    output.print(`Backups are at ${url}; press Ctrl-C to stop.`);
    output.insist(`User ${WEBDAV_USER}, password ${password.reveal()} (for this run, shown once)`);
  }
  if (isAlone) tellAlone(output);
  await aborted(signal);
  return EXIT.ok;
}

/** Throws USAGE; a place that others can reach must be wanted. */
function listenAddress(text: string, allowRemote: boolean): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535) {
    throw new HoldfastError("USAGE", `"${text}" is no address to listen on`, { hint: "Write 127.0.0.1:8088." });
  }
  if (allowRemote || LOOPBACK.test(host)) return { host, port };
  throw new HoldfastError("USAGE", `${host} can be reached by others, and nothing would be encrypted on the way`, {
    hint: "Leave it at 127.0.0.1 and use `ssh -L`, or add --allow-remote.",
  });
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
