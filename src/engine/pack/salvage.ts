/**
 * Reading past places of a disk that do not read: what fails as a whole is read piece by piece, and a piece that fails
 * is zeros. So one bad sector costs the records that lie on it and no others; that they are damaged shows when they are
 * opened.
 */
import { hasCode } from "../../base/errors.js";
import type { ByteSource } from "./source.js";

/** A page of the kernel's cache: less is not read alone. */
const PIECE_BYTES = 4096;
/** A failing disk takes seconds for each; with more than this the source is given up. */
const BAD_PIECES_MAX = 64;

/** A source with zeros where it does not read. */
export interface SalvagedSource extends ByteSource {
  /** Readings of a piece so far that gave zeros. */
  readonly badPieces: number;
}

/** The source, with zeros where it does not read. Throws STORE_IO when too much of it does not. */
export function salvaging(source: ByteSource): SalvagedSource {
  let badPieces = 0;
  const readPiece = async (offsetBytes: number, target: Buffer, signal: AbortSignal): Promise<number> => {
    try {
      const bytes = await source.read(offsetBytes, target.length, signal);
      bytes.copy(target);
      return bytes.length;
    } catch (error) {
      badPieces += 1;
      if (!hasCode(error, "STORE_IO") || badPieces > BAD_PIECES_MAX) throw error;
      target.fill(0);
      return target.length;
    }
  };
  const readPieces = async (offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> => {
    const end = Math.min(offsetBytes + lengthBytes, source.sizeBytes);
    const whole = Buffer.alloc(Math.max(0, end - offsetBytes));
    for (let at = offsetBytes; at < end;) {
      const next = Math.min(end, at + PIECE_BYTES - (at % PIECE_BYTES));
      const length = await readPiece(at, whole.subarray(at - offsetBytes, next - offsetBytes), signal);
      if (length < next - at) return whole.subarray(0, at - offsetBytes + length);
      at = next;
    }
    return whole;
  };
  return {
    sizeBytes: source.sizeBytes,
    get badPieces() {
      return badPieces;
    },
    read: async (offsetBytes, lengthBytes, signal) => {
      try {
        return await source.read(offsetBytes, lengthBytes, signal);
      } catch (error) {
        if (!hasCode(error, "STORE_IO")) throw error;
        return await readPieces(offsetBytes, lengthBytes, signal);
      }
    },
  };
}
