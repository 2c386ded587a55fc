/** A short command must start fast: what it loads at once is counted here, the rest comes when it is needed. */
import { expect } from "chai";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

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
});
