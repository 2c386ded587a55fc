/**
 * The sweep of all files, which finds what no event told. Mostly nothing is found, so first a walk tells what each folder
 * is like: only those that are not as they were when all in them was as registered are compared, one by one or, when they
 * are many, in a pass over everything. From time to time everything is compared, whatever the walk says.
 */
import type { BytePath } from "../base/paths.js";
import type { SourceContext } from "./context.js";
import type { SettledFolders } from "./settled-folders.js";

/** Every so many sweeps all is compared: once an hour with a sweep every five minutes. */
const TRUSTED_SWEEPS_MAX = 11;
/** Paths in folders that are compared one by one: as many as take no longer than a pass over everything. */
const SINGLE_SHARE_MAX = 0.05;
const SINGLES_ALWAYS = 2000;
/** Folders that are held to be compared one by one: 100 bytes each are 5 MB. Of more there is a pass over everything. */
const FOLDERS_HELD_MAX = 50_000;

export class FileSweep {
  readonly #context: SourceContext;
  readonly #settled: SettledFolders;
  /** Sweeps since all was compared, by root; unset: a pass over everything is due. */
  readonly #trusted = new Map<BytePath, number>();

  constructor(context: SourceContext, settled: SettledFolders) {
    this.#context = context;
    this.#settled = settled;
  }

  /**
   * Folders at and below a root in which something may be other than registered; undefined: everything is to be
   * compared. Throws SOURCE_ROOT_GONE.
   */
  async unsettled(root: BytePath): Promise<readonly BytePath[] | undefined> {
    const { source, signal, expectations } = this.#context;
    // Where files are expected each is counted, and where only some of a folder are protected little can be spared.
    const isWhole = source.roots.every(({ whole }) => whole);
    if (!isWhole || expectations.newTally() !== undefined) return undefined;
    const trusted = this.#trusted.get(root) ?? TRUSTED_SWEEPS_MAX;
    let folders: BytePath[] | undefined = trusted < TRUSTED_SWEEPS_MAX ? [] : undefined;
    let entries = 0;
    let unsettled = 0;
    this.#settled.withdraw(root);
    for await (const batch of source.folderDigests(signal, root)) {
      for (const digested of batch) {
        entries += digested.entryCount + 1;
        if (this.#settled.holds(digested)) continue;
        unsettled += digested.entryCount + 1;
        if (folders !== undefined && folders.length >= FOLDERS_HELD_MAX) folders = undefined;
        folders?.push(digested.folder);
        this.#settled.offer(digested);
      }
    }
    const isCheap = unsettled <= Math.max(SINGLES_ALWAYS, entries * SINGLE_SHARE_MAX);
    if (isCheap && folders !== undefined) this.#trusted.set(root, trusted + 1);
    else this.#trusted.delete(root);
    return isCheap ? folders : undefined;
  }

  /** A pass over everything of a root came to its end, and has told its folders what differs. */
  passed(root: BytePath): void {
    this.#settled.settleAll(root);
    this.#trusted.set(root, 0);
  }
}
