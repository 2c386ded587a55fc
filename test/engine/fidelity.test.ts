/** What Linux keeps about files and is seldom met: it comes back, or it is told that it does not. */
import { expect } from "chai";
import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import type { BytePath } from "../../src/base/paths.js";
import { FileSource } from "../../src/sources/files.js";
import { EngineRig, UNLIMITED, upsert } from "../support/engine-rig.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { backUpFolder, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
/** `HOLDFAST_TESTS_THOROUGH=1`: one folder of 100,000 files. */
const MANY = THOROUGH ? 100_000 : 2000;

describe("a backup and its restore", () => {
  const folder = useTempFolder("fidelity");
  const data = (): BytePath => folder().bytes("data");
  const target = (): BytePath => folder().bytes("target");
  const restored = (name: string): string => `${target()}${data()}/${name}`;

  it("keep times from 1901 to 2262, to the nanosecond, and stop at nothing beyond", async function () {
    requirePrograms(this, "touch");
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const times = ["1901-12-14 00:00:00.000000001", "1969-12-31 23:59:59.999999999", "2107-01-01 00:00:00.123456789"];
    times.push("2262-04-11 00:00:00.5", "2400-01-01 00:00:00");
    for (const [index, time] of times.entries()) {
      const file = await folder().write(`data/${String(index)}`, time);
      execFileSync("touch", ["-d", `${time} UTC`, file]);
    }
    await backUpFolder(repository, data());
    expect((await restoreLatest(repository, target())).failedCount).to.equal(0);
    for (const index of [0, 1, 2, 3]) {
      const [was, is] = [folder().at("data", String(index)), restored(String(index))].map((path) => {
        return lstatSync(path, { bigint: true }).mtimeNs;
      });
      expect(is, times[index]).to.equal(was);
    }
    expect(readFileSync(restored("4"), "utf8")).to.equal(times[4]);
  });

  it("keep links that lead in a circle as links", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().folder("data", "sub");
    symlinkSync("b", folder().at("data/a"));
    symlinkSync("a", folder().at("data/b"));
    symlinkSync("..", folder().at("data/sub/up"));
    await backUpFolder(repository, data());
    expect((await restoreLatest(repository, target())).failedCount).to.equal(0);
    expect(["a", "b", "sub/up"].map((name) => readlinkSync(restored(name)))).to.deep.equal(["b", "a", ".."]);
  });

  it("keep a folder of very many files", async function () {
    this.timeout(600_000);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    mkdirSync(folder().at("data"));
    for (let index = 0; index < MANY; index += 1) writeFileSync(folder().at("data", `f${String(index)}`), "");
    await backUpFolder(repository, data());
    const report = await restoreLatest(repository, target());
    expect([report.failedCount, report.restored]).to.deep.equal([0, MANY + 1]);
  });

  it("tell of a file that cannot be replaced because it is immutable, and restore the others", async function () {
    requirePrograms(this, "chattr");
    requireRoot(this);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (const name of ["fixed", "free"]) await folder().write(`data/${name}`, `old ${name}`);
    await backUpFolder(repository, data());
    for (const name of ["fixed", "free"]) writeFileSync(folder().at("data", name), "new");
    execFileSync("chattr", ["+i", folder().at("data/fixed")]);
    try {
      const { failed } = await restoreLatest(repository, undefined);
      expect(failed.map(({ path }) => path)).to.deep.equal([folder().bytes("data/fixed")]);
      expect(readFileSync(folder().at("data/free"), "utf8")).to.equal("old free");
      expect(readFileSync(folder().at("data/fixed"), "utf8")).to.equal("new");
    } finally {
      execFileSync("chattr", ["-i", folder().at("data/fixed")]);
    }
  });

  it("tell of what lies deeper than a path can say, and keep all else", async function () {
    requirePrograms(this, "sh");
    await folder().write("data/near", "near");
    const name = "d".repeat(250);
    const deepen = `cd "$1" && for i in $(seq 20); do mkdir ${name} && cd ${name} || break; done 2>/dev/null`;
    execFileSync("sh", ["-c", deepen, "sh", folder().at("data")]);
    const source = new FileSource({ name: "data", paths: [data()] });
    const [found, failures]: [string[], string[]] = [[], []];
    for await (const batch of source.walk(UNLIMITED))
      for (const entry of batch)
        ("errno" in entry ? failures : found).push("errno" in entry ? entry.errno : entry.path);
    expect(found).to.include(folder().bytes("data/near"));
    expect(failures).to.deep.equal(["ENAMETOOLONG"]);
    execFileSync("rm", ["-rf", folder().at("data")]); // Node cannot name what is below
  });

  it("take what stands there now where a file became something else before it was read", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const path = folder().bytes("data/changing");
    await folder().write("data/changing", "a file");
    await upsert(repository, "docs", [path]);
    execFileSync("rm", [folder().at("data/changing")]);
    symlinkSync("elsewhere", folder().at("data/changing"));
    const { stored } = await upsert(repository, "docs", [path]);
    expect(stored.map(({ node }) => [node.kind, node.linkTarget])).to.deep.equal([["symlink", "elsewhere"]]);
  });
});
