/** A whole daemon in this process: its real parts over a real store, without socket, signals and log output. */
import { writeFile } from "node:fs/promises";
import { type Clock, systemClock } from "../../src/base/clock.js";
import { HoldfastError } from "../../src/base/errors.js";
import { ResourceStack } from "../../src/base/lifecycle.js";
import { type LogFields, type Logger } from "../../src/base/observe.js";
import type { Configuration } from "../../src/config/configuration.js";
import { type Launched, launch, loadFor } from "../../src/daemon/launch.js";
import type { TempFolder } from "./temp-folder.js";

export interface DaemonInProcess extends AsyncDisposable, Launched {
  /** Events of the log, in order. */
  readonly logged: readonly { readonly event: string; readonly fields: LogFields }[];
  /** Writes the configuration file and loads it as the daemon would. */
  configure(content: Readonly<Record<string, unknown>>): Promise<Configuration>;
  /** What SIGTERM does. */
  stop(): void;
}

/** Launches over `folder`; nothing is watched before `operation.start()`. */
export async function launchIn(
  folder: TempFolder,
  content: Readonly<Record<string, unknown>>,
  clock: Clock = systemClock,
): Promise<DaemonInProcess> {
  const options = { configPath: folder.at("holdfast.yaml"), stateDir: folder.at("state"), socket: folder.at("sock") };
  const configure = async (next: Readonly<Record<string, unknown>>): Promise<Configuration> => {
    await writeFile(options.configPath, JSON.stringify({ store: folder.at("store"), ...next }));
    return await loadFor(options);
  };
  const logged: { event: string; fields: LogFields }[] = [];
  const note = (event: string, fields: LogFields = {}): void => void logged.push({ event, fields });
  const log: Logger = { debug: note, info: note, warn: note, error: note };
  const stopping = new AbortController();
  const owner = new ResourceStack();
  const configuration = await configure(content);
  const ground = { configuration, log, clock, isDaemon: true, signal: stopping.signal };
  const launched = await launch(options, ground, true, owner);
  const stop = (): void => stopping.abort(new HoldfastError("INTERRUPTED", "the test is over"));
  return {
    ...launched,
    logged,
    configure,
    stop,
    async [Symbol.asyncDispose]() {
      stop();
      await owner[Symbol.asyncDispose]();
    },
  };
}
