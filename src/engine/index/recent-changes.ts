/**
 * Which paths of a source changed since its last tree was built, so that the next one takes over what did not. It is
 * only a memory: not begun, or with more in it than is kept, everything counts as changed.
 */
import type { BytePath } from "../../base/paths.js";

/** Paths of one source that are remembered, about 150 bytes each; with more a whole tree is built as soon. */
const PATHS_MAX = 50_000;

interface Recent {
  /** Every later commit of the source is in it. */
  sinceSeq: number;
  /** The last commit of each path; undefined: too many. */
  paths: Map<BytePath, number> | undefined;
}

export class RecentChanges {
  readonly #bySource = new Map<string, Recent>();

  /** Remembers changes from now on, unless they are already. The commits through `seq` are in the index. */
  begin(source: string, seq: number): void {
    if (this.#bySource.get(source)?.paths === undefined) {
      this.#bySource.set(source, { sinceSeq: seq, paths: new Map() });
    }
  }

  /** A commit changed these paths. */
  note(source: string, seq: number, changes: Iterable<{ readonly path: BytePath }>): void {
    const recent = this.#bySource.get(source);
    if (recent?.paths === undefined) return;
    for (const { path } of changes) recent.paths.set(path, Math.max(seq, recent.paths.get(path) ?? 0));
    if (recent.paths.size > PATHS_MAX) recent.paths = undefined;
  }

  /** The paths that later commits changed, in byte order, and maybe others; undefined: that is not known. */
  after(source: string, seq: number): readonly BytePath[] | undefined {
    const recent = this.#bySource.get(source);
    if (recent?.paths === undefined || recent.sinceSeq > seq) return undefined;
    return [...recent.paths.keys()].sort((a, b) => (a < b ? -1 : Number(a > b)));
  }

  /** A tree holds the commits through `seq`. */
  forgetThrough(source: string, seq: number): void {
    const recent = this.#bySource.get(source);
    if (recent?.paths === undefined) return;
    recent.sinceSeq = Math.max(recent.sinceSeq, seq);
    for (const [path, changedSeq] of recent.paths) if (changedSeq <= seq) recent.paths.delete(path);
  }
}
