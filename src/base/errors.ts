/**
 * The one error class of holdfast. Failures are thrown as `HoldfastError` with a permanent code; expected outcomes
 * are returned as unions instead. Wrap a foreign error once, at a floor's border; never match on message text.
 */
import { ERROR_CODES, type ErrorCode } from "./error-codes.js";

export type { ErrorCode } from "./error-codes.js";

export interface ErrorExtras {
  /** What a person can do; defaults to the code's own hint. */
  readonly hint?: string;
  /** Facts for programs (paths as text, sizes in bytes); never secrets. */
  readonly details?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/** The JSON shape of an error, the same on the command line and in the API. */
export interface ErrorDocument {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export class HoldfastError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.name = "HoldfastError";
    this.code = code;
    this.hint = extras.hint ?? ERROR_CODES[code].hint;
    this.details = extras.details ?? {};
  }

  /** Exit code for the command line. */
  get exitCode(): number {
    return ERROR_CODES[this.code].exit;
  }

  toDocument(): ErrorDocument {
    return { code: this.code, message: this.message, hint: this.hint, details: this.details };
  }
}

/** True for a HoldfastError with the given code. */
export function hasCode(error: unknown, code: ErrorCode): error is HoldfastError {
  return error instanceof HoldfastError && error.code === code;
}

/** The system's error name ("ENOENT") of a Node error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The system's error name of what a system call refused; undefined for Node's own complaints and those of packages. */
export function systemErrnoOf(error: unknown): string | undefined {
  const code = errnoOf(error);
  return code !== undefined && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/** A message for people out of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Wraps anything thrown as a HoldfastError; one that is one already passes through unchanged. */
export function asHoldfastError(error: unknown, code: ErrorCode = "INTERNAL", context?: string): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (error instanceof Error && error.name === "AbortError") {
    return new HoldfastError("INTERRUPTED", context ?? "interrupted", { cause: error });
  }
  const prefix = context === undefined ? "" : `${context}: `;
  return new HoldfastError(code, `${prefix}${messageOf(error)}`, { cause: error });
}
