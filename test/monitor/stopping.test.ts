/** Stopping who attacks: the right process, said how it goes on, and never one that only has its number. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { expect } from "chai";
import type { Actor } from "../../src/base/events.js";
import { fanotifyCalls } from "../../src/base/native-fanotify.js";
import { processStat } from "../../src/base/process-stat.js";
import { stopProcess } from "../../src/monitor/watch/stopping.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

const TEXT = "Nobody should lose what he wrote, whoever comes along.\n".repeat(100);
/** Overwrites each file with noise, one by one; it says when it is through. */
const ATTACK = `import os, sys, time
for path in sys.argv[1:]:
    size = os.path.getsize(path)
    with open(path, "r+b") as file: file.write(os.urandom(size))
    time.sleep(0.15)
time.sleep(60)`;

function actorOf(pid: number, other: Partial<Actor> = {}): Actor {
  const startTicks = processStat(pid)?.startTicks;
  return { pid, program: "x", user: undefined, loginUser: undefined, tool: undefined, startTicks, ...other };
}

function stateOf(pid: number): string {
  return /^State:\s+(\w)/m.exec(readFileSync(`/proc/${String(pid)}/status`, "latin1"))?.[1] ?? "";
}

async function endOf(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

describe("stopping a process that attacks", () => {
  it("stops the process that was seen, and only that", async () => {
    const [meant, other] = [spawn("sleep", ["60"]), spawn("sleep", ["60"])];
    try {
      const [pid, otherPid] = [meant.pid ?? 0, other.pid ?? 0];
      // It was started by this process, which may therefore not stop it: another has to.
      expect(stopProcess(actorOf(pid))).to.deep.equal({ is: "left", why: "holdfast depends on it" });
      const code = `import { stopProcess } from ${JSON.stringify(new URL("../../src/monitor/watch/stopping.js", import.meta.url).href)};
        import { processStat } from ${JSON.stringify(new URL("../../src/base/process-stat.js", import.meta.url).href)};
        const pid = ${String(pid)};
        console.log(JSON.stringify(stopProcess({ pid, startTicks: processStat(pid)?.startTicks })));
        const wrong = ${String(otherPid)};
        console.log(JSON.stringify(stopProcess({ pid: wrong, startTicks: 1 + processStat(wrong).startTicks })));`;
      const told = execFileSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
      const [first, second] = told.trim().split("\n");
      if (first?.includes("koffi") === true) return;
      expect(first).to.equal('{"is":"stopped"}');
      expect(second).to.equal('{"is":"left","why":"it has ended"}');
      expect([stateOf(pid), stateOf(otherPid)]).to.deep.equal(["T", "S"]);
    } finally {
      await Promise.all([endOf(meant), endOf(other)]);
    }
  });

  it("leaves the init process, kernel threads, itself, what started it, tools, and who is not known", () => {
    const why = (actor: Actor): string => {
      const outcome = stopProcess(actor);
      return outcome.is === "left" ? outcome.why : "STOPPED";
    };
    expect(why(actorOf(1))).to.equal("it is the init process");
    expect(why(actorOf(process.pid))).to.equal("holdfast depends on it");
    expect(why(actorOf(process.ppid))).to.match(/holdfast depends on it|init/);
    expect(why({ ...actorOf(1), pid: 4_000_000, startTicks: undefined })).to.match(/had ended/);
    expect(why(actorOf(2, { tool: "git" }))).to.equal("it works for git");
    if (processStat(2)?.isKernelThread === true) expect(why(actorOf(2))).to.equal("it has ended");
  });

  it("reads the start of a process whatever its name is", () => {
    expect(processStat(process.pid)?.parentPid).to.equal(process.ppid);
    expect(processStat(4_000_000)).to.equal(undefined);
  });

  it("stops an attack in the midst, and the incident says how the process goes on", async function () {
    requireRoot(this);
    requirePrograms(this, "python3", "setsid");
    if (fanotifyCalls() === undefined) skip(this, "fanotify needs koffi and a kernel that has it");
    await using bench = await WatchBench.create({ actors: true, stopAttacker: true });
    const files: string[] = [];
    for (let index = 0; index < 30; index += 1) files.push(await bench.folder.write(`file-${String(index)}.txt`, TEXT));
    await bench.protect();
    await bench.quiet();
    // Not below this process: the daemon would leave what it started itself alone.
    const script = 'setsid --fork python3 -c "$CODE" "$@" & sleep 0.2';
    execFileSync("sh", ["-c", script, "sh", ...files], { env: { ...process.env, CODE: ATTACK }, stdio: "ignore" });
    await bench.until("the attack is told", () => bench.events("mass.loss").length > 0);
    const [loss] = bench.events("mass.loss")[0]?.losses ?? [];
    const pid = loss?.actor?.pid ?? 0;
    try {
      expect(loss?.detail).to.match(/by python3.*, which is stopped now: "kill -CONT \d+" lets it go on/);
      expect(existsSync(`/proc/${String(pid)}`)).to.equal(true);
      await bench.until("it stands still", () => stateOf(pid) === "T", 2000);
      expect(files.filter((file) => readFileSync(file, "latin1") !== TEXT).length).to.be.lessThan(20);
    } finally {
      if (pid > 1) process.kill(pid, "SIGKILL");
    }
  });
});
