/**
 * The optional package koffi, through which C functions are called that Node does not offer. Everything works without
 * it: callers then do what they can. `HOLDFAST_NO_NATIVE=1` goes without, for tests and for a system where it harms.
 */
import { createRequire } from "node:module";
import { constants } from "node:os";

/** The part of koffi that is used. */
export interface Koffi {
  /** A library by its file name; null: what the process has loaded, so the C library. Throws when there is none. */
  load(library: string | null): { func(signature: string): NativeFunction };
  /** Of the last call of this thread. */
  errno(): number;
  /** Where a buffer lies in memory. */
  address(buffer: Uint8Array): bigint;
}

export interface NativeFunction {
  (...args: readonly unknown[]): unknown;
  /** Runs in another thread; the last argument is called back with an error and the result. */
  async(...args: readonly unknown[]): void;
}

/** koffi, or undefined when it is not installed, has no build for this processor, or shall not be used. */
export function loadKoffi(): Koffi | undefined {
  if (process.platform !== "linux" || process.env["HOLDFAST_NO_NATIVE"] === "1") return undefined;
  try {
    const koffi: unknown = createRequire(import.meta.url)("koffi");
    return isKoffi(koffi) ? koffi : undefined;
  } catch {
    return undefined;
  }
}

/** What `bind` makes of koffi; undefined also when a library or a function that it asks for is not there. */
export function bindNative<Calls>(bind: (koffi: Koffi) => Calls): Calls | undefined {
  const koffi = loadKoffi();
  if (koffi === undefined) return undefined;
  try {
    return bind(koffi);
  } catch {
    return undefined;
  }
}

function isKoffi(value: unknown): value is Koffi {
  return typeof value === "object" && value !== null && "load" in value && "errno" in value;
}

/** A system call whose negative result is thrown as an error. */
export type SystemCall = (...args: readonly unknown[]) => number;

/** The C function of a signature, checked; `name` stands in its errors. */
export function systemCall(koffi: Koffi, name: string, signature: string): SystemCall {
  const call = koffi.load(null).func(signature);
  return (...args) => {
    const result = Number(call(...args));
    if (result < 0) throw systemError(name, koffi.errno());
    return result;
  };
}

/** A failed system call, in the shape of Node's own errors. */
export class NativeError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, code: string, errno: number) {
    super(`${code}: ${syscall} failed`);
    this.name = "NativeError";
    this.code = code;
    this.errno = -errno;
    this.syscall = syscall;
  }
}

/** The error of a call by the number that the system gave. */
export function systemError(syscall: string, errno: number): NativeError {
  const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
  return new NativeError(syscall, name ?? `E${String(errno)}`, errno);
}
