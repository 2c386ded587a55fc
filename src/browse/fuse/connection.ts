/**
 * One connection to the kernel: reads requests from the FUSE device, hands them to a handler, writes the answers. The
 * descriptor never blocks: waiting is done in another thread with a limit, so that the process can always end. Requests
 * are handled side by side; an interrupted one is answered at once and its late answer is dropped.
 */
import { writevSync } from "node:fs";
import { constants } from "node:os";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import type { MountCalls } from "../../base/native.js";
import {
  type FuseRequest,
  OPCODE,
  REQUEST_BYTES_MAX,
  WRITING,
  answerHeader,
  decodeRequest,
  initAnswer,
} from "./protocol.js";

/** Requests under way at most; the kernel waits with more. */
const UNDER_WAY_MAX = 256;
/** How long one wait for requests lasts: the time it takes to notice that we are to stop, ms. */
const WAIT_MS = 250;
/** How long this thread itself waits first, when nothing is under way, ms. */
const MOMENT_MS = 1;
/** Requests handled before other work of the process gets its turn. */
const BURST_MAX = 64;

const { EAGAIN, ENODEV, ENOENT, ENOSYS, EIO, EINTR, EROFS, EPROTO } = constants.errno;

/** An answer: the parts of its bytes, or a positive error number. */
export type FuseAnswer = readonly Buffer[] | number;

/** What answers requests. `forget` is told what the kernel no longer refers to. */
export interface FuseHandler {
  handle(request: FuseRequest): Promise<FuseAnswer> | FuseAnswer;
  forget(nodeId: number, count: number): void;
}

export class FuseConnection {
  readonly #fd: number;
  readonly #calls: MountCalls;
  readonly #handler: FuseHandler;
  readonly #underWay = new Set<bigint>();
  readonly #buffer = Buffer.allocUnsafeSlow(REQUEST_BYTES_MAX);
  #onRoom: (() => void) | undefined;
  #noOpen = false;

  /** Takes a descriptor of the FUSE device that does not block. */
  constructor(fd: number, calls: MountCalls, handler: FuseHandler) {
    this.#fd = fd;
    this.#calls = calls;
    this.#handler = handler;
  }

  /** Serves until the file system is unmounted, or the signal says so. Throws UNSUPPORTED for a kernel too old. */
  async serve(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      const state = this.#readBurst();
      if (state === "unmounted") return;
      if (this.#underWay.size >= UNDER_WAY_MAX) await new Promise<void>((resolve) => (this.#onRoom = resolve));
      else if (state === "empty") await this.#wait();
      else await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The next request mostly follows at once: waiting a moment here spares the way through another thread. */
  async #wait(): Promise<void> {
    if (this.#underWay.size === 0 && this.#calls.waitReadableHere(this.#fd, MOMENT_MS)) return;
    await this.#calls.waitReadable(this.#fd, WAIT_MS);
  }

  #readBurst(): "more" | "empty" | "unmounted" {
    for (let count = 0; count < BURST_MAX && this.#underWay.size < UNDER_WAY_MAX; count += 1) {
      const size = this.#calls.readInto(this.#fd, this.#buffer);
      if (size === -EAGAIN) return "empty";
      if (size === -ENODEV) return "unmounted";
      if (size === -EINTR || size === -ENOENT) continue; // the asking program was interrupted
      if (size < 0) throw new HoldfastError("MOUNT_UNAVAILABLE", `reading /dev/fuse failed: error ${-size}`);
      const request = decodeRequest(this.#buffer.subarray(0, size));
      if (request !== undefined) this.#take(request);
    }
    return "more";
  }

  #take(request: FuseRequest): void {
    const { opcode, body, unique } = request;
    if (opcode === OPCODE.forget || opcode === OPCODE.batchForget) this.#forget(request);
    else if (opcode === OPCODE.interrupt) this.#interrupt(body.readBigUInt64LE(0));
    else if (opcode === OPCODE.init) this.#init(request);
    else if (opcode === OPCODE.destroy) this.#send(unique, []);
    else if (opcode === OPCODE.open && this.#noOpen) this.#send(unique, ENOSYS);
    else if (WRITING.has(opcode)) this.#send(unique, EROFS);
    else this.#answer({ ...request, body: Buffer.from(body) });
  }

  #init({ unique, body }: FuseRequest): void {
    const initial = initAnswer(body);
    if (initial === undefined) {
      this.#send(unique, EPROTO);
      throw new HoldfastError("MOUNT_UNAVAILABLE", "the kernel's FUSE is older than protocol 7.31 (Linux 5.4)");
    }
    this.#noOpen = initial.noOpen;
    this.#send(unique, [initial.answer]);
  }

  #forget({ opcode, nodeId, body }: FuseRequest): void {
    if (opcode === OPCODE.forget) {
      this.#handler.forget(nodeId, Number(body.readBigUInt64LE(0)));
      return;
    }
    const count = body.readUInt32LE(0);
    for (let at = 8; at < 8 + count * 16; at += 16) {
      this.#handler.forget(Number(body.readBigUInt64LE(at)), Number(body.readBigUInt64LE(at + 8)));
    }
  }

  #interrupt(unique: bigint): void {
    if (this.#underWay.has(unique)) this.#finish(unique, EINTR);
  }

  #answer(request: FuseRequest): void {
    const answer = this.#handler.handle(request);
    if (!(answer instanceof Promise)) {
      this.#send(request.unique, answer);
      return;
    }
    this.#underWay.add(request.unique);
    answer.then(
      (given) => this.#finish(request.unique, given),
      () => this.#finish(request.unique, EIO),
    );
  }

  /** Sends the answer of a request under way, unless it was answered by an interruption. */
  #finish(unique: bigint, answer: FuseAnswer): void {
    if (!this.#underWay.delete(unique)) return;
    this.#send(unique, answer);
    this.#onRoom?.();
    this.#onRoom = undefined;
  }

  #send(unique: bigint, answer: FuseAnswer): void {
    const parts = typeof answer === "number" ? [] : answer;
    const error = typeof answer === "number" ? answer : 0;
    const bytes = parts.reduce((total, part) => total + part.length, 0);
    try {
      writevSync(this.#fd, [answerHeader(unique, error, bytes), ...parts]);
    } catch (failure) {
      // ENOENT: nobody waits for it any more; ENODEV: it was unmounted, which the next read tells
      if (["ENOENT", "ENODEV"].includes(errnoOf(failure) ?? "")) return;
      throw failure;
    }
  }
}
