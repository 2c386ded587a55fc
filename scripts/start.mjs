// `npm start -- PATH...`: protects the paths in the foreground with the built program, in this very process, so that
// Ctrl-C and SIGTERM reach the daemon directly. Paths count from the folder where npm was called.
import { join } from "node:path";

const program = join(import.meta.dirname, "..", "bin", "holdfast");
if (process.env.INIT_CWD !== undefined) process.chdir(process.env.INIT_CWD);
process.argv = [process.execPath, program, "protect", "--foreground", ...process.argv.slice(2)];
await import("../dist/src/cli/main.js");
