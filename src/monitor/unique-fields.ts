/**
 * Fields that no two files may share (`rules: {unique_across_files: [session_id]}`). Only what a new version brings counts:
 * a value that it had before is no damage now. Other files are read once and again only when they changed.
 */
import { type BytePath, pathText } from "../base/paths.js";
import { lookAt, stampOf } from "./look.js";
import type { KnownVersions } from "./ports.js";
import type { Registry } from "./registry.js";
import type { FileValidation, ValidationRules } from "./validation.js";
import type { Check } from "./validator.js";

/** Files compared with one; of a source with more that the rule matches, the first in order are. */
const FILES_MAX = 10_000;
/** Values remembered of all files together, about 100 bytes each; beyond, all are read anew. */
const VALUES_MAX = 500_000;

interface Known {
  readonly stamp: string;
  readonly values: ReadonlySet<string>;
}

/** What it needs of a source. */
export interface UniqueFieldParts {
  readonly name: string;
  readonly validationRules: ValidationRules;
  readonly registry: Registry;
  readonly validation: FileValidation;
  readonly known: KnownVersions;
}

export class UniqueFields {
  readonly #parts: UniqueFieldParts;
  readonly #known = new Map<BytePath, Known>();
  #valueCount = 0;

  constructor(parts: UniqueFieldParts) {
    this.#parts = parts;
  }

  /**
   * Why the file at `content`, as a new version of `path`, shares a value with another file that its last durable version
   * did not have; undefined when it does not, or no rule asks.
   */
  async fault(path: BytePath, content: BytePath, signal: AbortSignal): Promise<string | undefined> {
    for (const check of this.#parts.validationRules.checksFor(path).checks) {
      if (check.kind !== "rules" || (check.rules.uniqueAcrossFiles ?? []).length === 0) continue;
      const fields = check.rules.uniqueAcrossFiles ?? [];
      const values = await this.#parts.validation.fieldValues(content, fields, signal);
      const before = values.length === 0 ? [] : await this.#valuesBefore(path, fields, signal);
      const fresh = values.filter((value) => !before.includes(value));
      const twin = fresh.length === 0 ? undefined : await this.#twinOf(path, { check, fields, fresh }, signal);
      if (twin !== undefined) return `a value of ${fields.join(", ")} is in ${pathText(twin)} too`;
    }
    return undefined;
  }

  async #valuesBefore(path: BytePath, fields: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
    const { known, validation, name } = this.#parts;
    const entry = await known.current(path, name);
    if (entry === undefined || entry.node.kind !== "file") return [];
    return await validation.fieldValuesOf(known.readContent(entry.node, signal), path, fields, signal);
  }

  async #twinOf(
    path: BytePath,
    asked: { readonly check: Check; readonly fields: readonly string[]; readonly fresh: readonly string[] },
    signal: AbortSignal,
  ): Promise<BytePath | undefined> {
    const { registry, name, validationRules } = this.#parts;
    const rule = JSON.stringify(asked.check);
    let files = 0;
    for await (const page of registry.entries(name)) {
      for (const { path: other, record } of page) {
        if (other === path || record.kind !== "file" || record.state !== "live") continue;
        if (!validationRules.checksFor(other).checks.some((check) => JSON.stringify(check) === rule)) continue;
        if (++files > FILES_MAX) return undefined;
        const values = await this.#valuesAt(other, { rule, fields: asked.fields }, signal);
        if (asked.fresh.some((value) => values.has(value))) return other;
      }
    }
    return undefined;
  }

  async #valuesAt(
    path: BytePath,
    { rule, fields }: { readonly rule: string; readonly fields: readonly string[] },
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>> {
    const look = lookAt(path);
    if (look.is !== "there") return new Set();
    const stamp = `${stampOf(look.node.stat)} ${rule}`;
    const known = this.#known.get(path);
    if (known?.stamp === stamp) return known.values;
    const values = new Set(await this.#parts.validation.fieldValues(path, fields, signal));
    this.#valueCount += values.size - (known?.values.size ?? 0);
    if (this.#valueCount > VALUES_MAX) {
      this.#known.clear();
      this.#valueCount = values.size;
    }
    this.#known.set(path, { stamp, values });
    return values;
  }
}
