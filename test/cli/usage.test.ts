/** Wrong usage, help, completion, times: everything that needs no daemon. */
import { expect } from "chai";
import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { HoldfastError, hasCode } from "../../src/base/errors.js";
import { SHELLS, completionScript } from "../../src/cli/completion.js";
import { LATER_COMMANDS, errorText } from "../../src/cli/errors.js";
import { Output, printable } from "../../src/cli/output.js";
import { allCommands } from "../../src/cli/program.js";
import { ageText, dueText, parseTime } from "../../src/cli/time.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";
import { runCli } from "./run-cli.js";

describe("wrong usage", () => {
  for (const [args, words] of [
    [["lst"], "Did you mean"],
    [["list", "--jsno"], "Did you mean --json?"],
    [["show"], "missing required argument"],
    [["show", "a", "b"], "too many arguments"],
    [["incidents", "frobnicate"], "unknown command 'frobnicate' of incidents"],
    [["keys", "frobnicate"], "unknown command 'frobnicate' of keys"],
    [["serve"], "serve needs a command"],
    [["help", "frobnicate"], "unknown command 'frobnicate'"],
    [["pause", "--for", "soon"], "soon"],
    [["restore", "--at", "soon"], "soon"],
    [["incidents", "shw"], "(USAGE)"],
    [["create", "--type", "half"], "full, incremental, differential, snapshot"],
    [["completion", "tcsh"], "bash, zsh or fish"],
  ] as const) {
    it(`\`holdfast ${args.join(" ")}\` ends with 2 and helps`, async () => {
      const result = await runCli(args);
      expect(result.exitCode).to.equal(2);
      expect(result.stderr).to.contain(words);
      expect(result.stdout).to.equal("");
    });
  }

  it("of a command that comes later says so", async () => {
    for (const name of LATER_COMMANDS) {
      const result = await runCli([name]);
      expect(result.exitCode).to.equal(2);
      expect(result.stderr).to.contain(`\`${name}\` is not part of this version`);
    }
  });

  it("without any word shows the help on stderr", async () => {
    const result = await runCli([]);
    expect(result.exitCode).to.equal(2);
    expect(result.stderr).to.contain("Usage: holdfast");
  });

  it("as JSON is an error document on stdout", async () => {
    const result = await runCli(["list", "--wrong", "--json"]);
    const document = JSON.parse(result.stdout) as { error: { code: string } };
    expect(document.error.code).to.equal("USAGE");
  });
});

describe("help", () => {
  for (const spec of allCommands) {
    it(`of \`${spec.name}\` has a summary and examples that parse`, async () => {
      const result = await runCli([...spec.name.split(" "), "--help"]);
      expect(result.exitCode).to.equal(0);
      expect(result.stdout).to.contain("Examples:");
      expect(spec.examples.length).to.be.within(1, 3);
      for (const example of spec.examples) {
        expect(result.stdout).to.contain(example);
        const [program, word] = example.split(" ");
        expect(program).to.equal("holdfast");
        expect([spec.name.split(" ")[0], ...(spec.aliases ?? [])]).to.include(word);
      }
      for (const option of spec.options ?? []) expect(result.stdout).to.contain(option.flags.split(" ")[0]);
    });
  }

  it("says of every command what it is for", async () => {
    const { stdout } = await runCli(["--help"]);
    const list = stdout.split("Commands:\n")[1]?.split("\n\n")[0] ?? "";
    const commands = list.split("\n").filter((line) => /^ {2}\S/.test(line));
    expect(commands.length).to.be.greaterThan(20);
    for (const line of commands) expect(line).to.match(/^ {2}\S.* {2,}\S/);
  });

  it("lists no command of a later version", async () => {
    const { stdout } = await runCli(["--help"]);
    for (const name of LATER_COMMANDS) expect(stdout).not.to.match(new RegExp(`^  ${name}\\b`, "m"));
  });

  it("knows the version", async () => {
    expect((await runCli(["--version"])).stdout).to.equal("0.1.0\n");
  });
});

describe("completion", () => {
  const folder = useTempFolder("completion");

  for (const shell of SHELLS) {
    it(`for ${shell} is a script that the shell reads`, async function () {
      const script = completionScript(shell, allCommands);
      for (const word of ["restore", "incidents", "backup", "--help".slice(2)]) expect(script).to.contain(word);
      requirePrograms(this, shell);
      const file = await folder().write("script", script);
      execFileSync(shell, ["-n", file]);
    });
  }

  it("for bash completes commands, their children and their options", async function () {
    requirePrograms(this, "bash");
    const file = await folder().write("script", completionScript("bash", allCommands));
    const complete = (words: string): string[] => {
      const list = words.split(" ").map((word) => `'${word}'`);
      const code = `source '${file}'; COMP_WORDS=(${list.join(" ")}); COMP_CWORD=${String(list.length - 1)}; _holdfast; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return execFileSync("bash", ["-c", code], { cwd: folder().path }).toString().trim().split("\n");
    };
    expect(complete("holdfast sta")).to.deep.equal(["status"]);
    expect(complete("holdfast incidents res")).to.deep.equal(["restore-quarantined"]);
    expect(complete("holdfast restore --back")).to.deep.equal(["--backup-id"]);
    expect(complete("holdfast backup --no-c")).to.deep.equal(["--no-compression"]);
  });
});

describe("times on the command line", () => {
  const nowMs = Date.UTC(2026, 0, 15, 12);

  it("are read in every form that is promised", () => {
    expect(parseTime("2026-01-14T10:00:00Z", nowMs)).to.equal("2026-01-14T10:00:00.000Z");
    expect(parseTime("10m ago", nowMs)).to.equal("2026-01-15T11:50:00.000Z");
    expect(parseTime("1h30m", nowMs)).to.equal("2026-01-15T10:30:00.000Z");
    expect(parseTime("2 h ago", nowMs)).to.equal("2026-01-15T10:00:00.000Z");
    expect(parseTime("now", nowMs)).to.equal("2026-01-15T12:00:00.000Z");
    const local = (day: number, hour: number, minute: number): string =>
      new Date(2026, 0, day, hour, minute).toISOString();
    const localNow = new Date(2026, 0, 15, 18).getTime();
    expect(parseTime("yesterday 14:00", localNow)).to.equal(local(14, 14, 0));
    expect(parseTime("today", localNow)).to.equal(local(15, 0, 0));
    expect(parseTime("9:05", localNow)).to.equal(local(15, 9, 5));
    expect(parseTime("2026-01-14 10:00", localNow)).to.equal(local(14, 10, 0));
  });

  it("are refused in any other", () => {
    for (const text of ["", "soon", "tomorrow", "14", "25:00", "2026-13-45", "10 minutes"]) {
      expect(() => parseTime(text, nowMs), text).to.throw(HoldfastError);
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          expect(Number.isNaN(Date.parse(parseTime(text, nowMs)))).to.equal(false);
        } catch (error) {
          expect(hasCode(error, "USAGE")).to.equal(true);
        }
      }),
    );
  });

  it("are shown as ages and waits", () => {
    expect(ageText(null, nowMs)).to.equal("never");
    expect(ageText("2026-01-15T11:00:00Z", nowMs)).to.equal("1 h 0 m ago");
    expect(dueText("2026-01-15T12:05:00Z", nowMs)).to.equal("in 5 m 0 s");
    expect(dueText("2026-01-15T11:05:00Z", nowMs)).to.equal("now");
  });
});

describe("what is printed", () => {
  it("holds no control or direction characters, whatever a file is called", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(printable(text)).not.to.match(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u);
      }),
    );
    expect(printable("a\u001b[2J\nb\u202ec")).to.equal("a\\x1b[2J\\nb\\u202ec");
    expect(printable("a\u061cb")).to.equal("a\\u061cb");
    expect(printable("grüße 日本")).to.equal("grüße 日本");
  });

  it("keeps tables straight and harmless, whatever stands in them", () => {
    const lines: string[] = [];
    const stdout = { write: (text: unknown) => lines.push(String(text)) };
    const plain = { json: false, quiet: false, verbose: false, env: {} };
    const output = new Output({ ...plain, stdout, stderr: stdout });
    output.table(
      [{ title: "NAME" }, { title: "SIZE", align: "right" }],
      [
        ["a\u001b[2J\nb", "5"],
        ["grüße", "12"],
      ],
    );
    expect(lines).to.deep.equal(["NAME         SIZE\n", "a\\x1b[2J\\nb     5\n", "grüße          12\n"]);
  });

  it("tells an error with what, why, code and fix", () => {
    const error = new HoldfastError("REPO_LOCKED", "cannot write: pid 7 holds the lock.", { hint: "wait" });
    expect(errorText(error)).to.equal("holdfast: cannot write: pid 7 holds the lock (REPO_LOCKED). Fix: wait.");
  });
});
