/** Who did it: told where root may listen to fanotify, unknown elsewhere, and never in the way of what is heard. */
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.js";
import type { Actor } from "../../src/base/events.js";
import { fanotifyCalls } from "../../src/base/native-fanotify.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { DeedBook } from "../../src/monitor/watch/deeds.js";
import { FAN, type FanEvent, parseFanEvents } from "../../src/monitor/watch/fan-events.js";
import { meantByTool } from "../../src/monitor/intent/tools.js";
import { Actors, withActor } from "../../src/monitor/watch/actors.js";
import { ProcessBook } from "../../src/monitor/watch/processes.js";
import { BUILT_ROOT } from "../support/project.js";
import { TempFolder } from "../support/temp-folder.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

const at = (path: string): BytePath => path as BytePath;
const ROOT = at("/srv/data");
const SHORT_LIVES = 20;
const QUESTIONS = 40;
/** Removes a file and lives on for a moment: of a program that ends at once, a busy machine may learn only the name. */
const REMOVE_AND_STAY = "import os, sys, time; os.remove(sys.argv[1]); time.sleep(1)";

/** Makes and renames files, waits until they are stored, and takes them away. */
const MAKE_AND_REMOVE = `
import os, time
open("temporary", "w").write("for a moment")
os.rename("saved", "saved~"); open("saved", "w").write("anew, by an editor")
os.rename("moved", "moved~")
open("overwritten", "w").write("other content")
time.sleep(1.5)
os.remove("replaced"); open("replaced", "w").write("gone at once"); os.remove("replaced")
for name in ["temporary", "saved~", "moved~", "overwritten"]: os.remove(name)
time.sleep(1)`;

describe("who did it", () => {
  describe("as root, by fanotify", () => {
    beforeEach(function () {
      requireRoot(this);
      if (fanotifyCalls() === undefined) skip(this, "fanotify needs koffi and a kernel that has it");
    });

    it("is told with the loss of a file, by program, process and user", async function () {
      requirePrograms(this, "python3");
      await using bench = await WatchBench.create({ actors: true });
      const file = await bench.folder.write("papers/plan.txt", "a plan");
      await bench.protect();
      await bench.quiet();
      execFileSync("python3", ["-c", REMOVE_AND_STAY, file]);
      await bench.until("the loss", () => bench.losses.length > 0);
      const [loss] = bench.losses;
      expect(loss?.actor).to.include({ user: "root" });
      expect(loss?.detail, loss?.detail).to.match(/is gone, by python3[.\d]* \(process \d+, user root\)/);
    });

    it("is told of a tree that went before anybody could look, of what came by a rename, and of damage", async () => {
      await using bench = await WatchBench.create({ actors: true });
      for (const name of ["one", "two", "three"]) await bench.folder.write(`tree/deep/${name}.txt`, name);
      const config = await bench.folder.write("config.json", '{"port": 1}');
      await bench.protect();
      await bench.quiet();
      execFileSync("rm", ["-r", bench.folder.at("tree")]);
      execFileSync("bash", ["-c", 'printf "{broken" > "$1.new"; mv "$1.new" "$1"', "bash", config]);
      await bench.until("all", () => bench.losses.length === 4);
      const programs = new Map(bench.losses.map(({ kind, actor }) => [kind, actor?.program]));
      expect(Object.fromEntries(programs)).to.deep.equal({ deleted: "rm", invalid_structure: "mv" });
    });

    it("is known from its start, also where programs lie on another file system than the files", async () => {
      await using folder = await TempFolder.create("actors");
      mkdirSync(folder.at("disk"));
      execFileSync("mount", ["-t", "tmpfs", "none", folder.at("disk")]);
      try {
        await using actors = new Actors({ clock: systemClock, log: silentObserver.log });
        actors.watch(folder.bytes("disk"));
        while (!actors.isListening) await new Promise((resolve) => setTimeout(resolve, 5));
        const names = Array.from({ length: SHORT_LIVES }, (_none, index) => `disk/${String(index)}`);
        for (const name of names) writeFileSync(folder.at(name), "here");
        // So that nobody can look at what runs: each program has ended when its deed is read.
        const distracting = Array.from({ length: QUESTIONS }, () => actors.whoDid("removed", Array(2000).fill(ROOT)));
        for (const name of names) execFileSync("rm", [folder.at(name)]);
        await Promise.all(distracting);
        const removed = names.map((name) => folder.bytes(name));
        let who = await actors.whoDid("removed", removed);
        while (who.length === 0) who = await actors.whoDid("removed", removed); // a busy machine is slow to answer
        expect(who.map((actor) => actor?.program)).to.deep.equal(names.map(() => "rm"));
      } finally {
        execFileSync("umount", [folder.at("disk")]);
      }
    });

    it("is the program that two scripts handed over to, though nobody could look meanwhile", async function () {
      requirePrograms(this, "bash", "perl");
      await using folder = await TempFolder.create("actors");
      await folder.write("gone", "here");
      const [tidy, choose] = [folder.at("tidy"), folder.at("choose")];
      writeFileSync(tidy, `#!/bin/bash\nexec "${choose}"\n`, { mode: 0o755 });
      writeFileSync(choose, `#!/bin/bash\nexec perl -e 'unlink shift; sleep 60' "${folder.at("gone")}"\n`, {
        mode: 0o755,
      });
      await using actors = new Actors({ clock: systemClock, log: silentObserver.log });
      actors.watch(pathFromText(folder.path));
      while (!actors.isListening) await new Promise((resolve) => setTimeout(resolve, 5));
      const distracting = Array.from({ length: QUESTIONS }, () => actors.whoDid("removed", Array(2000).fill(ROOT)));
      const child = spawn(tidy, { stdio: "ignore" });
      try {
        await Promise.all(distracting);
        let who: readonly (Actor | undefined)[] = [];
        while (who[0] === undefined) who = await actors.whoDid("removed", [folder.bytes("gone")]);
        expect(who[0].program).to.equal("perl");
      } finally {
        child.kill("SIGKILL");
      }
    });

    it("is told to another user who holds the capability, as the service may be given it", async function () {
      requirePrograms(this, "setpriv");
      await using folder = await TempFolder.create("actors");
      chmodSync(folder.path, 0o777);
      const rights = "+sys_admin,+net_admin,+dac_read_search";
      const user = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        `--inh-caps=${rights}`,
        `--ambient-caps=${rights}`,
      ];
      const probe = [process.execPath, join(BUILT_ROOT, "test", "support", "actor-probe.js"), folder.path];
      const { stdout } = await promisify(execFile)("setpriv", [...user, ...probe]);
      expect(JSON.parse(stdout)).to.deep.equal({ uid: 65534, program: "rm" });
    });

    it("does not keep the file system from being unmounted, nor name holdfast itself", async () => {
      await using folder = await TempFolder.create("actors");
      mkdirSync(folder.at("disk"));
      execFileSync("mount", ["-t", "tmpfs", "none", folder.at("disk")]);
      await using actors = new Actors({ clock: systemClock, log: silentObserver.log });
      const unwatch = actors.watch(folder.bytes("disk"));
      while (!actors.isListening) await new Promise((resolve) => setTimeout(resolve, 5));
      writeFileSync(folder.at("disk/own.txt"), "own");
      const [own] = await actors.whoDid("written", [folder.bytes("disk/own.txt")]);
      const child = spawn("bash", ["-c", 'echo x > "$1"; echo done; read -r', "bash", folder.at("disk/other.txt")]);
      await once(child.stdout, "data");
      const [other] = await actors.whoDid("written", [folder.bytes("disk/other.txt")]);
      child.stdin.end(); // it lives while it is asked for: of programs that are over the name may be lost
      await once(child, "close");
      execFileSync("umount", [folder.at("disk")]); // throws when it is busy
      unwatch();
      expect([own, other?.program, other?.pid]).to.deep.equal([undefined, "bash", child.pid]);
    });
  });

  it("takes what git or make clean away as meant, and the same by a program of that name elsewhere as lost", async function () {
    requireRoot(this);
    if (fanotifyCalls() === undefined) skip(this, "fanotify needs koffi and a kernel that has it");
    requirePrograms(this, "make", "python3");
    await using bench = await WatchBench.create({ actors: true });
    await bench.folder.write("Makefile", `clean:\n\tpython3 -c "${REMOVE_AND_STAY}" out/a.o\n`);
    for (const name of ["a.o", "b.o"]) await bench.folder.write(`out/${name}`, name);
    execFileSync("cp", [execFileSync("which", ["rm"], { encoding: "utf8" }).trim(), bench.folder.at("make")]);
    await bench.protect();
    await bench.quiet();
    execFileSync("make", ["-s", "clean"], { cwd: bench.folder.path });
    await bench.until("it is accepted", () => bench.paths("file.removed").includes("out/a.o"));
    execFileSync(bench.folder.at("make"), [bench.folder.at("out/b.o")]);
    await bench.until("it is lost", () => bench.paths("file.lost").includes("out/b.o"));
    expect(bench.losses).to.have.length(1);
  });

  it("takes for make and git what they start to remove where they work, and nothing elsewhere", async function () {
    requireRoot(this);
    if (fanotifyCalls() === undefined) skip(this, "fanotify needs koffi and a kernel that has it");
    requirePrograms(this, "make", "git", "python3");
    await using bench = await WatchBench.create({ actors: true });
    for (const name of ["app/out/a.o", "app/out/b.o", "papers/plan.txt", "papers/other.txt"])
      await bench.folder.write(name, name);
    const cwd = bench.folder.at("app");
    execFileSync("git", ["init", "-q"], { cwd });
    const removal = (one: string, two: string): string =>
      [one, two].map((path) => `python3 -c "${REMOVE_AND_STAY}" ${path} &`).join(" ") + " wait";
    await bench.folder.write("app/Makefile", `clean:\n\t${removal("out/a.o", "../papers/plan.txt")}\n`);
    await bench.folder.write(
      "app/.git/hooks/post-commit",
      `#!/bin/sh\n${removal("out/b.o", "../papers/other.txt")}\n`,
      0o755,
    );
    await bench.protect({ mass: { files: 1000, share: 1 } });
    await bench.quiet();
    execFileSync("make", ["-s", "-C", cwd, "clean"], { cwd: "/" });
    const identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    execFileSync("git", [...identity, "-C", cwd, "commit", "-q", "--allow-empty", "-m", "one"], { cwd: "/" });
    await bench.until("the verdicts", () => bench.losses.length + bench.paths("file.removed").length >= 4);
    expect(bench.paths("file.removed").filter((path) => path.endsWith(".o"))).to.have.members([
      "app/out/a.o",
      "app/out/b.o",
    ]);
    expect(bench.paths("file.lost")).to.have.members(["papers/plan.txt", "papers/other.txt"]);
  });

  it("takes what a process set aside and removes when it has saved the file anew as meant, nothing else of its own", async function () {
    requirePrograms(this, "python3");
    requireRoot(this);
    if (fanotifyCalls() === undefined) skip(this, "fanotify needs koffi and a kernel that has it");
    await using bench = await WatchBench.create({ actors: true });
    for (const name of ["saved", "moved", "overwritten", "replaced"]) await bench.folder.write(name, `${name}, before`);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    await promisify(execFile)("python3", ["-c", MAKE_AND_REMOVE], { cwd: bench.folder.path });
    await bench.until("the verdicts", () => bench.losses.length + bench.paths("file.removed").length >= 6);
    await bench.quiet();
    expect([...bench.paths("file.lost")].sort()).to.deep.equal(["moved~", "overwritten", "replaced", "temporary"]);
    expect([...bench.paths("file.removed")].sort()).to.deep.equal(["moved", "saved~"]);
  });

  it("is unknown, and that is said once and not as a fault, where nobody may listen", async () => {
    const said: string[] = [];
    const log = { ...silentObserver.log, info: (event: string) => void said.push(event) };
    process.env["HOLDFAST_NO_NATIVE"] = "1";
    try {
      await using actors = new Actors({ clock: systemClock, log });
      actors.watch(at("/tmp"));
      actors.watch(at("/var"));
      expect(await actors.whoDid("removed", [at("/tmp/x")])).to.deep.equal([]);
      expect(said).to.deep.equal(["watch.actors_unknown"]);
    } finally {
      delete process.env["HOLDFAST_NO_NATIVE"];
    }
  });

  describe("from events", () => {
    const folders = new Map<string, BytePath>([["d", at("/srv/data/d")]]);
    const TOOL_PID = 9;
    const bookOf = (): DeedBook => {
      const book = new DeedBook(
        {
          pathOf: ({ folder }) => folders.get(folder.toString("latin1")),
          actorOf: (pid) => ({
            pid,
            program: `p${String(pid)}`,
            user: undefined,
            loginUser: undefined,
            tool: pid === TOOL_PID ? "git" : undefined,
          }),
          monotonicMs: () => 0,
          nowMs: () => 0,
        },
        1,
      );
      book.watchOnly([ROOT]);
      return book;
    };
    const event = (mask: bigint, pid: number, [folder, name]: readonly [string, string], self = ""): FanEvent => ({
      mask,
      pid,
      place: { fileSystem: "f", folder: Buffer.from(folder), name },
      target: undefined,
      self: self === "" ? undefined : Buffer.from(self),
    });

    it("names what went in folders that were gone already, when the removal of the last folder tells where", () => {
      const book = bookOf();
      book.take(event(FAN.delete, 7, ["gone2", "file.txt"]));
      book.take(event(FAN.delete | FAN.onFolder, 7, ["gone1", "inner"], "gone2"));
      expect(book.whoDid("removed", at("/srv/data/d/outer/inner/file.txt"))).to.equal(undefined);
      book.take(event(FAN.delete | FAN.onFolder, 7, ["d", "outer"], "gone1"));
      expect(book.whoDid("removed", at("/srv/data/d/outer/inner/file.txt"))?.program).to.equal("p7");
    });

    it("is never our own process, and nobody for what is outside or was only written", () => {
      const book = bookOf();
      book.take(event(FAN.delete, 1, ["d", "a"]));
      book.take(event(FAN.closeWrite, 8, ["d", "b"]));
      expect(book.whoDid("removed", at("/srv/data/d/a"))).to.equal(undefined);
      expect(book.whoDid("removed", at("/srv/data/d/b"))).to.equal(undefined);
      expect(book.whoDid("written", at("/srv/data/d/b"))?.pid).to.equal(8);
    });

    it("is a tool only for what the tool was seen to remove, not for what went unseen beside it", () => {
      const book = bookOf();
      book.take(event(FAN.delete, TOOL_PID, ["d", "a"]));
      expect(book.whoDid("removed", at("/srv/data/d/a"))?.tool).to.equal("git");
      expect(book.whoDid("removed", at("/srv/data/d/b"))).to.include({ pid: TOOL_PID, tool: undefined, isGuess: true });
      book.take(event(FAN.delete | FAN.onFolder, TOOL_PID, ["d", "sub"], "sub"));
      expect(book.whoDid("removed", at("/srv/data/d/sub/c"))).to.include({ pid: TOOL_PID, tool: undefined });
    });

    it("is nobody, for what went unseen, when more than one process removed things in that folder", () => {
      const book = bookOf();
      book.take(event(FAN.delete, 7, ["d", "a"]));
      expect(book.whoDid("removed", at("/srv/data/d/c"))).to.include({ pid: 7, isGuess: true });
      book.take(event(FAN.delete, 8, ["d", "b"]));
      expect(book.whoDid("removed", at("/srv/data/d/c"))).to.equal(undefined);
      expect(book.whoDid("removed", at("/srv/data/d/a"))?.pid).to.equal(7);
      expect(book.whoDid("removed", at("/srv/data/d/a"))?.isGuess).to.equal(undefined);
    });

    it("says that it is only probable who did what went unseen", () => {
      const actor = { pid: 7, program: "rm", user: "ada", loginUser: undefined, tool: undefined };
      expect(withActor("gone", actor)).to.equal("gone, by rm (process 7, user ada)");
      expect(withActor("gone", { ...actor, isGuess: true })).to.equal("gone, probably by rm (process 7, user ada)");
    });

    it("works for a tool where that is when it starts anything, or where the outer one is", async () => {
      await using proc = await TempFolder.create("proc");
      const process = async (pid: number, parent: number, cwd: string): Promise<void> => {
        await proc.write(`${String(pid)}/status`, `PPid:\t${String(parent)}\nUid:\t0\t0\t0\t0\n`);
        rmSync(proc.at(`${String(pid)}/cwd`), { force: true });
        symlinkSync(cwd, proc.at(`${String(pid)}/cwd`));
      };
      const book = new ProcessBook(() => 0, proc.path);
      await process(60, 1, "/home/ada");
      book.started(60, "make", "/usr/bin");
      await process(60, 1, "/srv/app"); // it was told to with -C
      for (const [pid, parent, cwd] of [
        [61, 60, "/srv/app"],
        [62, 61, "/etc"],
        [63, 61, "/srv/app/lib"],
      ] as const)
        await process(pid, parent, cwd);
      book.started(61, "sh", "/usr/bin");
      book.started(62, "rm", "/usr/bin");
      book.started(63, "make", "/usr/bin");
      await process(64, 63, "/srv/app/lib");
      book.started(64, "rm", "/usr/bin");
      const works = [60, 62, 63, 64].map((pid) => [book.of(pid).tool, book.of(pid).worksFor?.folder]);
      expect(works).to.deep.equal([
        ["make", undefined],
        ["make", "/srv/app"],
        ["make", undefined],
        ["make", "/srv/app"],
      ]);
    });

    it("means what a tool takes away itself anywhere, for others only where its work is", () => {
      const actor = { pid: 7, program: "rm", user: undefined, loginUser: undefined };
      const meant = (tool: string, folder: string | undefined, path: string): boolean =>
        meantByTool(
          { ...actor, tool, worksFor: { folder: folder === undefined ? undefined : at(folder) } },
          at(path),
        ) !== undefined;
      expect(meantByTool({ ...actor, tool: "git" }, at("/srv/x"))).to.equal("taken away by git");
      expect(meantByTool({ ...actor, tool: "git", isGuess: true }, at("/srv/x"))).to.equal(undefined);
      expect([meant("make", "/srv/app", "/srv/app/x"), meant("make", "/srv/app", "/srv/apples")]).to.deep.equal([
        true,
        false,
      ]);
      expect([meant("make", "/", "/srv/x"), meant("make", undefined, "/srv/x")]).to.deep.equal([false, false]);
      expect([meant("dpkg", "/", "/etc/x.conf"), meant("dpkg", "/", "/home/ada/x")]).to.deep.equal([true, false]);
    });

    it("remembers a program from its start: of a script the script, and a number used again is another", () => {
      let nowMs = 0;
      const book = new ProcessBook(() => nowMs, "/nowhere");
      for (const name of ["tidy.sh", "bash", "ld-linux-x86-64.so.2"]) book.started(40, name, "/opt");
      expect(book.of(40).program).to.equal("tidy.sh");
      nowMs += 5;
      for (const name of ["r\u001bm", "ld-linux-x86-64.so.2"]) book.started(40, name, "/tmp");
      expect(book.of(40).program).to.equal("r?m");
      const nobody = { user: undefined, loginUser: undefined, tool: undefined };
      expect(book.of(41)).to.deep.equal({ pid: 41, program: "", ...nobody });
    });

    it("is the program that a script handed over to, though the kernel told of the interpreter but once", async () => {
      await using proc = await TempFolder.create("proc");
      const book = new ProcessBook(() => 0, proc.path);
      const starts = ["clean", "bash", "ld-linux-x86-64.so.2", "choose"]; // both are run by bash
      const names = async (pid: number, last: string, commandLine: string): Promise<string> => {
        if (commandLine !== "") await proc.write(`${String(pid)}/cmdline`, commandLine);
        for (const name of [...starts, last]) book.started(pid, name, "/usr/bin");
        return book.of(pid).program;
      };
      expect(await names(71, "python3.11", "python3\0-c\0import os\0choose")).to.equal("python3.11");
      expect(await names(72, "python3.11", "python3.11\0-I\0/opt/bin/choose\0--all")).to.equal("choose");
      expect(await names(73, "rm", "")).to.equal("choose", "it has ended");
      expect(await names(74, "git", "git\0clean")).to.equal("git");
      expect(book.of(74).tool).to.equal("git");
    });

    it("is a tool of the system only where that keeps its programs, whoever else bears the name", () => {
      const book = new ProcessBook(() => 0, "/nowhere");
      book.started(50, "git", "/usr/bin");
      book.started(51, "git", "/home/eve/bin");
      book.started(52, "rm", "/usr/bin");
      expect([50, 51, 52].map((pid) => book.of(pid).tool)).to.deep.equal(["git", undefined, undefined]);
    });

    it("works for the tool that started it only for a while, and a number used again is no tool", () => {
      let nowMs = 0;
      const book = new ProcessBook(() => nowMs, "/nowhere");
      book.started(50, "git", "/usr/bin");
      expect(book.of(50)).to.include({ program: "git", tool: "git" });
      nowMs += 3_600_000;
      expect(book.of(50).tool).to.equal(undefined);
    });

    it("takes any bytes without an exception", () => {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void parseFanEvents(Buffer.from(bytes))));
    });
  });
});
