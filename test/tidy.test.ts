/**
 * The house rules of docs/architecture.md, held by a test. Each rule is first shown a wrong sample, so that a rule that
 * has gone blind is noticed, and then the whole of the sources. A complaint names file, line and what to do.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect } from "chai";
import { PROJECT_ROOT, projectPath } from "./support/project.js";
import {
  callsStayInTheirHomes,
  eachFileOpensWithItsPurpose,
  exportsAreNamed,
  filesAndFunctionsAreShort,
  filesAreNamedAndPlaced,
  noTestIsAlone,
  portsAreSmall,
  todosHaveAnIssue,
} from "./support/tidy/form.js";
import {
  FLOORS,
  childProcessesAreNamed,
  configIsReadByDaemonAndCli,
  everyFolderHasAFloor,
  foldersAreEnteredByTheirDoors,
  importsPointDownwards,
  noCircles,
} from "./support/tidy/imports.js";
import { type Rule, complaintText, readSources, sourceText } from "./support/tidy/source.js";

interface HouseRule {
  readonly title: string;
  readonly rule: Rule;
  /** Where the rule holds. */
  readonly scope: readonly ("src" | "test" | "bench")[];
  /** Samples that break it, path to text, each with the place (`path:line`) where the complaint must stand. */
  readonly wrong: readonly (readonly [files: Readonly<Record<string, string>>, place: string])[];
  /** A sample that looks alike and is right. */
  readonly right: Readonly<Record<string, string>>;
}

const lines = (count: number, line: string): string => Array.from({ length: count }, () => line).join("\n");

const RULES: readonly HouseRule[] = [
  {
    title: "each folder of src has a floor",
    rule: everyFolderHasAFloor,
    scope: ["src"],
    wrong: [
      [{ "src/helpers/strings.ts": "" }, "src/helpers/strings.ts:1"],
      [{ "src/loose.ts": "" }, "src/loose.ts:1"],
    ],
    right: { "src/base/paths.ts": "" },
  },
  {
    title: "an import points to a lower floor",
    rule: importsPointDownwards,
    scope: ["src"],
    wrong: [
      [{ "src/engine/gc.ts": '\nimport { a } from "../policy/retention.js";' }, "src/engine/gc.ts:2"],
      [{ "src/recovery/healer.ts": 'import type { a } from "../policy/jobs.js";' }, "src/recovery/healer.ts:1"],
      [{ "src/storage/open.ts": 'export { a } from "../telemetry/audit.js";' }, "src/storage/open.ts:1"],
      [{ "src/engine/gc.ts": 'const a = await import("../cli/main.js");' }, "src/engine/gc.ts:1"],
      [{ "src/engine/gc.ts": 'type A = import("../cli/main.js").A;' }, "src/engine/gc.ts:1"],
      [{ "src/engine/gc.ts": 'import { a } from "../../test/support/faults.js";' }, "src/engine/gc.ts:1"],
    ],
    right: { "src/engine/gc.ts": 'import { a } from "../base/paths.js"; import { b } from "./check.js";' },
  },
  {
    title: "a folder is entered by its doors",
    rule: foldersAreEnteredByTheirDoors,
    scope: ["src"],
    wrong: [
      [{ "src/daemon/compose.ts": 'import { a } from "../engine/pack/reader.js";' }, "src/daemon/compose.ts:1"],
      [
        { "src/daemon/main.ts": 'new Worker(new URL("../engine/workers/worker.js", import.meta.url));' },
        "src/daemon/main.ts:1",
      ],
    ],
    right: {
      "src/daemon/plugins.ts": 'import { a } from "../storage/drivers/local.js";',
      "src/engine/repository.ts": 'import { a } from "./pack/reader.js";',
      "src/engine/workers/pool.ts": 'new Worker(new URL("./worker.js", import.meta.url));',
      "src/config/load.ts": 'new URL("../../config/holdfast.schema.json", import.meta.url);',
    },
  },
  {
    title: "the configuration is read by daemon and cli only",
    rule: configIsReadByDaemonAndCli,
    scope: ["src"],
    wrong: [
      [{ "src/policy/schedule.ts": 'import type { Config } from "../config/schema.js";' }, "src/policy/schedule.ts:1"],
    ],
    right: { "src/daemon/compose.ts": 'import type { Config } from "../config/schema.js";' },
  },
  {
    title: "files do not import each other in a circle",
    rule: noCircles,
    scope: ["src"],
    wrong: [
      [
        {
          "src/engine/a.ts": 'import { b } from "./b.js";',
          "src/engine/b.ts": 'import { c } from "./c.js";',
          "src/engine/c.ts": '\nimport { b } from "./b.js";',
        },
        "src/engine/c.ts:2",
      ],
    ],
    right: {
      "src/engine/a.ts": 'import { b } from "./b.js"; import { c } from "./c.js";',
      "src/engine/b.ts": 'import { c } from "./c.js";',
      "src/engine/c.ts": "",
    },
  },
  {
    title: "processes are started by base/spawn.ts",
    rule: childProcessesAreNamed,
    scope: ["src"],
    wrong: [
      [{ "src/sources/dump.ts": 'import { spawn } from "node:child_process";' }, "src/sources/dump.ts:1"],
      [
        { "src/monitor/watch/native.ts": 'import { exec as fork } from "child_process";' },
        "src/monitor/watch/native.ts:1",
      ],
      [{ "src/cli/main.ts": 'import * as processes from "node:child_process";' }, "src/cli/main.ts:1"],
    ],
    right: {
      "src/monitor/watch/native.ts": 'import { fork, type ChildProcess } from "node:child_process";',
      "src/sources/dump.ts": 'import type { ChildProcess } from "node:child_process";',
    },
  },
  {
    title: "each file opens with what it is for",
    rule: eachFileOpensWithItsPurpose,
    scope: ["src", "test", "bench"],
    wrong: [
      [{ "src/base/a.ts": 'import { b } from "./b.js";' }, "src/base/a.ts:1"],
      [{ "src/base/a.ts": "// helpers" }, "src/base/a.ts:1"],
    ],
    right: {
      "src/base/a.ts": "#!/usr/bin/env node\n// The way to the moon and back, by bicycle.",
      "src/base/b.ts": "/**\n * The way to the moon and back, by bicycle.\n */",
    },
  },
  {
    title: "time, console and exit stay in their homes",
    rule: callsStayInTheirHomes,
    scope: ["src"],
    wrong: [
      [{ "src/base/a.ts": "\nconst t = Date.now();" }, "src/base/a.ts:2"],
      [{ "src/base/a.ts": "const now = Date.now;" }, "src/base/a.ts:1"],
      [{ "src/base/a.ts": "const t = new Date();" }, "src/base/a.ts:1"],
      [{ "src/base/a.ts": "console.error(1);" }, "src/base/a.ts:1"],
      [{ "src/daemon/compose.ts": "process.exit(1);" }, "src/daemon/compose.ts:1"],
    ],
    right: {
      "src/base/clock.ts": "Date.now();",
      "src/cli/output.ts": "console.log(1);",
      "src/cli/main.ts": "process.exit(1);",
      "src/base/a.ts": 'const d = new Date(5); process.exitCode = 1; const text = "Date.now()"; // console.log()',
    },
  },
  {
    title: "exports have names and there are no barrels",
    rule: exportsAreNamed,
    scope: ["src", "test", "bench"],
    wrong: [
      [{ "src/base/a.ts": "\nexport default 1;" }, "src/base/a.ts:2"],
      [{ "src/base/a.ts": "export default function a() {}" }, "src/base/a.ts:1"],
      [{ "src/base/a.ts": 'export * from "./b.js";' }, "src/base/a.ts:1"],
    ],
    right: { "src/base/a.ts": 'export const a = 1; export { b } from "./b.js";' },
  },
  {
    title: "files have kebab-case names and lie at most three folders deep",
    rule: filesAreNamedAndPlaced,
    scope: ["src", "test", "bench"],
    wrong: [
      [{ "src/base/index.ts": "" }, "src/base/index.ts:1"],
      [{ "src/base/atomicFile.ts": "" }, "src/base/atomicFile.ts:1"],
      [{ "src/engine/Pack/reader.ts": "" }, "src/engine/Pack/reader.ts:1"],
      [{ "src/engine/a/b/c/d.ts": "" }, "src/engine/a/b/c/d.ts:1"],
    ],
    right: { "src/engine/a/b/c-d.ts": "", "test/base/c-d.test.ts": "" },
  },
  {
    title: "files, functions and parameter lists are short",
    rule: filesAndFunctionsAreShort,
    scope: ["src", "test", "bench"],
    wrong: [
      [{ "src/base/a.ts": lines(501, "f();") }, "src/base/a.ts:501"],
      [{ "src/base/a.ts": `\nfunction f() {\n${lines(69, "g();")}\n}` }, "src/base/a.ts:2"],
      [{ "src/base/a.ts": `class A {\nf() {\n${lines(69, "g();")}\n}\n}` }, "src/base/a.ts:2"],
      [{ "src/base/a.ts": "const f = (a, b, c, d, e) => 1;" }, "src/base/a.ts:1"],
    ],
    right: {
      "src/base/a.ts": `${lines(200, "f();")}\nfunction f() {\n${lines(68, "g();")}\n}\nconst h = (a, b, c, d) => 1;`,
      "test/base/a.test.ts": `describe("a", () => {\n${lines(100, "g();")}\n});`,
    },
  },
  {
    title: "ports have at most 12 methods",
    rule: portsAreSmall,
    scope: ["src"],
    wrong: [
      [
        { "src/base/a.ts": `\nexport interface A {\n${lines(12, "f(): void;")}\nreadonly g: () => void;\n}` },
        "src/base/a.ts:2",
      ],
    ],
    right: { "src/base/a.ts": `export interface A {\n${lines(12, "f(): void;")}\n${lines(9, "a: string;")}\n}` },
  },
  {
    title: "notes for later have an issue",
    rule: todosHaveAnIssue,
    scope: ["src", "bench"],
    wrong: [[{ "src/base/a.ts": "\n// TODO: later" }, "src/base/a.ts:2"]],
    right: { "src/base/a.ts": "// TODO(#12): later" },
  },
  {
    title: "no test keeps the others from running",
    rule: noTestIsAlone,
    scope: ["test"],
    wrong: [
      [{ "test/a.test.ts": '\nit.only("a", () => {});' }, "test/a.test.ts:2"],
      [{ "test/a.test.ts": 'describe.only("a", () => {});' }, "test/a.test.ts:1"],
    ],
    right: { "test/a.test.ts": 'it("a", () => {}); expect(x).to.have.only.keys("a");' },
  },
];

const samples = (texts: Readonly<Record<string, string>>): ReturnType<typeof sourceText>[] =>
  Object.entries(texts).map(([path, text]) => sourceText(path, text));

describe("the house rules", () => {
  const sources = {
    src: readSources(PROJECT_ROOT, "src"),
    test: readSources(PROJECT_ROOT, "test"),
    bench: readSources(PROJECT_ROOT, "bench"),
  };

  for (const { title, rule, scope, wrong, right } of RULES) {
    describe(title, () => {
      it("is noticed when broken, at its file and line, with what to do", () => {
        for (const [texts, place] of wrong) {
          const complaints = rule(samples(texts));
          expect(complaints.map(({ path, line }) => `${path}:${String(line)}`)).to.deep.equal([place]);
          expect(complaintText(complaints)).to.match(/^\S+:\d+ .{20,}/);
        }
      });
      it("lets what is right pass", () => {
        expect(complaintText(rule(samples(right)))).to.equal("");
      });
      it("holds in the sources", () => {
        expect(complaintText(rule(scope.flatMap((folder) => sources[folder])))).to.equal("");
      });
    });
  }

  it("reads all sources", () => {
    expect(sources.src.map(({ path }) => path)).to.include("src/base/clock.ts");
    expect(sources.test.map(({ path }) => path)).to.include("test/tidy.test.ts");
  });
});

describe("the generated pages", () => {
  it("docs/map.md and docs/errors.md say what the sources say (else run `npm run docs`)", () => {
    const check = spawnSync(process.execPath, [projectPath("scripts", "docs.mjs"), "--check"], { encoding: "utf8" });
    expect(check.stderr).to.equal("");
    expect(check.status).to.equal(0);
  });
});

describe("docs/architecture.md", () => {
  it("draws the floors that the rules hold", () => {
    const text = readFileSync(projectPath("docs", "architecture.md"), "utf8");
    const drawn = [...text.matchAll(/^\| (\d+) +\| ([^|]+)\|/gm)].flatMap(([, floor, folders]) =>
      [...(folders ?? "").matchAll(/`([a-z]+)`/g)].map(([, folder]): [string, number] => [folder ?? "", Number(floor)]),
    );
    expect(Object.fromEntries(drawn)).to.deep.equal(FLOORS);
  });
});

describe("the README", () => {
  it("names the two commands that a fresh clone needs", () => {
    const text = readFileSync(projectPath("README.md"), "utf8");
    expect(text).to.match(/^\s*(?:\$ )?npm start -- \S+/m);
    expect(text).to.match(/^\s*(?:\$ )?npm test\b/m);
  });
});
