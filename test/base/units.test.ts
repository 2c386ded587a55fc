/** Durations, sizes and shares: what people write is understood, and what is no such thing is refused with a hint. */
import { expect } from "chai";
import fc from "fast-check";
import { HoldfastError } from "../../src/base/errors.js";
import { formatDuration, formatSize, parseDurationMs, parseShare, parseSizeBytes } from "../../src/base/units.js";

function refuses(parse: (text: string) => number, texts: readonly string[]): void {
  for (const text of texts) {
    expect(() => parse(text), JSON.stringify(text))
      .to.throw(HoldfastError)
      .with.property("code", "USAGE");
  }
}

describe("durations", () => {
  it("are read in every unit, also in steps", () => {
    const known = {
      "250ms": 250,
      "30s": 30_000,
      "15m": 900_000,
      "1h30m": 5_400_000,
      "1.5h": 5_400_000,
      "7d": 604_800_000,
    };
    for (const [text, ms] of Object.entries(known)) expect(parseDurationMs(text), text).to.equal(ms);
    expect(parseDurationMs("2w")).to.equal(2 * parseDurationMs("7d"));
  });

  it("without a unit, with a sign or with anything else are refused", () => {
    refuses(parseDurationMs, ["", "15", "-5m", "5 m", "m", "5x", "1h 30m", "5m;", "1e3s", "NaNs"]);
  });

  it("add up step by step", () => {
    const amount = fc.nat({ max: 10_000 });
    fc.assert(
      fc.property(amount, amount, (hours, seconds) => {
        expect(parseDurationMs(`${String(hours)}h${String(seconds)}s`)).to.equal(hours * 3_600_000 + seconds * 1000);
      }),
    );
  });

  it("are shown short, in the two units that matter", () => {
    const known: readonly (readonly [number, string])[] = [
      [0, "0 ms"],
      [3.4, "3 ms"],
      [1200, "1.2 s"],
      [42_000, "42 s"],
      [250_000, "4 m 10 s"],
      [7_500_000, "2 h 5 m"],
      [273_600_000, "3 d 4 h"],
    ];
    for (const [ms, text] of known) expect(formatDuration(ms)).to.equal(text);
  });

  it("never show sixty of what the next unit has one of", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10 ** 10 }), (ms) => {
        expect(formatDuration(ms)).not.to.match(/\b60(?:\.0)? [sm]\b|\b1000 ms\b/);
      }),
    );
    expect(formatDuration(59_600)).to.equal("1 m 0 s");
    expect(formatDuration(999.6)).to.equal("1.0 s");
  });
});

describe("sizes", () => {
  it("are read in binary and decimal units", () => {
    const known = {
      "4096": 4096,
      "512KiB": 524_288,
      "500MB": 5e8,
      "2GiB": 2 ** 31,
      "1.5MiB": 1_572_864,
      "1 TiB": 2 ** 40,
      "7B": 7,
    };
    for (const [text, bytes] of Object.entries(known)) expect(parseSizeBytes(text), text).to.equal(bytes);
  });

  it("that are no sizes are refused, also names that every object has", () => {
    refuses(parseSizeBytes, ["", "-1", "1XB", "KiB", "1Ki B", "1e3", "0x10", "5%", "1constructor", "1toString"]);
  });

  it("are shown in the largest unit that keeps a whole part", () => {
    expect([0, 1023, 1024, 3_250_586, 2 ** 40].map(formatSize)).to.deep.equal([
      "0 B",
      "1023 B",
      "1.0 KiB",
      "3.1 MiB",
      "1.0 TiB",
    ]);
  });

  it("never show 1024 of what the next unit has one of", () => {
    expect(formatSize(2 ** 20 - 1)).to.equal("1.0 MiB");
    fc.assert(
      fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), (bytes) => {
        expect(Number.parseFloat(formatSize(bytes))).to.be.below(1024);
      }),
    );
  });
});

describe("shares", () => {
  it("are read as percent or as a fraction", () => {
    expect(["5%", "0.05", "100%", "0", "1"].map(parseShare)).to.deep.equal([0.05, 0.05, 1, 0, 1]);
  });

  it("outside of nothing and all are refused", () => {
    refuses(parseShare, ["", "101%", "1.01", "-1%", "5", "%", "five"]);
  });
});
