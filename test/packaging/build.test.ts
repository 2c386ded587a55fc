/** `npm run build` and `npm start` on a small project of their own: what is built when, and that signals arrive. */
import { spawn, spawnSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { projectPath } from "../support/project.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const COPIED = [
  "package.json",
  "package-lock.json",
  ".npmrc",
  "tsconfig.json",
  "scripts/build.mjs",
  "scripts/bundle.mjs",
  "scripts/start.mjs",
];
/** Stands for the command line: says how it was called, and ends on the first signal, saying which. */
const PROGRAM = `// A program that waits for a signal.
const waiting = setInterval(() => undefined, 1000);
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    console.log("ended by " + signal);
    clearInterval(waiting);
  });
}
console.log(JSON.stringify({ args: process.argv.slice(2), cwd: process.cwd() }));
`;

describe("a build", () => {
  const folder = useTempFolder("build");

  beforeEach(async () => {
    for (const name of ["scripts", "src/cli"]) await mkdir(folder().at(name), { recursive: true });
    for (const name of COPIED) await copyFile(projectPath(name), folder().at(name));
    await symlink(projectPath("node_modules"), folder().at("node_modules"));
    await folder().write("src/cli/main.ts", PROGRAM);
    await folder().write("src/cli/other.ts", "export const other = 1;\n");
  });

  function build(...args: string[]): { status: number | null; words: string } {
    const script = folder().at("scripts", "build.mjs");
    const { status, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });
    return { status, words: stderr };
  }

  it("compiles once, with maps that lead to the sources, and again only when a source has changed or gone", async () => {
    expect(build("--if-needed")).to.deep.equal({ status: 0, words: "holdfast: building\n" });
    const map = folder().at("dist/src/cli/main.js.map");
    const { sources } = JSON.parse(await readFile(map, "utf8")) as { sources: string[] };
    expect(sources.map((source) => resolve(dirname(map), source))).to.deep.equal([folder().at("src/cli/main.ts")]);
    const { ino } = await stat(folder().at("dist"));
    expect(build("--if-needed")).to.deep.equal({ status: 0, words: "" });
    expect((await stat(folder().at("dist"))).ino).to.equal(ino);
    await rm(folder().at("src/cli/other.ts"));
    expect(build("--if-needed").words).to.contain("building");
    expect(await stat(folder().at("dist/src/cli/other.js")).catch(() => "gone")).to.equal("gone");
    const later = new Date((await stat(folder().at("dist/.built"))).mtimeMs + 5000);
    await utimes(folder().at("src/cli/main.ts"), later, later);
    expect(build("--if-needed").words).to.contain("building");
  });

  it("that fails says so and leaves the last good one as it was", async () => {
    build();
    const good = await readFile(folder().at("dist/src/cli/other.js"), "utf8");
    await folder().write("src/cli/other.ts", "export const other: string = 2;\n");
    const { status, words } = build("--if-needed");
    expect(status).to.equal(1);
    expect(words)
      .to.match(/other\.ts\(1,14\): error TS2322/)
      .and.to.contain("the last good one, if any, is untouched");
    expect(await readFile(folder().at("dist/src/cli/other.js"), "utf8")).to.equal(good);
  });

  it("installs what the lock file names when it is missing or another version, and not otherwise", async () => {
    // Stands for npm, which would need a registry: links the packages of this checkout.
    const npm = `#!/bin/sh\necho "$@" >> ${folder().at("npm.log")}\nln -sfn ${projectPath("node_modules")} node_modules\n`;
    await folder().write("fake/npm", npm, 0o755);
    const env = { ...process.env, PATH: `${folder().at("fake")}:${process.env["PATH"] ?? ""}` };
    const script = folder().at("scripts", "build.mjs");
    const calls = async (): Promise<string[]> => {
      expect(spawnSync(process.execPath, [script, "--if-needed"], { env }).status).to.equal(0);
      return (await readFile(folder().at("npm.log"), "utf8").catch(() => "")).trim().split("\n").filter(Boolean);
    };
    expect(await calls()).to.deep.equal([]);
    await rm(folder().at("node_modules"));
    expect(await calls()).to.have.lengthOf(1);
    const lockPath = folder().at("package-lock.json");
    const lock = JSON.parse(await readFile(lockPath, "utf8")) as { packages: Record<string, { version: string }> };
    lock.packages["node_modules/chai"] = { version: "0.0.1" };
    await writeFile(lockPath, JSON.stringify(lock));
    expect((await calls())[1]).to.match(/^ci --include=dev /);
  });

  it("has nothing to do in an installed package, which has no sources", async () => {
    await rm(folder().at("src"), { recursive: true });
    await rm(folder().at("node_modules"));
    expect(build("--if-needed")).to.deep.equal({ status: 0, words: "" });
  });

  /** Starts by npm in a process group of its own, as a terminal does; `interrupt` sends the signal. */
  async function startAndEnd(interrupt: (npm: number) => void): Promise<string[]> {
    expect(build().status).to.equal(0);
    const cwd = await folder().folder("deep", "er");
    const args = ["start", "--silent", "--", "notes", "--name", "n"];
    // npm start is user mode for everybody: root gets the XDG store of an ordinary user.
    const xdg = folder().at("xdg");
    const env: NodeJS.ProcessEnv = { ...process.env, XDG_DATA_HOME: xdg, XDG_STATE_HOME: xdg };
    delete env["HOLDFAST_STATE_DIR"];
    delete env["HOLDFAST_CONFIG"];
    const child = spawn("npm", args, { cwd, env, stdio: ["ignore", "pipe", "ignore"], detached: true });
    const group = child.pid ?? 0;
    const store = ["--store", join(xdg, "holdfast", "store")];
    const said: string[] = [];
    try {
      for await (const line of createInterface(child.stdout)) {
        said.push(line);
        if (said.length === 1) interrupt(group);
      }
      expect(JSON.parse(said[0] ?? "")).to.deep.equal({
        args: ["protect", "--foreground", ...(process.getuid?.() === 0 ? store : []), "notes", "--name", "n"],
        cwd,
      });
      return said.slice(1);
    } finally {
      killGroup(group);
    }
  }

  it("is started by npm start where npm was called, and ended by a SIGTERM to npm", async function () {
    requirePrograms(this, "npm");
    expect(await startAndEnd((npm) => process.kill(npm, "SIGTERM"))).to.include("ended by SIGTERM");
  });

  it("is ended by Ctrl-C, which a terminal sends to npm and the program alike", async function () {
    requirePrograms(this, "npm");
    expect(await startAndEnd((npm) => process.kill(-npm, "SIGINT"))).to.include("ended by SIGINT");
  });
});

function killGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // all have ended, as they should
  }
}
