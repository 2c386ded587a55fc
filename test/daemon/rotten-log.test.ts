/** A log whose last commit rots while the daemon is down, and the file that it held goes: what is left of it, and what is told. */
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { useTempFolder } from "../support/temp-folder.js";

/** How far in front of the log's end lies a byte of the last frame, and one of the content that it speaks of. */
const ROT_AT = { frame: 20, content: 330 } as const;

describe("a file whose last commit rotted in the log, and which is gone at the next start", () => {
  const folder = useTempFolder("rotten-log");
  const file = (): string => folder().at("data/file");

  async function started(): Promise<DaemonInProcess> {
    const daemon = await launchIn(folder(), { sources: [{ name: "data", paths: [folder().at("data")] }] });
    await daemon.operation.start();
    await daemon.operation.started();
    return daemon;
  }

  /** Stores the contents one after another, each in a commit of its own, and is killed. */
  async function storedAndKilled(contents: readonly string[]): Promise<void> {
    for (const name of ["other", "third"]) await folder().write(`data/${name}`, "stays");
    await using daemon = await started();
    const { registry } = daemon.parts.monitor;
    for (const content of contents) {
      writeFileSync(file(), content);
      const isKnown = () => registry.get("data", folder().bytes("data/file"))?.stat.sizeBytes === content.length;
      await until(`${content} is known`, 10_000, isKnown);
    }
    await registry.flush();
    for (const name of ["store", "state"]) cpSync(folder().at(name), folder().at(`${name}.then`), { recursive: true });
  }

  /** What a power cut leaves is there again, and the disk has flipped a bit. */
  function rot(where: keyof typeof ROT_AT): void {
    for (const name of ["store", "state"]) {
      rmSync(folder().at(name), { recursive: true });
      cpSync(folder().at(`${name}.then`), folder().at(name), { recursive: true });
    }
    rmSync(folder().at("store/leases/lock"));
    const segments = readdirSync(folder().at("store/wal"), { recursive: true, encoding: "latin1" });
    const segment = join(folder().at("store/wal"), segments.find((name) => name.endsWith(".seg")) ?? "");
    const bytes = readFileSync(segment);
    const at = bytes.length - ROT_AT[where];
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    writeFileSync(segment, bytes);
  }

  for (const [where, contents, state, left, told] of [
    ["frame", ["one", "three"], "healed", "one", ["index.rebuild", "registry.versions_lost"]],
    ["frame", ["one"], "failed", undefined, ["index.rebuild"]],
    ["content", ["one", "three"], "waiting", undefined, ["wal.damaged", "wal.torn_commit"]],
    ["content", ["one"], "failed", undefined, ["wal.damaged", "wal.torn_commit"]],
  ] as const)
    it(`is ${state}, with ${String(contents.length - 1)} versions before, when the ${where} rotted`, async () => {
      await storedAndKilled(contents.map((content) => content.repeat(100)));
      rot(where);
      unlinkSync(file());
      await using daemon = await started();
      const { healer, repository } = daemon.parts;
      const incidents = () => healer.incidents({ onlyOpen: false, limit: 9 });
      await until("it is judged", 10_000, async () => (await incidents())[0]?.state === state);
      await healer.idle();
      expect((await incidents()).map((incident) => [incident.kind, incident.paths])).to.deep.equal([
        ["deleted", [folder().bytes("data/file")]],
      ]);
      expect(existsSync(file()) ? readFileSync(file(), "utf8") : undefined).to.equal(left?.repeat(100));
      const warned = daemon.logged.map(({ event }) => event).filter((event) => /^(index|registry\.v|wal)/.test(event));
      expect(warned).to.deep.equal(told);
      const stored = await repository.versions(folder().bytes("data/file"));
      expect(stored.every(({ node }) => node?.kind === "file")).to.equal(true); // nobody said that it was removed
    });
});
