/** Changed blocks of large files, as a daemon counts them: from the moment that somebody asked for it on. */
import { expect } from "chai";
import { closeSync, openSync, writeSync } from "node:fs";
import { noise } from "../support/engine-keys.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const BLOCK_BYTES = 4096;
const BLOCKS = 1024;

describe("changed blocks of a source", () => {
  const folder = useTempFolder("cbt");

  async function backUp(daemon: DaemonInProcess): Promise<void> {
    await daemon.operation.plan.backUpNow({ type: "incremental", sources: [], tags: [], compression: true });
  }

  /** Writes one block anew where the image lies, as a virtual machine does. */
  function writeBlock(image: string, block: number, content: string): void {
    const fd = openSync(image, "r+");
    writeSync(fd, Buffer.alloc(BLOCK_BYTES, content), 0, BLOCK_BYTES, block * BLOCK_BYTES);
    closeSync(fd);
  }

  it("are counted exactly, from init on, also after a restart", async () => {
    const head = Buffer.from("QFI\xfb", "latin1");
    const image = await folder().write("data/disk.qcow2", Buffer.concat([head, noise(BLOCKS * BLOCK_BYTES - 4, 5)]));
    await folder().write("data/small", "no image");
    const settings = { sources: [{ name: "vm", paths: [folder().at("data")] }] };
    {
      await using daemon = await launchIn(folder(), settings);
      await backUp(daemon);
      writeBlock(image, 3, "before init");
      await backUp(daemon);
      expect(await daemon.services.cbt.stats("vm")).to.include({ since: null, changed_blocks: 1 });
      const begun = await daemon.services.cbt.init("vm");
      expect(begun).to.include({ source: "vm", block_bytes: BLOCK_BYTES, changed_blocks: 0, changed_share: 0 });
      expect(begun).to.include({ files_tracked: 1, blocks: BLOCKS, bytes_tracked: BLOCKS * BLOCK_BYTES });
      for (const block of [7, 500, 501]) writeBlock(image, block, "after init");
      await backUp(daemon);
    }
    await using daemon = await launchIn(folder(), settings);
    writeBlock(image, 500, "again");
    await backUp(daemon);
    const stats = await daemon.services.cbt.stats("vm");
    expect(stats).to.include({ changed_blocks: 3, changed_bytes: 3 * BLOCK_BYTES, exact: true });
    expect(stats.changed_share).to.equal(3 / BLOCKS);
    const [file] = stats.files;
    expect(file).to.include({ path: image, size_bytes: BLOCKS * BLOCK_BYTES, changed_blocks: 3, chunk_bytes: 8192 });
    expect(stats.since).to.match(/^20\d\d-/);
  });

  it("of a source that is not there are refused", async () => {
    await using daemon = await launchIn(folder(), { sources: [{ name: "vm", paths: [folder().at("data")] }] });
    for (const work of [daemon.services.cbt.init("other"), daemon.services.cbt.stats("other")])
      expect(await rejection(work)).to.have.property("code", "SOURCE_NOT_FOUND");
  });
});
