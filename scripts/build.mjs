// Builds holdfast: installs the packages when they are missing or not those of the lock file, then compiles src, test
// and bench to dist, and puts the program together in dist/app (bundle.mjs). `--if-needed` does only what is out of
// date, and nothing at all, offline, when nothing is.
// The new dist is made beside the old one and takes its place at the end, so that a build that fails leaves the old one.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundle } from "./bundle.mjs";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
const STAMP = ".built";
const SOURCES = ["src", "test", "bench", "scripts/bundle.mjs", "tsconfig.json", "package.json"];

/** Newest modification time of a file, or of a folder and all in it, ms since the epoch; 0 when missing. */
function newestMs(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(path).reduce((newest, name) => Math.max(newest, newestMs(join(path, name))), stat.mtimeMs);
}

function run(command, args) {
  const done = spawnSync(command, args, { cwd: ROOT, stdio: ["ignore", 2, 2] });
  if (done.error !== undefined) console.error(`holdfast: ${command} could not be started: ${done.error.message}`);
  return done.status === 0;
}

function readJson(path) {
  return JSON.parse(readFileSync(path, "utf8"));
}

/** True when each package that the lock file demands is installed in the version it names. */
function packagesAreInstalled() {
  const installedPath = join(ROOT, "node_modules", ".package-lock.json");
  if (!existsSync(installedPath)) return false;
  const installed = readJson(installedPath).packages;
  const wanted = readJson(join(ROOT, "package-lock.json")).packages;
  return Object.entries(wanted).every(([path, { version, optional, peer, devOptional }]) => {
    if (path === "") return true;
    if (installed[path] === undefined) return optional === true || peer === true || devOptional === true;
    return installed[path].version === version;
  });
}

function install() {
  console.error("holdfast: installing the packages of package-lock.json");
  // The whole set, also where NODE_ENV=production would leave out the compiler.
  const done = run("npm", ["ci", "--include=dev", "--include=optional", "--no-fund", "--no-audit", "--loglevel=error"]);
  if (done) return;
  console.error("holdfast: npm ci failed. Fix: see its message above; the first build needs the npm registry.");
  process.exit(1);
}

async function isPutTogether(folder) {
  try {
    await bundle(folder);
    return true;
  } catch (error) {
    console.error(`holdfast: the program could not be put together: ${error.message}`);
    return false;
  }
}

async function compile() {
  console.error("holdfast: building");
  // As deep as dist: source maps name the sources from where they were written.
  const next = join(ROOT, `.build-next-${String(process.pid)}`);
  const old = join(ROOT, `.build-old-${String(process.pid)}`);
  const startedMs = Date.now();
  try {
    const compiler = join(ROOT, "node_modules", "typescript", "bin", "tsc");
    const isCompiled = run(process.execPath, [compiler, "-p", ROOT, "--outDir", next, "--noEmitOnError"]);
    if (!isCompiled || !(await isPutTogether(next))) {
      console.error("holdfast: the build failed; the last good one, if any, is untouched");
      process.exitCode = 1;
      return;
    }
    // The stamp bears the time of the start: a source saved while the compiler ran is newer than it.
    writeFileSync(join(next, STAMP), `${String(startedMs)}\n`);
    if (existsSync(DIST)) renameSync(DIST, old);
    renameSync(next, DIST);
  } finally {
    rmSync(next, { recursive: true, force: true });
    rmSync(old, { recursive: true, force: true });
  }
}

function isUpToDate() {
  const stamp = join(DIST, STAMP);
  if (!existsSync(stamp)) return false;
  const builtMs = Number(readFileSync(stamp, "utf8"));
  return SOURCES.every((name) => newestMs(join(ROOT, name)) < builtMs);
}

// A package that was installed from npm carries dist and no sources: there is nothing to build.
if (existsSync(join(ROOT, "src"))) {
  const ifNeeded = process.argv.includes("--if-needed");
  if (!packagesAreInstalled()) install();
  if (!ifNeeded || !isUpToDate()) await compile();
}
