/** Opening protected files to keep hold of them, without leaving a trace on them. */
import { constants, openSync } from "node:fs";
import { errnoOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { reach } from "../base/reach.js";

const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Opens for reading without moving the access time where that is allowed; undefined when it cannot be opened. */
export function openToKeep(path: BytePath): number | undefined {
  for (const flags of [FLAGS | constants.O_NOATIME, FLAGS]) {
    try {
      return reach(path, (place) => openSync(place, flags));
    } catch (error) {
      if (errnoOf(error) !== "EPERM") return undefined;
    }
  }
  return undefined;
}
