/** Errors: one class, permanent codes, wrapped once, nothing lost. */
import { expect } from "chai";
import { ERROR_CODES, EXIT } from "../../src/base/error-codes.js";
import { HoldfastError, asHoldfastError, errnoOf, hasCode, messageOf, systemErrnoOf } from "../../src/base/errors.js";

describe("errors", () => {
  it("carry code, hint, details, cause and exit code", () => {
    const cause = new Error("below");
    const error = new HoldfastError("REPO_LOCKED", "cannot write", { details: { pid: 7 }, cause });
    expect(error.toDocument()).to.deep.equal({
      code: "REPO_LOCKED",
      message: "cannot write",
      hint: ERROR_CODES.REPO_LOCKED.hint,
      details: { pid: 7 },
    });
    expect(error.exitCode).to.equal(11);
    expect(error.cause).to.equal(cause);
    expect(error).to.be.instanceOf(Error);
    expect(new HoldfastError("USAGE", "no", { hint: "Say yes." }).hint).to.equal("Say yes.");
  });

  it("are recognised by code, never by text", () => {
    const error: unknown = new HoldfastError("STORE_FULL", "TIMEOUT");
    expect(hasCode(error, "STORE_FULL")).to.equal(true);
    expect(hasCode(error, "TIMEOUT")).to.equal(false);
    expect(hasCode({ code: "STORE_FULL" }, "STORE_FULL")).to.equal(false);
  });

  it("pass through a second wrapping unchanged", () => {
    const error = new HoldfastError("STORE_FULL", "no space");
    expect(asHoldfastError(error, "INTERNAL", "while writing")).to.equal(error);
  });

  it("wrap what is foreign, with the context and the cause", () => {
    const cause = new Error("EIO: input/output error");
    const wrapped = asHoldfastError(cause, "STORE_IO", "reading a pack");
    expect([wrapped.code, wrapped.message, wrapped.cause]).to.deep.equal([
      "STORE_IO",
      "reading a pack: EIO: input/output error",
      cause,
    ]);
    expect(asHoldfastError("odd").message).to.equal("odd");
  });

  it("call an aborted operation an interruption", () => {
    const aborted = AbortSignal.abort().reason as unknown;
    expect(asHoldfastError(aborted, "STORE_IO").code).to.equal("INTERRUPTED");
  });

  it("know the system's error names and nothing that only looks like one", () => {
    expect(systemErrnoOf(Object.assign(new Error("x"), { code: "EIO" }))).to.equal("EIO");
    for (const code of ["ERR_OUT_OF_RANGE", "LEVEL_NOT_OPEN", "MODULE_NOT_FOUND", "RECORD_DAMAGED"])
      expect(systemErrnoOf(Object.assign(new Error("x"), { code }))).to.equal(undefined);
    expect(errnoOf(Object.assign(new Error("x"), { code: "ENOENT" }))).to.equal("ENOENT");
    for (const odd of [null, undefined, "ENOENT", { code: 5 }, new Error("ENOENT")])
      expect(errnoOf(odd)).to.equal(undefined);
    expect(messageOf(undefined)).to.equal("undefined");
  });
});

describe("the table of error codes", () => {
  const entries = Object.entries(ERROR_CODES);

  it("has a sentence and a hint for each, and an exit code that is documented", () => {
    const exits: number[] = Object.values(EXIT);
    for (const [code, { exit, meaning, hint }] of entries) {
      expect(code).to.match(/^[A-Z]+(?:_[A-Z]+)*$/);
      expect(meaning, code).to.match(/^[A-Z].*\.$/);
      expect(hint, code).to.match(/^[A-Z].*\.$/);
      expect(exits, code).to.include(exit);
      expect(exit, `${code} is an error`).not.to.equal(0);
    }
  });

  it("keeps the exit codes that scripts rely on", () => {
    expect(EXIT).to.deep.equal({
      ok: 0,
      failed: 1,
      usage: 2,
      partial: 3,
      damage: 4,
      targetBreached: 5,
      noRepository: 10,
      locked: 11,
      wrongKey: 12,
      notPermitted: 13,
      daemonUnreachable: 20,
      configWrong: 78,
      interrupted: 130,
    });
  });
});
