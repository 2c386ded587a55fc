/** What stands in `bin/`: one file that a shell runs and that node reads. */
import { spawnSync } from "node:child_process";
import { readFile, symlink } from "node:fs/promises";
import { expect } from "chai";
import { projectPath } from "../support/project.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the command in bin", () => {
  const folder = useTempFolder();
  const program = projectPath("bin", "holdfast");

  /** Runs it below a probe that notes what node was given. */
  async function run(command: string, ...args: string[]): Promise<{ status: number | null; given: string[][] }> {
    const note = folder().at("note");
    const lines = `require("fs").writeFileSync(${JSON.stringify(note)}, JSON.stringify([process.execArgv, process.argv]))`;
    await folder().write("probe.cjs", lines);
    const NODE_OPTIONS = `--require=${folder().at("probe.cjs")}`;
    const { status } = spawnSync(command, args, { cwd: folder().path, env: { ...process.env, NODE_OPTIONS } });
    return { status, given: JSON.parse(await readFile(note, "utf8")) as string[][] };
  }

  it("is started through a link by a name on the search path, with every argument as it was", async () => {
    await symlink(program, folder().at("holdfast"));
    const strange = ["help", "a b", "", "'\"$HOME`*\\\n"];
    const { given } = await run(folder().at("holdfast"), ...strange);
    expect(given[0]).to.deep.equal(["--max-semi-space-size=2"]);
    expect(given[1]?.slice(2)).to.deep.equal(strange);
  });

  it("is a program for node, too, and gives its exit code either way", async () => {
    expect((await run(process.execPath, program, "--version")).status).to.equal(0);
    expect((await run(program, "--version")).status).to.equal(0);
    expect((await run(program, "no-such-command")).status).to.equal(2);
  });
});
