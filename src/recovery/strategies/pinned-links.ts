/**
 * `pinned_links`: what holdfast keeps of the files of critical sources on their own file system (`link-pins.ts`). A hard
 * link is the lost file itself, and is linked back; it shares every damage, so it is never offered while the damaged
 * file stands. A reflink has the content of the last version, and helps against damage, too.
 */
import { pathText } from "../../base/paths.js";
import type { StatTuple } from "../../engine/types.js";
import type { LinkReader, LinkedFile } from "../link-pins.js";
import { msOfNs, readRegularFile } from "../regular-file.js";
import type { Candidate, LostFile, RecoveryStrategy } from "../strategy.js";
import { quoted } from "./latest-backup.js";

const ID = "pinned_links";

export function pinnedLinksStrategy(links: LinkReader): RecoveryStrategy {
  return {
    id: ID,
    effort: "reads",
    // eslint-disable-next-line @typescript-eslint/require-await -- a look at one name answers at once
    async *find(lost: LostFile, _search, signal: AbortSignal): AsyncIterable<Candidate> {
      signal.throwIfAborted();
      const linked = links.linkOf(lost.source, lost.path);
      if (linked === undefined) return;
      const { file, stat } = linked;
      const kept = {
        strategy: ID,
        modifiedAtMs: msOfNs(stat.mtimeNs),
        sizeBytes: Number(stat.size),
        command: `cp -a ${quoted(pathText(file))} RECOVERED`,
        open: (inner: AbortSignal) => readRegularFile(file, inner),
      };
      const found = linked.kind === "reflink" ? reflinked(lost, linked) : hardLinked(lost, linked);
      if (found !== undefined) yield { ...kept, ...found };
    },
  };
}

type About = Pick<Candidate, "origin" | "fidelity" | "notes"> & Partial<Candidate>;

function reflinked({ lastGood }: LostFile, { sha256 }: LinkedFile): About {
  const isLastGood = sha256 !== undefined && sha256 === lastGood?.sha256;
  // The copy's own time is when it was made.
  const modifiedAtMs = isLastGood ? { modifiedAtMs: msOfNs(lastGood.stat.mtimeNs) } : {};
  return {
    origin: "a reflink that holdfast keeps on the same file system",
    fidelity: isLastGood ? "exact" : "older",
    ...(sha256 === undefined ? {} : { sha256 }),
    notes: [],
    ...modifiedAtMs,
  };
}

/** The lost inode itself, with all that was written to it; or another of that content, as after a heal. */
function hardLinked({ lastGood, present }: LostFile, { file, stat }: LinkedFile): About | undefined {
  if (lastGood === undefined || isInode(stat, present)) return undefined; // it is the damaged file
  const isAsGood = stat.mtimeNs === lastGood.stat.mtimeNs && Number(stat.size) === lastGood.stat.sizeBytes;
  const isLostInode = isInode(stat, lastGood.stat);
  if (!isAsGood && !isLostInode) return undefined;
  const { sha256 } = lastGood;
  return {
    origin: "a hard link that holdfast keeps on the same file system",
    fidelity: "exact",
    ...(isLostInode ? { hardLinkOf: file } : {}),
    ...(isAsGood && sha256 !== undefined ? { sha256 } : { sameInode: true }),
    notes: isAsGood ? [] : ["written to after the last version"],
  };
}

function isInode(stat: Pick<StatTuple, "dev" | "ino">, other: StatTuple | undefined): boolean {
  return stat.dev === other?.dev && stat.ino === other.ino;
}
