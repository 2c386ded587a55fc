/**
 * The contract of a recovery strategy as tests: every strategy passes it (or it does not merge). `make` prepares a
 * place where the strategy can find the lost content, and says what that content is.
 */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { FIDELITIES, type LostFile, type RecoveryStrategy, type Search } from "../../src/recovery/strategy.js";
import { bytesOf } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";

/** One strategy with something to find. */
export interface StrategyCase extends AsyncDisposable {
  readonly strategy: RecoveryStrategy;
  /** A file that the strategy can find. */
  readonly lost: LostFile;
  /** The content that one of its candidates must have. */
  readonly content: Buffer;
  /** A file of which the strategy knows nothing. */
  readonly unknown: LostFile;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Parameters that it must refuse; undefined when it takes none of its own. */
  readonly wrongParameters?: Readonly<Record<string, unknown>>;
  readonly scratchDir: string;
  /** The folder of the lost file: a search must leave it as it is. */
  readonly folder: string;
}

/** Declares the contract's tests for one strategy. `make` may skip through the context. */
export function strategyContract(name: string, make: (context: Mocha.Context) => Promise<StrategyCase>): void {
  describe(`the strategy contract of ${name}`, () => {
    it("finds the content, says where it is from, and gives the bytes as often as asked", async function () {
      await using given = await make(this);
      let found = false;
      for await (const candidate of given.strategy.find(given.lost, searchOf(given), signal())) {
        expect(candidate.strategy).to.equal(given.strategy.id);
        expect(candidate.origin).not.to.equal("");
        expect(FIDELITIES).to.include(candidate.fidelity);
        const bytes = await bytesOf(candidate.open(signal()));
        if (candidate.sizeBytes !== undefined) expect(bytes).to.have.length(candidate.sizeBytes);
        if (candidate.sha256 !== undefined)
          expect(createHash("sha256").update(bytes).digest("hex")).to.equal(candidate.sha256);
        expect((await bytesOf(candidate.open(signal()))).equals(bytes)).to.equal(true);
        found ||= bytes.equals(given.content);
      }
      expect(found, "one candidate has the content").to.equal(true);
    });

    it("finds nothing of a file that it does not know, without an error", async function () {
      await using given = await make(this);
      const found = [];
      for await (const candidate of given.strategy.find(given.unknown, searchOf(given), signal()))
        found.push(candidate);
      expect(found).to.deep.equal([]);
    });

    it("leaves the folder of the lost file as it is", async function () {
      await using given = await make(this);
      const before = picture(given.folder);
      for await (const candidate of given.strategy.find(given.lost, searchOf(given), signal()))
        await bytesOf(candidate.open(signal()));
      expect(picture(given.folder)).to.deep.equal(before);
    });

    it("may be ended early", async function () {
      await using given = await make(this);
      for await (const candidate of given.strategy.find(given.lost, searchOf(given), signal())) {
        expect(candidate.strategy).to.equal(given.strategy.id);
        break;
      }
    });

    it("ends when it is interrupted", async function () {
      await using given = await make(this);
      const stop = AbortSignal.abort(new Error("stop"));
      await rejection(
        (async () => {
          for await (const candidate of given.strategy.find(given.lost, searchOf(given), stop))
            await bytesOf(candidate.open(stop));
        })(),
      );
    });

    it("refuses wrong parameters", async function () {
      await using given = await make(this);
      if (given.wrongParameters === undefined) return;
      const search = { ...searchOf(given), parameters: given.wrongParameters };
      const iterator = given.strategy.find(given.lost, search, signal())[Symbol.asyncIterator]();
      expect(await rejection(iterator.next())).to.have.property("code", "CONFIG_INVALID");
    });
  });
}

function searchOf(given: StrategyCase): Search {
  return { parameters: given.parameters, note: () => undefined, scratchDir: given.scratchDir };
}

function signal(): AbortSignal {
  return new AbortController().signal;
}

/** Names, sizes and times of everything in a folder. */
function picture(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const stat = lstatSync(join(folder, name));
      return `${name} ${String(stat.size)} ${stat.isDirectory() ? "" : String(stat.mtimeMs)}`;
    });
}
