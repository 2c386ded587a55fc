/** A short command must start fast: what it loads at once is counted here, the rest comes when it is needed. */
import { expect } from "chai";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { projectPath } from "../support/project.js";
import { useTempFolder } from "../support/temp-folder.js";

const MAIN = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

/** Files and packages that are loaded without being asked for, following static imports. */
function loadedAtOnce(entry: string): { readonly files: Set<string>; readonly packages: Set<string> } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const visit = (file: string): void => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(file, "utf8");
    for (const match of text.matchAll(/^(?:import|export)\s(?:[^"']*?\sfrom\s)?["']([^"']+)["']/gm)) {
      const name = match[1] ?? "";
      if (name.startsWith(".")) visit(join(dirname(file), name));
      else if (!name.startsWith("node:")) packages.add(name);
    }
  };
  visit(entry);
  return { files, packages };
}

describe("starting the command line", () => {
  const folder = useTempFolder("startup");

  it("loads no server, no schema, no database, no logger", () => {
    expect(existsSync(MAIN)).to.be.true;
    const { files, packages } = loadedAtOnce(MAIN);
    expect([...packages].sort()).to.deep.equal(["commander", "koffi", "ulid"].filter((name) => packages.has(name)));
    const names = [...files].map((file) => file.slice(file.lastIndexOf("/src/") + 5));
    expect(
      names.filter((name) => /^(engine|monitor|recovery|policy|storage|telemetry|alerts)\//.test(name)),
    ).to.deep.equal([]);
    for (const heavy of ["api/router.js", "api/contract.js", "config/schema.js", "config/load.js", "daemon/main.js"]) {
      expect(names).not.to.include(heavy);
    }
    expect(files.size).to.be.below(60);
  });

  it("tells of a part of the program that is gone as of any error", () => {
    cpSync(dirname(dirname(MAIN)), folder().at("src"), { recursive: true, filter: (path) => !path.endsWith(".map") });
    for (const name of ["package.json", "node_modules"]) symlinkSync(projectPath(name), folder().at(name));
    const run = (...args: readonly string[]): ReturnType<typeof spawnSync> => {
      const places = ["--state-dir", folder().at("state"), "--store", folder().at("store")];
      return spawnSync(process.execPath, [folder().at("src/cli/main.js"), ...places, ...args], { encoding: "utf8" });
    };
    expect(run("init").status).to.equal(0);
    rmSync(folder().at("src/daemon/services/browse.js"));
    const { status, stderr } = run("list");
    expect(status).to.equal(1);
    expect(stderr).to.match(/^holdfast: .*browse\.js/);
  });
});
