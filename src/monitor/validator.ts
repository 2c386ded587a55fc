/**
 * What makes content valid: the checks that a source may ask for, their verdicts, and the port that each check
 * fulfils. The checks run in a worker with limits on time and size (`inspect/`), so that hostile content never hangs
 * the daemon; commands run as separate programs.
 */
import type { DamageKind } from "../base/events.js";

/** `rules` of a validation: facts that must hold in a JSON or YAML document. Field names may be paths with dots. */
export interface DocumentRules {
  /** Must be there, and neither null nor "". */
  readonly required?: readonly string[];
  /** Must not repeat among the documents of a top-level array (or among `items`). */
  readonly unique?: readonly string[];
  /** Must be valid times and, within one list, must not go backwards. */
  readonly timestamps?: readonly string[];
  /** A list inside the document and what each of its elements must have. */
  readonly items?: { readonly path: string; readonly required?: readonly string[] } | undefined;
}

export type Check =
  | { readonly kind: "json" }
  | { readonly kind: "yaml" }
  /** UTF-8 text without NUL bytes. */
  | { readonly kind: "text" }
  | { readonly kind: "schema"; readonly schemaFile: string }
  | { readonly kind: "rules"; readonly rules: DocumentRules }
  /** argv; `{file}` becomes the path of the content. Exit 0 is valid. */
  | { readonly kind: "command"; readonly command: readonly string[] };

/** Checks for the paths that match; all rules that match apply. */
export interface ValidationRule {
  readonly match: string;
  readonly checks: readonly Check[];
  /** Limit of one check of one file, ms; default 10,000. */
  readonly timeoutMs?: number;
}

export type Verdict =
  | { readonly verdict: "valid"; readonly detail: string }
  | { readonly verdict: "invalid"; readonly kind: DamageKind; readonly detail: string }
  /** No check looks at such files, or a check could not be made (too large, too slow). */
  | { readonly verdict: "unchecked"; readonly detail: string };

/** A fault that a check found; the complaint never holds content. */
export interface Complaint {
  readonly kind: Extract<DamageKind, "invalid_structure" | "schema_violation">;
  readonly detail: string;
}

/** One check of content. Pure: no files, no clock. Never throws, whatever the bytes are. */
export interface Validator {
  /** Name for people: `json`, `rules`. */
  readonly name: string;
  check(content: Buffer): Complaint | undefined;
}

/** Rules for files that nobody configured: structure by extension. They only ever say "was valid, now is not". */
export const DEFAULT_VALIDATION: readonly ValidationRule[] = [
  { match: "*.json", checks: [{ kind: "json" }] },
  { match: "*.{yaml,yml}", checks: [{ kind: "yaml" }] },
];

/** Content beyond this is not checked for structure, bytes. */
export const VALIDATION_BYTES_MAX = 64 * 2 ** 20;
export const VALIDATION_TIMEOUT_MS = 10_000;
