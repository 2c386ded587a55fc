/**
 * The `rules` of a validation: required fields, unique values, times that are valid and do not run backwards, and what
 * each element of an inner list must have. A top-level array is a list of documents.
 */
import { createHash } from "node:crypto";
import type { Complaint, DocumentRules, Validator } from "../validator.js";
import { readDocuments, valueAt } from "./document.js";

export function rulesValidator(rules: DocumentRules): Validator {
  return {
    name: "rules",
    check: (content) => {
      const read = readDocuments(content);
      if (read === undefined) return { kind: "invalid_structure", detail: "neither valid JSON nor YAML" };
      const detail = checkDocuments(documentsOf(read), rules);
      return detail === undefined ? undefined : ({ kind: "schema_violation", detail } satisfies Complaint);
    },
  };
}

/** Values remembered of one file. */
const VALUES_MAX = 100_000;

/** Digests of the values that the documents hold under these names, each with its name, without doubles. */
export function fieldValues(content: Buffer, names: readonly string[]): readonly string[] {
  const values = new Set<string>();
  for (const document of documentsOf(readDocuments(content) ?? [])) {
    for (const name of names) {
      const value = valueAt(document, name);
      if (value === undefined || value === null || value === "") continue;
      values.add(
        createHash("sha256")
          .update(JSON.stringify([name, value]))
          .digest("base64url"),
      );
      if (values.size >= VALUES_MAX) return [...values];
    }
  }
  return [...values];
}

function documentsOf(read: readonly unknown[]): readonly unknown[] {
  return read.flatMap((document) => (Array.isArray(document) ? (document as unknown[]) : [document]));
}

function checkDocuments(documents: readonly unknown[], rules: DocumentRules): string | undefined {
  const items = rules.items;
  return (
    missingField(documents, rules.required ?? [], "document") ??
    repeatedField(documents, rules.unique ?? [], "document") ??
    brokenTimes(documents, rules.timestamps ?? [], "document") ??
    (items === undefined ? undefined : checkItems(documents, items, rules))
  );
}

function checkItems(
  documents: readonly unknown[],
  items: NonNullable<DocumentRules["items"]>,
  rules: DocumentRules,
): string | undefined {
  for (const [index, document] of documents.entries()) {
    const list = valueAt(document, items.path);
    if (list === undefined) continue; // `required` says whether it must be there
    if (!Array.isArray(list)) return `document ${String(index)}: "${items.path}" is no list`;
    const what = `document ${String(index)}, element of "${items.path}"`;
    const fault =
      missingField(list, items.required ?? [], what) ??
      repeatedField(list, rules.unique ?? [], what) ??
      brokenTimes(list, rules.timestamps ?? [], what);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function missingField(list: readonly unknown[], names: readonly string[], what: string): string | undefined {
  for (const [index, element] of list.entries()) {
    for (const name of names) {
      const value = valueAt(element, name);
      if (value === undefined || value === null || value === "") return `${what} ${String(index)} lacks "${name}"`;
    }
  }
  return undefined;
}

function repeatedField(list: readonly unknown[], names: readonly string[], what: string): string | undefined {
  for (const name of names) {
    const seen = new Set<string>();
    for (const [index, element] of list.entries()) {
      const value = valueAt(element, name);
      if (value === undefined) continue;
      const key = JSON.stringify(value);
      if (seen.has(key)) return `${what} ${String(index)} repeats an earlier "${name}"`;
      seen.add(key);
    }
  }
  return undefined;
}

function brokenTimes(list: readonly unknown[], names: readonly string[], what: string): string | undefined {
  for (const name of names) {
    let latestMs = -Infinity;
    for (const [index, element] of list.entries()) {
      const value = valueAt(element, name);
      if (value === undefined) continue;
      const timeMs = timeOf(value);
      if (timeMs === undefined) return `${what} ${String(index)}: "${name}" is no time`;
      if (timeMs < latestMs) return `${what} ${String(index)}: "${name}" is earlier than the one before`;
      latestMs = timeMs;
    }
  }
  return undefined;
}

/** ISO 8601 text, or a number of seconds or ms since the epoch. */
function timeOf(value: unknown): number | undefined {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : value.getTime();
  if (typeof value === "number") {
    if (!Number.isFinite(value) || value < 0) return undefined;
    return value < 1e11 ? value * 1000 : value; // 1e11 s would be the year 5138
  }
  if (typeof value !== "string" || !/^\d{4}-\d{2}-\d{2}/.test(value)) return undefined;
  const timeMs = Date.parse(value);
  return Number.isNaN(timeMs) ? undefined : timeMs;
}
