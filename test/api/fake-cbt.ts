/** Block statistics of nothing, for tests of routes. */
import type { BlockStatsDocument, CbtService } from "../../src/api/cbt-service.js";

/** `note` hears what was asked for. */
export function fakeCbt({ note }: { readonly note: (name: string, argument?: unknown) => void }): CbtService {
  const stats = (source: string): BlockStatsDocument => ({
    ...{ source, block_bytes: 4096, since: null, files_tracked: 0, bytes_tracked: 0, blocks: 0 },
    ...{ changed_blocks: 0, changed_bytes: 0, changed_share: 0, exact: true, files: [] },
  });
  return {
    init: (source) => {
      note("cbtInit", source);
      return Promise.resolve(stats(source));
    },
    stats: (source) => Promise.resolve(stats(source)),
  };
}
