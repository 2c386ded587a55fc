/**
 * The kernel's limit on watched folders. Beyond it new folders are dropped without any error, so it is counted here
 * and told before it is reached; the sweeps find what is then not heard.
 */
import { readFileSync } from "node:fs";

const LIMIT_FILE = "/proc/sys/fs/inotify/max_user_watches";
/** Other programs of the same user watch folders too. */
const NEARLY = 0.9;

/** Why new folders may go unheard, for people; undefined while there is room. */
export function watchLimitReason(folders: number, limit: number | undefined = watchLimit()): string | undefined {
  if (limit === undefined || folders < limit * NEARLY) return undefined;
  return (
    `${String(folders)} folders are watched and the system allows ${String(limit)} ` +
    "(raise fs.inotify.max_user_watches); new ones are found by sweeps"
  );
}

function watchLimit(): number | undefined {
  try {
    const limit = Number(readFileSync(LIMIT_FILE, "utf8").trim());
    return Number.isSafeInteger(limit) ? limit : undefined;
  } catch {
    return undefined;
  }
}
