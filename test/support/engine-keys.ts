/** Keys and signals for tests of the engine. */
import { deriveKeys, type RepositoryKeys } from "../../src/engine/keys.js";

/** Never aborted. */
export const NEVER = new AbortController().signal;

/** Fixed keys, so that a failing case can be repeated. */
export function testKeys(encrypted = true): RepositoryKeys {
  return deriveKeys(Buffer.alloc(32, 7), encrypted ? [Buffer.alloc(32, 9)] : []);
}

/** The code of the error that a promise rejects with, or "none". */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : `not coded: ${String(error)}`;
  }
}

/** The code of the error that a function throws, or "none". */
export function thrownCode(work: () => unknown): string {
  try {
    work();
    return "none";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : `not coded: ${String(error)}`;
  }
}

/** Repeatable noise that nothing compresses: 32-bit xorshift. */
export function noise(length: number, seed = 1): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed * 2654435761 || 1;
  for (let index = 0; index < words.length; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}
