/** Places that are deeper than a path of a system call can say. */
import { expect } from "chai";
import { lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { errnoOf } from "../../src/base/errors.js";
import { type BytePath, joinPath } from "../../src/base/paths.js";
import { PATH_BYTES_MAX, reach } from "../../src/base/reach.js";
import { DEEP_NAME, makeDeepFolders, removeDeepFolders } from "../support/deep-folder.js";
import { useTempFolder } from "../support/temp-folder.js";

const LEVELS = 45;

describe("reaching a path", () => {
  const folder = useTempFolder("reach");
  /** The folder with so many above it. */
  const deepAt = (levels: number): BytePath =>
    Array.from({ length: levels }, () => DEEP_NAME).reduce(joinPath, folder().bytes("data"));
  const descriptors = (): number => readdirSync("/proc/self/fd").length;
  const errorOf = (path: BytePath): string | undefined => {
    try {
      reach(path, (place) => lstatSync(place));
      return undefined;
    } catch (error) {
      return errnoOf(error);
    }
  };

  /** In a tree of LEVELS folders, each with a file. */
  const inDeepTree = async (work: () => void): Promise<void> => {
    const data = await folder().folder("data");
    makeDeepFolders(data, LEVELS, (place, below) => {
      writeFileSync(`${place}/file`, String(below));
      if (below === 0) symlinkSync("nowhere", `${place}/link`);
    });
    try {
      const before = descriptors();
      work();
      expect(descriptors()).to.equal(before);
    } finally {
      removeDeepFolders(data);
    }
  };

  it("works at every length, around the longest that the system takes too, and leaves nothing open", async () => {
    await inDeepTree(() => {
      for (let levels = 1; levels <= LEVELS; levels += 1) {
        const file = joinPath(deepAt(levels), "file");
        expect(reach(file, (place) => readFileSync(place, "utf8"))).to.equal(String(LEVELS - levels));
      }
      for (let fill = PATH_BYTES_MAX - 100; fill < PATH_BYTES_MAX + 100; fill += 1) {
        // Slashes that say nothing make a path as long as is wanted.
        const short = joinPath(deepAt(15), "file");
        const path = short.replace(DEEP_NAME, DEEP_NAME + "/".repeat(fill - short.length)) as BytePath;
        expect(
          reach(path, (place) => readFileSync(place, "utf8")),
          String(fill),
        ).to.equal(String(LEVELS - 15));
      }
    });
  });

  it("does not follow the last name, and fails as a system call does, leaving nothing open", async () => {
    await inDeepTree(() => {
      const inner = deepAt(LEVELS);
      expect(reach(joinPath(inner, "link"), (place) => lstatSync(place)).isSymbolicLink()).to.equal(true);
      expect(errorOf(joinPath(inner, "none"))).to.equal("ENOENT");
      expect(errorOf(joinPath(joinPath(deepAt(20), "none"), inner.slice(1)))).to.equal("ENOENT");
      expect(errorOf(joinPath(joinPath(deepAt(1), "file"), inner.slice(1)))).to.equal("ENOTDIR");
      expect(errorOf(joinPath(inner, "x".repeat(256)))).to.equal("ENAMETOOLONG");
      expect(errorOf(joinPath(inner, "x".repeat(5000)))).to.equal("ENAMETOOLONG");
    });
  });
});
