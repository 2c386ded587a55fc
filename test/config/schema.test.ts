/** The schema stands for everything: the example, the reference page, the editor's schema, and a second validator. */
import { Ajv } from "ajv";
import { expect } from "chai";
import fc from "fast-check";
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { checkAgainstSchema } from "../../src/config/check.js";
import { configJsonSchema } from "../../src/config/json-schema.js";
import { loadConfiguration } from "../../src/config/load.js";
import { didYouMean, editDistance } from "../../src/config/problems.js";
import { configReference } from "../../src/config/reference.js";
import { configFileSchema } from "../../src/config/schema.js";
import { projectPath } from "../support/project.js";

function faultsOf(value: unknown): string[] {
  const found: string[] = [];
  checkAgainstSchema(configFileSchema, value, (path, message) => found.push(`${path.join(".")}: ${message}`));
  return found;
}

interface Described {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Described>>;
  readonly patternProperties?: Readonly<Record<string, Described>>;
  readonly items?: Described;
  readonly anyOf?: readonly Described[];
}

function eachProperty(schema: Described, visit: (name: string, child: Described) => void, prefix = ""): void {
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    visit(`${prefix}${name}`, child);
    eachProperty(child, visit, `${prefix}${name}.`);
  }
  const others = [...(schema.anyOf ?? []), ...Object.values(schema.patternProperties ?? {}), schema.items ?? {}];
  for (const other of others) if (Object.keys(other).length > 0) eachProperty(other, visit, prefix);
}

describe("the schema of the configuration", () => {
  const example = projectPath("config", "holdfast.example.yaml");

  it("loads the example", async () => {
    const loaded = await loadConfiguration({ configFile: example, env: { HOME: "/home/ann" }, isRoot: false });
    expect(loaded.sources.map((source) => source.name)).to.deep.equal(["app", "etc", "conversations"]);
    // The schema that it names is the reader's to write.
    expect(loaded.warnings.filter((warning) => !warning.startsWith("the schema "))).to.deep.equal([]);
  });

  it("has every key in the example, with a comment or a value", async () => {
    const text = await readFile(example, "utf8");
    const missing: string[] = [];
    eachProperty(configFileSchema as Described, (name) => {
      const key = name.split(".").at(-1) ?? "";
      const isStrategyDetail = /recover\.chain\./.test(name);
      if (!isStrategyDetail && !new RegExp(`\\b${key}:`).test(text) && !SECRET_KEYS.has(key)) missing.push(name);
    });
    expect(missing).to.deep.equal([]);
  });

  it("describes every key", () => {
    const silent: string[] = [];
    eachProperty(configFileSchema as Described, (name, child) => {
      if ((child.description ?? "") === "" && !("const" in child)) silent.push(name);
    });
    expect(silent).to.deep.equal([]);
  });

  it("is written out up to date: run `node scripts/reference.mjs` after a build", async () => {
    const schema = await readFile(projectPath("config", "holdfast.schema.json"), "utf8");
    expect(JSON.parse(schema)).to.deep.equal(configJsonSchema());
    expect(await readFile(projectPath("docs", "configuration.md"), "utf8")).to.equal(configReference());
  });

  it("is judged alike by our own check and by a general validator", async () => {
    const validate = new Ajv({ strict: false, allErrors: false }).compile(configJsonSchema());
    const whole = parse(await readFile(example, "utf8")) as Record<string, unknown>;
    expect(validate(whole), JSON.stringify(validate.errors)).to.equal(true);
    expect(faultsOf(whole)).to.deep.equal([]);
    // Breaks one value somewhere in the example; both must agree whether it still fits.
    const places = leaves(whole);
    const anything = fc.oneof(
      fc.constantFrom<unknown>(null, true, 0, -1, 1.5, "", "x", "15m", "5%", [], {}, [1], { a: 1 }, "latest_backup"),
    );
    fc.assert(
      fc.property(fc.constantFrom(...places), anything, (place, value) => {
        const broken = structuredClone(whole);
        set(broken, place, value);
        expect(faultsOf(broken).length === 0, `${place.join(".")} = ${JSON.stringify(value)}`).to.equal(
          validate(broken),
        );
      }),
      { numRuns: 1500 },
    );
  });
});

describe("guesses for mistyped words", () => {
  it("are the nearest within reach, or none", () => {
    expect(didYouMean("rotaton", ["rotation", "store"])).to.equal('did you mean "rotation"?');
    expect(didYouMean("soruces", ["sources", "store"])).to.equal('did you mean "sources"?');
    expect(didYouMean("xyz", ["sources", "store"])).to.equal("");
  });

  it("measure a true distance", () => {
    expect(editDistance("", "abc")).to.equal(3);
    expect(editDistance("ab", "ba")).to.equal(1);
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
        const distance = editDistance(a, b);
        expect(distance).to.equal(editDistance(b, a));
        expect(distance === 0).to.equal(a === b);
        expect(distance).to.be.at.most(Math.max(a.length, b.length));
      }),
    );
  });
});

/** Where a secret is: named once in a comment of the example. */
const SECRET_KEYS = new Set(["file", "env", "credential", "command"]);

function leaves(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== "object" || value === null) return [path];
  const children = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  const below = children.flatMap(([key, child]) => leaves(child, [...path, key]));
  return path.length === 0 ? below : [path, ...below];
}

function set(target: unknown, path: readonly (string | number)[], value: unknown): void {
  let node = target as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) node = node[key] as Record<string | number, unknown>;
  node[path.at(-1) ?? ""] = value;
}
