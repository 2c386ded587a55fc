/**
 * States as the workers make them: the bytes of an entry state whose commit is not known yet. Number and time are 0,
 * one byte each at a fixed place, so that the main thread can put them in without decoding and encoding a file again.
 */
import type { FileNode } from "../types.js";
import { ByteReader, type ByteWriter } from "./bytes.js";
import { readState, STATE_VARINTS_AT, writeState } from "./codec.js";

/** The two zeros. */
const STAMP_BYTES = 2;

/** Appends the bytes of a node without a commit. */
export function writeUnstamped(writer: ByteWriter, node: FileNode): void {
  writeState(writer, { node, timeMs: 0, seq: 0 });
}

/** Appends the state of a commit: `unstamped` with its time (wall ms) and number. */
export function writeStamped(
  writer: ByteWriter,
  unstamped: Buffer,
  commit: { readonly timeMs: number; readonly seq: number },
): void {
  writer.bytes(unstamped.subarray(0, STATE_VARINTS_AT));
  writer.varint(commit.timeMs);
  writer.varint(commit.seq);
  writer.bytes(unstamped.subarray(STATE_VARINTS_AT + STAMP_BYTES));
}

export function nodeOfUnstamped(unstamped: Buffer): FileNode {
  return readState(new ByteReader(unstamped)).node;
}
