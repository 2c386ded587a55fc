/** Strategies that make content: from logs by a recipe, and by the owner's own program. */
import { existsSync } from "node:fs";
import { chmod, readFile, readdir, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Readable } from "node:stream";
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import type { Candidate, LostFile, RecoveryStrategy } from "../../src/recovery/strategy.js";
import { reconstructFromLogsStrategy } from "../../src/recovery/strategies/reconstruct-from-logs.js";
import { regenerateStrategy } from "../../src/recovery/strategies/regenerate.js";
import { NEVER, RecoveryRig, bytesOf, lostFile, nodeAt } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { requireRoot } from "../support/requirements.js";
import { TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("reconstructing from logs", () => {
  const folder = useTempFolder("logs");

  it("appends the wanted records in order and fills a template", async () => {
    await logLines(folder(), "a.jsonl", [
      { session: "s1", time: "2026-01-01T00:00:02Z", role: "bot", text: "hello" },
      { session: "s2", time: "2026-01-01T00:00:01Z", role: "user", text: "not mine" },
      { session: "s1", time: "2026-01-01T00:00:01Z", role: "user", text: "hi" },
    ]);
    const document = await madeJson(folder(), "data/s1.json", {
      match: { session: "{stem}" },
      time_field: "time",
      pick: ["role", "text", "time"],
      output: {
        sort_by: "time",
        template: { session_id: "{first.session}", file: "{name}", count: "{count}", messages: "{records}", v: 1 },
      },
    });
    expect(document).to.deep.equal({
      session_id: "s1",
      file: "s1.json",
      count: 2,
      messages: [
        { role: "user", text: "hi", time: "2026-01-01T00:00:01Z" },
        { role: "bot", text: "hello", time: "2026-01-01T00:00:02Z" },
      ],
      v: 1,
    });
  });

  it("keeps the last record of each key, over files from old to new", async () => {
    await logLines(folder(), "b-old.jsonl", [
      { op: "set", item: { id: 1, name: "one" } },
      { op: "set", item: { id: 2, name: "two" } },
    ]);
    await logLines(folder(), "a-new.jsonl", [{ op: "set", item: { id: 1, name: "ONE" } }, { op: "noise" }]);
    await utimes(folder().at("logs/b-old.jsonl"), 1000, 1000);
    const recipe = { match: { op: "set" }, record: "item", output: { key: "id", sort_by: "id" } };
    expect(await madeJson(folder(), "data/items.json", recipe)).to.deep.equal([
      { id: 1, name: "ONE" },
      { id: 2, name: "two" },
    ]);
    expect(
      await madeJson(folder(), "data/items.json", { ...recipe, output: { key: "id", shape: "object" } }),
    ).to.deep.equal({
      1: { id: 1, name: "ONE" },
      2: { id: 2, name: "two" },
    });
  });

  it("merges the fields of records with one key", async () => {
    await logLines(folder(), "a.jsonl", [
      { id: "x", colour: "red", size: 1 },
      { id: "x", size: 2 },
    ]);
    const recipe = { match: { id: ["x", "y"] }, output: { key: "id", mode: "merge" } };
    expect(await madeJson(folder(), "data/x.json", recipe)).to.deep.equal([{ id: "x", colour: "red", size: 2 }]);
  });

  it("takes only records within the time window, and the files of the glob", async () => {
    await logLines(folder(), "a.jsonl", [
      { k: 1, timestamp: "2026-01-01T00:00:00Z" },
      { k: 2, timestamp: "2026-02-01T00:00:00Z" },
      { k: 3, timestamp: 1_775_000_000 },
    ]);
    await logLines(folder(), "b.log", [{ k: 4, timestamp: "2026-02-02T00:00:00Z" }]);
    const recipe = { files: ["*.jsonl"], match: {}, since: "2026-01-15", until: "2026-03-01", pick: ["k"] };
    expect(await madeJson(folder(), "data/x.json", recipe)).to.deep.equal([{ k: 2 }]);
  });

  it("without a recipe takes the last content that was logged for the path", async () => {
    await logLines(folder(), "a.jsonl", [
      { file: "notes.json", content: { v: 1 } },
      { file: "other.json", content: { v: 9 } },
      { path: folder().at("data/notes.json"), content: { v: 2 } },
    ]);
    expect(await madeJson(folder(), "data/notes.json", {})).to.deep.equal({ v: 2 });
  });

  it("passes over lines that are no JSON and says so, and labels the result partial", async () => {
    await folder().write("logs/a.jsonl", '{"a":1}\nnot JSON\n\n{"a":2}\n{"a":');
    const [candidate] = await candidatesOf(reconstructFromLogsStrategy(), lost(folder(), "data/x.json"), folder(), {
      log_dir: folder().at("logs"),
      match: {},
    });
    expect(candidate?.fidelity).to.equal("partial");
    expect(candidate?.notes.join()).to.contain("2 lines are no JSON");
  });

  it("reads a large log without holding it", async () => {
    const lines = Array.from({ length: 50_000 }, (_, index) =>
      JSON.stringify({ id: index % 10, text: "x".repeat(100) }),
    );
    await folder().write("logs/a.jsonl", `${lines.join("\n")}\n`);
    const made = await madeJson(folder(), "data/x.json", { match: {}, output: { key: "id" } });
    expect(made).to.have.length(10);
  });

  it("names what is wrong in a recipe", async () => {
    const wrong: Record<string, unknown>[] = [
      {},
      { log_dir: "/x", output: { mode: "merge" } },
      { log_dir: "/x", output: { shape: "tree" } },
      { log_dir: "/x", match: { a: { b: 1 } } },
      { log_dir: "/x", since: "yesterday" },
    ];
    for (const parameters of wrong) {
      const failure = await rejection(
        candidatesOf(reconstructFromLogsStrategy(), lost(folder(), "x"), folder(), parameters),
      );
      expect(failure, JSON.stringify(parameters)).to.have.property("code", "CONFIG_INVALID");
    }
  });

  it("is applied by itself only where partial content is accepted", async () => {
    await logLines(folder(), "a.jsonl", [{ file: "a.json", content: { v: 1 } }]);
    const chain = [{ strategy: "reconstruct_from_logs", parameters: { log_dir: folder().at("logs") } }];
    for (const [accept, state] of [
      ["any_valid", "waiting"],
      ["partial", "healed"],
    ] as const) {
      const place = await folder().folder(accept);
      await using own = await TempFolder.create("logs-rig", place);
      await using rig = await RecoveryRig.create(own, { policy: { accept, chain } });
      await rig.start();
      await rig.lose(own.bytes("data/a.json"));
      expect((await rig.healer.incidents({ onlyOpen: false, limit: 1 }))[0]?.state).to.equal(state);
      expect(existsSync(own.at("data/a.json"))).to.equal(state === "healed");
    }
  });
});

describe("regenerating by a script", () => {
  const folder = useTempFolder("regenerate");

  it("takes what the script writes to {output}, without a shell", async () => {
    const script = await folder().write("make", '#!/bin/sh\nprintf "%s" "$2" > "$1"\n', 0o755);
    const [candidate] = await run(folder(), { script: [script, "{output}", "$(id) {path}; x"] });
    expect((await textOf(candidate)).startsWith("$(id) /")).to.equal(true);
  });

  it("ends a script that hangs, with its children", async () => {
    const script = await folder().write(
      "hang",
      `#!/bin/sh\nsleep 600 & echo $! > ${folder().at("pid")}\nwait\n`,
      0o755,
    );
    const startMs = performance.now();
    expect(await rejection(run(folder(), { script: [script, "{output}"], timeout_ms: 300 }))).to.have.property(
      "code",
      "TIMEOUT",
    );
    expect(performance.now() - startMs).to.be.lessThan(5000);
    const pid = (await readFile(folder().at("pid"), "utf8")).trim();
    expect(await isGone(pid)).to.equal(true);
  });

  it("ends a script that prints without end", async () => {
    const script = await folder().write("loud", "#!/bin/sh\nyes\n", 0o755);
    expect(await rejection(run(folder(), { script: [script, "{output}"] }))).to.have.property("code", "LIMIT_REACHED");
  });

  it("tells what a failing script complained of", async () => {
    const script = await folder().write("fail", "#!/bin/sh\necho no database >&2\nexit 3\n", 0o755);
    const failure = await rejection(run(folder(), { script: [script, "{output}"] }));
    expect(failure).to.have.property("message", "the script ended with 3: no database");
  });

  it("runs as the named user, who can write the output and nothing of ours", async function () {
    requireRoot(this);
    const script = await folder().write("who", '#!/bin/sh\nid -un > "$1"\n', 0o755);
    await chmod(folder().path, 0o755);
    const before = await leftovers();
    const texts: string[] = [];
    const search = {
      parameters: { script: [script, "{output}"], user: "nobody" },
      note: noNote,
      scratchDir: folder().path,
    };
    for await (const candidate of regenerateStrategy().find(lost(folder(), "data/x"), search, NEVER))
      texts.push(await textOf(candidate));
    expect(texts).to.deep.equal(["nobody\n"]);
    expect(await leftovers()).to.deep.equal(before);
  });

  it("does not put back what is not valid, and keeps it as an offer", async () => {
    const script = await folder().write("bad", '#!/bin/sh\nprintf \'{"a":\' > "$1"\n', 0o755);
    const chain = [{ strategy: "regenerate", parameters: { script: [script, "{output}"] } }];
    await using rig = await RecoveryRig.create(folder(), { policy: { chain } });
    await rig.start();
    await rig.lose(folder().bytes("data/a.json"));
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident?.candidates[0]?.why).to.contain("not valid");
    expect(existsSync(folder().at("data/a.json"))).to.equal(false);
  });

  it("accepts what a script wrote to the path itself, but never over a damaged file", async () => {
    const script = await folder().write("direct", '#!/bin/sh\nprintf "{}" > "$1"\n', 0o755);
    const chain = [{ strategy: "regenerate", parameters: { script: [script, "{path}"] } }];
    await using rig = await RecoveryRig.create(folder(), { policy: { chain } });
    await rig.start();
    const missing = folder().bytes("data/a.json");
    await rig.lose(missing);
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
    expect(incident?.state).to.equal("healed");
    expect(rig.watch.ownWrites.map((write) => write.path)).to.deep.equal([missing]);
    expect(rig.watch.ownWrites[0]?.stat.ino).to.equal(nodeAt(missing).stat.ino);
    expect(rig.watch.ownWritesStanding).to.deep.equal([missing]);
    const damaged = pathFromText(await folder().write("data/b.json", "{"));
    await rig.lose(damaged, "invalid_structure");
    expect(await readFile(folder().at("data/b.json"), "utf8")).to.equal("{");
  });

  it("is not run when a person only wants to see", async () => {
    const script = await folder().write("touch", `#!/bin/sh\ntouch ${folder().at("ran")}\n`, 0o755);
    const chain = [{ strategy: "regenerate", parameters: { script: [script, "{output}"] } }];
    await using rig = await RecoveryRig.create(folder(), { policy: { chain } });
    await rig.start();
    const result = await rig.healer.recover("data", folder().bytes("data/x"), { explain: true }, NEVER);
    expect(result.notes.join()).to.contain("would run a program");
    expect(existsSync(folder().at("ran"))).to.equal(false);
  });
});

const noNote = (): void => undefined;

async function logLines(folder: TempFolder, name: string, records: readonly unknown[]): Promise<void> {
  await folder.write(`logs/${name}`, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
}

function lost(folder: TempFolder, name: string): LostFile {
  return lostFile(folder.bytes(name));
}

async function madeJson(folder: TempFolder, name: string, recipe: Readonly<Record<string, unknown>>): Promise<unknown> {
  const parameters = { log_dir: folder.at("logs"), ...recipe };
  const [candidate] = await candidatesOf(reconstructFromLogsStrategy(), lost(folder, name), folder, parameters);
  return JSON.parse(await textOf(candidate));
}

async function run(folder: TempFolder, parameters: Readonly<Record<string, unknown>>): Promise<Candidate[]> {
  // The output is read while the strategy holds it, as the chain does.
  const search = { parameters, note: noNote, scratchDir: folder.path };
  const found: Candidate[] = [];
  for await (const candidate of regenerateStrategy().find(lost(folder, "data/x"), search, NEVER)) {
    const bytes = await bytesOf(candidate.open(NEVER));
    found.push({ ...candidate, open: () => Readable.from([bytes]) as AsyncIterable<Buffer> });
  }
  return found;
}

async function candidatesOf(
  strategy: RecoveryStrategy,
  lostFile: LostFile,
  folder: TempFolder,
  parameters: Readonly<Record<string, unknown>>,
): Promise<Candidate[]> {
  const found: Candidate[] = [];
  for await (const candidate of strategy.find(lostFile, { parameters, note: noNote, scratchDir: folder.path }, NEVER))
    found.push(candidate);
  return found;
}

async function textOf(candidate: Candidate | undefined): Promise<string> {
  if (candidate === undefined) throw new Error("nothing was made");
  return (await bytesOf(candidate.open(NEVER))).toString("utf8");
}

async function isGone(pid: string): Promise<boolean> {
  for (let tries = 0; tries < 100; tries += 1) {
    const state = /^State:\s+(\w)/m.exec(await readFile(`/proc/${pid}/status`, "utf8").catch(() => ""))?.[1];
    if (state === undefined || state === "Z") return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

async function leftovers(): Promise<string[]> {
  return (await readdir(tmpdir())).filter((name) => name.startsWith("holdfast-output-"));
}
