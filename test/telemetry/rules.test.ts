/** The Prometheus rules that ship: valid, tested, about metrics that exist, each with a page for the night. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { expect } from "chai";
import { parse } from "yaml";
import { filesBelow } from "../support/source-files.js";
import { requirePrograms } from "../support/requirements.js";

const RULES = "config/holdfast.prometheus.rules.yml";
const TESTS = "config/holdfast.prometheus.tests.yml";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: { readonly runbook_url: string; readonly description: string };
}

async function rules(): Promise<readonly Rule[]> {
  const file = parse(await readFile(RULES, "utf8")) as { groups: { rules: Rule[] }[] };
  return file.groups.flatMap((group) => group.rules);
}

describe("the Prometheus rules", () => {
  it("are accepted by promtool, and their tests pass", async function () {
    requirePrograms(this, "promtool");
    await promisify(execFile)("promtool", ["check", "rules", RULES]);
    await promisify(execFile)("promtool", ["test", "rules", TESTS]);
  });

  it("have a test each", async () => {
    const tests = await readFile(TESTS, "utf8");
    for (const { alert } of await rules()) expect(tests, alert).to.contain(`"${alert}"`);
  });

  it("speak only of metrics that the code declares", async () => {
    const sources = (
      await Promise.all((await filesBelow("src", ".ts")).map(async (path) => await readFile(path, "utf8")))
    ).join("\n");
    for (const { alert, expr } of await rules()) {
      for (const [name] of expr.matchAll(/holdfast_[a-z_]+/g))
        expect(sources, `${alert}: ${name}`).to.contain(`"${name}"`);
    }
  });

  it("have a page each that says what it means and what to do", async () => {
    const page = await readFile("docs/metrics.md", "utf8");
    for (const { alert, annotations } of await rules()) {
      expect(annotations.runbook_url).to.equal(`docs/metrics.md#${alert.toLowerCase()}`);
      expect(page).to.contain(`### ${alert}\n`);
    }
  });
});
