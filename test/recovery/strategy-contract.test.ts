/** Every strategy that finds anything keeps the contract, on what really produces such traces. */
import { cp, readFile, rm } from "node:fs/promises";
import { systemClock } from "../../src/base/clock.js";
import { EventBus } from "../../src/base/events.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import { LinkPins } from "../../src/recovery/link-pins.js";
import { Pins } from "../../src/recovery/pins.js";
import { ProcessFiles } from "../../src/recovery/proc.js";
import type { LostFile, RecoveryStrategy } from "../../src/recovery/strategy.js";
import { fsSnapshotsStrategy } from "../../src/recovery/strategies/fs-snapshots.js";
import { gitHistoryStrategy } from "../../src/recovery/strategies/git-history.js";
import { latestBackupStrategy } from "../../src/recovery/strategies/latest-backup.js";
import { openFilesStrategy } from "../../src/recovery/strategies/open-files.js";
import { packageManagerStrategy } from "../../src/recovery/strategies/package-manager.js";
import { pinnedLinksStrategy } from "../../src/recovery/strategies/pinned-links.js";
import { pinnedStrategy } from "../../src/recovery/strategies/pinned.js";
import { reconstructFromLogsStrategy } from "../../src/recovery/strategies/reconstruct-from-logs.js";
import { regenerateStrategy } from "../../src/recovery/strategies/regenerate.js";
import { sameContentStrategy } from "../../src/recovery/strategies/same-content.js";
import { sqliteWalStrategy } from "../../src/recovery/strategies/sqlite-wal.js";
import { tempFilesStrategy } from "../../src/recovery/strategies/temp-files.js";
import { type StrategyCase, strategyContract } from "../contract/strategy.js";
import { DebianRoot } from "../support/debian-root.js";
import { spawnHolder } from "../support/file-holder.js";
import { git } from "../support/git.js";
import { MemoryVersions, lostFile, nodeAt } from "../support/recovery-rig.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { makeLiveDatabase, query } from "../support/sqlite-database.js";
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

strategyContract("pinned", () =>
  caseOf(async ({ folder, path }) => {
    const bus = new EventBus(() => undefined);
    const stateDir = folder.path;
    const files = oneFile(path);
    const pins = new Pins({
      clock: systemClock,
      observer: silentObserver,
      bus,
      isCritical: () => true,
      filesOf: files,
      stateDir,
    });
    bus.emit("watch.ready", { source: "data" });
    await pins.settled();
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(path);
    return { strategy: pinnedStrategy(pins), lost, close: () => pins[Symbol.asyncDispose]() };
  }),
);

strategyContract("pinned_links", () =>
  caseOf(async ({ folder, path }) => {
    const bus = new EventBus(() => undefined);
    const node = nodeAt(path);
    const links = await LinkPins.open({
      ...{ clock: systemClock, observer: silentObserver, bus, criticalSources: () => ["data"] },
      // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
      filesOf: async function* () {
        yield { path, node };
      },
      nodeOf: () => Promise.resolve(node),
      stateDir: folder.path,
      kinds: new Set(["hard_link"] as const),
    });
    bus.emit("watch.ready", { source: "data" });
    await links.settled();
    await rm(path);
    const lost = lostFile(path, lastGoodOf(node));
    return { strategy: pinnedLinksStrategy(links), lost, close: () => links[Symbol.asyncDispose]() };
  }),
);

strategyContract("fs_snapshots", () =>
  caseOf(async ({ folder, path }) => {
    await folder.write(`snapshots/1${path}`, TEXT);
    await rm(path);
    return {
      strategy: fsSnapshotsStrategy(),
      parameters: { roots: [`${folder.at("snapshots")}/*`] },
      wrongParameters: { roots: ["relative"] },
    };
  }),
);

strategyContract("package_manager", (context) => {
  requireRoot(context);
  requirePrograms(context, "dpkg", "dpkg-deb", "dpkg-query", "md5sum");
  return caseOf(async ({ folder, path }) => {
    new DebianRoot(folder.path, folder.at("build")).install({
      name: "hf-contract",
      version: "1",
      files: { [path.slice(folder.path.length)]: TEXT },
    });
    await rm(path);
    const parameters = { root: folder.path };
    return { strategy: packageManagerStrategy(), parameters, wrongParameters: { archives: ["relative"] } };
  });
});

strategyContract("sqlite_wal", (context) => {
  requirePrograms(context, "sqlite3");
  return caseOf(async ({ folder }) => {
    const file = folder.at("data/a.db");
    makeLiveDatabase(file, "", "create table t(x); insert into t values (1);");
    // The program itself says what the whole database is.
    await cp(file, folder.at("whole.db"));
    await cp(`${file}-wal`, folder.at("whole.db-wal"));
    query(folder.at("whole.db"), "pragma wal_checkpoint(truncate);");
    const content = await readFile(folder.at("whole.db"));
    await rm(file);
    const strategy = sqliteWalStrategy(new MemoryVersions(), new ProcessFiles(systemClock));
    return { strategy, lost: lostFile(pathFromText(file)), content };
  });
});

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

function oneFile(path: BytePath): () => AsyncIterable<BytePath> {
  // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
  return async function* () {
    yield path;
  };
}

interface Prepared {
  readonly strategy: RecoveryStrategy;
  readonly lost?: LostFile;
  readonly content?: Buffer;
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
    content: prepared.content ?? Buffer.from(TEXT),
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
