// The mocha reporter of holdfast: the spec reporter, plus the reason of each skipped test (see
// test/support/requirements.ts), and one closing line "N passed, N failed, N skipped" that scripts can read.
import Mocha from "mocha";

const { Base, Spec } = Mocha.reporters;
const { EVENT_TEST_PENDING, EVENT_RUN_END } = Mocha.Runner.constants;

/** The reason given for skipping a test: its own, or that of the nearest suite around it. */
function reasonOf(test) {
  for (let subject = test; subject !== undefined; subject = subject.parent) {
    if (subject.skipReason !== undefined) return subject.skipReason;
  }
  return "no reason given";
}

export class HoldfastReporter extends Spec {
  constructor(runner, options) {
    super(runner, options);
    const skipped = new Map();
    runner.on(EVENT_TEST_PENDING, (test) => {
      const reason = reasonOf(test);
      skipped.set(reason, [...(skipped.get(reason) ?? []), test.fullTitle()]);
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
