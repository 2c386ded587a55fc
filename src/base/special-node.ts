/** FIFOs and device nodes: Node has no mknod, so the program makes them, below an open folder. */
import type { AnchoredFolder } from "./anchored.js";
import { HoldfastError } from "./errors.js";
import { runProgram } from "./spawn.js";

/** What is made; numbers are for devices only. */
export interface SpecialNode {
  readonly kind: "fifo" | "char_device" | "block_device";
  readonly device?: { readonly major: number; readonly minor: number };
}

const MKNOD_TIMEOUT_MS = 10_000;
const LETTERS = { fifo: "p", char_device: "c", block_device: "b" } as const;

/**
 * Makes a node with mode 0600 under a name that is free; the name is ours and plain ASCII. Throws PERMISSION_DENIED
 * (devices need root) and TARGET_IO.
 */
export async function makeSpecialNode(
  folder: AnchoredFolder,
  name: string,
  { kind, device }: SpecialNode,
  signal: AbortSignal,
): Promise<void> {
  const numbers = device === undefined ? [] : [String(device.major), String(device.minor)];
  // The program is told the folder as its working directory: a name swapped meanwhile leads it nowhere else.
  const cwd = `/proc/${process.pid}/fd/${folder.fd}`;
  const command = ["mknod", "-m", "600", "--", name, LETTERS[kind], ...numbers];
  const { exitCode, stderr } = await runProgram(command, { timeoutMs: MKNOD_TIMEOUT_MS, signal, cwd });
  if (exitCode === 0) return;
  const code = /not permitted|denied/i.test(stderr) ? "PERMISSION_DENIED" : "TARGET_IO";
  throw new HoldfastError(code, `mknod: ${stderr.trim()}`);
}
