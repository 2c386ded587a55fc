/** Runs git in tests with a fixed author and nothing of this machine's configuration. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Runs one git command in a folder; gives what it printed, without the last line end. Throws when it fails. */
export async function git(folder: string, ...args: string[]): Promise<string> {
  const env = {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HOME: "/nonexistent",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_AUTHOR_NAME: "Test",
    GIT_AUTHOR_EMAIL: "test@example.org",
    GIT_COMMITTER_NAME: "Test",
    GIT_COMMITTER_EMAIL: "test@example.org",
  };
  const { stdout } = await run("git", ["-C", folder, ...args], { env });
  return stdout.replace(/\n$/, "");
}
