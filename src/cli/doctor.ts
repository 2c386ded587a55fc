/**
 * `holdfast doctor`: looks at everything that would keep holdfast from protecting or healing, from the outside, with
 * or without a daemon. Every finding says what to do.
 */
import { constants } from "node:fs";
import { access, lstat, readFile, readdir, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Page } from "../api/paging.js";
import type { StatusDocument } from "../api/services.js";
import { missingCapabilities } from "../base/capabilities.js";
import { hasCode, messageOf } from "../base/errors.js";
import { nativeCalls } from "../base/native.js";
import { pathBytes, pathText } from "../base/paths.js";
import { formatSize } from "../base/units.js";
import type { Configuration } from "../config/configuration.js";
import type { CommandContext } from "./command.js";

export interface Finding {
  /** Stable name of the check. */
  readonly id: string;
  readonly severity: "ok" | "warning" | "error";
  readonly detail: string;
  /** What to do, or "". */
  readonly fix: string;
}

/** Free space below which a store is in danger. */
const FREE_SHARE_MIN = 0.05;
/** Watches that one folder takes, and what the rest of the system should keep. */
const WATCHES_SPARE = 8192;

/** Every finding, worst first. */
export async function examine(context: CommandContext): Promise<readonly Finding[]> {
  const configuration = await configurationOf(context);
  if ("id" in configuration) return [configuration];
  const local = await Promise.all([
    checkFolder("state", configuration.stateDir),
    checkStore(configuration),
    checkSpace(configuration),
    checkKey(configuration),
    checkInotify(),
    checkProgram("git", "git_history cannot bring files back"),
    checkProgram("setpriv", "children of the daemon keep its capabilities"),
    checkSocket(configuration),
    ...configuration.sources.map((source) => checkSource(configuration, source.name)),
  ]);
  const config = fine("configuration", configuration.file ?? "no file: the embedded defaults");
  const doubts = configuration.warnings.map((text) => warning("configuration", text, "See docs/configuration.md"));
  const found = [config, ...doubts, checkNative(), ...local, ...(await daemonFindings(context, configuration))];
  const order = { error: 0, warning: 1, ok: 2 };
  return found.sort((a, b) => order[a.severity] - order[b.severity]);
}

async function configurationOf(context: CommandContext): Promise<Configuration | Finding> {
  const { loadConfiguration } = await import("../config/load.js");
  const { config, stateDir, socket, store } = context.globals;
  try {
    return await loadConfiguration({
      ...(config === undefined ? {} : { configFile: config }),
      ...(stateDir === undefined ? {} : { stateDir }),
      ...(socket === undefined ? {} : { socket }),
      ...(store === undefined ? {} : { storeUrl: store }),
      env: context.env,
      forThisMachine: true,
    });
  } catch (error) {
    return fault("configuration", messageOf(error), "Correct it, then run: holdfast config check");
  }
}

async function checkFolder(id: string, folder: string): Promise<Finding> {
  const there = await nearestFolder(folder);
  try {
    await access(there, constants.W_OK | constants.X_OK);
    return fine(id, `${folder} can be written`);
  } catch {
    return fault(id, `${there} cannot be written by this account`, `Run as another user, or: chown $(id -u) ${there}`);
  }
}

async function checkStore(configuration: Configuration): Promise<Finding> {
  const { storeUrl } = configuration;
  const names = await readdir(storeUrl).catch(() => undefined);
  if (names === undefined || names.length === 0) {
    const writable = await checkFolder("store", storeUrl);
    if (writable.severity !== "ok") return writable;
    return warning("store", `there is no repository at ${storeUrl} yet`, "holdfast init, or holdfast protect PATH");
  }
  const { mode } = await stat(storeUrl);
  if ((mode & 0o007) !== 0) return warning("store", `${storeUrl} can be read by everybody`, `chmod 700 ${storeUrl}`);
  return await checkFolder("store", storeUrl);
}

async function checkSpace(configuration: Configuration): Promise<Finding> {
  const place = await nearestFolder(configuration.storeUrl);
  const { bsize, blocks, bavail, files, ffree } = await statfs(place);
  const free = formatSize(bavail * bsize);
  if (blocks > 0 && bavail / blocks < FREE_SHARE_MIN) {
    return fault("space", `only ${free} are free for the store`, "Free space, or: holdfast cleanup --dry-run");
  }
  if (files > 0 && ffree / files < FREE_SHARE_MIN) {
    return fault("space", "the store's file system runs out of inodes", "Remove files there, or use another one");
  }
  return fine("space", `${free} are free for the store`);
}

async function checkKey(configuration: Configuration): Promise<Finding> {
  if (!configuration.encryption.enabled) {
    return warning("key", "the repository is not encrypted", "Make an encrypted one with holdfast init");
  }
  const folder = join(configuration.stateDir, "keys");
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const { mode } = await stat(join(folder, name));
    if ((mode & 0o077) !== 0) {
      return fault("key", `the key ${join(folder, name)} can be read by others`, `chmod 600 ${join(folder, name)}`);
    }
  }
  if (names.length > 0) return fine("key", `a key file is in ${folder}`);
  const { isUnmade } = await import("../daemon/store.js");
  if (await isUnmade(configuration.storeUrl)) return fine("key", `will be made with the repository, in ${folder}`);
  const detail = "no key file lies beside the state: a password must be given at each start";
  return configuration.encryption.key === undefined
    ? warning("key", detail, "Give --password-file, or set encryption.key")
    : fine("key", "the configuration names the key");
}

async function checkInotify(): Promise<Finding> {
  const watches = await limitOf("/proc/sys/fs/inotify/max_user_watches");
  const instances = await limitOf("/proc/sys/fs/inotify/max_user_instances");
  if (watches === undefined) return warning("inotify", "the limits of inotify cannot be read", "");
  const fix = "sysctl -w fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024";
  if (watches < WATCHES_SPARE) return fault("inotify", `only ${watches} folders can be watched`, fix);
  if (watches < 65_536) return warning("inotify", `only ${watches} folders can be watched`, fix);
  if (instances !== undefined && instances < 64)
    return warning("inotify", `only ${instances} watchers are allowed`, fix);
  return fine("inotify", `${watches} folders can be watched`);
}

function checkNative(): Finding {
  if (nativeCalls() !== undefined)
    return fine("system-calls", "extended attributes, exact times and peer credentials work");
  const detail =
    "koffi does not load: extended attributes and exact times do not come back, roles go by the socket's mode";
  return warning("system-calls", detail, "npm install --include=optional");
}

async function checkProgram(program: string, without: string): Promise<Finding> {
  for (const folder of (process.env["PATH"] ?? "/usr/bin:/bin").split(":")) {
    if (await isExecutable(join(folder, program))) return fine(program, `${join(folder, program)} is there`);
  }
  return warning(
    program,
    `${program} is not installed: ${without}`,
    `apt install ${program === "setpriv" ? "util-linux" : program}`,
  );
}

async function checkSocket(configuration: Configuration): Promise<Finding> {
  const { path, mode } = configuration.socket;
  if (Buffer.byteLength(path) > 107)
    return fault("socket", `${path} is too long for a socket`, "Set --socket to a shorter path");
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return await checkFolder("socket", dirname(path));
  if (!found.isSocket()) return fault("socket", `${path} is no socket`, `rm ${path}`);
  const extra = found.mode & 0o777 & ~mode;
  if (extra !== 0) return fault("socket", `${path} is open wider than configured`, `chmod ${mode.toString(8)} ${path}`);
  return fine("socket", path);
}

async function checkSource(configuration: Configuration, name: string): Promise<Finding> {
  const id = `source ${name}`;
  const source = configuration.sources.find((each) => each.name === name);
  for (const path of source?.paths ?? []) {
    const shown = pathText(path);
    if (/[*?[{]/.test(shown)) continue;
    const found = await stat(pathBytes(path)).catch((error: unknown) => messageOf(error));
    if (typeof found === "string")
      return fault(id, `${shown} cannot be looked at: ${found}`, "Make it, or correct sources");
    const wanted = found.isDirectory() ? constants.R_OK | constants.X_OK : constants.R_OK;
    const readable = await access(pathBytes(path), wanted).then(
      () => true,
      () => false,
    );
    if (!readable)
      return fault(id, `${shown} cannot be read by this account`, "Give it CAP_DAC_READ_SEARCH or a group");
    const writable = await access(pathBytes(path), constants.W_OK).then(
      () => true,
      () => false,
    );
    if (!writable)
      return warning(
        id,
        `${shown} cannot be written: losses there cannot be healed`,
        "Remount it, or run as its owner",
      );
  }
  return fine(id, "can be read and written");
}

async function daemonFindings(context: CommandContext, { storeUrl }: Configuration): Promise<Finding[]> {
  try {
    const api = await context.api("daemon");
    const status = await api.get<StatusDocument>("/status", context.signal);
    const keys = await api.get<Page>("/keys", context.signal).catch(() => undefined);
    const hasRecovery = keys?.items.some((key) => (key as { kind?: unknown }).kind === "recovery");
    return [
      fine("daemon", `holdfast ${status.version} runs as pid ${status.pid}`),
      ...otherStore(status.store.url, storeUrl),
      await checkCapabilities(status.pid),
      ...(hasRecovery === false && status.store.encrypted
        ? [warning("recovery-key", "no recovery key was made", "holdfast keys recovery")]
        : []),
      ...status.sources
        .filter((source) => source.state !== "protected" && source.state !== "scanning")
        .map((source) =>
          warning(`source ${source.name}`, `${source.state}: ${source.reason ?? ""}`, "holdfast status"),
        ),
    ];
  } catch (error) {
    const isSilent = hasCode(error, "DAEMON_UNREACHABLE");
    const fix = isSilent ? "systemctl start holdfast, or: holdfast daemon" : "";
    return [
      isSilent ? warning("daemon", "no daemon runs: nothing is watched", fix) : fault("daemon", messageOf(error), fix),
    ];
  }
}

/** A daemon that was started with options of its own: what is said of the store here is not about the one it uses. */
function otherStore(itsUrl: string, storeUrl: string): readonly Finding[] {
  if (itsUrl === storeUrl) return [];
  const detail = `the daemon uses the store ${itsUrl}; what is said here of store, state, space and key is about ${storeUrl}`;
  return [warning("daemon", detail, "Give this command the --store and --state-dir that the daemon was given")];
}

/** What healing needs. */
const NEEDED = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"] as const;

async function checkCapabilities(pid: number): Promise<Finding> {
  const text = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const missing = missingCapabilities(text, NEEDED);
  if (missing === undefined) return warning("capabilities", "the daemon's capabilities cannot be read", "");
  if (missing.length === 0) return fine("capabilities", "owners and permissions come back");
  return warning(
    "capabilities",
    `the daemon lacks ${missing.join(", ")}: it heals only files of its own user`,
    "Use the systemd unit, or root",
  );
}

async function nearestFolder(path: string): Promise<string> {
  for (let folder = path; folder !== "/"; folder = dirname(folder)) {
    const found = await stat(folder).catch(() => undefined);
    if (found?.isDirectory() === true) return folder;
  }
  return "/";
}

async function limitOf(file: string): Promise<number | undefined> {
  const text = await readFile(file, "utf8").catch(() => "");
  return /^\d+/.test(text) ? Number(text) : undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

function fine(id: string, detail: string): Finding {
  return { id, severity: "ok", detail, fix: "" };
}

function warning(id: string, detail: string, fix: string): Finding {
  return { id, severity: "warning", detail, fix };
}

function fault(id: string, detail: string, fix: string): Finding {
  return { id, severity: "error", detail, fix };
}
