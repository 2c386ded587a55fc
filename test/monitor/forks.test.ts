/** Which process began which: heard from the kernel, so that it is known of what has ended before anybody looked. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import type { BytePath } from "../../src/base/paths.js";
import { Actors } from "../../src/monitor/watch/actors.js";
import { type Fork, Forks, parseFork } from "../../src/monitor/watch/forks.js";
import { ProcessBook } from "../../src/monitor/watch/processes.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { TempFolder, useTempFolder } from "../support/temp-folder.js";

const FORK = 1;
const EXEC = 2;
/** Both headers, then kind, processor and time. */
const NUMBERS_OFFSET = 16 + 20 + 16;
const NO_PROCESS = "/nonexistent";
const GONE = 4_000_001;
const FORKS_MAX = 32_768;
/** Questions that take the thread some 50 ms each. */
const QUESTIONS = 3;
const DEPTH = 200;

function message(kind: number, ...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(76);
  bytes.writeUInt32LE(kind, 36);
  for (const [index, number] of numbers.entries()) bytes.writeInt32LE(number, NUMBERS_OFFSET + index * 4);
  return bytes;
}

describe("who began whom", () => {
  it("is read from the kernel's message of a new process, not of a thread, a program or anything else", () => {
    expect(parseFork(message(FORK, 7, 6, 9, 9))).to.deep.equal({ parent: 6, child: 9 });
    expect(parseFork(message(FORK, 7, 6, 10, 9))).to.equal(undefined);
    expect(parseFork(message(EXEC, 9, 9, 0, 0))).to.equal(undefined);
    expect(parseFork(message(FORK, 7, 6, 9, 9).subarray(0, 60))).to.equal(undefined);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void parseFork(Buffer.from(bytes))));
  });

  it("is heard of a process that has ended", function () {
    requireRoot(this);
    using forks = new Forks();
    if (!forks.isListening) skip(this, "the kernel tells of no forks here");
    const { pid } = spawnSync("true");
    const heard: Fork[] = [];
    forks.read((fork) => heard.push(fork));
    expect(heard).to.deep.include({ parent: process.pid, child: pid });
  });

  describe("for what it did", () => {
    const folder = useTempFolder("proc");

    it("makes what has ended the work of the tool that began it, where that is", async () => {
      await folder().write("5/status", "PPid:\t1\nUid:\t0\t0\t0\t0\n");
      execFileSync("ln", ["-s", "/srv/app", folder().at("5/cwd")]);
      const book = new ProcessBook(() => 0, folder().path);
      book.started(5, "make", "/usr/bin");
      book.forked({ parent: 5, child: GONE });
      book.started(GONE, "rm", "/usr/bin");
      expect(book.of(GONE)).to.include({ program: "rm", tool: "make" });
      expect(book.of(GONE).worksFor).to.deep.equal({ folder: "/srv/app" });
    });

    it("places a tool that has ended where it was begun, and nothing whose beginning nobody heard", async () => {
      await folder().write("6/status", "PPid:\t1\nUid:\t0\t0\t0\t0\n");
      execFileSync("ln", ["-s", "/srv/app", folder().at("6/cwd")]);
      const book = new ProcessBook(() => 0, folder().path);
      book.forked({ parent: 6, child: GONE });
      book.started(GONE, "make", "/usr/bin");
      book.forked({ parent: GONE, child: GONE + 1 });
      book.started(GONE + 1, "rm", "/usr/bin");
      expect(book.of(GONE + 1).worksFor).to.deep.equal({ folder: "/srv/app" });
      book.started(GONE + 2, "rm", "/usr/bin");
      expect(book.of(GONE + 2)).to.include({ program: "rm", tool: undefined });
    });

    it("remembers the newest only, and of a number that is used again the newer beginning", () => {
      const book = new ProcessBook(() => 0, NO_PROCESS);
      book.started(5, "make", "/usr/bin");
      book.forked({ parent: 5, child: GONE });
      book.forked({ parent: 8, child: GONE });
      book.started(GONE, "rm", "/usr/bin");
      expect(book.of(GONE).tool).to.equal(undefined);
      book.forked({ parent: 5, child: GONE + 1 });
      for (let child = 0; child < FORKS_MAX; child += 1) book.forked({ parent: 8, child });
      book.started(GONE + 1, "rm", "/usr/bin");
      expect(book.of(GONE + 1).tool).to.equal(undefined);
    });
  });

  it("tells the work of make from anybody's, also when all of it has ended before it is looked at", async function () {
    requireRoot(this);
    requirePrograms(this, "make");
    {
      using forks = new Forks();
      if (!forks.isListening) skip(this, "the kernel tells of no forks here");
    }
    await using folder = await TempFolder.create("actors");
    mkdirSync(folder.at("out"));
    writeFileSync(folder.at("Makefile"), "clean:\n\trm -f out/a; rm -f out/b\n");
    for (const name of ["a", "b", "c"]) writeFileSync(folder.at(`out/${name}`), "made");
    await using actors = new Actors({ clock: systemClock, log: silentObserver.log });
    actors.watch(folder.bytes());
    while (!actors.isListening) await new Promise((resolve) => setTimeout(resolve, 5));
    // So that nobody can look at what runs: everything has ended when the first deed is read.
    const deep = Array.from({ length: 2000 }, () => `/nowhere${"/x".repeat(DEPTH)}` as BytePath);
    const distracting = Array.from({ length: QUESTIONS }, () => actors.whoDid("removed", deep));
    execFileSync("make", ["-s", "clean"], { cwd: folder.path });
    execFileSync("rm", [folder.at("out/c")]);
    await Promise.all(distracting);
    const removed = ["a", "b", "c"].map((name) => folder.bytes(`out/${name}`));
    let who = await actors.whoDid("removed", removed);
    while (who.length === 0) who = await actors.whoDid("removed", removed); // a busy machine is slow to answer
    expect(who.map((actor) => [actor?.program, actor?.tool])).to.deep.equal([
      ["rm", "make"],
      ["rm", "make"],
      ["rm", undefined],
    ]);
  });
});
