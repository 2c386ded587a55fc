/** The pure parts of judging: bursts, modes, mounts, git's index, own writes, what appeared lately. */
import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { Arrivals } from "../../src/monitor/intent/arrivals.js";
import { pathsInIndex } from "../../src/monitor/intent/git-index.js";
import { isPutAwayHelper } from "../../src/monitor/intent/helper-files.js";
import { InstallersAtWork, rebuiltModules } from "../../src/monitor/intent/installers.js";
import { TrashKnowledge } from "../../src/monitor/intent/trash.js";
import { isBeginningOf, untornPart } from "../../src/monitor/judge/torn.js";
import { OwnWriteLedger } from "../../src/monitor/ledger.js";
import { MassBreaker } from "../../src/monitor/mass.js";
import { type RegistryRecord, monitorSublevel } from "../../src/monitor/registry.js";
import { ModeRules } from "../../src/monitor/rules.js";
import { watchLimitReason } from "../../src/monitor/watch/limits.js";
import { coveringMount, judgeRoot, mountOf, readMounts } from "../../src/monitor/watch/mounts.js";
import { FakeClock } from "../support/fake-clock.js";
import { requirePrograms } from "../support/requirements.js";
import { StateStore } from "../support/state-store.js";
import { useTempFolder } from "../support/temp-folder.js";

const at = (path: string): BytePath => path as BytePath;
const LIMITS = { files: 50, share: 0.2, minFiles: 10, withinMs: 60_000 };

describe("the breaker for mass losses", () => {
  const cases: readonly [losses: number, files: number, isMass: boolean][] = [
    [1, 1, false],
    [9, 9, false],
    [10, 49, true],
    [10, 51, false],
    [50, 1000, false],
    [51, 100_000, true],
  ];
  for (const [losses, files, isMass] of cases) {
    it(`${isMass ? "holds" : "lets pass"} ${String(losses)} of ${String(files)}`, () =>
      expect(new MassBreaker(LIMITS).isMass(losses, files, 0)).to.equal(isMass));
  }

  it("counts what was told one by one within the window", () => {
    const breaker = new MassBreaker(LIMITS);
    for (let index = 0; index < 50; index += 1) breaker.noteSingle(index);
    expect(breaker.isMass(1, 1000, 59_000)).to.equal(true);
    expect(breaker.isMass(1, 1000, 61_000)).to.equal(false);
  });

  it("lets late ones join until the window has passed", () => {
    const breaker = new MassBreaker(LIMITS);
    breaker.noteMass(1000);
    expect(breaker.isMass(1, 100_000, 60_000)).to.equal(true);
    expect(breaker.isMass(1, 100_000, 61_001)).to.equal(false);
  });

  it("waits for the end of a burst, and not for ever", () => {
    const breaker = new MassBreaker(LIMITS);
    const burst = { pending: 3, files: 1000, oldestSinceMs: 0 };
    expect(breaker.mustWait({ ...burst, nowMs: 600, quietSinceMs: 900 })).to.equal(true);
    expect(breaker.mustWait({ ...burst, nowMs: 900, quietSinceMs: 900 })).to.equal(false);
    expect(breaker.mustWait({ ...burst, nowMs: 3001, quietSinceMs: 3500 })).to.equal(false);
    expect(breaker.mustWait({ ...burst, pending: 300, nowMs: 3001, quietSinceMs: 3500 })).to.equal(true);
    expect(breaker.mustWait({ ...burst, pending: 300, nowMs: 60_001, quietSinceMs: 60_500 })).to.equal(false);
  });
});

describe("modes", () => {
  const never = (): boolean => false;

  it("take the first rule that matches, then the source's own mode, then the defaults", () => {
    const rules = new ModeRules("s", [at("/srv")], "ask", [
      { match: "*.log", mode: "ignore" },
      { match: "db/**", mode: "alert" },
      { match: "/srv/db/x.log", mode: "mirror" },
    ]);
    expect(rules.decide(at("/srv/db/x.log"), never)).to.include({ mode: "ignore", origin: "rules[0] of source s" });
    expect(rules.decide(at("/srv/db/x"), never).mode).to.equal("alert");
    expect(rules.decide(at("/srv/x"), () => true)).to.include({ mode: "ask", rule: "on_delete of source s" });
    expect(new ModeRules("s", [at("/srv")]).decide(at("/srv/x"), () => true).mode).to.equal("mirror");
    expect(new ModeRules("s", [at("/srv")]).decide(at("/srv/x"), never).mode).to.equal("protect");
  });

  it("do not mistake a neighbour of the root for something below it", () => {
    const rules = new ModeRules("s", [at("/srv")], "protect", [{ match: "a/*", mode: "ignore" }]);
    expect(rules.decide(at("/srv2/a/b"), never).mode).to.equal("protect");
  });
});

describe("mounts", () => {
  const mounts = [
    { id: "1", device: "8:1", point: at("/"), what: "ext4 /dev/a" },
    { id: "2", device: "8:17", point: at("/srv"), what: "ext4 /dev/b" },
    { id: "3", device: "0:50", point: at("/srv"), what: "nfs host:/x" },
    { id: "4", device: "0:51", point: at("/srv/app/cache"), what: "tmpfs t" },
  ];

  it("belong to the topmost of the longest mount point", () => {
    expect(mountOf(at("/srv/app"), mounts)?.id).to.equal("3");
    expect(mountOf(at("/srv2"), mounts)?.id).to.equal("1");
    expect(readMounts().some((mount) => mount.point === "/")).to.equal(true);
  });

  it("hide what is known below them", () => {
    expect(coveringMount(at("/srv/app/cache/x"), at("/srv/app"), mounts)?.id).to.equal("4");
    expect(coveringMount(at("/srv/app/x"), at("/srv/app"), mounts)).to.equal(undefined);
    expect(coveringMount(at("/srv/x"), at("/srv"), mounts)).to.equal(undefined);
  });

  const folder = useTempFolder();
  it("tell a root that is there, replaced, deleted, renamed or on other storage apart", () => {
    const root = folder().bytes("root");
    expect(judgeRoot(root, undefined).state).to.equal("gone");
    mkdirSync(folder().at("root"));
    const there = judgeRoot(root, undefined);
    if (there.state !== "there") throw new Error("the root is not there");
    renameSync(folder().at("root"), folder().at("moved"));
    expect(judgeRoot(root, there.identity)).to.deep.equal({ state: "gone", reason: "it was renamed to moved" });
    mkdirSync(folder().at("root"));
    expect(judgeRoot(root, there.identity).state).to.equal("replaced");
    rmSync(folder().at("root"), { recursive: true });
    rmSync(folder().at("moved"), { recursive: true });
    expect(judgeRoot(root, there.identity).state).to.equal("deleted");
    writeFileSync(folder().at("root"), "a file");
    expect(judgeRoot(root, there.identity).state).to.equal("gone");
    const { storage: _, ...named } = there.identity;
    const foreign = { ...named, mountWhat: "ext4 /dev/elsewhere" };
    expect(judgeRoot(root, foreign)).to.deep.equal({ state: "gone", reason: "its file system is not mounted" });
  });
});

describe("the limit on watched folders", () => {
  it("is told before it is reached, and not when it is unknown or far", () => {
    expect(watchLimitReason(899, 1000)).to.equal(undefined);
    expect(watchLimitReason(900, 1000)).to.contain("the system allows 1000");
    expect(watchLimitReason(10)).to.equal(undefined);
  });
});

describe("evidence of intent", () => {
  const folder = useTempFolder();

  it("reads git's index of versions 2, 3 and 4 as git lists it, and never fails on other bytes", function () {
    requirePrograms(this, "git");
    const git = (...args: string[]): string =>
      execFileSync("git", args, {
        cwd: folder().path,
        encoding: "utf8",
        env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null" },
      });
    git("init", "-q");
    for (const name of ["a", "a.b", "deep/er/c", "deep/er/cc", "ümlaut", `long-${"x".repeat(150)}`]) {
      mkdirSync(folder().at("deep/er"), { recursive: true });
      writeFileSync(folder().at(name), name);
    }
    git("add", ".");
    git("add", "-N", ".");
    writeFileSync(folder().at("intended"), "");
    git("add", "-N", "intended"); // makes it version 3
    const listed = new Set(
      git("ls-files", "-z")
        .split("\0")
        .filter((name) => name !== ""),
    );
    for (const version of ["2", "4"]) {
      git("update-index", "--index-version", version);
      const bytes = readFileSync(folder().at(".git/index"));
      const found = pathsInIndex(bytes) ?? new Set();
      expect(new Set([...found].map((name) => Buffer.from(name, "latin1").toString("utf8")))).to.deep.equal(listed);
      fc.assert(
        fc.property(fc.nat(), fc.nat({ max: 255 }), (place, value) => {
          const damaged = Buffer.from(bytes);
          damaged[place % damaged.length] = value;
          pathsInIndex(damaged);
          pathsInIndex(damaged.subarray(0, place % damaged.length));
        }),
      );
    }
  });

  it("finds files and folders in a home's trash, fresh ones only, with encoded names", async () => {
    const trash = folder().at(".local/share/Trash/info");
    mkdirSync(trash, { recursive: true });
    mkdirSync(folder().at(".local/share/Trash/files/f"), { recursive: true });
    writeFileSync(
      `${trash}/f.trashinfo`,
      "[Trash Info]\nPath=/srv/with%20space/f%C3%BC\nDeletionDate=2025-01-01T00:00:00\n",
    );
    writeFileSync(`${trash}/broken.trashinfo`, "nothing");
    await Promise.resolve();
    const held = (path: string, sinceMs = 0): boolean =>
      new TrashKnowledge([folder().path]).holds(at(Buffer.from(path).toString("latin1")), at("/"), 0, sinceMs);
    expect(held("/srv/with space/fü")).to.equal(true);
    expect(held("/srv/with space/fü/below/it")).to.equal(true);
    expect(held("/srv/with space")).to.equal(false);
    expect(held("/srv/with space/fü", lstatSync(trash).mtimeMs + 60_000)).to.equal(false);
  });

  it("sees npm at work by its hidden lockfile only", async () => {
    const path = folder().bytes("node_modules/p/index.js");
    expect(rebuiltModules(folder().bytes("src/index.js"), 0)).to.equal(undefined);
    expect(rebuiltModules(path, 0)).to.contain("package manager");
    await folder().write("node_modules/.package-lock.json", "{}");
    const writtenMs = lstatSync(folder().at("node_modules/.package-lock.json")).mtimeMs;
    expect(rebuiltModules(path, writtenMs + 1000)).to.contain("just now");
    expect(rebuiltModules(path, writtenMs + 60_000)).to.equal(undefined);
    expect(new InstallersAtWork().packageManager(path)).to.equal(undefined);
  });

  it("knows an inode under its newest name only, and gives each arrival to one missing path", async () => {
    const clock = new FakeClock();
    const arrivals = new Arrivals();
    const file = await folder().write("a", "12345");
    const stats = lstatSync(file, { bigint: true });
    arrivals.note(at("/old"), stats, clock);
    await clock.advance(100);
    arrivals.note(at("/x/new"), stats, clock);
    const arrival = arrivals.byInode(stats.dev, stats.ino);
    if (arrival === undefined) throw new Error("the arrival is not known");
    expect(arrival.path).to.equal("/x/new");
    expect([...arrivals.bySize(5, 0)].map(({ path }) => path)).to.deep.equal(["/x/new"]);
    expect([...arrivals.bySize(5, clock.nowMs())]).to.deep.equal([]);
    expect([...arrivals.inFolder(at("/x"), 0)]).to.have.length(1);
    expect([
      arrivals.claim(arrival, at("/m1")),
      arrivals.claim(arrival, at("/m2")),
      arrivals.claim(arrival, at("/m1")),
    ]).to.deep.equal([true, false, true]);
    await clock.advance(200_000);
    const other = lstatSync(await folder().write("b", "1"), { bigint: true });
    arrivals.note(at("/b"), other, clock);
    expect(arrivals.byInode(stats.dev, stats.ino)).to.equal(undefined);
  });
});

describe("the ledger of own writes", () => {
  it("knows an announced write once, by device, inode, size and mtime, whatever the ctime", async () => {
    const ledger = new OwnWriteLedger();
    const stat = { dev: 1n, ino: 2n, sizeBytes: 3, mtimeNs: 4n, ctimeNs: 5n };
    await ledger.expect({ path: at("/f"), stat, sha256: "aa" });
    const took = (path: string, change: Partial<typeof stat> = {}): string | undefined =>
      ledger.take(at(path), { kind: "file", stat: { ...stat, ...change } })?.sha256;
    expect([took("/f", { mtimeNs: 9n }), took("/g"), took("/f", { ctimeNs: 99n }), took("/f")]).to.deep.equal([
      ...[undefined, undefined],
      ...["aa", undefined],
    ]);
  });

  it("knows each of several announced at one path, and a folder whatever its times", async () => {
    const ledger = new OwnWriteLedger();
    const stat = { dev: 1n, ino: 2n, sizeBytes: 0, mtimeNs: 4n, ctimeNs: 5n };
    await ledger.expect({ path: at("/d"), stat });
    await ledger.expect({ path: at("/d"), stat: { ...stat, ino: 3n } });
    const took = (kind: "file" | "folder", ino: bigint): boolean =>
      ledger.take(at("/d"), { kind, stat: { ...stat, ino, mtimeNs: 99n } }) !== undefined;
    expect([took("file", 2n), took("folder", 9n), took("folder", 2n), took("folder", 2n)]).to.deep.equal([
      ...[false, false],
      ...[true, false],
    ]);
    expect(took("folder", 3n)).to.equal(true);
  });

  it("outlives a kill for ten minutes, and what it cannot read is nothing", async () => {
    await using state = await StateStore.create();
    const clock = new FakeClock();
    const path = at("/f\xe4");
    const stat = { dev: 1n, ino: 2n ** 63n, sizeBytes: 3, mtimeNs: 1_700_000_000_000_000_123n };
    const open = async () => await OwnWriteLedger.open(monitorSublevel(state.database), clock);
    const holdsAfter = async (waitMs: number): Promise<boolean> => {
      await state.reopen();
      await clock.advance(waitMs);
      return (await open()).take(path, { kind: "file", stat: { ...stat, ctimeNs: 0n } })?.sha256 === "aa";
    };
    await (await open()).expect({ path, stat, sha256: "aa" });
    await monitorSublevel(state.database).sublevel("own-writes").put("/g", "[1]");
    expect([await holdsAfter(0), await holdsAfter(599_000), await holdsAfter(2000)]).to.deep.equal([true, true, false]);
  });
});

describe("what a program keeps beside a file that it works on", () => {
  const folder = useTempFolder("editors");
  const isPutAway = (name: string, options: { isKnown?: boolean; linkTarget?: string } = {}): boolean => {
    const { isKnown = true, linkTarget } = options;
    const kind = linkTarget === undefined ? ("file" as const) : ("symlink" as const);
    const record = { kind, state: "live", ...(linkTarget === undefined ? {} : { linkTarget }) } as RegistryRecord;
    const registry = { get: () => (isKnown ? record : undefined) };
    return isPutAwayHelper(registry, { source: "data", path: folder().bytes(name), record });
  };

  it("is put away when its file stands", () => {
    writeFileSync(folder().at("a.txt"), "text");
    for (const name of [".a.txt.swp", ".a.txt.swo", ".a.txt.kate-swp", "#a.txt#", ".~lock.a.txt#", "a.txt.dpkg-tmp"])
      expect(isPutAway(name), name).to.equal(true);
    expect(isPutAway(".#a.txt", { linkTarget: "ada@host.example.4711:1795280000" })).to.equal(true);
  });

  it("is put away with a file that was never saved, and lost with one that is lost", () => {
    expect(isPutAway(".new.txt.swp", { isKnown: false })).to.equal(true);
    expect(isPutAway(".new.txt.swp")).to.equal(false);
    expect(isPutAway("gone/.new.txt.swp", { isKnown: false })).to.equal(false);
  });

  it("is not taken for one that is only named like it", () => {
    writeFileSync(folder().at("a.txt"), "text");
    for (const name of ["a.txt.swp", ".a.txt", "#a.txt", ".a.txt.save", ".#a.txt"])
      expect(isPutAway(name), name).to.equal(false);
    expect(isPutAway(".#a.txt", { linkTarget: "elsewhere/a.txt" })).to.equal(false);
  });
});

describe("a torn version", () => {
  const text = Buffer.from("A line that somebody needs.\n".repeat(40));
  const nuls = (count: number): Buffer => Buffer.alloc(count);

  it("is what stands before its tail of NULs, where the version before had none", () => {
    const part = text.subarray(0, 300);
    expect(untornPart(text, Buffer.concat([part, nuls(700)]))).to.deep.equal(part);
    expect(untornPart(text, nuls(1000))).to.have.length(0);
    expect(isBeginningOf(part, text) && isBeginningOf(nuls(0), text)).to.equal(true);
    expect(isBeginningOf(text, part) || isBeginningOf(Buffer.from("B"), text)).to.equal(false);
  });

  it("is the whole when so few NULs stand there, or did before", () => {
    const few = Buffer.concat([text, nuls(7)]);
    expect(untornPart(text, few)).to.equal(few);
    const image = Buffer.concat([text, nuls(512)]);
    expect(untornPart(image, Buffer.concat([text, nuls(1024)]))).to.have.length(text.length + 1024);
  });
});
