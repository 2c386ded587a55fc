/** Changes that come faster than they are inspected: the newest of each path counts, and none holds up another path. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { WatchBench } from "../support/watch-bench.js";

const WRITES = 6;

describe("inspections that take long", () => {
  it("are made once more of a path that changed many times meanwhile, and hold up no other path", async () => {
    await using bench = await WatchBench.create();
    const [runs, gate] = [bench.state.at("runs"), bench.state.at("gate")];
    const slow = await bench.folder.write("slow.conf", "first");
    const other = await bench.folder.write("other.txt", "first");
    // Notes each run, and ends when the gate is there.
    const script = `echo run >> ${runs}; until [ -e ${gate} ]; do sleep 0.02; done`;
    const command = ["sh", "-c", script, "{file}"];
    await bench.protect({ restMs: 20, validation: [{ match: "*.conf", checks: [{ kind: "command", command }] }] });
    await bench.quiet();
    bench.clear();
    writeFileSync(runs, "");
    writeFileSync(slow, "content 0");
    await bench.until("it is inspected", () => readFileSync(runs, "utf8") !== "");
    const storedBytes = (name: string): number | undefined =>
      bench.repository.current(bench.folder.bytes(name))?.node.stat.sizeBytes;
    const pending = (): number => bench.monitor.status()[0]?.pending ?? 0;
    for (let count = 1; count < WRITES; count += 1) {
      writeFileSync(slow, `content ${String(count)}`);
      const content = "other".repeat(count + 1);
      writeFileSync(other, content);
      // Once it is durable: what is written between its telling and its reading would need no telling of its own.
      const isStored = (): boolean => storedBytes("other.txt") === content.length;
      await bench.until("the other is durable", isStored, 2000);
    }
    expect(pending(), "one inspection waits").to.be.at.most(2);
    writeFileSync(gate, "");
    await bench.quiet();
    expect([readFileSync(runs, "utf8"), storedBytes("slow.conf")]).to.deep.equal(["run\nrun\n", "content 0".length]);
    expect(bench.paths("file.changed")).to.include("slow.conf");
    expect(bench.losses).to.deep.equal([]);
  });
});
