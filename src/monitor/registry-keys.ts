/** How the registry names things in LevelDB. */
import type { BytePath } from "../base/paths.js";

/** One source is one range, in byte order of its paths. */
export function keyOf(source: string, path: BytePath): string {
  return `${source}\0${path}`;
}

export function sourceOfKey(key: string): string {
  return key.slice(0, key.indexOf("\0"));
}

/** Of the commit through which a source is registered. */
export function throughKey(source: string): string {
  return `through:${source}`;
}
