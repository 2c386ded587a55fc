/** The recovery strategies that come with holdfast, built over the repository and this machine's processes. */
import type { Clock } from "../base/clock.js";
import type { VersionReader } from "./ports.js";
import { ProcessFiles } from "./proc.js";
import type { RecoveryStrategy } from "./strategy.js";
import { gitHistoryStrategy } from "./strategies/git-history.js";
import { latestBackupStrategy } from "./strategies/latest-backup.js";
import { manualRecoveryStrategy } from "./strategies/manual-recovery.js";
import { openFilesStrategy } from "./strategies/open-files.js";
import { reconstructFromLogsStrategy } from "./strategies/reconstruct-from-logs.js";
import { regenerateStrategy } from "./strategies/regenerate.js";
import { sameContentStrategy } from "./strategies/same-content.js";
import { tempFilesStrategy } from "./strategies/temp-files.js";

/** Every built-in strategy; `daemon/plugins` may add others. */
export function builtInStrategies(versions: VersionReader, clock: Clock): readonly RecoveryStrategy[] {
  return [
    openFilesStrategy(new ProcessFiles(clock)),
    latestBackupStrategy(versions),
    sameContentStrategy(versions),
    gitHistoryStrategy(),
    tempFilesStrategy(versions),
    reconstructFromLogsStrategy(),
    regenerateStrategy(),
    manualRecoveryStrategy(),
  ];
}
