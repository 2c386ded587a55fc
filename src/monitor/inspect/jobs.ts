/** What the inspecting worker is asked and answers. Paths are byte paths. */
import type { BytePath } from "../../base/paths.js";
import type { StatTuple } from "../../engine/types.js";
import type { ContentCheck } from "../validators/build.js";
import type { Verdict } from "../validator.js";

/** The beginning of a content; as it stands, or as it was before gzip compressed it. */
export interface ContentPart {
  readonly lengthBytes: number;
  readonly isGzip: boolean;
}

/** What the ends of a file look like. */
export interface Shape {
  readonly sizeBytes: number;
  /** NUL bytes at the end, counted back for at most 64 MiB. */
  readonly nulTailBytes: number;
  /** Whether a NUL stands before those, in the last 64 KiB of the file: false for nearly every text. */
  readonly hasOtherNuls: boolean;
}

export type InspectJob =
  | {
      readonly kind: "inspect";
      readonly path: BytePath;
      readonly checks: readonly ContentCheck[];
      readonly sizeBytesMax: number;
    }
  /** `part`: only of the first so many bytes, of the content or of what gzip made of it. */
  | { readonly kind: "digest"; readonly path: BytePath; readonly part?: ContentPart | undefined }
  /** Digests of many files, whole; none of one that is larger than this. */
  | { readonly kind: "digests"; readonly paths: readonly BytePath[]; readonly sizeBytesMax: number }
  /** The values of fields of all documents of a file, as digests. */
  | {
      readonly kind: "fields";
      readonly path: BytePath;
      readonly fields: readonly string[];
      readonly sizeBytesMax: number;
    }
  /** Without `oldPath`: whether the content is in good order by itself. With it: whether it looks attacked. */
  | {
      readonly kind: "pair";
      readonly path: BytePath;
      readonly oldPath?: BytePath | undefined;
      readonly sizeBytesMax: number;
    };

export interface Inspection {
  readonly shape: Shape;
  readonly verdict: Verdict;
}

/** unsure: only the version before can tell. The reason holds no content. */
export type PairVerdict =
  { readonly is: "ordinary" } | { readonly is: "unsure" } | { readonly is: "suspicious"; readonly reason: string };

/** A read of a file, whole or in part, with the stat before and after it. Content shorter than the part is taken whole. */
export interface Digest {
  readonly sha256: string;
  readonly before: StatTuple;
  readonly after: StatTuple;
}

export type InspectAnswer =
  | { readonly id: number; readonly inspection: Inspection }
  | { readonly id: number; readonly digest: Digest }
  /** In the order of the paths; undefined where a file could not be read. */
  | { readonly id: number; readonly digests: readonly (Digest | undefined)[] }
  | { readonly id: number; readonly values: readonly string[] }
  | { readonly id: number; readonly pair: PairVerdict }
  | { readonly id: number; readonly errno: string };

export interface InspectRequest {
  readonly id: number;
  readonly job: InspectJob;
}
