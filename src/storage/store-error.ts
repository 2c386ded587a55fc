/** The system's errors at the store, as holdfast's codes: the one translation that all writers and readers use. */
import { asHoldfastError, type ErrorCode, errnoOf, HoldfastError, messageOf } from "../base/errors.js";

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "STORE_FULL",
  EDQUOT: "STORE_FULL",
  EROFS: "STORE_READ_ONLY",
  EACCES: "PERMISSION_DENIED",
  EPERM: "PERMISSION_DENIED",
  ENOENT: "OBJECT_MISSING",
  EEXIST: "OBJECT_EXISTS",
};

/** Anything thrown by a file call, wrapped; a HoldfastError passes unchanged, an abort is INTERRUPTED. */
export function storeError(error: unknown, doing: string): HoldfastError {
  const errno = errnoOf(error);
  if (error instanceof HoldfastError || errno === undefined || errno === "ABORT_ERR") {
    return asHoldfastError(error, "STORE_IO", doing);
  }
  return new HoldfastError(CODES[errno] ?? "STORE_IO", `${doing}: ${messageOf(error)}`, {
    cause: error,
    details: { errno },
  });
}

/** For a store whose folder is another one than was opened: its disk is not mounted, or it was moved. */
export function storeAwayError(folder: string): HoldfastError {
  return new HoldfastError("REPO_NOT_FOUND", `the store ${folder} is not there any more`, {
    hint: "Its disk is not mounted, or its folder was moved or replaced: bring it back, then start holdfast again.",
  });
}
