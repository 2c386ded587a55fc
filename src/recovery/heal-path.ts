/**
 * Healing one path: look at what is there, walk the chain, keep the damaged bytes, put the best candidate back, and
 * say what was done. Knows nothing of incidents' states; never throws but when it is aborted.
 */
import { closeSync, constants, lstatSync } from "node:fs";
import { openAnchored } from "../base/anchored.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError, asHoldfastError, errnoOf } from "../base/errors.js";
import type { Observer } from "../base/observe.js";
import { type BytePath, nameOf, parentPath, pathText } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { databaseOfLog } from "../base/sqlite-files.js";
import { applyToDescriptor } from "../engine/metadata.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import { type Attempt, type ChainOutcome, type Choice, type RecoveryChain, withImplied } from "./chain.js";
import { LogsSetAside, foreignLogs, reasonAgainstLog } from "./database-logs.js";
import type {
  IncidentFailure,
  JudgedCandidate,
  QuarantineReference,
  SearchedStrategy,
  TakenCandidate,
} from "./incident.js";
import { newestNode } from "./newest-node.js";
import { type PlaceOutcome, placeFile, placeHardLink, placeNode } from "./place.js";
import { type PlaceHost, type PlaceTarget, type PlaceStep, tupleOf } from "./place-parents.js";
import type { HealPolicy, LiveWatch, VersionReader } from "./ports.js";
import type { ProcessFiles } from "./proc.js";
import type { Quarantine } from "./quarantine.js";
import { readRegularFile, regularFileAt } from "./regular-file.js";
import type { RecoveryOutcome } from "./report.js";
import { digestOf } from "./scratch.js";
import { isStillDamaged } from "./still-damaged.js";
import type { AcceptanceLevel, ChainStep, LastGood, LossKind, LostFile } from "./strategy.js";

export interface HealPathOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly versions: VersionReader;
  readonly watch: LiveWatch;
  readonly chain: RecoveryChain;
  readonly quarantine: Quarantine;
  readonly processes: ProcessFiles;
  readonly writerWaitMs: number;
}

/** One path to heal. */
export interface HealJob {
  readonly source: string;
  readonly path: BytePath;
  readonly kind: LossKind;
  readonly seenAtMs: number;
  readonly policy: HealPolicy;
  /** Names the staging files and the quarantine folder. */
  readonly incident: string;
  /** A person asked: any valid content will do, and what is only offered may be taken. */
  readonly byPerson: boolean;
  /** Instead of the policy's chain, as it stands. */
  readonly steps?: readonly ChainStep[];
  /** Instead of the last good content: what a person wants. */
  readonly wanted?: FileNode;
  /** Another place for the result. */
  readonly to?: BytePath;
  readonly explain?: boolean;
  /** Told of each folder above the path that had to be made. */
  readonly onFolderMade?: (path: BytePath) => void;
}

export interface HealResult {
  readonly outcome: RecoveryOutcome;
  readonly message: string;
  readonly taken?: TakenCandidate;
  readonly candidates: readonly JudgedCandidate[];
  readonly searched: readonly SearchedStrategy[];
  readonly notes: readonly string[];
  readonly manualCommands: readonly string[];
  readonly quarantined: readonly QuarantineReference[];
  readonly failure?: IncidentFailure;
  /** It waits for nothing but its storage, which is away. */
  readonly isAway?: true;
  readonly durationMs: number;
}

type Finding = Omit<HealResult, "durationMs">;

export const NOTHING_FOUND = { candidates: [], searched: [], notes: [], manualCommands: [], quarantined: [] } as const;
/** How often a waiting heal looks whether the writer is done, ms. */
const WRITER_POLL_MS = 250;

export class PathHealer {
  readonly #options: HealPathOptions;

  constructor(options: HealPathOptions) {
    this.#options = options;
  }

  async heal(job: HealJob, signal: AbortSignal): Promise<HealResult> {
    const startMs = this.#options.clock.monotonicMs();
    const finish = (finding: Finding): HealResult => ({
      ...finding,
      durationMs: this.#options.clock.monotonicMs() - startMs,
    });
    try {
      return finish(await this.#heal(job, signal));
    } catch (error) {
      if (signal.aborted) throw error;
      const failure = asHoldfastError(error, "INTERNAL");
      const { code, message } = failure;
      return finish({ ...NOTHING_FOUND, outcome: "failed", message, failure: { code, message } });
    }
  }

  /** Gives a folder its recorded times again, after files were put into it. */
  async refreshFolder(path: BytePath, root: BytePath): Promise<void> {
    const node = await this.#lastNode(path);
    if (node?.kind !== "folder") return;
    try {
      await using folder = openAnchored(root, path);
      applyToDescriptor(folder.fd, node);
    } catch (error) {
      if (!(error instanceof HoldfastError) && errnoOf(error) === undefined) throw error;
    }
  }

  async #heal(job: HealJob, signal: AbortSignal): Promise<Finding> {
    const away = await awayReason(this.#options.watch, job);
    if (away !== undefined) return { ...waiting(away), isAway: true };
    const { node, good } = await this.#known(job);
    const present = this.#lookAt(targetOf(job, undefined).path);
    if (job.to !== undefined && present !== undefined)
      throw new HoldfastError("TARGET_EXISTS", `${pathText(job.to)} exists already`);
    if (good !== undefined && good.kind !== "file")
      return present === undefined
        ? await this.#healNode(job, node ?? nodeOf(good), signal)
        : there("it is there", job, good);
    if (present?.isFile === false) return waiting("something that is no file stands at the path");
    if (present !== undefined) present.sha256 = await digestOfPath(job.path, signal);
    const leave = present === undefined ? undefined : await this.#reasonToLeave(job, good, present, signal);
    if (leave !== undefined) return there(leave, job, good);
    const lost: LostFile = { ...job, lastGood: good, present: present?.stat };
    return await new FileHeal(this.#options, { job, lost, node, damagedSha256: present?.sha256 }).run(signal);
  }

  /** Why what stands at the path needs no healing; undefined when it does. */
  async #reasonToLeave(
    job: HealJob,
    good: LastGood | undefined,
    present: Present,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (job.explain === true) return undefined;
    if (job.kind === "deleted" || (good?.sha256 !== undefined && good.sha256 === present.sha256))
      return "the file is there";
    const isDamaged =
      good === undefined || (await isStillDamaged(this.#options.watch, job, { present: present.stat, good }, signal));
    return isDamaged ? undefined : "somebody has mended the file in the meantime";
  }

  /** What the path was when it was good: what a person wants, or what the monitor knows, or the newest version. */
  async #known(job: HealJob): Promise<{ readonly node: FileNode | undefined; readonly good: LastGood | undefined }> {
    if (job.wanted !== undefined) return { node: job.wanted, good: lastGoodOf(job.wanted) };
    const node = await this.#lastNode(job.path);
    const good = await this.#options.watch.lastGood(job.path);
    return { node, good: good ?? (node === undefined ? undefined : lastGoodOf(node)) };
  }

  /** Folders, links, FIFOs and devices have no content: what is recorded of them is all. */
  async #healNode(job: HealJob, node: FileNode, signal: AbortSignal): Promise<Finding> {
    if (job.explain === true)
      return { ...NOTHING_FOUND, outcome: "explained", message: `the ${node.kind} would be made again` };
    const target = targetOf(job, undefined);
    const host = new HostOfPlacing(this.#options, job);
    const placed = await placeNode(target, node, host, signal);
    if (placed.kind !== "placed") return { ...NOTHING_FOUND, outcome: "returned", message: "it is there" };
    const taken: TakenCandidate = {
      strategy: "latest_backup",
      origin: `the recorded ${node.kind}`,
      identical: true,
      sizeBytes: 0,
      gaps: placed.gaps,
    };
    return { ...NOTHING_FOUND, outcome: "healed", message: `the ${node.kind} was made again`, taken };
  }

  /** The newest version of the path that is no removal. */
  async #lastNode(path: BytePath): Promise<FileNode | undefined> {
    return await newestNode(this.#options.versions, path);
  }

  #lookAt(path: BytePath): Present | undefined {
    try {
      const stat = reach(path, (place) => lstatSync(place, { bigint: true }));
      return { stat: tupleOf(stat), isFile: stat.isFile() };
    } catch (error) {
      if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
      throw error;
    }
  }
}

interface Present {
  readonly stat: StatTuple;
  readonly isFile: boolean;
  /** Of the content; set when it has been read. */
  sha256?: string;
}

/** What one walk through the chain is about. */
interface FileCase {
  readonly job: HealJob;
  readonly lost: LostFile;
  /** The newest stored version, for its attributes. */
  readonly node: FileNode | undefined;
  readonly damagedSha256: string | undefined;
}

/** One walk through the chain with placing. */
class FileHeal {
  readonly #options: HealPathOptions;
  readonly #job: HealJob;
  readonly #lost: LostFile;
  readonly #node: FileNode | undefined;
  readonly #damagedSha256: string | undefined;
  readonly #host: HostOfPlacing;
  readonly #logs: LogsSetAside;
  #placed: PlaceOutcome | undefined;
  #hold: Pick<HealResult, "message" | "isAway"> | undefined;

  constructor(options: HealPathOptions, { job, lost, node, damagedSha256 }: FileCase) {
    this.#options = options;
    this.#job = job;
    this.#lost = lost;
    this.#node = node;
    this.#damagedSha256 = damagedSha256;
    this.#host = new HostOfPlacing(options, job);
    this.#logs = new LogsSetAside(targetOf(job, undefined).root);
  }

  async run(signal: AbortSignal): Promise<Finding> {
    const { policy, byPerson, steps, explain } = this.#job;
    const accept: AcceptanceLevel = byPerson ? "partial" : policy.accept;
    const request = {
      steps: steps ?? withImplied(policy.chain),
      accept,
      byPerson,
      damagedSha256: this.#damagedSha256,
      explain: explain === true,
    };
    const outcome = await this.#options.chain.run(
      this.#lost,
      request,
      (choice) => this.#attempt(choice, signal),
      signal,
    );
    return { ...this.#conclude(outcome), quarantined: this.#host.quarantined };
  }

  async #attempt(choice: Choice, signal: AbortSignal): Promise<Attempt> {
    const target = targetOf(this.#job, this.#lost.present);
    const writer = await this.#waitForWriters(target, signal);
    const away = writer === undefined ? await awayReason(this.#options.watch, this.#job) : undefined;
    if (writer !== undefined) this.#hold = { message: writer };
    else if (away !== undefined) this.#hold = { message: away, isAway: true };
    if (this.#hold !== undefined) return { done: true };
    this.#hold = await this.#setLogsAside(choice, target, signal);
    if (this.#hold !== undefined) return { done: true };
    try {
      this.#placed = await this.#place(choice, target, signal);
    } finally {
      if (this.#placed?.kind !== "placed") this.#logs.putBack();
    }
    return this.#placed.kind === "unproven" ? { done: false, why: this.#placed.why } : { done: true };
  }

  /**
   * Sees that an SQLite database and its logs fit together. What to hold for: a log in use, or one that is itself to be
   * put beside another database than its own.
   */
  async #setLogsAside(
    { candidate, sha256, identical }: Choice,
    target: PlaceTarget,
    signal: AbortSignal,
  ): Promise<Pick<HealResult, "message"> | undefined> {
    const { versions } = this.#options;
    const { path, byPerson, wanted } = this.#job;
    const against = await reasonAgainstLog(versions, { path, sha256 }, await this.#standingDatabase(signal), byPerson);
    if (against !== undefined && this.#job.to === undefined) return { message: against };
    const isOfTheLog = candidate.fromOwnLog === true || (candidate.sameInode === true && this.#job.kind === "deleted");
    if (isOfTheLog && this.#job.to === undefined) return undefined;
    const isLastGood = identical && wanted === undefined;
    const content = { path: target.path, sha256, isLastGood };
    for (const log of await foreignLogs(versions, target.root, content, signal)) {
      const writer = await this.#waitForWriters({ ...target, present: log.stat }, signal);
      if (writer !== undefined) return { message: `the log ${pathText(log.path)} is of another state, and ${writer}` };
      if (!this.#logs.take(log)) return { message: `the log ${pathText(log.path)} was changed in the meantime` };
    }
    return undefined;
  }

  /** Digest of the database beside which this path is a log. */
  async #standingDatabase(signal: AbortSignal): Promise<string | undefined> {
    const database = databaseOfLog(this.#job.path);
    if (database === undefined || (await regularFileAt(database)) === undefined) return undefined;
    return await digestOfPath(database, signal);
  }

  async #place(choice: Choice, target: PlaceTarget, signal: AbortSignal): Promise<PlaceOutcome> {
    const { hardLinkOf } = choice.candidate;
    const good = this.#lost.lastGood;
    if (choice.candidate.inPlace === true) return await this.#adopt(choice, signal);
    const sha256 = choice.sha256 ?? good?.sha256;
    if (hardLinkOf !== undefined && good !== undefined && sha256 !== undefined && target.present === undefined) {
      const other = { path: hardLinkOf, stat: good.stat, sha256 };
      const linked = await placeHardLink(target, other, this.#host, signal).catch((error: unknown) => {
        if (signal.aborted || !(error instanceof HoldfastError)) throw error;
        return undefined; // the other name is out of reach: copy instead
      });
      if (linked !== undefined && linked.kind !== "unproven") return linked;
    }
    const content = { open: choice.open, sha256: choice.sha256, metadata: this.#metadataFor(choice) };
    return await placeFile(target, content, this.#host, signal);
  }

  /** A script has put the bytes in place: see that they are still those that were judged, and give them attributes. */
  async #adopt(choice: Choice, signal: AbortSignal): Promise<PlaceOutcome> {
    const { path, policy } = this.#job;
    const folder = openAnchored(policy.root, parentPath(path));
    try {
      const fd = folder.openFile(nameOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        if ((await digestOfPath(path, signal)) !== choice.sha256) return { kind: "changed" };
        const node = this.#metadataFor(choice);
        const gaps = node === undefined ? [] : applyToDescriptor(fd, node);
        const stat = folder.lstat(nameOf(path));
        if (stat === undefined) return { kind: "changed" };
        await this.#host.announce({ path, stat: tupleOf(stat), sha256: choice.sha256 });
        this.#host.onStep("visible");
        return {
          kind: "placed",
          stat: tupleOf(stat),
          sha256: choice.sha256,
          gaps: gaps.map((gap) => `${gap.what}: ${gap.errno}`),
        };
      } finally {
        closeSync(fd);
      }
    } finally {
      folder.close();
    }
  }

  /** The candidate's own attributes, or those last known; content of another time keeps its own time. */
  #metadataFor(choice: Choice): FileNode | undefined {
    const good = this.#lost.lastGood;
    const base = choice.candidate.metadata ?? this.#node ?? (good === undefined ? undefined : nodeOf(good));
    if (base === undefined || base.kind !== "file") return undefined;
    if (choice.identical && choice.candidate.sameInode !== true && good !== undefined)
      return { ...base, stat: { ...base.stat, mtimeNs: good.stat.mtimeNs } };
    const modifiedAtMs = choice.candidate.modifiedAtMs ?? this.#options.clock.nowMs();
    const isOwnTime = choice.candidate.metadata !== undefined;
    return isOwnTime
      ? base
      : { ...base, stat: { ...base.stat, mtimeNs: BigInt(Math.trunc(modifiedAtMs)) * 1_000_000n } };
  }

  /** Waits until nobody has the damaged file open for writing; gives the reason to hold when somebody still has. */
  async #waitForWriters(target: PlaceTarget, signal: AbortSignal): Promise<string | undefined> {
    if (target.present === undefined) return undefined;
    const { clock, processes, writerWaitMs } = this.#options;
    const startMs = clock.monotonicMs();
    for (;;) {
      const [writer] = await processes.writersOf(target.present.dev, target.present.ino);
      if (writer === undefined) return undefined;
      if (clock.monotonicMs() - startMs >= writerWaitMs)
        return `process ${String(writer.pid)} (${writer.program}) has it open for writing`;
      await clock.sleep(Math.min(WRITER_POLL_MS, writerWaitMs), signal);
    }
  }

  #conclude(outcome: ChainOutcome): Omit<Finding, "quarantined"> {
    const { judged: candidates, searched, notes, manualCommands } = outcome;
    const told = { candidates, searched, notes, manualCommands };
    if (this.#job.explain === true) return { ...told, outcome: "explained", message: this.#explanation(outcome) };
    if (this.#hold !== undefined) return { ...told, outcome: "waiting", ...this.#hold };
    const placed = this.#placed;
    if (outcome.taken !== undefined && placed?.kind === "placed") {
      const taken = this.#takenOf(outcome.taken, placed);
      const message = [`from ${taken.origin}`, ...this.#logs.notes].join("; ");
      return { ...told, notes: [...notes, ...this.#logs.notes], outcome: "healed", message, taken };
    }
    if (placed?.kind === "returned") return { ...told, outcome: "returned", message: "somebody made the file again" };
    if (placed?.kind === "changed") {
      const kept = placed.keptAs === undefined ? "" : `; a save before the last is kept at ${pathText(placed.keptAs)}`;
      return { ...told, outcome: "returned", message: `the file was changed in the meantime${kept}` };
    }
    const offers = candidates.filter((candidate) => candidate.verdict === "offered").length;
    if (offers > 0 && !this.#job.byPerson)
      return { ...told, outcome: "waiting", message: `${String(offers)} candidates wait for a person's choice` };
    const message = "no strategy found bytes that may be put back";
    return { ...told, outcome: "failed", message, failure: { code: "RECOVERY_FAILED", message } };
  }

  #explanation({ taken }: ChainOutcome): string {
    const good = this.#lost.lastGood?.sha256;
    if (good !== undefined && good === this.#damagedSha256)
      return "the file is as it was last known good: there is nothing to recover";
    if (taken === undefined) return "nothing would be put back by itself";
    return `${taken.candidate.strategy} would put back ${taken.candidate.origin}`;
  }

  #takenOf(choice: Choice, placed: PlaceOutcome & { readonly kind: "placed" }): TakenCandidate {
    const { strategy, origin, modifiedAtMs } = choice.candidate;
    const sha256 = placed.sha256 ?? choice.sha256;
    return {
      strategy,
      origin,
      identical: choice.identical,
      ...(modifiedAtMs === undefined ? {} : { ageMs: this.#job.seenAtMs - modifiedAtMs }),
      ...(sha256 === undefined ? {} : { sha256 }),
      sizeBytes: placed.stat.sizeBytes,
      gaps: placed.gaps,
    };
  }
}

/** What placing asks of the rest, for one job. */
class HostOfPlacing implements PlaceHost {
  readonly quarantined: QuarantineReference[] = [];
  readonly #options: HealPathOptions;
  readonly #job: HealJob;

  constructor(options: HealPathOptions, job: HealJob) {
    this.#options = options;
    this.#job = job;
  }

  async folderNode(path: BytePath): Promise<FileNode | undefined> {
    const node = await newestNode(this.#options.versions, path);
    return node?.kind === "folder" ? node : undefined;
  }

  async announce(write: Parameters<PlaceHost["announce"]>[0]): Promise<void> {
    await this.#options.watch.expectOwnWrite(write);
  }

  onFolderMade(path: BytePath): void {
    this.#job.onFolderMade?.(path);
  }

  async keepDamaged(...[folder, name, judged]: Parameters<PlaceHost["keepDamaged"]>): Promise<void> {
    const kept = await this.#options.quarantine.keep(this.#job.incident, { folder, name, judged }, this.#job.kind);
    this.quarantined.push(kept);
  }

  onStep(step: PlaceStep): void {
    this.#options.observer.log.debug("recovery.step", { incident: this.#job.incident, step });
    if (step === "visible") this.#options.watch.ownWriteStands(this.#job.to ?? this.#job.path);
  }
}

function targetOf(job: HealJob, present: StatTuple | undefined): PlaceTarget {
  if (job.to === undefined) return { path: job.path, root: job.policy.root, present, tag: job.incident };
  return { path: job.to, root: parentPath(job.to), present: undefined, tag: job.incident };
}

/** Nothing is to be done; holdfast itself may have put it back, and been killed before that was written down. */
function there(message: string, { seenAtMs }: HealJob, good: LastGood | undefined): Finding {
  const isOurs = (good?.healedAtMs ?? 0) > seenAtMs;
  if (isOurs) return { ...NOTHING_FOUND, outcome: "healed", message: "put back before the daemon was interrupted" };
  return { ...NOTHING_FOUND, outcome: "returned", message };
}

/** Below an unmounted file system there is a folder too, and nothing belongs there. */
async function awayReason(watch: LiveWatch, job: HealJob): Promise<string | undefined> {
  if (job.to !== undefined || job.explain === true) return undefined;
  return await watch.awayReasonOf(job.path);
}

function waiting(message: string): Finding {
  return { ...NOTHING_FOUND, outcome: "waiting", message };
}

/** What is known of a path out of its stored version. */
export function lastGoodOf(node: FileNode): LastGood {
  const { kind, stat, mode, uid, gid, sha256, gitBlobId, linkTarget } = node;
  return {
    ...{ kind, stat, mode, uid, gid },
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(gitBlobId === undefined ? {} : { gitBlobId }),
    ...(linkTarget === undefined ? {} : { linkTarget }),
  };
}

function nodeOf(good: LastGood): FileNode {
  return { ...good, linkCount: 1 };
}

async function digestOfPath(path: BytePath, signal: AbortSignal): Promise<string> {
  return await digestOf(readRegularFile(path, signal), signal);
}
