/** Source files as the house rules see them: path, text and syntax tree. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

export interface SourceText {
  /** From the root of the checkout, with `/`, such as `src/base/clock.ts`. */
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

/** One broken rule at one place. */
export interface Complaint {
  readonly path: string;
  /** From 1. */
  readonly line: number;
  /** What is wrong and what to do about it. */
  readonly message: string;
}

export type Rule = (files: readonly SourceText[]) => Complaint[];

/** AssemblyScript, another language in the clothes of TypeScript. */
const FOREIGN = ["src/engine/chunk/kernel/"];

export function sourceText(path: string, text: string): SourceText {
  return { path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true, ts.ScriptKind.TS) };
}

/** All TypeScript files below a folder of the checkout. */
export function readSources(root: string, folder: string): SourceText[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => `${folder}/${name}`)
    .filter((path) => path.endsWith(".ts") && !FOREIGN.some((prefix) => path.startsWith(prefix)))
    .sort()
    .map((path) => sourceText(path, readFileSync(join(root, path), "utf8")));
}

/** A complaint about a node of the tree. */
export function complaintAt(file: SourceText, node: ts.Node, message: string): Complaint {
  return { path: file.path, line: lineOf(file, node.getStart(file.tree)), message };
}

/** Line, from 1, of a position. */
export function lineOf(file: SourceText, position: number): number {
  return file.tree.getLineAndCharacterOfPosition(position).line + 1;
}

/** Visits a node and all below it. */
export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => walk(child, visit));
}

/** Complaints as a person reads them, one a line. */
export function complaintText(complaints: readonly Complaint[]): string {
  return complaints.map(({ path, line, message }) => `${path}:${String(line)} ${message}`).join("\n");
}
