/** What the activities of a soak work with: the files, the daemon, and ordinary programs. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { SoakedDaemon } from "./daemon.js";
import type { World } from "./world.js";

export interface Scene {
  readonly world: World;
  readonly daemon: SoakedDaemon;
  /** Of every harm of the last minute, steady ms. */
  harmTimesMs: number[];
  /** Runs bash to its end, in the folder of all areas; throws with its words when it fails. */
  run(script: string, folder?: string): Promise<void>;
}

/** The home of the programs is the sandbox's own, so that nothing of this machine's configuration matters. */
export function sceneOf(world: World, daemon: SoakedDaemon, home: string): Scene {
  const environment = {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HOME: home,
    LANG: "C.UTF-8",
    GIT_CONFIG_GLOBAL: "/dev/null",
    npm_config_cache: `${home}/.npm`,
    npm_config_update_notifier: "false",
  };
  return {
    world,
    daemon,
    harmTimesMs: [],
    async run(script, folder = world.root) {
      const stdio = ["ignore", "pipe", "pipe"] as const;
      const child = spawn("bash", ["-ec", script], { cwd: folder, env: environment, stdio: [...stdio] });
      const words: Buffer[] = [];
      child.stdout.on("data", (part: Buffer) => words.push(part));
      child.stderr.on("data", (part: Buffer) => words.push(part));
      const [code] = (await once(child, "close")) as [number | null];
      if (code !== 0)
        throw new Error(`${script}\nended with ${String(code)}: ${Buffer.concat(words).toString("utf8")}`);
    },
  };
}
