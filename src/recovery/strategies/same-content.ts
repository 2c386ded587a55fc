/**
 * `same_content`: a live file elsewhere that has the lost content, by its digest. When it is another name of the lost
 * inode, the name is linked back instead of copied, so that what was one file stays one file.
 */
import { pathText } from "../../base/paths.js";
import type { VersionReader } from "../ports.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { msOfNs, readRegularFile, regularFileAt } from "../regular-file.js";

/** Places with the same content that are looked at. */
const PLACES_MAX = 20;

export function sameContentStrategy(reader: VersionReader): RecoveryStrategy {
  return {
    id: "same_content",
    effort: "reads",
    async *find(lost: LostFile, _search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const good = lost.lastGood;
      if (good?.sha256 === undefined) return;
      const places = await reader.pathsWithDigest(good.sha256);
      for (const { path } of places.slice(0, PLACES_MAX)) {
        signal.throwIfAborted();
        const stat = path === lost.path ? undefined : await regularFileAt(path);
        if (stat === undefined || Number(stat.size) !== good.stat.sizeBytes) continue;
        const isSameInode = stat.dev === good.stat.dev && stat.ino === good.stat.ino;
        yield {
          strategy: "same_content",
          origin: isSameInode
            ? `another name of the same file: ${pathText(path)}`
            : `the same content: ${pathText(path)}`,
          fidelity: "exact",
          modifiedAtMs: msOfNs(good.stat.mtimeNs),
          sizeBytes: good.stat.sizeBytes,
          sha256: good.sha256,
          notes: [],
          ...(isSameInode ? { hardLinkOf: path } : {}),
          open: (inner) => readRegularFile(path, inner),
        };
      }
    },
  };
}
