/** What reading a candidate's bytes has told; what acceptance and scoring go by. */
import type { ValidityVerdict } from "./ports.js";

/** What is known of a candidate's bytes once they have been read; all undefined before that. */
export interface ContentFacts {
  readonly sha256: string;
  readonly gitBlobId?: string;
  readonly sizeBytes: number;
  readonly validity: ValidityVerdict;
  /** Of a lost inode that was written to: whether anything of the last good content is left; undefined: not known. */
  readonly resembles?: boolean;
}
