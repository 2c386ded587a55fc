/** What belongs to a file source, and walking it. */
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { type BytePath, joinPath, pathBytes, pathFromText } from "../../src/base/paths.js";
import { hasCode } from "../../src/base/errors.js";
import { FileSource, type FileSourceOptions, type WalkedEntry, findOverlaps } from "../../src/sources/files.js";
import { ExcludePatterns } from "../../src/sources/patterns.js";
import { requireNoRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const NEVER = new AbortController().signal;
const path = (text: string): BytePath => pathFromText(text);

async function walk(source: FileSource, under?: BytePath): Promise<WalkedEntry[]> {
  const entries: WalkedEntry[] = [];
  for await (const batch of source.walk(NEVER, under)) {
    expect(batch.length).to.be.within(1, 512);
    entries.push(...batch);
  }
  return entries;
}

describe("exclude patterns", () => {
  const cases: readonly [pattern: string, path: string, isFolder: boolean, excluded: boolean][] = [
    ["*.tmp", "/s/a.tmp", false, true],
    ["*.tmp", "/s/deep/er/a.tmp", false, true],
    ["*.tmp", "/s/a.tmp.txt", false, false],
    [".cache/", "/s/x/.cache", true, true],
    [".cache/", "/s/x/.cache", false, false],
    [".cache/", "/s/x/.cache/y/z", false, true],
    ["node_modules/", "/s/node_modules/p/i.js", false, true],
    ["/build", "/s/build", true, true],
    ["/build", "/s/sub/build", true, false],
    ["a/b", "/s/a/b/c", false, true],
    ["a/b", "/s/x/a/b", false, false],
    ["**/b/*.o", "/s/x/b/y.o", false, true],
    ["# note", "/s/# note", false, false],
    ["{a,b}", "/s/a", false, false],
  ];
  for (const [pattern, text, isFolder, excluded] of cases) {
    it(`${pattern} ${excluded ? "excludes" : "leaves"} ${text}${isFolder ? "/" : ""}`, () => {
      expect(new ExcludePatterns([pattern]).excludesWithin(path(text), path("/s"), isFolder)).to.equal(excluded);
    });
  }

  it("take back with ! what an earlier pattern took, the last match winning", () => {
    const patterns = new ExcludePatterns(["*.log", "!keep.log", "keep.log.old"]);
    expect(patterns.excludes(path("/s/a.log"), path("/s"), false)).to.equal(true);
    expect(patterns.excludes(path("/s/keep.log"), path("/s"), false)).to.equal(false);
  });

  it("never throw, and never exclude the root itself", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), fc.string(), (lines, name) => {
        const patterns = new ExcludePatterns(lines);
        patterns.excludesWithin(joinPath(path("/s"), name.replaceAll("/", "")), path("/s"), false);
        expect(patterns.excludesWithin(path("/s"), path("/s"), true)).to.equal(false);
      }),
    );
  });
});

describe("a file source", () => {
  const folder = useTempFolder();
  const sourceOf = (options: Partial<FileSourceOptions> = {}): FileSource =>
    new FileSource({ name: "test", paths: [folder().bytes()], ...options });
  const below = (entries: readonly WalkedEntry[]): string[] =>
    entries.map((entry) => entry.path.slice(folder().path.length + 1));

  it("walks everything in byte order of the paths, folders and links included", async () => {
    for (const name of ["a/z", "a-b", "a/b/c", "a.txt", "b"]) await folder().write(name, name);
    symlinkSync("a.txt", folder().at("link"));
    linkSync(folder().at("b"), folder().at("twin"));
    const entries = await walk(sourceOf());
    const paths = entries.map((entry) => entry.path);
    expect(paths).to.deep.equal([...paths].sort());
    expect(below(entries)).to.deep.equal(["", "a", "a-b", "a.txt", "a/b", "a/b/c", "a/z", "b", "link", "twin"]);
    const twin = entries.at(-1);
    expect(twin).to.include({ kind: "file", linkCount: 2 });
  });

  it("gives names of any bytes", async () => {
    const name = "caf\xe9-\xff";
    writeFileSync(Buffer.concat([pathBytes(folder().bytes()), Buffer.from("/"), Buffer.from(name, "latin1")]), "x");
    const [, entry] = await walk(sourceOf());
    expect(entry?.path).to.equal(`${folder().bytes()}/${name}`);
    expect(readdirSync(pathBytes(folder().bytes()), "latin1")).to.deep.equal([name]);
  });

  it("leaves out what is excluded, too small or too large, staged, or holdfast's own", async () => {
    for (const name of ["keep", "a.tmp", ".cache/x", ".holdfast-tmp-1", "store/packs/p"])
      await folder().write(name, "12345");
    await folder().write("small", "1");
    await folder().write("large", "1".repeat(100));
    const source = sourceOf({
      exclude: ["*.tmp", ".cache/"],
      ownFolders: [folder().bytes("store")],
      sizeBytesMin: 2,
      sizeBytesMax: 50,
    });
    expect(below(await walk(source))).to.deep.equal(["", "keep"]);
    expect(source.includes(folder().bytes("store/packs/p"))).to.equal(false);
    expect(source.mayContain(folder().bytes(".cache"))).to.equal(false);
  });

  it("takes a single file and globs through their folder, each path once", async () => {
    for (const name of ["kb_1.json", "kb_2.json", "other.json", "sub/kb_3.json"]) await folder().write(name, name);
    const source = sourceOf({
      paths: [folder().bytes("kb_*.json"), folder().bytes("other.json"), folder().bytes("kb_1.json")],
    });
    expect(below(await walk(source))).to.deep.equal(["kb_1.json", "kb_2.json", "other.json"]);
    expect(source.roots.every((root) => root.folder === folder().bytes() && root.shallow)).to.equal(true);
    const deep = sourceOf({ paths: [folder().bytes("**/kb_{1,3}.json")] });
    expect(below(await walk(deep))).to.deep.equal(["kb_1.json", "sub/kb_3.json"]);
  });

  it("still knows a single file that is missing, and walks nothing else for it", async () => {
    await folder().write("beside.txt", "x");
    const source = sourceOf({ paths: [folder().bytes("gone.txt")] });
    expect(source.includes(folder().bytes("gone.txt"))).to.equal(true);
    expect(source.roots).to.deep.equal([
      { folder: folder().bytes(), whole: false, shallow: true, file: folder().bytes("gone.txt") },
    ]);
    expect(await walk(source, folder().bytes())).to.deep.equal([]);
  });

  it("resolves symbolic links on the way to the source once", async () => {
    await folder().write("real/file", "x");
    symlinkSync(folder().at("real"), folder().at("alias"));
    const source = sourceOf({ paths: [folder().bytes("alias")] });
    expect(below(await walk(source))).to.deep.equal(["real", "real/file"]);
  });

  it("throws SOURCE_ROOT_GONE for a missing root and never gives an empty walk", async () => {
    let failure: unknown;
    try {
      await walk(sourceOf({ paths: [folder().bytes("missing-folder")] }));
    } catch (error) {
      failure = error;
    }
    expect(hasCode(failure, "SOURCE_ROOT_GONE")).to.equal(true);
  });

  it("reports a folder that cannot be read and goes on", async function () {
    requireNoRoot(this);
    await folder().write("closed/x", "x");
    await folder().write("open", "x");
    execFileSync("chmod", ["000", folder().at("closed")]);
    const entries = await walk(sourceOf());
    expect(entries.find((entry) => "errno" in entry)).to.deep.equal({
      path: folder().bytes("closed"),
      errno: "EACCES",
    });
    expect(below(entries)).to.include("open");
  });

  it("does not enter other file systems below it", async () => {
    const entries = await walk(sourceOf({ paths: [path("/proc/self/..")] }), path("/dev"));
    expect(entries.some((entry) => entry.path.startsWith("/dev/pts/"))).to.equal(false);
  });

  it("ends a walk when it is aborted", async () => {
    for (let index = 0; index < 2000; index += 1) await folder().write(String(index), "");
    const stop = new AbortController();
    let batches = 0;
    let failure: unknown;
    try {
      for await (const _batch of sourceOf().walk(stop.signal)) {
        batches += 1;
        stop.abort();
      }
    } catch (error) {
      failure = error;
    }
    expect(batches).to.equal(1);
    expect(failure).to.be.instanceOf(Error);
  });

  it("walks 20,000 files and misses none", async () => {
    for (let outer = 0; outer < 100; outer += 1) {
      mkdirSync(folder().at(String(outer)));
      for (let inner = 0; inner < 200; inner += 1) writeFileSync(folder().at(String(outer), String(inner)), "");
    }
    const paths = (await walk(sourceOf())).map((entry) => entry.path);
    expect(paths).to.have.length(20_101);
    expect(new Set(paths).size).to.equal(20_101);
  });

  it("names the places that two sources share", () => {
    const outer = sourceOf({ name: "outer" });
    const inner = sourceOf({ name: "inner", paths: [folder().bytes("x")], knownKind: () => "folder" });
    expect(findOverlaps([outer, inner])).to.deep.equal([{ path: folder().bytes("x"), sources: ["outer", "inner"] }]);
  });
});
