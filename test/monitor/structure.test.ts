/** The checks of structure on real files, on every way to cut or spoil them, and on content made to hurt. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.js";
import { FileValidation } from "../../src/monitor/validation.js";
import type { Check, Validator, Verdict } from "../../src/monitor/validator.js";
import { magicValidator, sizeValidator } from "../../src/monitor/validators/bounds.js";
import { csvValidator } from "../../src/monitor/validators/csv.js";
import { elfValidator } from "../../src/monitor/validators/elf.js";
import { gzipValidator } from "../../src/monitor/validators/gzip.js";
import { packedValidator } from "../../src/monitor/validators/packed.js";
import { gifValidator, jpegValidator, pngValidator } from "../../src/monitor/validators/images.js";
import { envValidator, iniValidator } from "../../src/monitor/validators/ini.js";
import { pdfValidator } from "../../src/monitor/validators/pdf.js";
import { sqliteHeaderValidator } from "../../src/monitor/validators/sqlite.js";
import { tarValidator } from "../../src/monitor/validators/tar.js";
import { jsonTextValidator } from "../../src/monitor/validators/text.js";
import { tomlValidator } from "../../src/monitor/validators/toml.js";
import { xmlValidator } from "../../src/monitor/validators/xml.js";
import { zipValidator } from "../../src/monitor/validators/zip.js";
import { hasProgram, requirePrograms, skip } from "../support/requirements.js";
import { SAMPLE_TEXT as TEXT, gif, jpeg, pdf, png } from "../support/format-samples.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("checks of structure", () => {
  const folder = useTempFolder("structure");

  /** A file that another program made; undefined when it is not installed here. */
  function made(name: string, program: string, args: readonly string[]): Buffer | undefined {
    if (!hasProgram(program)) return undefined;
    execFileSync(program, args, { cwd: folder().path, stdio: "ignore" });
    return readFileSync(folder().at(name));
  }

  function samples(): readonly (readonly [Validator, Buffer])[] {
    writeFileSync(folder().at("a.txt"), TEXT);
    writeFileSync(folder().at("b.bin"), randomBytes(3000));
    const tar = made("t.tar", "tar", ["-cf", "t.tar", "a.txt", "b.bin"]);
    const zip = made("z.zip", "python3", [
      "-c",
      "import zipfile\nz=zipfile.ZipFile('z.zip','w',8)\nz.write('a.txt')\nz.write('b.bin')",
    ]);
    const database = made("d.db", "python3", [
      "-c",
      "import sqlite3\nc=sqlite3.connect('d.db')\nc.execute('create table t(x)')\nc.executemany('insert into t values(?)',[(str(i)*9,) for i in range(500)])\nc.commit()",
    ]);
    const packed = [
      made("a.txt.bz2", "bzip2", ["-k", "a.txt"]),
      made("a.txt.xz", "xz", ["-k", "a.txt"]),
      made("a.txt.zst", "zstd", ["-q", "a.txt"]),
      made("p.zst", "pzstd", ["-q", "a.txt", "-o", "p.zst"]),
      made("a.txt.lz4", "lz4", ["-q", "a.txt", "a.txt.lz4"]),
    ].filter((content) => content !== undefined);
    return [
      ...packed.map((content) => [packedValidator, content] as const),
      [gzipValidator, gzipSync(TEXT)],
      [pngValidator, png()],
      [gifValidator, gif()],
      [jpegValidator, jpeg()],
      [pdfValidator, pdf()],
      [elfValidator, readFileSync("/bin/true")],
      ...(tar === undefined ? [] : [[tarValidator, tar] as const]),
      ...(zip === undefined ? [] : [[zipValidator, zip] as const]),
      ...(database === undefined ? [] : [[sqliteHeaderValidator, database] as const]),
    ];
  }

  it("accept what the programs made", () => {
    for (const [validator, content] of samples()) expect(validator.check(content), validator.name).to.equal(undefined);
  });

  it("refuse it cut short at nearly every byte, and never throw", () => {
    for (const [validator, content] of samples()) {
      const step = Math.max(1, Math.floor(content.length / 400));
      let accepted = 0;
      let cuts = 0;
      for (let length = 1; length < content.length; length += step, cuts += 1)
        if (validator.check(content.subarray(0, length)) === undefined) accepted += 1;
      // A tar may be cut behind its last member, in the padding.
      expect(accepted / cuts, validator.name).to.be.lessThan(validator.name === "tar" ? 0.75 : 0.02);
    }
  });

  it("never throw and never hang on mutations", () => {
    const all = [
      ...samples(),
      [xmlValidator, Buffer.from("<a><b c='d'>e</b></a>")],
      [tomlValidator, Buffer.from("a = 1\n[b]\nc = [1, 2]\n")],
      [csvValidator, Buffer.from('a,b\n1,"2"\n')],
      [iniValidator, Buffer.from("[a]\nb = c\n")],
      [envValidator, Buffer.from("A=1\nB='x'\n")],
    ] as const;
    fc.assert(
      fc.property(
        fc.nat(),
        fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        (which, edits) => {
          const [validator, content] = all[which % all.length] as readonly [Validator, Buffer];
          const copy = Buffer.from(content);
          for (const [at, value] of edits) copy[Math.floor(at * (copy.length - 1))] = value;
          validator.check(copy);
        },
      ),
      { numRuns: 1500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        for (const [validator, content] of all) {
          validator.check(Buffer.from(bytes));
          validator.check(Buffer.concat([content.subarray(0, 16), Buffer.from(bytes)]));
        }
      }),
      { numRuns: 200 },
    );
  });

  const documents: readonly (readonly [Validator, string, string | undefined])[] = [
    [tomlValidator, 'title = "x"\n[owner]\nborn = 1979-05-27T07:32:00Z\n', undefined],
    [tomlValidator, "title = \n", "invalid_structure"],
    [xmlValidator, '<?xml version="1.0"?>\n<a><!-- c --><b>&lt;&#65;</b></a>\n', undefined],
    [xmlValidator, "<a><b></a>", "invalid_structure"],
    [xmlValidator, "", "invalid_structure"],
    [xmlValidator, '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "unchecked"],
    [xmlValidator, "<a>".repeat(20_000), "unchecked"],
    [csvValidator, 'name,age\n"Doe, Jane",7\nBob,8\n', undefined],
    [csvValidator, "a;b\n1;2\n3;4\n", undefined],
    [csvValidator, "a,b\n1,2,3\n", "invalid_structure"],
    [csvValidator, 'a,b\n"1,2\n', "invalid_structure"],
    [iniValidator, "; c\n[a]\nkey = value\n  more\nflag\n[b]\nx: y\n", undefined],
    [iniValidator, "[a\nkey=1\n", "invalid_structure"],
    [iniValidator, "key=1\nwhat is this line\n", "invalid_structure"],
    [envValidator, '# c\nexport A=1\nB=\'two\nlines\'\nC="x\\"y"\n', undefined],
    [envValidator, "A=1\nno variable\n", "invalid_structure"],
    [envValidator, 'A="open\n', "invalid_structure"],
    [jsonTextValidator, '{\n  // a comment\n  "a": [1, 2,], /* b */\n  "url": "http://x//y",\n}\n', undefined],
    [jsonTextValidator, '{"a":1}\n{"a":2}\n', undefined],
    [jsonTextValidator, '{"a": [1, 2', "invalid_structure"],
    [jsonTextValidator, '{"a": 1,,}', "invalid_structure"],
    [jsonTextValidator, "[".repeat(200_000), "invalid_structure"],
  ];
  for (const [index, [validator, text, kind]] of documents.entries())
    it(`${validator.name}: case ${String(index)} is ${kind ?? "valid"}`, () =>
      expect(validator.check(Buffer.from(text))?.kind).to.equal(kind));

  it("see a single wrong byte where the format has checksums", () => {
    for (const [validator, content] of samples()) {
      if (!["gzip", "png", "zip"].includes(validator.name)) continue;
      const at = validator.name === "png" ? 45 : Math.floor(content.length / 3);
      const copy = Buffer.from(content);
      copy[at] = (copy[at] ?? 0) ^ 1;
      expect(validator.check(copy)?.kind, validator.name).to.equal("invalid_structure");
    }
  });

  it("do not judge what inflates without end", () => {
    const bomb = gzipSync(Buffer.alloc(200 * 2 ** 20));
    expect(gzipValidator.check(bomb)?.kind).to.equal("unchecked");
  });

  it("compare a name's ending with the first bytes, and sizes with bounds", () => {
    expect(magicValidator(".png").check(png())).to.equal(undefined);
    expect(magicValidator(".PNG").check(jpeg())?.detail).to.equal("the content is jpeg, not png");
    expect(magicValidator(".docx").check(randomBytes(100))?.kind).to.equal("invalid_structure");
    expect(magicValidator(".xyz").check(png())?.kind).to.equal("unchecked");
    const size = sizeValidator({ kind: "size", bytesMin: 10, bytesMax: 20 });
    expect([5, 15, 25].map((length) => size.check(Buffer.alloc(length))?.kind)).to.deep.equal([
      "invalid_structure",
      undefined,
      "invalid_structure",
    ]);
  });

  it("accept the real files of this machine, as far as their names promise", function () {
    const place = "/usr/share/icons";
    if (!existsSync(place)) skip(this, `${place} is not here`);
    const images = readdirSync(place, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".png"))
      .slice(0, 200);
    for (const name of images) expect(pngValidator.check(readFileSync(join(place, name))), name).to.equal(undefined);
  });

  describe("of databases", () => {
    const signal = new AbortController().signal;
    const judge = async (validation: FileValidation, name: string, checks: Check[]): Promise<Verdict> =>
      (await validation.judge(folder().bytes(name), { checks, timeoutMs: 20_000 }, signal)).verdict;
    const make = (code: string): void =>
      void execFileSync("python3", ["-c", `import sqlite3\n${code}`], { cwd: folder().path });

    it("read all pages of a copy, the log beside it included, and leave nothing behind", async function () {
      requirePrograms(this, "python3");
      make(
        "c=sqlite3.connect('d.db')\nc.execute('pragma journal_mode=wal')\nc.execute('create table t(x)')\nc.executemany('insert into t values(?)',[(str(i)*99,) for i in range(3000)])\nc.commit()\nimport shutil\nshutil.copy('d.db','live.db')\nshutil.copy('d.db-wal','live.db-wal')\nc.close()",
      );
      await using validation = new FileValidation(systemClock, folder().at("scratch"));
      const before = readdirSync(folder().path).sort();
      for (const name of ["d.db", "live.db"])
        expect((await judge(validation, name, [{ kind: "sqlite" }])).verdict, name).to.equal("valid");
      expect(readdirSync(folder().path).sort()).to.deep.equal(before);
      const content = readFileSync(folder().at("d.db"));
      randomBytes(4096).copy(content, 40_960);
      writeFileSync(folder().at("d.db"), content);
      expect((await judge(validation, "d.db", [{ kind: "sqlite" }])).verdict).to.equal("invalid");
      expect(await judge(validation, "d.db", [{ kind: "sqlite_header" }])).to.deep.equal({
        verdict: "valid",
        detail: "sqlite (header only)",
      });
    });
  });
});
