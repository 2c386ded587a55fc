/**
 * Which process began which, as the kernel tells it: of a process that has ended before anybody could look /proc says
 * nothing, and whom it worked for would not be known.
 */
import { closeSync, readSync } from "node:fs";
import { errnoOf } from "../../base/errors.js";
import { CONNECTOR_HEADER_BYTES, NETLINK_HEADER_BYTES, PROC_EVENT_FORK, openForks } from "../../base/native-forks.js";

export interface Fork {
  readonly parent: number;
  readonly child: number;
}

const MESSAGE_BYTES = 4096;
/** Messages in one go; what is left comes next time. */
const READS_MAX = 20_000;
/** Behind both headers: what happened (4), processor (4), time (8); of a fork then four numbers of 4 bytes. */
const FORK_OFFSET = 16;
const FORK_BYTES = FORK_OFFSET + 16;

/** The fork that a message tells of, of a process, not of a thread; undefined for anything else. */
export function parseFork(message: Buffer): Fork | undefined {
  const event = message.subarray(NETLINK_HEADER_BYTES + CONNECTOR_HEADER_BYTES);
  if (event.length < FORK_BYTES || event.readUInt32LE(0) !== PROC_EVENT_FORK) return undefined;
  const [parent, childThread, child] = [4, 8, 12].map((at) => event.readInt32LE(FORK_OFFSET + at));
  if (parent === undefined || child === undefined || childThread !== child) return undefined;
  return { parent, child };
}

/** Listens; hears nothing where that is not possible. */
export class Forks implements Disposable {
  readonly #buffer = Buffer.alloc(MESSAGE_BYTES);
  #socket: number | undefined;

  constructor() {
    try {
      this.#socket = openForks();
    } catch {
      // not root, a container, or a kernel without it
    }
  }

  get isListening(): boolean {
    return this.#socket !== undefined;
  }

  /** Hands over all forks that were told since the last call, in their order. Gives how much was told. */
  read(take: (fork: Fork) => void): number {
    let count = 0;
    for (; this.#socket !== undefined && count < READS_MAX; count += 1) {
      const length = this.#readOnce(this.#socket);
      if (length === 0) break;
      const fork = parseFork(this.#buffer.subarray(0, length));
      if (fork !== undefined) take(fork);
    }
    return count;
  }

  #readOnce(socket: number): number {
    for (;;) {
      try {
        return readSync(socket, this.#buffer, 0, MESSAGE_BYTES, null);
      } catch (error) {
        if (errnoOf(error) !== "ENOBUFS") return 0; // EAGAIN: nothing more
      }
    }
  }

  [Symbol.dispose](): void {
    if (this.#socket !== undefined) closeSync(this.#socket);
    this.#socket = undefined;
  }
}
