/** What `daemon` and `protect` hand to the daemon when it runs in this process. */
import { pathFromText } from "../base/paths.js";
import type { OnDelete } from "../config/configuration.js";
import type { DaemonOptions } from "../daemon/main.js";
import { type CommandContext, type Options, textOption } from "./command.js";
import { printable } from "./output.js";

/** Options of a daemon in the foreground; with paths it also tells people what it does. */
export function daemonOptions(context: CommandContext, options: Options, paths: readonly string[]): DaemonOptions {
  const onDelete = textOption(options, "onDelete") as OnDelete | undefined;
  const { output } = context;
  return {
    ...launchOptions(context),
    extraPaths: paths.map((path) => pathFromText(path)),
    ...(onDelete === undefined ? {} : { onDelete }),
    ...(options["encrypt"] === false ? { noEncrypt: true } : {}),
    ...(output.json ? { json: true } : {}),
    ...(paths.length === 0 || output.json ? {} : { announce: (line: string) => output.print(printable(line)) }),
  };
}

/** The global options as the daemon's doors take them. */
export function launchOptions(context: CommandContext): {
  readonly configPath?: string;
  readonly stateDir?: string;
  readonly socket?: string;
  readonly storeUrl?: string;
  readonly passwordFile?: string;
} {
  const { config, stateDir, socket, store, passwordFile } = context.globals;
  return {
    ...(config === undefined ? {} : { configPath: config }),
    ...(stateDir === undefined ? {} : { stateDir }),
    ...(socket === undefined ? {} : { socket }),
    ...(store === undefined ? {} : { storeUrl: store }),
    ...(passwordFile === undefined ? {} : { passwordFile }),
  };
}
