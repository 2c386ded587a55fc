/** What is taken for an attack on many files, what is only somebody at work, and what becomes of the files. */
import { execFileSync } from "node:child_process";
import { createCipheriv, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, extname } from "node:path";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import { type Clock, systemClock } from "../../src/base/clock.js";
import type { LossEvent } from "../../src/base/events.js";
import type { SourceSettings } from "../../src/monitor/ports.js";
import { requirePrograms } from "../support/requirements.js";
import { type BenchOptions, WatchBench } from "../support/watch-bench.js";

const TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it should.\n".repeat(80);

function encrypted(content: Buffer): Buffer {
  const cipher = createCipheriv("aes-256-ctr", randomBytes(32), randomBytes(16));
  return Buffer.concat([cipher.update(content), cipher.final()]);
}

function encrypt(path: string): void {
  writeFileSync(path, encrypted(readFileSync(path)));
}

/** A source with files in folders; all durable and quiet. */
async function protectedFiles(
  names: readonly string[],
  settings: SourceSettings = {},
  options: BenchOptions = {},
): Promise<WatchBench> {
  const bench = await WatchBench.create(options);
  for (const name of names) await bench.folder.write(name, `${name}\n${TEXT}`);
  await bench.protect(settings);
  await bench.quiet();
  bench.clear();
  return bench;
}

function attackOf(bench: WatchBench): readonly LossEvent[] {
  return bench.events("mass.loss").flatMap(({ losses }) => losses);
}

function namesOf(bench: WatchBench, losses: readonly LossEvent[]): readonly string[] {
  return losses.map(({ path }) => path.slice(bench.folder.path.length + 1)).sort();
}

const TEN = Array.from({ length: 10 }, (_none, index) => `folder/file-${String(index)}.txt`);

describe("an attack on many files", () => {
  it("is told once with every file, and the clean versions stay what is known", async () => {
    const names = Array.from({ length: 60 }, (_none, index) => `folder/file-${String(index)}.txt`);
    await using bench = await protectedFiles(names);
    for (const name of names) encrypt(bench.folder.at(name));
    await bench.until("all are told", () => new Set(namesOf(bench, attackOf(bench))).size === names.length);
    expect(attackOf(bench).every(({ kind, detail }) => kind === "encrypted" && /text/.test(detail))).to.equal(true);
    expect(bench.losses).to.deep.equal([]);
    for (const name of names)
      expect(bench.monitor.lastGood(bench.folder.bytes(name))).to.include({ state: "lost", lossKind: "encrypted" });
    // A few were let in before the alarm; no other encrypted version was stored.
    expect(new Set(bench.paths("file.changed")).size).to.be.lessThan(30);
  });

  it("is seen at the first encrypted file when others got one strange ending behind their names", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN.slice(0, 3)) renameSync(bench.folder.at(name), bench.folder.at(`${name}.l0cked`));
    await bench.until("the renames are known", () => bench.paths("file.removed").length === 3);
    expect(attackOf(bench), "a rename by itself is no attack").to.deep.equal([]);
    encrypt(bench.folder.at(TEN[5] ?? ""));
    await bench.until("it is told", () => attackOf(bench).length > 0, 5000);
  });

  it("is not seen when many files are renamed and one is encrypted by its owner", async () => {
    await using bench = await protectedFiles(TEN);
    for (const [index, name] of TEN.slice(0, 4).entries())
      renameSync(bench.folder.at(name), bench.folder.at(`folder/2025-11-0${String(index)} ${String(index)}.md`));
    for (const name of TEN.slice(4, 8)) renameSync(bench.folder.at(name), bench.folder.at(`${name}.bak`));
    await bench.until("the renames are known", () => bench.paths("file.removed").length === 8);
    encrypt(bench.folder.at(TEN[8] ?? ""));
    await bench.until("it is a version", () => bench.paths("file.changed").includes(TEN[8] ?? ""));
    await bench.quiet();
    expect([...attackOf(bench), ...bench.losses]).to.deep.equal([]);
  });

  it("is not seen in two encrypted files, which are versions like any other", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN.slice(0, 2)) encrypt(bench.folder.at(name));
    await bench.until("both are versions", () => new Set(bench.paths("file.changed")).size === 2);
    await bench.quiet(1500);
    expect(attackOf(bench)).to.deep.equal([]);
    expect(bench.losses).to.deep.equal([]);
  });

  it("is seen when files are encrypted and renamed", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN) {
      encrypt(bench.folder.at(name));
      renameSync(bench.folder.at(name), bench.folder.at(`${name}.locked`));
    }
    await bench.until("all are told", () => new Set(namesOf(bench, attackOf(bench))).size >= 8);
    expect(attackOf(bench).every(({ kind }) => kind === "deleted")).to.equal(true);
    expect(bench.events("mass.loss").every(({ isAttack }) => isAttack)).to.equal(true);
  });

  it("is seen when encrypted copies are made and the files deleted, one by one", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN.slice(0, 4)) {
      const path = bench.folder.at(name);
      writeFileSync(`${path}.crypt`, encrypted(readFileSync(path)));
      rmSync(path);
      await bench.until(`${name} is told`, () => {
        const told = namesOf(bench, [...bench.losses, ...attackOf(bench)]);
        return told.includes(name);
      });
    }
    // The first two were losses like any other, and would be healed; the third made it an attack.
    expect(namesOf(bench, bench.losses)).to.deep.equal(TEN.slice(0, 2));
    expect(new Set(namesOf(bench, attackOf(bench)))).to.deep.equal(new Set(TEN.slice(0, 4)));
  });

  it("is told before the grace of deletions is over, and the files of it are no single losses after that", async () => {
    await using bench = await protectedFiles(TEN, { graceMs: 4000 });
    const startedMs = performance.now();
    for (const name of TEN) {
      const path = bench.folder.at(name);
      writeFileSync(`${path}.crypt`, encrypted(readFileSync(path)));
      rmSync(path);
    }
    await bench.until("the alarm", () => attackOf(bench).length >= 3);
    expect(performance.now() - startedMs).to.be.lessThan(4000);
    await bench.until("all are told", () => new Set(namesOf(bench, attackOf(bench))).size === TEN.length);
    expect(bench.losses).to.deep.equal([]);
  });

  it("is remembered across a restart", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN.slice(0, 2)) encrypt(bench.folder.at(name));
    await bench.until("both are versions", () => new Set(bench.paths("file.changed")).size === 2);
    await bench.quiet(1500);
    await bench.close();
    await bench.open();
    await bench.protect();
    await bench.quiet();
    encrypt(bench.folder.at(TEN[2]!));
    await bench.until("the attack is told", () => attackOf(bench).length === 3);
    expect(namesOf(bench, attackOf(bench))).to.deep.equal(TEN.slice(0, 3));
  });

  it("is over when its incident is closed; the same three do not raise it again", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN.slice(0, 3)) encrypt(bench.folder.at(name));
    await bench.until("the attack is told", () => attackOf(bench).length === 3);
    bench.bus.emit("attack.held", { id: "INC-1", source: "data" });
    for (const name of TEN.slice(0, 3)) await bench.monitor.acceptContent(bench.folder.bytes(name), "denied");
    bench.bus.emit("incident.closed", { id: "INC-1", source: "data", outcome: "denied" });
    await bench.quiet();
    bench.clear();
    encrypt(bench.folder.at(TEN[5]!));
    await bench.until("it is a version", () => bench.paths("file.changed").includes(TEN[5]!));
    await bench.quiet(1000);
    expect(attackOf(bench)).to.deep.equal([]);
  });

  it("is not over when another incident ends, whether its own is known yet or not, also over a restart", async () => {
    await using bench = await protectedFiles(TEN);
    const endAnother = (): void => {
      bench.bus.emit("incident.opened", { id: "INC-0", source: "data", paths: 60, kind: "mass" });
      bench.bus.emit("incident.healed", { id: "INC-0", source: "data", paths: 60, durationMs: 1 });
      bench.bus.emit("incident.closed", { id: "INC-0", source: "data", outcome: "returned" });
    };
    const isHeld = async (name: string): Promise<void> => {
      bench.clear();
      encrypt(bench.folder.at(name));
      await bench.until(`${name} is told`, () => namesOf(bench, attackOf(bench)).includes(name));
      expect(bench.paths("file.changed")).not.to.include(name);
    };
    for (const name of TEN.slice(0, 3)) encrypt(bench.folder.at(name));
    await bench.until("the attack is told", () => attackOf(bench).length === 3);
    endAnother();
    await isHeld(TEN[4]!);
    bench.bus.emit("attack.held", { id: "INC-1", source: "data" });
    endAnother();
    await isHeld(TEN[5]!);
    await bench.close();
    await bench.open();
    await bench.protect();
    await bench.quiet();
    endAnother();
    await isHeld(TEN[6]!);
    bench.bus.emit("incident.closed", { id: "INC-1", source: "data", outcome: "denied" });
    bench.clear();
    encrypt(bench.folder.at(TEN[7]!));
    await bench.until("it is a version", () => bench.paths("file.changed").includes(TEN[7]!));
  });

  it("takes back what its owner mends while the alarm stands", async () => {
    await using bench = await protectedFiles(TEN);
    const clean = readFileSync(bench.folder.at(TEN[0]!));
    for (const name of TEN.slice(0, 4)) encrypt(bench.folder.at(name));
    await bench.until("the attack is told", () => new Set(namesOf(bench, attackOf(bench))).size === 4);
    writeFileSync(bench.folder.at(TEN[0]!), `${clean.toString()}mended\n`);
    await bench.until("it is good again", () => bench.paths("file.returned").includes(TEN[0]!));
    await bench.quiet();
    expect(bench.monitor.lastGood(bench.folder.bytes(TEN[0]!))?.state).to.equal("live");
  });

  it("is told by one suspicious file when the same note appears in many folders", async () => {
    const names = Array.from({ length: 6 }, (_none, index) => `folder-${String(index)}/data.txt`);
    await using bench = await protectedFiles(names);
    for (const name of names)
      writeFileSync(bench.folder.at(dirname(name), "HOW-TO-PAY.txt"), "All your files are encrypted.\n");
    await bench.until("the notes are versions", () => bench.paths("file.changed").length >= 6);
    expect(attackOf(bench)).to.deep.equal([]);
    encrypt(bench.folder.at(names[0]!));
    await bench.until("the attack is told", () => attackOf(bench).length === 1);
  });

  it("is not told by one suspicious file long after such notes, though the clock was set back since", async () => {
    const names = Array.from({ length: 6 }, (_none, index) => `folder-${String(index)}/data.txt`);
    let [wallMs, steadyMs] = [0, 0];
    const clock: Clock = {
      ...systemClock,
      nowMs: () => systemClock.nowMs() + wallMs,
      monotonicMs: () => systemClock.monotonicMs() + steadyMs,
    };
    await using bench = await protectedFiles(names, {}, { clock });
    for (const name of names)
      writeFileSync(bench.folder.at(dirname(name), "HOW-TO-PAY.txt"), "All your files are encrypted.\n");
    await bench.until("the notes are versions", () => bench.paths("file.changed").length >= 6);
    steadyMs = 15 * 60_000;
    wallMs = steadyMs - 86_400_000;
    encrypt(bench.folder.at(names[0]!));
    await bench.until("it is suspicious", () => bench.warnings.includes("watch.suspicious"));
    await bench.quiet();
    expect(attackOf(bench)).to.deep.equal([]);
  });

  it("is told at the first touch of a canary", async () => {
    await using bench = await protectedFiles(["a.txt", "accounts.txt"], { canaries: ["accounts.txt"] });
    writeFileSync(bench.folder.at("accounts.txt"), `${TEXT}harmless looking\n`);
    await bench.until("the attack is told", () => attackOf(bench).length === 1);
    expect(attackOf(bench)[0]?.detail).to.contain("canary");
  });

  it("is seen when it writes each file twice", async () => {
    await using bench = await protectedFiles(TEN);
    for (const name of TEN.slice(0, 5)) encrypt(bench.folder.at(name));
    for (const name of TEN.slice(0, 5)) encrypt(bench.folder.at(name));
    await bench.until("all are told", () => new Set(namesOf(bench, attackOf(bench))).size === 5);
  });

  describe("is not seen in work that looks like one", () => {
    const benign: readonly (readonly [string, (bench: WatchBench, names: readonly string[]) => void])[] = [
      [
        "compressing logs",
        ({ folder }, names) => {
          for (const name of names) {
            writeFileSync(folder.at(`${name}.gz`), gzipSync(readFileSync(folder.at(name))));
            rmSync(folder.at(name));
          }
        },
      ],
      [
        "compressing under the same name",
        ({ folder }, names) => {
          for (const name of names) writeFileSync(folder.at(name), gzipSync(readFileSync(folder.at(name))));
        },
      ],
      [
        "rewriting all texts",
        ({ folder }, names) => {
          for (const [index, name] of names.entries())
            writeFileSync(folder.at(name), `# ${String(index)}\n${"ünïcode äöü\n".repeat(300)}`);
        },
      ],
      [
        "saving texts as Latin-1",
        ({ folder }, names) => {
          for (const name of names)
            writeFileSync(folder.at(name), Buffer.from("Grüße aus der Straße, mit Käse.\n".repeat(90), "latin1"));
        },
      ],
      [
        "giving all a new ending",
        ({ folder }, names) => {
          for (const name of names) renameSync(folder.at(name), folder.at(name.replace(extname(name), ".markdown")));
        },
      ],
      [
        "making encrypted copies beside",
        ({ folder }, names) => {
          for (const name of names) writeFileSync(folder.at(`${name}.gpg`), encrypted(readFileSync(folder.at(name))));
        },
      ],
      [
        "moving all to another folder",
        ({ folder }, names) => {
          mkdirSync(folder.at("archive"));
          for (const name of names) renameSync(folder.at(name), folder.at("archive", name.replaceAll("/", "-")));
        },
      ],
    ];
    for (const [name, work] of benign) {
      it(name, async () => {
        await using bench = await protectedFiles(TEN);
        work(bench, TEN);
        await bench.until("it is noticed", () => bench.told.length >= 10);
        await bench.quiet(1200);
        expect(attackOf(bench).filter(({ detail }) => /encrypted/.test(detail))).to.deep.equal([]);
      });
    }

    it("git at work, with its packing", async function () {
      requirePrograms(this, "git");
      await using bench = await WatchBench.create();
      const git = (...args: string[]): void =>
        void execFileSync("git", ["-c", "user.name=a", "-c", "user.email=a@b", ...args], {
          cwd: bench.folder.path,
          stdio: "ignore",
        });
      git("init");
      for (const name of TEN) await bench.folder.write(name, `${name}\n${TEXT}`);
      git("add", ".");
      git("commit", "-m", "one");
      await bench.protect();
      await bench.quiet();
      for (let round = 0; round < 3; round += 1) {
        for (const name of TEN) writeFileSync(bench.folder.at(name), `${name} ${String(round)}\n${TEXT}`);
        git("commit", "-am", "more");
        git("gc", "--aggressive", "--prune=now");
        await bench.quiet(800);
      }
      expect(attackOf(bench).filter(({ detail }) => /encrypted/.test(detail))).to.deep.equal([]);
    });

    it("compacting databases, and rebuilding what programs make", async function () {
      requirePrograms(this, "python3");
      await using bench = await WatchBench.create();
      const python = (code: string): void =>
        void execFileSync("python3", ["-c", code], { cwd: bench.folder.path, stdio: "ignore" });
      const build = (round: number): void =>
        python(
          `import sqlite3, py_compile, os, zipfile\nfor i in range(6):\n` +
            ` c=sqlite3.connect(f'd{i}.db')\n c.execute('create table if not exists t(x)')\n` +
            ` c.executemany('insert into t values(?)',[(os.urandom(60),) for _ in range(800)])\n` +
            ` c.commit()\n c.execute('delete from t where rowid % 3 = ${String(round)}')\n c.commit()\n c.execute('vacuum')\n c.close()\n` +
            ` open(f'm{i}.py','w').write('x = ${String(round)}\\n'*(50+i))\n py_compile.compile(f'm{i}.py', f'm{i}.pyc')\n` +
            ` z=zipfile.ZipFile(f'a{i}.jar','w',8)\n z.writestr('a', os.urandom(5000))\n z.close()\n`,
        );
      build(0);
      await bench.protect();
      await bench.quiet();
      for (const round of [1, 2]) {
        build(round);
        await bench.quiet(1000);
      }
      expect(attackOf(bench)).to.deep.equal([]);
      expect(bench.losses).to.deep.equal([]);
    });

    it("new contents of binary files that always were random", async () => {
      await using bench = await WatchBench.create();
      const names = TEN.map((name) => name.replace(".txt", ".bin"));
      for (const name of names) await bench.folder.write(name, randomBytes(20_000));
      await bench.protect();
      await bench.quiet();
      bench.clear();
      for (const name of names) writeFileSync(bench.folder.at(name), randomBytes(20_000));
      await bench.until("they are versions", () => new Set(bench.paths("file.changed")).size === 10);
      await bench.quiet(1000);
      expect(attackOf(bench)).to.deep.equal([]);
    });
  });
});
