/** What `--files` chooses: only the places that can hold it are looked at, and nothing that it means is passed over. */
import { expect } from "chai";
import fc from "fast-check";
import { type BytePath, isWithin } from "../../src/base/paths.js";
import { selectionOf } from "../../src/daemon/selection.js";

describe("the selection of files", () => {
  it("looks at the whole tree only when it must", () => {
    const roots: Record<string, readonly string[]> = {
      "": ["/"],
      "/srv/app/config.json": ["/srv/app/config.json"],
      "/srv/app/**": ["/srv/app"],
      "/srv/app/*.{json,yaml}": ["/srv/app"],
      "/srv/{a,b}/c": ["/srv"],
      "/srv/@(a|b)/c*": ["/srv"],
      "*.json": ["/"],
      "**/*.json": ["/"],
      "/*": ["/"],
      "/srv/../etc/*": ["/"],
    };
    for (const [text, expected] of Object.entries(roots)) {
      expect(selectionOf(text === "" ? [] : [text]).roots, text).to.deep.equal(expected);
    }
    expect(selectionOf(["/srv/app/x", "/srv/app", "/etc/*", "/srv/app-2"]).roots).to.deep.equal([
      "/etc",
      "/srv/app",
      "/srv/app-2",
    ]);
  });

  it("includes nothing that lies outside of its places", () => {
    const nameArb = fc.constantFrom("a", "b", "ab", "a.json", "(a)", "a+b");
    const pathArb = fc.array(nameArb, { minLength: 1, maxLength: 4 }).map((names) => `/${names.join("/")}` as BytePath);
    const partArb = fc.constantFrom(
      "a",
      "b",
      "*",
      "**",
      "?",
      "a*",
      "{a,b}",
      "[ab]",
      "*.json",
      "(a)",
      "+(a)",
      "!(b)",
      "a+b",
    );
    const globArb = fc.tuple(fc.constantFrom("/", ""), fc.array(partArb, { minLength: 1, maxLength: 4 }));
    fc.assert(
      fc.property(fc.array(globArb, { minLength: 1, maxLength: 3 }), pathArb, (globs, path) => {
        const { roots, includes } = selectionOf(globs.map(([start, parts]) => start + parts.join("/")));
        if (!includes(path)) return;
        expect(roots.some((root) => isWithin(path, root))).to.equal(true);
      }),
      { numRuns: 2000 },
    );
  });
});
