/** Globs that people write on the command line, as tests for paths. Pure. */
import picomatch from "picomatch";
import type { BytePath } from "../base/paths.js";

/** A glob on the absolute path, or on the name alone when it has no `/`. */
export function globOf(glob: string): (path: BytePath) => boolean {
  const pattern = Buffer.from(glob, "utf8").toString("latin1");
  const test = picomatch(pattern.includes("/") ? pattern : `**/${pattern}`, { dot: true, nonegate: true });
  return (path) => test(path);
}
