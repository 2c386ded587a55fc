/**
 * A quick look in this thread that spares small texts, which most saved files are, the way to the inspecting worker.
 * Bounded by the size; nothing is parsed.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { BytePath } from "../../base/paths.js";
import { reach } from "../../base/reach.js";
import { SAFE_READ_FLAGS } from "../inspect/shape.js";
import { kindOfContent } from "../validators/kinds.js";
import { isOrdinary } from "./compare.js";
import { textureOf } from "./texture.js";

/** A look at so much takes about 0.3 ms, bytes. */
const QUICK_BYTES_MAX = 65_536;

/** True when the file is a small text in good order; false says nothing. */
export function isSmallText(path: BytePath): boolean {
  let fd: number | undefined;
  try {
    fd = reach(path, (place) => openSync(place, SAFE_READ_FLAGS));
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.size > QUICK_BYTES_MAX) return false;
    const content = Buffer.allocUnsafe(stats.size);
    const count = readSync(fd, content, 0, content.length, 0);
    const read = content.subarray(0, count);
    if (count !== stats.size || kindOfContent(read) !== undefined) return false;
    const facts = { sizeBytes: count, kind: undefined, isSound: undefined, isSealed: false };
    return isOrdinary({ ...facts, texture: textureOf(read) });
  } catch {
    return false; // the worker will say why it cannot be read
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
