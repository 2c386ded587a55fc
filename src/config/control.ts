/**
 * What the command line needs before it talks to a daemon: where its socket and state folder are. Apart from
 * `places.ts` because a configuration file may name them, and the parser is loaded only when it does.
 */
import { readFile } from "node:fs/promises";
import { type PlaceOptions, type Places, resolvePlaces } from "./places.js";

/** What the command line needs before it talks to a daemon: state folder and socket, reading as little as possible. */
export async function resolveControl(
  options: PlaceOptions = {},
): Promise<{ readonly places: Places; readonly stateDir: string; readonly socket: string }> {
  const places = await resolvePlaces(options);
  const written = places.configFile === undefined ? {} : await writtenPlaces(places);
  const stateDir = places.stateDirGiven ?? written.stateDir ?? places.stateDirDefault;
  return { places, stateDir, socket: places.socketGiven ?? written.socket ?? places.socketDefault(stateDir) };
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
