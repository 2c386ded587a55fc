/** The part of the state database that belongs to the monitor alone. */
import type { Level } from "level";

export type StateSublevel = ReturnType<typeof monitorSublevel>;

/** The monitor's part of the state database. */
export function monitorSublevel(database: Level) {
  return database.sublevel("monitor");
}
