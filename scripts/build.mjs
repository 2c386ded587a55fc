// Builds holdfast: installs the packages when they are missing, then compiles src, test and bench to dist.
// `--if-needed` compiles only when a source is newer than the last build, so that `npm start` is quick.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const stamp = join(root, "dist", ".built");

/** Newest modification time below a folder or of a file, ms since the epoch; 0 when missing. */
function newestMs(path) {
  if (!existsSync(path)) return 0;
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(path).reduce((newest, name) => Math.max(newest, newestMs(join(path, name))), stat.mtimeMs);
}

function run(command, args) {
  const done = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (done.status !== 0) process.exit(done.status ?? 1);
}

if (!existsSync(join(root, "node_modules", ".package-lock.json"))) {
  console.error("holdfast: installing packages (once)");
  run("npm", ["ci", "--no-fund", "--no-audit", "--loglevel=error"]);
}
const sources = ["src", "test", "bench", "tsconfig.json", "package.json"].map((name) => newestMs(join(root, name)));
const upToDate = existsSync(stamp) && statSync(stamp).mtimeMs > Math.max(...sources);
if (process.argv.includes("--if-needed") && upToDate) process.exit(0);
console.error("holdfast: building");
rmSync(join(root, "dist"), { recursive: true, force: true });
run(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", root]);
writeFileSync(stamp, "");
