/** The pure parts of browsing: addresses, ranges, texts of WebDAV, pages of folders and requests of FUSE. */
import { expect } from "chai";
import fc from "fast-check";
import { DirectoryPage, answerHeader, decodeRequest } from "../../src/browse/fuse/protocol.js";
import { rangeOf } from "../../src/browse/webdav.js";
import { decodedNames, encodedPath, httpDate, lineHtml, responseXml } from "../../src/browse/webdav-xml.js";

const nameArb = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) => Buffer.from(bytes).toString("latin1"))
  .filter((name) => !/[/\0]/.test(name) && name !== "." && name !== "..");

describe("addresses of WebDAV", () => {
  it("carry names of any bytes there and back", () => {
    fc.assert(
      fc.property(fc.array(nameArb, { maxLength: 4 }), (names) => {
        expect(decodedNames(encodedPath(`/${names.join("/")}`))).to.deep.equal(names);
      }),
    );
  });

  it("never name anything outside, however they are written", () => {
    for (const address of ["/a/../b", "/a/%2e%2e/b", "/a%2fb", "/a%00b", "/%zz", "a", "/./a"]) {
      expect(decodedNames(address), address).to.equal(undefined);
    }
    fc.assert(
      fc.property(fc.string(), (address) => {
        const names = decodedNames(address) ?? [];
        expect(names.some((name) => name === ".." || name === "." || name.includes("/"))).to.equal(false);
      }),
    );
  });

  it("ask for the ranges of RFC 9110", () => {
    expect(rangeOf(undefined, 10)).to.equal(undefined);
    expect(rangeOf("bytes=0-0", 10)).to.deep.equal({ first: 0, end: 1 });
    expect(rangeOf("bytes=4-", 10)).to.deep.equal({ first: 4, end: 10 });
    expect(rangeOf("bytes=-3", 10)).to.deep.equal({ first: 7, end: 10 });
    expect(rangeOf("bytes=-30", 10)).to.deep.equal({ first: 0, end: 10 });
    expect(rangeOf("bytes=2-99", 10)).to.deep.equal({ first: 2, end: 10 });
    expect(rangeOf("bytes=10-", 10)).to.equal("outside");
    expect(rangeOf("bytes=-0", 10)).to.equal("outside");
    expect(rangeOf("bytes=0-", 0)).to.equal("outside");
    for (const odd of ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=x-y"]) {
      expect(rangeOf(odd, 10), odd).to.equal(undefined);
    }
  });
});

describe("texts of WebDAV", () => {
  it("hold no mark-up and no control characters of a name", () => {
    const resource = { isFolder: false, sizeBytes: 1, modifiedMs: 0, etag: '"x"' } as const;
    fc.assert(
      fc.property(nameArb, (name) => {
        for (const text of [
          responseXml({ ...resource, href: `/${name}`, name }),
          lineHtml({ ...resource, href: `/${name}`, name }),
        ]) {
          const inside = text.replace(/<\/?[a-zA-Z:]+(?: [a-z]+="[^"<>]*")*\/?>/g, "");
          expect(inside).not.to.match(/[<>]/);
          const isShown = (character: string): boolean => character >= " " || "\t\n\r".includes(character);
          expect(Array.from(inside).every(isShown)).to.equal(true);
        }
      }),
    );
  });

  it("write times that HTTP can hold", () => {
    expect(httpDate(-1)).to.equal("Thu, 01 Jan 1970 00:00:00 GMT");
    expect(httpDate(1e18)).to.match(/9999/);
  });
});

describe("bytes of FUSE", () => {
  it("take no request out of bytes that are none", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const request = decodeRequest(Buffer.from(bytes));
        if (request !== undefined) expect(request.body.length).to.equal(bytes.length - 40);
      }),
    );
  });

  it("begin an answer with its length, the negative error and the number of the request", () => {
    const header = answerHeader(2n ** 63n + 5n, 2, 100);
    expect([header.readUInt32LE(0), header.readInt32LE(4), header.readBigUInt64LE(8)]).to.deep.equal([
      116,
      -2,
      2n ** 63n + 5n,
    ]);
  });

  it("fill a page of a folder never further than the kernel asked", () => {
    fc.assert(
      fc.property(fc.array(nameArb, { maxLength: 60 }), fc.integer({ min: 0, max: 2000 }), (names, sizeBytes) => {
        const page = new DirectoryPage(sizeBytes);
        const told: string[] = [];
        for (const [index, name] of names.entries()) {
          if (!page.hasRoom(name, false)) break;
          page.add({ inode: index + 2, offset: index + 1, name, mode: 0o100644 }, undefined);
          told.push(name);
        }
        expect(page.bytes.length).to.be.at.most(sizeBytes);
        expect(namesOf(page.bytes)).to.deep.equal(told);
      }),
    );
  });
});

/** Reads a page as the kernel does. */
function namesOf(page: Buffer): string[] {
  const names: string[] = [];
  for (let at = 0; at < page.length;) {
    const length = page.readUInt32LE(at + 16);
    names.push(page.toString("latin1", at + 24, at + 24 + length));
    at += Math.ceil((24 + length) / 8) * 8;
  }
  return names;
}
