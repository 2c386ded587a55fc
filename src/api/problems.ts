/** Errors as RFC 9457 problems, with the same permanent code as on the command line, and back. */
import { ERROR_CODES } from "../base/error-codes.js";
import { type ErrorCode, HoldfastError, asHoldfastError } from "../base/errors.js";

export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;
}

const STATUS: Partial<Record<ErrorCode, number>> = {
  USAGE: 400,
  PERMISSION_DENIED: 403,
  BACKUP_NOT_FOUND: 404,
  VERSION_NOT_FOUND: 404,
  SOURCE_NOT_FOUND: 404,
  POLICY_NOT_FOUND: 404,
  INCIDENT_NOT_FOUND: 404,
  JOB_NOT_FOUND: 404,
  CHANNEL_NOT_FOUND: 404,
  QUARANTINE_MISSING: 404,
  NOT_FOUND: 404,
  REPO_NOT_FOUND: 404,
  BACKUP_AMBIGUOUS: 409,
  INCIDENT_AMBIGUOUS: 409,
  BACKUP_PINNED: 409,
  SOURCE_EXISTS: 409,
  POLICY_EXISTS: 409,
  INCIDENT_STATE: 409,
  TARGET_EXISTS: 409,
  REPO_EXISTS: 409,
  REPO_LOCKED: 409,
  INDEX_LOCKED: 409,
  DAEMON_RUNNING: 409,
  ENCRYPTION_REQUIRED: 409,
  CONFIG_INVALID: 422,
  LIMIT_REACHED: 429,
  UNSUPPORTED: 501,
  CHANNEL_FAILED: 502,
  INTERRUPTED: 503,
  TIMEOUT: 504,
  STORE_FULL: 507,
};

/** HTTP status of an error code; 500 when the fault is ours or the machine's. */
export function statusOf(code: ErrorCode): number {
  return STATUS[code] ?? 500;
}

/** The problem of anything thrown; `status` when HTTP itself has said which. */
export function problemOf(thrown: unknown, status?: number): ProblemDocument {
  const error = asHoldfastError(thrown);
  return {
    type: `urn:holdfast:error:${error.code}`,
    title: ERROR_CODES[error.code].meaning,
    status: status ?? statusOf(error.code),
    detail: error.message,
    code: error.code,
    hint: error.hint,
    details: error.details,
  };
}

/** The error that a problem document tells of. */
export function errorOfProblem(document: unknown, status: number): HoldfastError {
  const fields = typeof document === "object" && document !== null ? (document as Record<string, unknown>) : {};
  const code = fields["code"];
  const isKnown = typeof code === "string" && Object.hasOwn(ERROR_CODES, code);
  const detail = typeof fields["detail"] === "string" ? fields["detail"] : `the daemon answered with status ${status}`;
  const hint = fields["hint"];
  const details = fields["details"];
  return new HoldfastError(isKnown ? (code as ErrorCode) : "INTERNAL", detail, {
    ...(typeof hint === "string" ? { hint } : {}),
    ...(typeof details === "object" && details !== null ? { details: details as Record<string, unknown> } : {}),
  });
}
