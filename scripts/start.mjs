// `npm start -- PATH...`: protects the paths in the foreground with the built program, in this very process, so that
// Ctrl-C and SIGTERM reach the daemon directly. Paths count from the folder where npm was called. It is user mode for
// everybody: also for root, store and state lie in the XDG folders, not where a system service would keep them.
import { homedir } from "node:os";
import { join } from "node:path";

const { env } = process;
const program = join(import.meta.dirname, "..", "bin", "holdfast");
const args = process.argv.slice(2);
if (env.INIT_CWD !== undefined) process.chdir(env.INIT_CWD);
if (process.getuid() === 0 && !env.HOLDFAST_STATE_DIR && !env.HOLDFAST_CONFIG) {
  env.HOLDFAST_STATE_DIR = join(env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "holdfast");
  if (!args.includes("--store")) {
    const store = join(env.XDG_DATA_HOME || join(homedir(), ".local", "share"), "holdfast", "store");
    args.unshift("--store", store);
    // While it runs, commands ask it; afterwards root's would look where a system service keeps its things.
    const globals = `--state-dir ${env.HOLDFAST_STATE_DIR} --store ${store}`;
    console.error(`holdfast: you are root: when this has ended, commands find it with ${globals}`);
  }
}
process.argv = [process.execPath, program, "protect", "--foreground", ...args];
await import("../dist/app/holdfast.js");
