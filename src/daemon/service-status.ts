/** The one line that `systemctl status` shows: how much is protected, and whether somebody should look. Kept up to date. */
import type { Clock } from "../base/clock.js";
import { counted } from "../base/units.js";
import type { SourceStatus } from "../monitor/ports.js";

/** A change shows after this long, ms. */
const LOOK_EVERY_MS = 30_000;

export interface ServiceStatusOptions {
  readonly clock: Clock;
  /** How the sources stand now. */
  readonly sources: () => readonly Pick<SourceStatus, "state" | "files">[];
  /** Is told each line that is new. */
  readonly tell: (line: string) => void;
}

/** Tells the line, and tells it anew when it has changed, until disposed. */
export function keepStatus({ clock, sources, tell }: ServiceStatusOptions): Disposable {
  let told = "";
  const look = (): void => {
    const line = statusLine(sources());
    if (line === told) return;
    told = line;
    tell(line);
  };
  look();
  const timer = clock.every(LOOK_EVERY_MS, look);
  return { [Symbol.dispose]: () => timer.cancel() };
}

function statusLine(sources: readonly Pick<SourceStatus, "state" | "files">[]): string {
  const files = sources.reduce((sum, source) => sum + source.files, 0);
  const line = `Protecting ${counted(files, "file")} of ${counted(sources.length, "source")}`;
  const count = (wanted: SourceStatus["state"]): number => sources.filter(({ state }) => state === wanted).length;
  const notes = [
    [count("root_gone"), "away"],
    [count("degraded"), "watched with delay"],
    [count("paused"), "paused"],
    [count("scanning"), "being looked through"],
  ] as const;
  return [line, ...notes.filter(([number]) => number > 0).map(([number, what]) => `${String(number)} ${what}`)].join(
    ", ",
  );
}
