/** The version of this holdfast, from its package.json. */
import { readFile } from "node:fs/promises";

/** Such as `0.1.0`; `unknown` when the package is incomplete. */
export async function holdfastVersion(): Promise<string> {
  for (const place of ["../../package.json", "../../../package.json", "../../../../package.json"]) {
    try {
      const document = JSON.parse(await readFile(new URL(place, import.meta.url), "utf8")) as unknown;
      if (isPackage(document) && document.name === "holdfast") return document.version;
    } catch {
      // not there: one folder further up
    }
  }
  return "unknown";
}

function isPackage(document: unknown): document is { readonly name: string; readonly version: string } {
  return typeof document === "object" && document !== null && "name" in document && "version" in document;
}
