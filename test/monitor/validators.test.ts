/** The checks of content, among them hostile content. */
import { writeFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.js";
import { FileValidation, ValidationRules } from "../../src/monitor/validation.js";
import type { Check, DocumentRules, Verdict } from "../../src/monitor/validator.js";
import { rulesValidator } from "../../src/monitor/validators/rules.js";
import { schemaValidator } from "../../src/monitor/validators/schema.js";
import { jsonValidator, textValidator } from "../../src/monitor/validators/text.js";
import { yamlValidator } from "../../src/monitor/validators/yaml.js";
import { useTempFolder } from "../support/temp-folder.js";

const bytes = (value: unknown): Buffer => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));

describe("validators", () => {
  it("never throw, whatever the bytes are", () => {
    const rules: DocumentRules = {
      required: ["a.b"],
      unique: ["a"],
      timestamps: ["t"],
      items: { path: "i", required: ["x"] },
    };
    const all = [
      jsonValidator,
      yamlValidator,
      textValidator,
      rulesValidator(rules),
      schemaValidator('{"type":"object"}'),
    ];
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json(), fc.string()), (content) => {
        for (const validator of all)
          validator.check(typeof content === "string" ? Buffer.from(content) : Buffer.from(content));
      }),
      { numRuns: 300 },
    );
  });

  it("accept every JSON document and refuse its torn halves", () => {
    fc.assert(
      fc.property(fc.object(), (value) => {
        const text = JSON.stringify(value);
        expect(jsonValidator.check(bytes(text))).to.equal(undefined);
        if (text.length > 2) expect(jsonValidator.check(bytes(text.slice(0, -1)))?.kind).to.equal("invalid_structure");
      }),
    );
  });

  it("do not quote content in their complaints", () => {
    const complaint = jsonValidator.check(bytes('{"password": hunter2}'));
    expect(complaint?.detail).to.match(/^no valid JSON/);
    expect(complaint?.detail).not.to.contain("hunter2");
    expect(yamlValidator.check(bytes("a: [hunter2\nb: {"))?.detail).not.to.contain("hunter2");
  });

  it("text: refuses NULs and what is not UTF-8", () => {
    expect(textValidator.check(bytes("plain ünïcode"))).to.equal(undefined);
    expect(textValidator.check(Buffer.from([65, 0, 66]))?.detail).to.contain("NUL");
    expect(textValidator.check(Buffer.from([0xff, 0xfe]))?.detail).to.equal("not UTF-8 text");
  });

  describe("rules", () => {
    const cases: readonly [string, DocumentRules, unknown, string | undefined][] = [
      ["required there", { required: ["a"] }, { a: 0 }, undefined],
      ["required missing", { required: ["a", "b"] }, { a: 1 }, 'document 0 lacks "b"'],
      ["required empty", { required: ["a"] }, { a: "" }, 'document 0 lacks "a"'],
      ["required inside", { required: ["a.b"] }, { a: {} }, 'document 0 lacks "a.b"'],
      [
        "unique among documents",
        { unique: ["id"] },
        [{ id: 1 }, { id: 2 }, { id: 1 }],
        'document 2 repeats an earlier "id"',
      ],
      ["times in order", { timestamps: ["t"] }, [{ t: "2025-01-01T00:00:00Z" }, { t: "2025-01-02" }], undefined],
      [
        "times backwards",
        { timestamps: ["t"] },
        [{ t: "2025-01-02" }, { t: "2025-01-01" }],
        'document 1: "t" is earlier than the one before',
      ],
      ["times wrong", { timestamps: ["t"] }, [{ t: "yesterday" }], 'document 0: "t" is no time'],
      ["items no list", { items: { path: "m" } }, { m: 3 }, 'document 0: "m" is no list'],
      [
        "items lack",
        { items: { path: "m", required: ["r"] } },
        { m: [{ r: 1 }, {}] },
        'document 0, element of "m" 1 lacks "r"',
      ],
      ["items absent", { items: { path: "m", required: ["r"] } }, {}, undefined],
      ["prototype names are no fields", { required: ["constructor"] }, { a: 1 }, 'document 0 lacks "constructor"'],
    ];
    for (const [name, rules, document, complaint] of cases) {
      it(name, () => expect(rulesValidator(rules).check(bytes(document))?.detail).to.equal(complaint));
    }

    it("reads YAML as well, and refuses bombs of aliases", () => {
      expect(rulesValidator({ required: ["a"] }).check(bytes("a: 1\n"))).to.equal(undefined);
      let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
      for (let level = 1; level < 12; level += 1)
        bomb += `a${String(level)}: &a${String(level)} [${`*a${String(level - 1)}, `.repeat(9)}]\n`;
      expect(rulesValidator({ required: ["a0"] }).check(bytes(bomb))?.kind).to.equal("invalid_structure");
    });
  });

  it("schema: takes draft-07 and 2020-12, with formats", () => {
    const old = schemaValidator('{"properties":{"when":{"type":"string","format":"date-time"}},"required":["when"]}');
    expect(old.check(bytes({ when: "2025-01-01T00:00:00Z" }))).to.equal(undefined);
    expect(old.check(bytes({ when: "soon" }))?.kind).to.equal("schema_violation");
    const modern = schemaValidator(
      '{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{"type":"number"}],"items":false}',
    );
    expect(modern.check(bytes([1]))).to.equal(undefined);
    expect(modern.check(bytes([1, 2]))?.kind).to.equal("schema_violation");
    expect(() => schemaValidator("{")).to.throw("the schema cannot be used");
  });

  describe("in their thread", () => {
    const folder = useTempFolder();
    const signal = new AbortController().signal;
    const judge = async (validation: FileValidation, checks: Check[], timeoutMs = 10_000): Promise<Verdict> =>
      (await validation.judge(folder().bytes("file"), { checks, timeoutMs }, signal)).verdict;

    it("a check that takes too long is ended and the next one works", async () => {
      await using validation = new FileValidation(systemClock, folder().at("scratch"));
      // A schema whose pattern backtracks for ever on this content.
      const schemaFile = await folder().write("schema.json", '{"pattern":"^(a+)+$"}');
      writeFileSync(folder().at("file"), JSON.stringify(`${"a".repeat(60)}!`));
      const started = performance.now();
      const slow = await judge(validation, [{ kind: "schema", schemaFile }], 400);
      expect(slow).to.deep.equal({ verdict: "unchecked", detail: "the check took longer than 400 ms" });
      expect(performance.now() - started).to.be.lessThan(5000);
      expect((await judge(validation, [{ kind: "json" }])).verdict).to.equal("valid");
    });

    it("deep nesting and huge documents end in a verdict, not in a crash", async () => {
      await using validation = new FileValidation(systemClock, folder().at("scratch"));
      writeFileSync(folder().at("file"), "[".repeat(200_000));
      expect((await judge(validation, [{ kind: "json" }])).verdict).to.be.oneOf(["invalid", "valid", "unchecked"]);
      expect((await judge(validation, [{ kind: "yaml" }], 2000)).verdict).to.be.oneOf([
        "invalid",
        "valid",
        "unchecked",
      ]);
      writeFileSync(folder().at("file"), "x".repeat(1000));
      expect((await judge(validation, [{ kind: "text" }])).verdict).to.equal("valid");
    });

    it("a wrong schema, a missing file and a missing program leave the content unchecked", async () => {
      await using validation = new FileValidation(systemClock, folder().at("scratch"));
      expect((await judge(validation, [{ kind: "json" }])).detail).to.equal("it cannot be read (ENOENT)");
      writeFileSync(folder().at("file"), "{}");
      const schemaFile = await folder().write("schema.json", "no schema");
      expect((await judge(validation, [{ kind: "schema", schemaFile }])).verdict).to.equal("unchecked");
      expect((await judge(validation, [{ kind: "command", command: ["no-such-program-here"] }])).verdict).to.equal(
        "unchecked",
      );
    });

    it("a command that hangs is ended", async () => {
      await using validation = new FileValidation(systemClock, folder().at("scratch"));
      writeFileSync(folder().at("file"), "{}");
      const verdict = await judge(validation, [{ kind: "command", command: ["sleep", "60"] }], 300);
      expect(verdict.verdict).to.equal("unchecked");
    });

    it("counts NULs at the end however long the tail is", async () => {
      await using validation = new FileValidation(systemClock, folder().at("scratch"));
      for (const tail of [0, 1, 513, 65_536, 200_001]) {
        writeFileSync(folder().at("file"), Buffer.concat([Buffer.from("x"), Buffer.alloc(tail)]));
        const { shape } = await validation.judge(folder().bytes("file"), { checks: [], timeoutMs: 1000 }, signal);
        expect(shape).to.deep.equal({ sizeBytes: tail + 1, nulTailBytes: tail, hasOtherNuls: false });
        writeFileSync(folder().at("file"), Buffer.concat([Buffer.from("x\0x"), Buffer.alloc(tail)]));
        const other = await validation.judge(folder().bytes("file"), { checks: [], timeoutMs: 1000 }, signal);
        expect(other.shape).to.include({ nulTailBytes: tail, hasOtherNuls: true });
      }
    });
  });

  it("apply by pattern: configured ones and, for JSON and YAML, those by extension", () => {
    const rules = new ValidationRules(
      ["/srv" as never],
      [{ match: "conf/**", checks: [{ kind: "text" }], timeoutMs: 50 }],
    );
    const kinds = (path: string): string[] => rules.checksFor(path as never).checks.map(({ kind }) => kind);
    expect(kinds("/srv/a.json")).to.deep.equal(["json_text"]);
    expect(kinds("/srv/conf/a.yml")).to.deep.equal(["text", "yaml"]);
    expect(kinds("/srv/a.txt")).to.deep.equal([]);
  });
});
