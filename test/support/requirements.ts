/**
 * Skipping with a reason. A test that cannot run on this machine says why; the reporter (`scripts/reporter.mjs`) prints
 * it. Call these first in a test or in a `before` hook that is a `function` (arrow functions have no mocha context):
 * `it("…", function () { requirePrograms(this, "git"); … })`.
 */
import { accessSync, constants, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathFromText } from "../../src/base/paths.js";
import { hasTrueCtime } from "../../src/engine/rot.js";

/**
 * Ends the running test (or, from a `before` hook, its whole suite) as skipped, for a reason that is printed. It becomes
 * part of the title, the one thing of a test that reaches the reporter from another process.
 */
export function skip(context: Mocha.Context, reason: string): never {
  const running: Mocha.Runnable | undefined = context.test;
  const subject = running !== undefined && "type" in running && running.type === "hook" ? running.parent : running;
  if (subject !== undefined) subject.title += ` [skipped: ${reason}]`;
  return context.skip();
}

/** Skips when a program is not on the PATH. */
export function requirePrograms(context: Mocha.Context, ...programs: string[]): void {
  const missing = programs.filter((program) => !hasProgram(program));
  if (missing.length > 0) skip(context, `not installed: ${missing.join(", ")}`);
}

/** Skips when the temporary folder lies where no content can be told to have changed without a write, as in memory. */
export function requireTrueCtime(context: Mocha.Context): void {
  if (!hasTrueCtime(pathFromText(tmpdir()))) skip(context, "the temporary folder's file system keeps no true ctime");
}

/** Skips when the tests do not run as root. */
export function requireRoot(context: Mocha.Context): void {
  if (process.getuid?.() !== 0) skip(context, "needs root");
}

/** Skips when the tests run as root, whom permissions do not stop. */
export function requireNoRoot(context: Mocha.Context): void {
  if (process.getuid?.() === 0) skip(context, "root may do everything, so there is nothing to refuse");
}

/** True when a program of that name is on the PATH (or in the folders of system programs). */
export function hasProgram(program: string): boolean {
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin"];
  return folders.some((folder) => isExecutable(join(folder, program)));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
