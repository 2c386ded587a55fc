/** Another process that holds a file open for writing until it is told to end. */
import { spawn } from "node:child_process";
import { once } from "node:events";

export interface FileHolder {
  readonly pid: number;
  end(): Promise<void>;
}

const PROGRAM = `
const fs = require("node:fs");
const fd = fs.openSync(process.argv[1], process.argv[2]);
process.stdout.write("open\\n");
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
`;

/** Resolves when the other process has the file open. */
export async function spawnHolder(path: string, flags = "r+"): Promise<FileHolder> {
  const child = spawn(process.execPath, ["-e", PROGRAM, path, flags], { stdio: ["pipe", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return {
    pid: child.pid ?? 0,
    end: async () => {
      const ended = once(child, "exit");
      child.stdin.end();
      await ended;
    },
  };
}
