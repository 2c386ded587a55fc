/** Folders that are made with those above them, on real file systems. */
import { lstatSync } from "node:fs";
import { expect } from "chai";
import { errnoOf } from "../../src/base/errors.js";
import { makeFolders } from "../../src/base/make-folders.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("folders that are made with those above them", () => {
  const folder = useTempFolder("make-folders");

  it("are there, with the mode that was asked for, also where some were before", async () => {
    await makeFolders(folder().at("a/b/c"), 0o700);
    await makeFolders(Buffer.from(folder().at("a/b/d\xff"), "latin1"), 0o750);
    await makeFolders(folder().at("a/b/c"), 0o755);
    expect(lstatSync(folder().at("a/b/c")).mode & 0o777).to.equal(0o700);
  });

  it("are refused where a file stands, and where the file system makes none", async () => {
    await folder().write("file", "content");
    for (const [path, errno] of [
      [folder().at("file"), "EEXIST"],
      [folder().at("file/below"), "ENOTDIR"],
      ["/proc/holdfast/below", "ENOENT"],
    ] as const) {
      const error = await makeFolders(path, 0o700).catch((failure: unknown) => failure);
      expect(errnoOf(error), path).to.equal(errno);
    }
  });
});
