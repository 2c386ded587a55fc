/** Ears that ask the kernel themselves: what happens is heard, wherever it happens, or it is said that it was not. */
import { chmodSync, mkdirSync, renameSync, rmSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import { nativeCalls } from "../../src/base/native.js";
import { type InotifyCalls, inotifyCalls } from "../../src/base/native-inotify.js";
import type { HeardEvent } from "../../src/monitor/watch/ear-port.js";
import { parseInotifyEvents } from "../../src/monitor/watch/inotify-events.js";
import { KernelEars } from "../../src/monitor/watch/kernel-ears.js";
import { skip } from "../support/requirements.js";
import { TempFolder } from "../support/temp-folder.js";

/** More than wait in the kernel's queue, and in what is read of it at once. */
const MORE_THAN_FIT = 60_000;

/** Ears on a folder, with everything they said. */
class Listening implements AsyncDisposable {
  readonly folder: TempFolder;
  readonly heard: HeardEvent[] = [];
  readonly failures: string[] = [];
  floods = 0;
  readonly ears: KernelEars;

  constructor(folder: TempFolder, calls: InotifyCalls) {
    this.folder = folder;
    this.ears = new KernelEars(calls, () => (this.floods += 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ears[Symbol.asyncDispose]();
  }

  async listen(name = "", shallow = false) {
    return await this.ears.listen(name === "" ? this.folder.path : this.folder.at(name), shallow, {
      heard: (events) => void this.heard.push(...events),
      failed: (message) => void this.failures.push(message),
    });
  }

  /** Paths below the folder of what was heard. */
  paths(type?: HeardEvent["type"]): ReadonlySet<string> {
    const told = this.heard.filter((event) => type === undefined || event.type === type);
    return new Set(told.map(({ path }) => path.slice(this.folder.path.length + 1)));
  }

  async until(what: string, isDone: () => boolean): Promise<void> {
    for (let waitedMs = 0; !isDone(); waitedMs += 10) {
      if (waitedMs > 10_000) throw new Error(`${what}: not within 10 s; heard ${[...this.paths()].join(" ")}`);
      await delay(10);
    }
  }
}

describe("ears that ask the kernel", () => {
  let calls: InotifyCalls;

  before(function () {
    calls = inotifyCalls() ?? skip(this, "koffi is not installed here");
  });

  it("hear of every file that is saved, also of those that come while others are passed on", async () => {
    await using folder = await TempFolder.create("ears");
    await using listening = new Listening(folder, calls);
    await listening.listen();
    const names = Array.from({ length: 500 }, (_none, index) => `file-${String(index)}`);
    for (const [index, name] of names.entries()) {
      writeFileSync(folder.at("draft"), name);
      renameSync(folder.at("draft"), folder.at(name));
      if (index % 7 === 0) await delay(1);
    }
    await listening.until("all names", () => names.every((name) => listening.paths().has(name)));
  });

  it("hear in folders that are made and filled at once, and that are moved in, without listening anew", async () => {
    await using folder = await TempFolder.create("ears");
    await using elsewhere = await TempFolder.create("elsewhere");
    await elsewhere.write("moved/deep/down", "x");
    await using listening = new Listening(folder, calls);
    await listening.listen();
    mkdirSync(folder.at("made/a/b/c"), { recursive: true });
    writeFileSync(folder.at("made/a/b/c/file"), "x");
    renameSync(elsewhere.at("moved"), folder.at("moved"));
    await listening.until("both", () =>
      ["made/a/b/c/file", "moved/deep/down"].every((one) => listening.paths().has(one)),
    );
    listening.heard.length = 0;
    writeFileSync(folder.at("made/a/b/c/later"), "x");
    writeFileSync(folder.at("moved/deep/later"), "x");
    await listening.until("later", () =>
      ["made/a/b/c/later", "moved/deep/later"].every((one) => listening.paths().has(one)),
    );
  });

  it("call a renamed folder by its new name, and one that is made anew under an old name too", async () => {
    await using folder = await TempFolder.create("ears");
    await folder.write("old/inner/file", "x");
    await using listening = new Listening(folder, calls);
    await listening.listen();
    renameSync(folder.at("old"), folder.at("new"));
    await listening.until("the rename", () => listening.paths().has("new/inner/file"));
    await folder.write("old/inner/other", "x");
    rmSync(folder.at("old"), { recursive: true });
    await folder.write("old/inner/other", "x");
    await listening.until("the folder anew", () => listening.paths("create").has("old/inner/other"));
    await delay(100);
    listening.heard.length = 0;
    writeFileSync(folder.at("new/inner/file"), "y");
    writeFileSync(folder.at("old/inner/other"), "y");
    await listening.until("both", () => listening.paths("update").size >= 2);
    expect(listening.paths()).to.deep.equal(new Set(["new/inner/file", "old/inner/other"]));
  });

  it("hear in folders that come in one delivery, whatever was in each of them before it was watched", async () => {
    await using folder = await TempFolder.create("ears");
    const names = ["one", "two", "three"];
    for (const name of names) await folder.write(`${name}-made/inner/file`, "x");
    mkdirSync(folder.at("root"));
    await using listening = new Listening(folder, calls);
    await listening.listen("root");
    mkdirSync(folder.at("root/first")); // the read that waits gets this one; the others come together
    for (const name of names) renameSync(folder.at(`${name}-made`), folder.at(`root/${name}`));
    await listening.until("what is in them", () =>
      names.every((name) => listening.paths().has(`root/${name}/inner/file`)),
    );
  });

  it("hear in both of two folders that swapped their names in one step", async function () {
    const native = nativeCalls() ?? skip(this, "koffi is not installed here");
    await using folder = await TempFolder.create("ears");
    await folder.write("a/inner/file", "x");
    await folder.write("b/inner/file", "x");
    await using listening = new Listening(folder, calls);
    await listening.listen();
    native.renameAs(Buffer.from(folder.at("a")), Buffer.from(folder.at("b")), "exchange");
    await listening.until("both", () => listening.paths().has("a/inner/file") && listening.paths().has("b/inner/file"));
    await listening.ears.settle();
    listening.heard.length = 0;
    for (const name of ["a/new", "b/new", "a/inner/new", "b/inner/new"]) writeFileSync(folder.at(name), "x");
    await listening.until("all four", () => listening.paths("create").size === 4);
  });

  it("hear in a folder that nobody might read when it came, once it may be read", async () => {
    await using folder = await TempFolder.create("ears");
    let isShut = true;
    const limited: InotifyCalls = {
      ...calls,
      watch: (queue, mask, path) => {
        const isRefused = isShut && Buffer.from(path).toString().endsWith("/shut");
        if (isRefused) throw Object.assign(new Error("EACCES: inotify_add_watch failed"), { code: "EACCES" });
        return calls.watch(queue, mask, path);
      },
    };
    await using listening = new Listening(folder, limited);
    await listening.listen();
    mkdirSync(folder.at("shut"), { mode: 0o000 });
    writeFileSync(folder.at("shut/file"), "x");
    await listening.until("the folder", () => listening.paths().has("shut"));
    expect(listening.failures).to.deep.equal([]);
    isShut = false;
    chmodSync(folder.at("shut"), 0o755);
    await listening.until("what is in it", () => listening.paths().has("shut/file"));
  });

  it("tell of a file that is replaced and deleted in one breath", async () => {
    await using folder = await TempFolder.create("ears");
    await folder.write("file", "x");
    await using listening = new Listening(folder, calls);
    await listening.listen();
    writeFileSync(folder.at("file.new"), "y");
    renameSync(folder.at("file.new"), folder.at("file"));
    unlinkSync(folder.at("file"));
    await listening.until("the deletion", () => listening.paths("delete").has("file"));
  });

  it("say when the kernel's queue ran over", async () => {
    await using folder = await TempFolder.create("ears");
    const [one, two] = [await folder.write("one", "x"), await folder.write("two", "x")];
    await using listening = new Listening(folder, calls);
    await listening.listen();
    for (let count = 0; count < MORE_THAN_FIT; count += 1) utimesSync(count % 2 === 0 ? one : two, count, count);
    await listening.until("the flood", () => listening.floods > 0 && listening.ears.floods() === listening.floods);
  });

  it("go on for others when those of an overlapping folder are closed", async () => {
    await using folder = await TempFolder.create("ears");
    await folder.write("inner/deep/file", "x");
    await using listening = new Listening(folder, calls);
    const whole = await listening.listen();
    await listening.listen("inner", true);
    await whole.close();
    writeFileSync(folder.at("inner/deep/file"), "y");
    writeFileSync(folder.at("inner/shallow"), "y");
    await listening.until("the shallow one", () => listening.paths().has("inner/shallow"));
    await listening.ears.settle();
    expect(listening.paths()).to.not.include("inner/deep/file");
  });

  it("say once that a new folder cannot be watched, and hear it when they listen anew", async () => {
    await using folder = await TempFolder.create("ears");
    let isFull = false;
    const limited: InotifyCalls = {
      ...calls,
      watch: (...asked) => {
        if (isFull) throw Object.assign(new Error("ENOSPC: inotify_add_watch failed"), { code: "ENOSPC" });
        return calls.watch(...asked);
      },
    };
    await using listening = new Listening(folder, limited);
    const ear = await listening.listen();
    isFull = true;
    mkdirSync(folder.at("first"));
    mkdirSync(folder.at("second"));
    await listening.until("both", () => listening.paths().size >= 2);
    expect(listening.failures).to.deep.equal(["ENOSPC: inotify_add_watch failed"]);
    isFull = false;
    await ear.renew();
    writeFileSync(folder.at("second/file"), "x");
    await listening.until("the file", () => listening.paths().has("second/file"));
  });

  it("listen anew to the folders that came, not to the whole tree, and find what stands in another's place", async () => {
    await using folder = await TempFolder.create("ears");
    for (let index = 0; index < 50; index += 1) await folder.folder(`old/${String(index)}`);
    const watched: string[] = [];
    let isBlind = true;
    const counted: InotifyCalls = {
      ...calls,
      watch: (queue, mask, path) => {
        watched.push(Buffer.from(path).toString());
        if (isBlind && watched.at(-1)?.includes("new") === true)
          throw Object.assign(new Error("EACCES: inotify_add_watch failed"), { code: "EACCES" });
        return calls.watch(queue, mask, path);
      },
    };
    await using listening = new Listening(folder, counted);
    const ear = await listening.listen();
    await folder.write("old/7/new/deep/file", "x"); // nobody can watch it yet
    await listening.until("the folder", () => listening.paths().has("old/7/new"));
    isBlind = false;
    watched.length = listening.heard.length = 0;
    await ear.renew([folder.at("old/7/new/deep"), folder.at("gone")]);
    expect(watched.map((path) => path.slice(folder.path.length + 1))).to.deep.equal([
      "old",
      "old/7",
      "old/7/new",
      "gone",
      "old/7/new/deep",
    ]);
    await listening.ears.settle();
    expect(listening.paths("create"), "told, since it was not heard").to.include("old/7/new/deep/file");
    writeFileSync(folder.at("old/7/new/deep/file"), "y");
    await listening.until("the write", () => listening.paths("update").has("old/7/new/deep/file"));
  });

  it("cannot be had on a folder that is not there, and hear the folder when it comes", async () => {
    await using folder = await TempFolder.create("ears");
    await folder.write("root/file", "x");
    await using listening = new Listening(folder, calls);
    const ear = await listening.listen("root");
    rmSync(folder.at("root"), { recursive: true });
    await listening.until("its end", () => listening.paths("delete").has("root"));
    const refused = await ear.renew().then(
      () => "",
      (error: unknown) => String(error),
    );
    expect(refused).to.include("cannot be watched");
    await folder.write("root/file", "x");
    await ear.renew();
    listening.heard.length = 0;
    writeFileSync(folder.at("root/file"), "y");
    await listening.until("the file", () => listening.paths().has("root/file"));
  });

  it("read no event where there is none, whatever the bytes are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const { name } of parseInotifyEvents(Buffer.from(bytes))) expect(name.length).to.be.lessThan(200);
      }),
    );
  });
});
