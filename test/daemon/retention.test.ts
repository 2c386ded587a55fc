/** Retention policies made at run time: each for its sources, kept over a restart, never forgotten silently. */
import { writeFile } from "node:fs/promises";
import { expect } from "chai";
import type { PolicyRequest } from "../../src/api/retention-service.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const ONLY_NEWEST = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, min_copies: 1 };
const context = { signal: new AbortController().signal, progress: () => undefined };

describe("retention policies", () => {
  const folder = useTempFolder("retention");

  async function launchTwo(): Promise<DaemonInProcess> {
    for (const name of ["a", "b"]) await folder().write(`${name}/file`, name);
    const sources = ["a", "b"].map((name) => ({ name, paths: [folder().at(name)] }));
    return await launchIn(folder(), { sources });
  }

  async function backUp(daemon: DaemonInProcess, source: string): Promise<string> {
    const request = { type: "incremental", sources: [source], tags: [], compression: true } as const;
    return (await daemon.operation.plan.backUp(request, context)).backup_id;
  }

  it("keep by their own rules what is of their sources, all else stays under the configuration's", async () => {
    await using daemon = await launchTwo();
    const { retention, backups } = daemon.services;
    const made: string[] = [];
    for (const source of ["a", "b", "a", "b"]) made.push(await backUp(daemon, source));
    expect((await retention.preview()).removed, "the default keeps two of each").to.deep.equal([]);
    await retention.create("lean", { ...ONLY_NEWEST, sources: ["a"] });
    const preview = await retention.preview();
    expect(preview.removed).to.deep.equal([made[0]]);
    const listed = await backups.list({});
    expect(listed.find(({ backup_id: id }) => id === made[0])?.retention.kept_by).to.deep.equal([]);
    const report = await daemon.operation.plan.cleanUp({ dryRun: false, force: false }, context);
    expect(report.removed).to.deep.equal([made[0]]);
    await retention.remove("lean");
    expect((await retention.preview()).removed).to.deep.equal([]);
  });

  it("take from the configuration what they leave out, and are there after a restart", async () => {
    const request: PolicyRequest = { sources: ["b"], daily: 90, within_seconds: 3600 };
    {
      await using daemon = await launchTwo();
      const made = await daemon.services.retention.create("long", request);
      expect(made).to.include({ id: "long", daily: 90, hourly: 24, min_copies: 2, within_seconds: 3600 });
      expect(made.from_configuration).to.equal(false);
    }
    await using daemon = await launchTwo();
    const { retention } = daemon.services;
    expect((await retention.policies()).map(({ id }) => id)).to.deep.equal(["default", "long"]);
    const replaced = await retention.replace("long", { sources: ["a", "b"], yearly: 10 });
    expect(replaced).to.include({ daily: 7, yearly: 10, within_seconds: 0 });
  });

  it("refuse a second policy for a source, a taken name, an unknown source, and any change of the default", async () => {
    await using daemon = await launchTwo();
    const { retention } = daemon.services;
    await retention.create("long", { sources: ["a"] });
    const codes: unknown[] = [];
    for (const refused of [
      () => retention.create("other", { sources: ["b", "a"] }),
      () => retention.create("long", { sources: ["b"] }),
      () => retention.create("default", { sources: ["b"] }),
      () => retention.create("other", { sources: ["c"] }),
      () => retention.replace("default", { sources: ["a"] }),
      () => retention.remove("none"),
      () => retention.policy("none"),
    ]) {
      codes.push(((await rejection(refused())) as { code: unknown }).code);
    }
    expect(codes).to.deep.equal([
      "POLICY_EXISTS",
      "POLICY_EXISTS",
      "POLICY_EXISTS",
      "SOURCE_NOT_FOUND",
      "USAGE",
      "POLICY_NOT_FOUND",
      "POLICY_NOT_FOUND",
    ]);
    expect(await retention.policies()).to.have.length(2);
  });

  it("that cannot be read hold every cleanup, and are not written over", async () => {
    {
      await using daemon = await launchTwo();
      await daemon.services.retention.create("long", { sources: ["a"], daily: 90 });
      for (let count = 0; count < 3; count += 1) await backUp(daemon, "a");
    }
    await writeFile(folder().at("state", "retention-policies.json"), '[{"id": "long"');
    await using daemon = await launchIn(folder(), { rotation: { hourly: 0, daily: 0, weekly: 0, min_copies: 1 } });
    expect((await daemon.services.retention.preview()).refused_because).to.contain("cannot be read");
    const failure = await rejection(daemon.operation.plan.cleanUp({ dryRun: false, force: true }, context));
    expect(String(failure)).to.contain("retention-policies.json cannot be read");
    await rejection(daemon.services.retention.create("new", { sources: ["a"] }));
    expect(await daemon.services.backups.list({})).to.have.length(3);
  });
});
