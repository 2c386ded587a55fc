/**
 * A daemon in which something goes wrong that nobody caught. Node itself is told (NODE_OPTIONS) to load a listener for a
 * signal that throws or rejects, so the built program is tested as it is.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { DaemonProcess, Sandbox, until } from "../support/program.js";

const FILE_COUNT = 150;
const FAULTS = {
  SIGUSR2: "Promise.reject(Object.assign(new Error('nobody awaits this'), { cause: new Error('deep down') }))",
  SIGCONT: "throw new Error('nobody catches this')",
} as const;

describe("an error in the daemon that nobody caught", () => {
  for (const [signal, message] of [
    ["SIGUSR2", "nobody awaits this"],
    ["SIGCONT", "nobody catches this"],
  ] as const) {
    it(`(${message}) ends it with 1 and is told with its stack; what was acknowledged is there after a new start`, async () => {
      await using sandbox = await Sandbox.create();
      const daemon = await startFaulty(sandbox);
      const contents = await writeFiles(sandbox);
      await until("all files are durable", 15_000, async () => await allDurable(sandbox));
      expect(await daemon.end(signal)).to.equal(1);
      const told = crashOf(daemon.output);
      expect(told).to.include({ level: "error", fatal: true, message });
      expect(told["stack"]).to.be.a("string").and.contain(message).and.contain("\n    at ");
      expect(daemon.output).to.not.contain("daemon.stopping");

      await sandbox.start();
      const target = join(sandbox.home, "restored");
      const restored = await sandbox.run("restore", "--at", new Date().toISOString(), "--target", target);
      expect(restored.exitCode, restored.stderr).to.equal(0);
      for (const [name, content] of contents) {
        const place = [join(target, name), join(target, sandbox.data, name)].find((path) => existsSync(path));
        expect(await readFile(place ?? join(target, name), "latin1"), name).to.equal(content);
      }
      expect((await sandbox.run("check", "--read-data")).exitCode).to.equal(0);
    });
  }
});

async function startFaulty(sandbox: Sandbox): Promise<DaemonProcess> {
  const listeners = Object.entries(FAULTS).map(([signal, fault]) => `process.on("${signal}", () => { ${fault} });`);
  const code = `import { isMainThread } from "node:worker_threads"; if (isMainThread) { ${listeners.join(" ")} }`;
  const options = `--import=data:text/javascript,${encodeURIComponent(code).replaceAll("'", "%27")}`;
  const daemon = new DaemonProcess(["daemon", "--json"], { ...sandbox.environment, NODE_OPTIONS: options });
  sandbox.adopt(daemon);
  await until("the daemon protects its source", 20_000, async () => {
    expect(daemon.exitCode, daemon.output).to.equal(undefined);
    return (await statusOf(sandbox))?.state === "protected";
  });
  return daemon;
}

/** Small ones, as they are in the write-ahead log, and some that are cut into chunks. */
async function writeFiles(sandbox: Sandbox): Promise<ReadonlyMap<string, string>> {
  const contents = new Map<string, string>();
  for (let index = 0; index < FILE_COUNT; index += 1) {
    const content = randomBytes(index % 10 === 0 ? 200_000 : 500).toString("latin1");
    contents.set(`file${String(index)}`, content);
    await writeFile(join(sandbox.data, `file${String(index)}`), content, "latin1");
  }
  return contents;
}

async function allDurable(sandbox: Sandbox): Promise<boolean> {
  const status = await statusOf(sandbox);
  return status?.files === FILE_COUNT && status.pending_changes === 0;
}

interface SourceStatus {
  readonly state: string;
  readonly files: number;
  readonly pending_changes: number;
}

/** The source as the daemon tells of it; undefined while none answers. */
async function statusOf(sandbox: Sandbox): Promise<SourceStatus | undefined> {
  const result = await sandbox.run("status", "--json");
  if (result.exitCode !== 0) return undefined;
  const { daemon, sources } = result.json() as { daemon: boolean; sources: SourceStatus[] };
  return daemon ? sources[0] : undefined;
}

/** The log line of the crash. */
function crashOf(output: string): Record<string, unknown> {
  const line = output.split("\n").find((text) => text.includes('"daemon.crashed"'));
  return JSON.parse(line ?? "{}") as Record<string, unknown>;
}
