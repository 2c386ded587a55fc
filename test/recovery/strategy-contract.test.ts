/** Every strategy that finds anything keeps the contract, on what really produces such traces. */
import { rm } from "node:fs/promises";
import { systemClock } from "../../src/base/clock.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import { ProcessFiles } from "../../src/recovery/proc.js";
import type { LostFile, RecoveryStrategy } from "../../src/recovery/strategy.js";
import { gitHistoryStrategy } from "../../src/recovery/strategies/git-history.js";
import { latestBackupStrategy } from "../../src/recovery/strategies/latest-backup.js";
import { openFilesStrategy } from "../../src/recovery/strategies/open-files.js";
import { reconstructFromLogsStrategy } from "../../src/recovery/strategies/reconstruct-from-logs.js";
import { regenerateStrategy } from "../../src/recovery/strategies/regenerate.js";
import { sameContentStrategy } from "../../src/recovery/strategies/same-content.js";
import { tempFilesStrategy } from "../../src/recovery/strategies/temp-files.js";
import { type StrategyCase, strategyContract } from "../contract/strategy.js";
import { spawnHolder } from "../support/file-holder.js";
import { git } from "../support/git.js";
import { MemoryVersions, lostFile, nodeAt } from "../support/recovery-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { TempFolder } from "../support/temp-folder.js";

const TEXT = "line one\nline two\n";

strategyContract("latest_backup", () =>
  caseOf(async ({ versions, path }) => {
    versions.keep(path);
    await rm(path);
    return { strategy: latestBackupStrategy(versions), wrongParameters: { at: "yesterday" } };
  }),
);

strategyContract("same_content", () =>
  caseOf(async ({ versions, folder, path }) => {
    versions.keep(path);
    versions.keep(pathFromText(await folder.write("copy", TEXT)));
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(path);
    return { strategy: sameContentStrategy(versions), lost };
  }),
);

strategyContract("open_files", () =>
  caseOf(async ({ path }) => {
    const holder = await spawnHolder(path, "r");
    await rm(path);
    return { strategy: openFilesStrategy(new ProcessFiles(systemClock)), close: () => holder.end() };
  }),
);

strategyContract("git_history", (context) => {
  requirePrograms(context, "git");
  return caseOf(async ({ folder, path }) => {
    await git(folder.at("data"), "init", "-q");
    await git(folder.at("data"), "add", ".");
    await git(folder.at("data"), "commit", "-q", "-m", "first");
    await rm(path);
    return { strategy: gitHistoryStrategy(), wrongParameters: { max_commits: "many" } };
  });
});

strategyContract("temp_files", () =>
  caseOf(async ({ folder, path, versions }) => {
    await folder.write("data/file.txt~", TEXT);
    await rm(path);
    const parameters = { homes: [folder.at("home")] };
    return { strategy: tempFilesStrategy(versions), parameters, wrongParameters: { homes: 7 } };
  }),
);

strategyContract("reconstruct_from_logs", () =>
  caseOf(async ({ folder, path }) => {
    await folder.write("logs/app.jsonl", `${JSON.stringify({ path: folder.at("data/file.txt"), content: TEXT })}\n`);
    await rm(path);
    return {
      strategy: reconstructFromLogsStrategy(),
      parameters: { log_dir: folder.at("logs"), output: { shape: "record" } },
      wrongParameters: { log_dir: "relative" },
    };
  }),
);

strategyContract("regenerate", () =>
  caseOf(async ({ folder, path }) => {
    const script = await folder.write(
      "make.sh",
      `#!/bin/sh\ncase "$2" in *file.txt) printf '${TEXT}' > "$1";; esac\n`,
      0o755,
    );
    await rm(path);
    return {
      strategy: regenerateStrategy(),
      parameters: { script: [script, "{output}", "{path}"] },
      wrongParameters: { script: ["relative"] },
    };
  }),
);

interface Prepared {
  readonly strategy: RecoveryStrategy;
  readonly lost?: LostFile;
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly wrongParameters?: Readonly<Record<string, unknown>>;
  readonly close?: () => Promise<void>;
}

interface Place {
  readonly folder: TempFolder;
  readonly versions: MemoryVersions;
  readonly path: BytePath;
}

async function caseOf(prepare: (place: Place) => Promise<Prepared>): Promise<StrategyCase> {
  const folder = await TempFolder.create("strategy");
  const path = pathFromText(await folder.write("data/file.txt", TEXT));
  const prepared = await prepare({ folder, versions: new MemoryVersions(), path });
  return {
    strategy: prepared.strategy,
    lost: prepared.lost ?? lostFile(path),
    content: Buffer.from(TEXT),
    unknown: lostFile(folder.bytes("data/never-was")),
    parameters: prepared.parameters ?? {},
    ...(prepared.wrongParameters === undefined ? {} : { wrongParameters: prepared.wrongParameters }),
    scratchDir: await folder.folder("scratch"),
    folder: folder.at("data"),
    [Symbol.asyncDispose]: async () => {
      await prepared.close?.();
      await folder[Symbol.asyncDispose]();
    },
  };
}
