/**
 * What the command line needs before it talks to a daemon: where its socket and state folder are. Apart from
 * `places.ts` because a configuration file may name them, and the parser is loaded only when it does.
 */
import { access, constants, readFile } from "node:fs/promises";
import { type PlaceOptions, type Places, resolvePlaces } from "./places.js";

/** What the command line needs before it talks to a daemon: state folder and socket, reading as little as possible. */
export async function resolveControl(
  options: PlaceOptions = {},
): Promise<{ readonly places: Places; readonly stateDir: string; readonly socket: string }> {
  const places = await resolvePlaces(options);
  const written = places.configFile === undefined ? {} : await writtenPlaces(places);
  const stateDir = places.stateDirGiven ?? written.stateDir ?? places.stateDirDefault;
  const named = places.socketGiven ?? written.socket;
  if (named !== undefined) return { places, stateDir, socket: named };
  const own = places.socketDefault(stateDir);
  const isFirst = !places.isSystem && places.stateDirGiven === undefined && written.stateDir === undefined;
  const isSystems = isFirst && (await isWritable(SYSTEM_SOCKET)) && !(await isThere(stateDir)) && !(await isThere(own));
  return { places, stateDir, socket: isSystems ? SYSTEM_SOCKET : own };
}

/** Who has no holdfast of their own and may use the system's, as members of its group do, speaks to that one. */
const SYSTEM_SOCKET = "/run/holdfast/api.sock";

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

async function isWritable(path: string): Promise<boolean> {
  return await access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** The places that a configuration file names. The YAML parser is loaded only when the text speaks of any. */
async function writtenPlaces(places: Places): Promise<{ readonly stateDir?: string; readonly socket?: string }> {
  if (places.configFile === undefined || (places.socketGiven !== undefined && places.stateDirGiven !== undefined)) {
    return {};
  }
  const text = await readFile(places.configFile, "utf8").catch(() => "");
  if (!/\b(?:state_dir|socket|include)\b/.test(text)) return {};
  try {
    const { loadConfiguration } = await import("./load.js");
    const loaded = await loadConfiguration({ configFile: places.configFile });
    return { stateDir: loaded.stateDir, socket: loaded.socket.path };
  } catch {
    return {}; // whoever really needs the configuration tells its faults
  }
}
