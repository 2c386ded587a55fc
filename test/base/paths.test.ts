/** Paths of any bytes: nothing is lost on the way in or out, and containment goes by whole names. */
import { readFile, readdir, writeFile } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import {
  type BytePath,
  isTextPath,
  isWithin,
  joinPath,
  nameOf,
  parentPath,
  pathBytes,
  pathFields,
  pathFromBytes,
  pathFromText,
  pathText,
  relativeTo,
} from "../../src/base/paths.js";
import { useTempFolder } from "../support/temp-folder.js";

/** A name as Linux allows it: 1 to 20 bytes, anything but NUL and "/", not "." or "..". */
const nameArb = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 0 && byte !== 0x2f)).toString("latin1"))
  .filter((name) => name !== "" && name !== "." && name !== "..");
const pathArb = fc.array(nameArb, { maxLength: 6 }).map((names) => `/${names.join("/")}` as BytePath);

describe("byte paths", () => {
  const folder = useTempFolder("paths");

  it("keep every byte", () => {
    fc.assert(
      fc.property(pathArb, (path) => {
        expect(pathFromBytes(pathBytes(path))).to.equal(path);
      }),
    );
  });

  it("name the same file to the system when the name is no UTF-8", async () => {
    const path = joinPath(folder().bytes(), "caf\xe9-\xff");
    await writeFile(pathBytes(path), "here");
    const names = await readdir(folder().path, "latin1");
    expect(names).to.deep.equal(["caf\xe9-\xff"]);
    expect(await readFile(pathBytes(joinPath(folder().bytes(), names[0] ?? "")), "utf8")).to.equal("here");
  });

  it("come from text as absolute and normalised UTF-8", () => {
    expect(pathBytes(pathFromText("/a//b/../ü/")).toString("utf8")).to.equal("/a/ü");
    expect(pathFromText("b", "/a")).to.equal("/a/b");
    expect(pathText(pathFromText("日本/x", "/"))).to.equal("/日本/x");
  });

  it("show as text what is text, and carry their bytes beside it when it is not", () => {
    expect(pathFields(pathFromText("/ü"))).to.deep.equal({ path: "/ü" });
    const odd = pathFromBytes(Buffer.from([0x2f, 0xff]));
    expect(isTextPath(odd)).to.equal(false);
    expect(pathFields(odd)).to.deep.equal({ path: "/\ufffd", path_b64: "L/8=" });
  });

  it("take apart into folder and name, and join again", () => {
    fc.assert(
      fc.property(pathArb, nameArb, (above, name) => {
        const path = joinPath(above, name);
        expect(parentPath(path)).to.equal(above);
        expect(nameOf(path)).to.equal(name);
      }),
    );
    expect(parentPath("/" as BytePath)).to.equal("/");
  });

  it("lie within a folder by whole names only", () => {
    const path = (text: string): BytePath => pathFromText(text);
    expect(isWithin(path("/srv/app"), path("/srv/app"))).to.equal(true);
    expect(isWithin(path("/srv/app/a"), path("/srv/app"))).to.equal(true);
    expect(isWithin(path("/srv/app2"), path("/srv/app"))).to.equal(false);
    expect(isWithin(path("/srv"), path("/srv/app"))).to.equal(false);
    expect(isWithin(path("/srv"), path("/"))).to.equal(true);
  });

  it("are found again from a folder and what is below it", () => {
    fc.assert(
      fc.property(pathArb, pathArb, (above, below) => {
        const whole = (above === "/" ? below : `${above}${below === "/" ? "" : below}`) as BytePath;
        expect(isWithin(whole, above)).to.equal(true);
        const rest = relativeTo(whole, above);
        expect(rest).to.equal(below.slice(1));
      }),
    );
  });
});
