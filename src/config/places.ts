/**
 * Where holdfast's own things are: configuration file, state folder, socket, default store. One rule for the daemon
 * and the command line: an option wins over an environment variable, that over the configuration, that over the
 * default (system folders for root and under systemd, XDG folders for everybody else).
 */
import { access } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

export interface PlaceOptions {
  /** `--config`. */
  readonly configFile?: string;
  /** `--state-dir`. */
  readonly stateDir?: string;
  /** `--socket`. */
  readonly socket?: string;
  /** The process's unless told. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Whether the process is root; asked of the system unless told. */
  readonly isRoot?: boolean;
}

export interface Places {
  /** Undefined: there is none, the embedded defaults hold. */
  readonly configFile: string | undefined;
  /** By option or environment; undefined: the configuration or `stateDirDefault` decides. */
  readonly stateDirGiven: string | undefined;
  readonly stateDirDefault: string;
  readonly socketGiven: string | undefined;
  /** For a state folder: the default socket lies in the run-time folder, else in the state folder. */
  readonly socketDefault: (stateDir: string) => string;
  /** For a state folder; `isChosen`: a person named that folder, so that two of them never share one store by accident. */
  readonly storeDefault: (stateDir: string, isChosen: boolean) => string;
  /** Root or under systemd with a state folder: system folders. */
  readonly isSystem: boolean;
}

/** Finds the places. A configuration file that was named is taken whether it exists or not. */
export async function resolvePlaces(options: PlaceOptions = {}): Promise<Places> {
  const env = options.env ?? process.env;
  const isSystem = (options.isRoot ?? process.getuid?.() === 0) || set(env["STATE_DIRECTORY"]) !== undefined;
  const home = set(env["HOME"]) ?? homedir();
  const state = set(env["XDG_STATE_HOME"]) ?? join(home, ".local", "state");
  const data = set(env["XDG_DATA_HOME"]) ?? join(home, ".local", "share");
  const runtime = isSystem ? "/run" : set(env["XDG_RUNTIME_DIR"]);
  return {
    configFile: await findConfigFile(options, env, home),
    stateDirGiven: absolute(options.stateDir ?? set(env["HOLDFAST_STATE_DIR"])),
    stateDirDefault: isSystem ? "/var/lib/holdfast" : join(state, "holdfast"),
    socketGiven: absolute(options.socket ?? set(env["HOLDFAST_SOCKET"])),
    socketDefault: (stateDir) => join(runtime === undefined ? stateDir : join(runtime, "holdfast"), "api.sock"),
    storeDefault: (stateDir, isChosen) => {
      const besideState = isSystem || (isChosen && set(env["XDG_DATA_HOME"]) === undefined);
      return besideState ? join(stateDir, "store") : join(data, "holdfast", "store");
    },
    isSystem,
  };
}

async function findConfigFile(
  options: PlaceOptions,
  env: Readonly<Record<string, string | undefined>>,
  home: string,
): Promise<string | undefined> {
  const named = absolute(options.configFile ?? set(env["HOLDFAST_CONFIG"]));
  if (named !== undefined) return named;
  const own = join(set(env["XDG_CONFIG_HOME"]) ?? join(home, ".config"), "holdfast", "holdfast.yaml");
  for (const candidate of ["/etc/holdfast/holdfast.yaml", own]) {
    if (await isReadable(candidate)) return candidate;
  }
  return undefined;
}

async function isReadable(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}

/** An empty variable counts as not set. */
function set(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value;
}
