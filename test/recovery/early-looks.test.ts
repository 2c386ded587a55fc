/** Looks at processes that are made while the grace of a loss runs: what they spare, and what they never hide. */
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { type HeldFile, ProcessFiles } from "../../src/recovery/proc.js";
import { openFilesStrategy } from "../../src/recovery/strategies/open-files.js";
import { FakeClock } from "../support/fake-clock.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("an early look at processes", () => {
  const folder = useTempFolder("early-looks");
  const missed = { path: "/data/lost" as BytePath, seenAtMs: 1000 };

  /** A made-up /proc in which process 4242 holds a deleted file, and 99 is a thread of the kernel. */
  async function processes(): Promise<{
    readonly files: ProcessFiles;
    readonly clock: FakeClock;
    readonly holdIt: () => Promise<void>;
  }> {
    const clock = new FakeClock();
    await folder().write("held (deleted)", "text");
    for (const pid of ["4242", "99"]) {
      await mkdir(folder().at(`proc/${pid}/fd`), { recursive: true });
      await writeFile(folder().at(`proc/${pid}/maps`), "");
    }
    await writeFile(folder().at("proc/4242/maps"), "00400000-00b6f000 r--p 00000000 fe:00 247580 /usr/bin/node\n");
    const holdIt = async (): Promise<void> =>
      await symlink(folder().at("held (deleted)"), folder().at("proc/4242/fd/7"));
    return { files: new ProcessFiles(clock, folder().at("proc")), clock, holdIt };
  }

  const all = (): boolean => true;
  const pidsOf = (held: readonly HeldFile[]): number[] => held.map(({ pid }) => pid);

  it("answers for the path that was missed before it, and for no other deletion", async () => {
    const { files, clock, holdIt } = await processes();
    files.lookEarly(missed);
    await clock.advance(20);
    expect(await files.heldOf(missed, all, NEVER)).to.deep.equal([]);
    await holdIt(); // cannot happen to the lost inode: shows who is looked at anew
    expect(await files.heldOf(missed, all, NEVER)).to.deep.equal([]);
    expect(pidsOf(await files.heldOf({ ...missed, seenAtMs: 2000 }, all, NEVER))).to.deep.equal([4242]);
    expect(pidsOf(await files.heldOf({ ...missed, path: "/data/b" as BytePath }, all, NEVER))).to.deep.equal([4242]);
    await clock.advance(10_001);
    expect(pidsOf(await files.heldOf(missed, all, NEVER)), "it is too old").to.deep.equal([4242]);
  });

  it("does not stand for what was found: who holds the file now is looked at anew", async () => {
    const { files, clock, holdIt } = await processes();
    await holdIt();
    files.lookEarly(missed);
    await clock.advance(20);
    expect(pidsOf(await files.heldOf(missed, all, NEVER))).to.deep.equal([4242]);
    await rm(folder().at("proc/4242/fd/7"));
    await clock.advance(300);
    expect(await files.heldOf(missed, all, NEVER)).to.deep.equal([]);
  });

  it("takes together what is missed at once, and comes at most every 400 ms", async () => {
    const { files, clock, holdIt } = await processes();
    files.lookEarly(missed);
    const second = { ...missed, path: "/data/second" as BytePath };
    files.lookEarly(second);
    await clock.advance(20);
    const third = { ...missed, path: "/data/third" as BytePath };
    files.lookEarly(third);
    await clock.advance(399);
    await files.heldOf(second, all, NEVER);
    await holdIt();
    expect(await files.heldOf(second, all, NEVER), "seen with the first").to.deep.equal([]);
    await clock.advance(1); // the third's look
    expect(pidsOf(await files.heldOf(third, all, NEVER))).to.deep.equal([4242]);
  });

  it("passes over the kernel's threads for 30 s, and not over another process of that number", async () => {
    const { files, clock } = await processes();
    const look = async (): Promise<number[]> => {
      await clock.advance(300);
      return pidsOf(await files.deletedFiles(NEVER));
    };
    expect(await look()).to.deep.equal([]);
    await symlink(folder().at("held (deleted)"), folder().at("proc/99/fd/3"));
    expect(await look()).to.deep.equal([]);
    await clock.advance(30_000);
    expect(await look()).to.deep.equal([99]);
    await rm(folder().at("proc/99/fd/3"));
    expect(await look()).to.deep.equal([]);
    await mkdir(folder().at("proc/new/fd"), { recursive: true });
    await writeFile(folder().at("proc/new/maps"), "");
    await symlink(folder().at("held (deleted)"), folder().at("proc/new/fd/3"));
    await rm(folder().at("proc/99"), { recursive: true });
    await rename(folder().at("proc/new"), folder().at("proc/99"));
    expect(await look()).to.deep.equal([99]);
  });

  it("is made for what will be healed at once, and not where a person decides", async () => {
    const asked: string[] = [];
    const strategy = {
      ...openFilesStrategy(new ProcessFiles(new FakeClock())),
      prepare: ({ path }: { readonly path: BytePath }): void => void asked.push(path),
    };
    for (const mode of ["protect", "mirror", "ask", "alert", "ignore", "append-only"] as const) {
      await using rig = await RecoveryRig.create(folder(), { strategies: [strategy], policy: { mode } });
      await rig.start();
      rig.bus.emit("file.missed", { source: "data", path: mode as BytePath, seenAtMs: 1 });
    }
    expect(asked).to.deep.equal(["protect", "append-only"]);
  });
});
