// The mocha reporter of holdfast: the spec reporter, plus the reason of each skipped test (see
// test/support/requirements.ts), and one closing line "N passed, N failed, N skipped" that scripts can read.
import Mocha from "mocha";

const { Base, Spec } = Mocha.reporters;
const { EVENT_TEST_PENDING, EVENT_RUN_END } = Mocha.Runner.constants;

/** The reason that test/support/requirements.ts put into the title of a test or of a suite around it. */
const REASON = / \[skipped: ([^\]]*)\]/;

export class HoldfastReporter extends Spec {
  constructor(runner, options) {
    super(runner, options);
    const skipped = new Map();
    runner.on(EVENT_TEST_PENDING, (test) => {
      const title = test.fullTitle();
      const reason = REASON.exec(title)?.[1] ?? "no reason given";
      skipped.set(reason, [...(skipped.get(reason) ?? []), title.replace(REASON, "")]);
    });
    runner.once(EVENT_RUN_END, () => {
      for (const [reason, titles] of skipped) {
        Base.consoleLog(`skipped, ${reason}:`);
        for (const title of titles) Base.consoleLog(`  - ${title}`);
      }
      const { passes, failures, pending } = runner.stats;
      Base.consoleLog(`${String(passes)} passed, ${String(failures)} failed, ${String(pending)} skipped`);
    });
  }
}

export default HoldfastReporter; // mocha loads a reporter by its default export
