/** `~` in the configuration: the daemon, root's as a rule, would take it for another home than the person who wrote it. */
import { expect } from "chai";
import { type ConfigProblem, problemLine } from "../../src/config/problems.js";
import { HoldfastError } from "../../src/base/errors.js";
import { loadConfiguration } from "../../src/config/load.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const folder = useTempFolder("homes");

describe("a path that begins with `~`", () => {
  for (const [what, text, place, path] of [
    ["a source", "sources: [~/notes]", "1:11", "~/notes"],
    ["the path of a source", 'sources: [{path: "~ann/notes"}]', "1:18", "~ann/notes"],
    ["one of several paths of a source", "sources: [{paths: [/a, ~/b]}]", "1:24", "~/b"],
    ["the schema of a check", "sources: [{path: /a, validate: [{match: x, schema: ~/s}]}]", "1:52", "~/s"],
    ["the store", "store: ~/backups", "1:8", "~/backups"],
    ["the state folder", "state_dir: ~/state", "1:12", "~/state"],
    ["the socket", "access: {socket: {path: ~/h.sock}}", "1:25", "~/h.sock"],
    ["included files", 'include: ["~/conf.d/*.yaml"]', "1:11", "~/conf.d/*.yaml"],
    ["a secret", "encryption: {key: {file: ~/key}}", "1:26", "~/key"],
    [
      "a folder of a strategy",
      "sources: [{path: /a, recover: [{match: x, chain: [{strategy: temp_files, homes: [~/]}]}]}]",
      "1:82",
      "~/",
    ],
  ] as const) {
    it(`is refused with its place and what to write: ${what}`, async () => {
      expect(await faults(text)).to.deep.equal([
        `holdfast.yaml:${place} "${path}" is no path; \`~\` is nobody's home here: write all of it, such as /home/ann/notes, or ./~ for a name that begins so`,
      ]);
    });
  }

  it("can be written where a file is really named so", async () => {
    const file = await folder().write("holdfast.yaml", 'sources: ["./~/notes", "/srv/~a"]\n');
    const { sources } = await loadConfiguration({ configFile: file });
    expect(sources.map((source) => source.paths)).to.deep.equal([[folder().at("~", "notes")], ["/srv/~a"]]);
  });

  it("is not what a text of the wrong type is told of", async () => {
    expect(await faults("store: 2")).to.deep.equal(['holdfast.yaml:1:8 "2" is a number, but text is needed here']);
  });
});

/** The lines of the error, without the folder. */
async function faults(text: string): Promise<string[]> {
  const file = await folder().write("holdfast.yaml", text);
  const thrown = await rejection(loadConfiguration({ configFile: file }));
  if (!(thrown instanceof HoldfastError)) throw thrown;
  const problems = thrown.details["problems"] as readonly ConfigProblem[];
  return problems.map((problem) => problemLine(problem).replace(`${folder().path}/`, ""));
}
