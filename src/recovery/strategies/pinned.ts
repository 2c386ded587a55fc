/**
 * `pinned`: the lost file itself, which the daemon holds open because its source is critical (`pins.ts`). It has every
 * byte up to the deletion; where a hard link of it is kept, too, that is linked back rather than copied. Only the inode that was last known good at the path is offered, never whatever came after.
 */
import { pathText } from "../../base/paths.js";
import { type LinkReader, NO_LINKS } from "../link-pins.js";
import type { PinReader } from "../pins.js";
import { msOfNs } from "../regular-file.js";
import type { Candidate, LostFile, RecoveryStrategy } from "../strategy.js";

export function pinnedStrategy(pins: PinReader, links: LinkReader = NO_LINKS): RecoveryStrategy {
  return {
    id: "pinned",
    effort: "perishable",
    // eslint-disable-next-line @typescript-eslint/require-await -- a descriptor answers at once
    async *find(lost: LostFile, _search, signal: AbortSignal): AsyncIterable<Candidate> {
      signal.throwIfAborted();
      const pin = pins.pinOf(lost.path);
      const good = lost.lastGood?.stat;
      if (pin === undefined || pin.stat.dev !== good?.dev || pin.stat.ino !== good.ino) return;
      if (lost.present?.dev === pin.stat.dev && lost.present.ino === pin.stat.ino) return; // it is the damaged file
      const { nameNow } = pin;
      const linked = links.linkOf(lost.source, lost.path);
      const isLinked = linked?.stat.dev === pin.stat.dev && linked.stat.ino === pin.stat.ino;
      yield {
        strategy: "pinned",
        origin: "the file itself, held open by holdfast",
        fidelity: "exact",
        modifiedAtMs: msOfNs(pin.stat.mtimeNs),
        sizeBytes: Number(pin.stat.size),
        sameInode: true,
        ...(isLinked ? { hardLinkOf: linked.file } : {}),
        notes:
          nameNow === undefined || nameNow === lost.path || isLinked ? [] : [`it is now called ${pathText(nameNow)}`],
        open: (inner) => pin.read(inner),
      };
    },
  };
}
