/**
 * What makes content valid: the checks that a source may ask for, their verdicts, and the port that each check
 * fulfils. The checks run in a worker with limits on time and size (`inspect/`), so that hostile content never hangs
 * the daemon; commands run as separate programs.
 */
import type { DamageKind } from "../base/events.js";
import type { BytePath } from "../base/paths.js";

/** `rules` of a validation: facts that must hold in a JSON or YAML document. Field names may be paths with dots. */
export interface DocumentRules {
  /** Must be there, and neither null nor "". */
  readonly required?: readonly string[];
  /** Must not repeat among the documents of a top-level array (or among `items`). */
  readonly unique?: readonly string[];
  /** Must not be in another file that is checked by the same rule. */
  readonly uniqueAcrossFiles?: readonly string[];
  /** Must be valid times and, within one list, must not go backwards. */
  readonly timestamps?: readonly string[];
  /** A list inside the document and what each of its elements must have. */
  readonly items?: { readonly path: string; readonly required?: readonly string[] } | undefined;
}

/** Checks of structure that need no parameters; `text` is UTF-8 without NUL bytes. */
export const FORMATS = [
  "json",
  "yaml",
  "text",
  "toml",
  "xml",
  "csv",
  "ini",
  "env",
  "sqlite",
  "gzip",
  "zip",
  "tar",
  "png",
  "jpeg",
  "gif",
  "pdf",
  "elf",
] as const;
export type Format = (typeof FORMATS)[number];

export type Check =
  | { readonly kind: Format }
  /** JSON as people keep it: comments, commas before a closing bracket and one document a line are fine. */
  | { readonly kind: "json_text" }
  /** What bzip2, xz, zstd or lz4 wrote, to its end. */
  | { readonly kind: "packed" }
  /** The SQLite header alone, where `sqlite` checks every page. */
  | { readonly kind: "sqlite_header" }
  /** The content must be what the name's ending says; `extension` is filled in from the path, with its dot. */
  | { readonly kind: "magic"; readonly extension?: string }
  | { readonly kind: "size"; readonly bytesMin?: number | undefined; readonly bytesMax?: number | undefined }
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

/** A fault that a check found, or why it could not be made (`unchecked`). Never holds content. */
export interface Complaint {
  readonly kind: Extract<DamageKind, "invalid_structure" | "schema_violation"> | "unchecked";
  readonly detail: string;
}

/** One check of content. Pure: no files, no clock. Never throws, whatever the bytes are. */
export interface Validator {
  /** Name for people: `json`, `rules`. */
  readonly name: string;
  check(content: Buffer): Complaint | undefined;
}

/** A check that needs the file itself, such as what lies beside it. Never throws; writes only to private copies. */
export interface FileValidator {
  readonly name: string;
  checkFile(file: BytePath, content: Buffer): Promise<Complaint | undefined>;
}

/**
 * Rules for files that nobody configured: structure by extension. They only ever say "was valid, now is not", and only
 * formats are here that programs write and refuse when broken. What people edit into every shape (CSV, INI, .env) and
 * what is valid in part (a growing tar) is checked only when a source asks for it.
 */
export const DEFAULT_VALIDATION: readonly ValidationRule[] = [
  { match: "*.json", checks: [{ kind: "json_text" }] },
  { match: "*.{yaml,yml}", checks: [{ kind: "yaml" }] },
  { match: "*.toml", checks: [{ kind: "toml" }] },
  { match: "*.{xml,svg,xsd,xsl,plist}", checks: [{ kind: "xml" }] },
  { match: "*.{gz,tgz}", checks: [{ kind: "gzip" }] },
  { match: "*.{zip,jar,docx,xlsx,pptx,odt,ods,odp,epub,whl}", checks: [{ kind: "zip" }] },
  { match: "*.png", checks: [{ kind: "png" }] },
  { match: "*.{jpg,jpeg}", checks: [{ kind: "jpeg" }] },
  { match: "*.gif", checks: [{ kind: "gif" }] },
  { match: "*.pdf", checks: [{ kind: "pdf" }] },
  { match: "*.{sqlite,sqlite3,db}", checks: [{ kind: "sqlite_header" }] },
];

/** Content beyond this is not checked for structure, bytes. */
export const VALIDATION_BYTES_MAX = 64 * 2 ** 20;
export const VALIDATION_TIMEOUT_MS = 10_000;
