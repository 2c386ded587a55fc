/** A real vim that is killed in the midst of work, so that its swap file stays. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, readdir, rm, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export interface VimEdit {
  readonly keys: string;
  /** Text that must be in the swap file before vim is killed. */
  readonly until: string;
  readonly command?: string;
  /** vim's 'directory'; beside the file unless told. */
  readonly swapFolder?: string;
}

/** Edits a file in a real vim, waits until it has written its swap file, and kills it. */
export async function killVimAfter(file: string, edit: VimEdit): Promise<void> {
  const past = new Date(Date.now() - 60_000);
  await utimes(file, past, past);
  const swapFolder = edit.swapFolder ?? ".";
  const args = ["--not-a-term", "-u", "NONE", "-N", "--cmd", `set updatetime=100 directory=${swapFolder}`];
  // A command may write the swap file in many steps: it is whole when the next command was carried out.
  const done = `${file}.done`;
  const ending = edit.command === undefined ? [] : [edit.command, `call writefile([], "${done}")`];
  const commands = [`call feedkeys("${edit.keys}", "tx")`, ...ending];
  const vim = spawn("vim", [...args, ...commands.flatMap((command) => ["-c", command]), file], {
    stdio: ["pipe", "ignore", "ignore"],
    env: { ...process.env, TERM: "xterm", HOME: "/nonexistent" },
  });
  const ended = new Promise((resolve) => vim.on("exit", resolve));
  const startMs = performance.now();
  try {
    const isWritten = async (): Promise<boolean> =>
      (ending.length === 0 || existsSync(done)) &&
      (await isInSwap(swapFolder === "." ? dirname(file) : swapFolder, edit.until));
    while (!(await isWritten())) {
      if (performance.now() - startMs > 15_000) throw new Error("vim did not write its swap file");
      await delay(50);
    }
  } finally {
    vim.kill("SIGKILL");
    await ended;
    await rm(done, { force: true });
  }
}

async function isInSwap(folder: string, text: string): Promise<boolean> {
  for (const name of await readdir(folder))
    if (name.endsWith(".swp") && (await readFile(join(folder, name))).includes(text)) return true;
  return false;
}
