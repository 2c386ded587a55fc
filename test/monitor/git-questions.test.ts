/** What git is asked of missing files: work trees are asked beside each other, so that a slow one holds up no other. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { GitKnowledge } from "../../src/monitor/intent/git.js";
import { useTempFolder } from "../support/temp-folder.js";

const TREES = 4;
/** An index of git without entries. */
const EMPTY_INDEX = Buffer.concat([Buffer.from("DIRC"), Buffer.from([0, 0, 0, 2, 0, 0, 0, 0]), Buffer.alloc(20)]);

describe("missing files of several work trees", () => {
  const folder = useTempFolder("git-questions");
  const path = process.env["PATH"];

  afterEach(() => {
    process.env["PATH"] = path;
  });

  it("are asked of git at the same time", async () => {
    const marks = await folder().folder("marks");
    const bin = await folder().folder("bin");
    // Holds every blob that it is asked of, once as many ask as there are work trees.
    writeFileSync(
      `${bin}/git`,
      `#!/bin/sh
: > "${marks}/$$"
tries=0
while set -- "${marks}"/*; [ $# -lt ${String(TREES)} ]; do
  tries=$((tries + 1)); [ $tries -lt 150 ] || exit 1
  sleep 0.05
done
while read -r asked; do echo "$asked blob 1"; done
`,
    );
    chmodSync(`${bin}/git`, 0o755);
    const questions = Array.from({ length: TREES }, (_none, index) => {
      const tree = `tree-${String(index)}`;
      mkdirSync(folder().at(tree, ".git"), { recursive: true });
      writeFileSync(folder().at(tree, ".git/index"), EMPTY_INDEX);
      return { path: folder().bytes(`${tree}/file`), gitBlobId: "0".repeat(40), sinceMs: 0 };
    });
    process.env["PATH"] = `${bin}:${path ?? ""}`;
    const git = new GitKnowledge(() => 0);
    const answers = await git.answers(questions, new AbortController().signal);
    expect([...answers.values()]).to.deep.equal(questions.map(() => "meant"));
  });
});
