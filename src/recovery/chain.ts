/**
 * The recovery chain: asks strategies in the configured order, secures what is perishable before anything else,
 * judges every candidate, and hands the best to be placed until one is. Everything else stays as an offer in the
 * incident, with what was checked and why it was not taken.
 */
import type { Clock } from "../base/clock.js";
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { Counter, Observer } from "../base/observe.js";
import { type AcceptanceRule, type Verdict, compareAcceptable, judge, mayBeIdentical } from "./acceptance.js";
import { ChainRecord, JUDGED_MAX } from "./chain-record.js";
import type { ContentFacts } from "./content-facts.js";
import type { JudgedCandidate, Score, SearchedStrategy } from "./incident.js";
import { maxAgeMsOf } from "./parameters.js";
import type { LiveWatch, VersionReader } from "./ports.js";
import { resemblesLastGood } from "./resemblance.js";
import { scoreOf } from "./score.js";
import { ScratchFolder, type SecuredBytes, digestOf, gitBlobIdOf, readSecured } from "./scratch.js";
import type { AcceptanceLevel, Candidate, ChainStep, LostFile, RecoveryStrategy, Search } from "./strategy.js";

/** Candidates looked at in one step; the rest is not asked for. */
const STEP_CANDIDATES_MAX = 50;
/** Strategies that every chain has, whether named or not, and the one before which they go when they are not. */
const IMPLIED_FIRST = ["pinned_links", "open_files", "pinned"];
const IMPLIED_AFTER_BACKUP = "same_content";

export interface ChainOptions {
  readonly strategies: readonly RecoveryStrategy[];
  readonly watch: LiveWatch;
  readonly clock: Clock;
  readonly observer: Observer;
  /** Folder in which each recovery gets its private one. */
  readonly scratchParent: string;
  /** With which a lost inode is compared; undefined: its bytes are taken as they are. */
  readonly versions?: VersionReader | undefined;
}

export interface ChainRequest {
  readonly steps: readonly ChainStep[];
  readonly accept: AcceptanceLevel;
  readonly byPerson: boolean;
  readonly damagedSha256: string | undefined;
  /** Only look: no program is run, nothing is placed, every step is shown. */
  readonly explain: boolean;
}

/** A candidate that may be placed. */
export interface Choice {
  readonly candidate: Candidate;
  readonly identical: boolean;
  /** Digest that the placed bytes must have. */
  readonly sha256: string | undefined;
  /** The bytes to place, proven or not; the placer proves them from disk. */
  readonly open: (signal: AbortSignal) => AsyncIterable<Buffer>;
}

/** What became of an attempt to place: it is over (well or not), or the bytes were not what they said. */
export type Attempt = { readonly done: true } | { readonly done: false; readonly why: string };

export interface ChainOutcome {
  readonly taken: Choice | undefined;
  readonly judged: readonly JudgedCandidate[];
  /** Every strategy of the chain, in its order. */
  readonly searched: readonly SearchedStrategy[];
  readonly notes: readonly string[];
  readonly manualCommands: readonly string[];
}

interface Held {
  readonly candidate: Candidate;
  readonly secured: SecuredBytes | undefined;
}

interface Acceptable {
  readonly step: number;
  readonly candidate: Candidate;
  readonly facts: ContentFacts;
  readonly score: Score;
  readonly secured: SecuredBytes;
  readonly record: number;
}

export class RecoveryChain {
  readonly #options: ChainOptions;
  readonly #byId: ReadonlyMap<string, RecoveryStrategy>;
  readonly #outcomes: Counter<"strategy" | "outcome">;

  constructor(options: ChainOptions) {
    this.#options = options;
    this.#byId = new Map(options.strategies.map((strategy) => [strategy.id, strategy]));
    this.#outcomes = options.observer.counter({
      name: "holdfast_recovery_strategy_total",
      help: "Recovery strategies asked, by what came of it (taken, offered, nothing, failed).",
      labels: ["strategy", "outcome"],
    });
  }

  /** True when a strategy of that name exists. */
  knows(strategy: string): boolean {
    return this.#byId.has(strategy);
  }

  /** Looks, judges and calls `attempt` with the best choices until one is done. Private copies are gone afterwards. */
  async run(
    lost: LostFile,
    request: ChainRequest,
    attempt: (choice: Choice) => Promise<Attempt>,
    signal: AbortSignal,
  ): Promise<ChainOutcome> {
    await using scratch = new ScratchFolder(this.#options.scratchParent);
    const run = new ChainRun({ ...this.#options, lost, request, attempt, scratch, signal });
    const steps = request.steps.flatMap((step) => {
      const strategy = this.#byId.get(step.strategy);
      if (strategy === undefined) run.note(`${step.strategy}: there is no such strategy`);
      return strategy === undefined ? [] : [{ strategy, parameters: step.parameters }];
    });
    const outcome = await run.through(steps);
    for (const [strategy, result] of run.outcomes) this.#outcomes.add(1, { strategy, outcome: result });
    return outcome;
  }
}

interface BoundStep {
  readonly strategy: RecoveryStrategy;
  readonly parameters: ChainStep["parameters"];
}

/** What one walk is about. */
interface Walk extends ChainOptions {
  readonly lost: LostFile;
  readonly request: ChainRequest;
  readonly attempt: (choice: Choice) => Promise<Attempt>;
  readonly scratch: ScratchFolder;
  readonly signal: AbortSignal;
}

/** One walk through a chain. */
class ChainRun {
  readonly #walk: Walk;
  readonly #record: ChainRecord;
  #pool: Acceptable[] = [];
  #taken: Choice | undefined;

  constructor(walk: Walk) {
    this.#walk = walk;
    this.#record = new ChainRecord(walk.lost);
  }

  get outcomes(): ChainRecord["outcomes"] {
    return this.#record.outcomes;
  }

  note(text: string): void {
    this.#record.note(text);
  }

  async through(steps: readonly BoundStep[]): Promise<ChainOutcome> {
    const perishable = await this.#securePerishable(steps);
    for (const [index, step] of steps.entries()) {
      const { effort, id } = step.strategy;
      if (effort === "runs" && this.#walk.request.explain) {
        this.note(`${id}: not asked, because it would run a program`);
        continue;
      }
      if ((effort === "runs" || effort === "makes") && (await this.#takeBest())) break;
      if (await this.#judgeStep(index, step, perishable.get(step))) break;
      // Without knowing the last good content, nothing later can prove itself better than what is here.
      if (this.#walk.lost.lastGood?.sha256 === undefined && (await this.#takeBest())) break;
    }
    if (this.#taken === undefined) await this.#takeBest();
    return {
      taken: this.#taken,
      judged: this.#record.judged,
      searched: this.#record.searched(steps.map((step) => step.strategy.id)),
      notes: this.#record.notes,
      manualCommands: this.#taken === undefined ? await this.#advice(steps) : [],
    };
  }

  /** Copies what may vanish, all strategies at once. */
  async #securePerishable(steps: readonly BoundStep[]): Promise<ReadonlyMap<BoundStep, readonly Held[]>> {
    const perishable = steps.filter((step) => step.strategy.effort === "perishable");
    const held = await Promise.all(
      perishable.map(async (step): Promise<[BoundStep, readonly Held[]]> => {
        const candidates: Held[] = [];
        await this.#each(step, async (candidate) => {
          candidates.push({ candidate, secured: await this.#secure(candidate) });
          return false;
        });
        return [step, candidates];
      }),
    );
    return new Map(held);
  }

  /** True when something was taken. */
  async #judgeStep(index: number, step: BoundStep, perishable: readonly Held[] | undefined): Promise<boolean> {
    const { id } = step.strategy;
    const foundBefore = this.#record.foundBy(id);
    const maxAgeMs = this.#maxAgeMs(step);
    const look = async (candidate: Candidate, secured?: SecuredBytes): Promise<boolean> =>
      await this.#judgeOne(index, candidate, secured, maxAgeMs);
    let isTaken = false;
    if (perishable !== undefined) {
      for (const { candidate, secured } of perishable) {
        isTaken = secured !== undefined && (await look(candidate, secured));
        if (isTaken) break;
      }
    } else isTaken = await this.#each(step, look);
    this.#record.concludes(id, this.#record.foundBy(id) > foundBefore ? "offered" : "nothing");
    return isTaken;
  }

  /** Asks a strategy; a failing one is noted and passed over. True when `look` said that it is over. */
  async #each(step: BoundStep, look: (candidate: Candidate) => Promise<boolean>): Promise<boolean> {
    let count = 0;
    try {
      for await (const candidate of step.strategy.find(this.#walk.lost, this.#searchOf(step), this.#walk.signal)) {
        this.#walk.signal.throwIfAborted();
        if (await this.#outside(() => look(candidate))) return true;
        count += 1;
        if (count < STEP_CANDIDATES_MAX) continue;
        this.note(`${step.strategy.id}: only the first ${String(count)} candidates were looked at`);
        break;
      }
    } catch (error) {
      if (error instanceof OutsideFailure) throw error.cause;
      if (this.#walk.signal.aborted) throw error;
      this.#record.concludes(step.strategy.id, "failed");
      this.note(`${step.strategy.id}: ${messageOf(error)}`);
    }
    return false;
  }

  /** Runs what is not the strategy's own: its failure (a full disk) is not to be taken for the strategy's. */
  async #outside<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw new OutsideFailure("not the strategy's", { cause: error });
    }
  }

  async #judgeOne(
    step: number,
    candidate: Candidate,
    secured: SecuredBytes | undefined,
    maxAgeMs: number | undefined,
  ): Promise<boolean> {
    const { accept, byPerson, damagedSha256 } = this.#walk.request;
    const rule: AcceptanceRule = { accept, byPerson, damagedSha256, maxAgeMs, nowMs: this.#walk.clock.nowMs() };
    const claimed = judge(this.#walk.lost, candidate, undefined, rule);
    if (claimed.verdict === "identical" && candidate.sameInode !== true)
      return await this.#tryIdentical(candidate, claimed);
    const isHopeless =
      claimed.verdict === "refuse" || (claimed.verdict === "offer" && !mayBeIdentical(this.#walk.lost, candidate));
    if (isHopeless) {
      this.#record.add(candidate, claimed, undefined);
      return false;
    }
    const copy = secured ?? (await this.#secure(candidate));
    if (copy === undefined) return false;
    const facts = await this.#factsOf(copy, candidate);
    const verdict = judge(this.#walk.lost, candidate, facts, rule);
    if (verdict.verdict === "identical") return await this.#tryIdentical(candidate, verdict, { copy, facts });
    const record = this.#record.add(candidate, verdict, facts);
    const score = scoreOf(this.#walk.lost, candidate, facts, false);
    if (verdict.verdict === "acceptable") this.#pool.push({ step, candidate, facts, score, secured: copy, record });
    return false;
  }

  async #tryIdentical(
    candidate: Candidate,
    verdict: Verdict,
    held?: { readonly copy: SecuredBytes; readonly facts: ContentFacts },
  ): Promise<boolean> {
    const record = this.#record.add(candidate, verdict, held?.facts);
    if (held === undefined && this.#walk.request.explain && !(await this.#isProven(candidate, record))) return false;
    const choice: Choice = {
      candidate,
      identical: true,
      sha256: held?.facts.sha256 ?? candidate.sha256,
      open: held === undefined ? (signal) => candidate.open(signal) : (signal) => readSecured(held.copy.file, signal),
    };
    return await this.#try(choice, record);
  }

  /** Reads what claims to be the last good content, so that nothing is promised which could not be put back. */
  async #isProven(candidate: Candidate, record: number): Promise<boolean> {
    try {
      const sha256 = await digestOf(candidate.open(this.#walk.signal), this.#walk.signal);
      const isProven = candidate.sha256 === undefined || sha256 === candidate.sha256;
      if (isProven) this.#record.check(record, "bytes: read to the end, their digest is right");
      else this.#record.mark(record, "refused", "its bytes are not what they should be");
      return isProven;
    } catch (error) {
      if (this.#walk.signal.aborted) throw error;
      this.#record.mark(record, "refused", `its bytes could not be read: ${messageOf(error)}`);
      return false;
    }
  }

  /** Tries the acceptable ones: whole before partial, then in the order of the chain, then the best of a step. */
  async #takeBest(): Promise<boolean> {
    const isPartial = (entry: Acceptable): number => Number(entry.candidate.fidelity === "partial");
    const pool = this.#pool.sort((a, b) => isPartial(a) - isPartial(b) || a.step - b.step || compareAcceptable(a, b));
    this.#pool = [];
    for (const { candidate, facts, secured, record } of pool) {
      const open = (signal: AbortSignal): AsyncIterable<Buffer> => readSecured(secured.file, signal);
      if (await this.#try({ candidate, identical: false, sha256: facts.sha256, open }, record)) return true;
    }
    return false;
  }

  /** The last good content stands there: nothing would be put in its place. */
  get #isAsLastGood(): boolean {
    const good = this.#walk.lost.lastGood?.sha256;
    return good !== undefined && good === this.#walk.request.damagedSha256;
  }

  /** True when the walk is over with this choice. In explain mode the first would-be choice is only marked. */
  async #try(choice: Choice, record: number): Promise<boolean> {
    if (this.#walk.request.explain) {
      if (this.#taken !== undefined || this.#isAsLastGood) return false;
      this.#taken = choice;
      this.#record.mark(record, "taken", `it would be taken: ${this.#record.judged[record]?.why ?? ""}`);
      this.#record.concludes(choice.candidate.strategy, "taken");
      return false;
    }
    const attempt = await this.#walk.attempt(choice);
    if (!attempt.done) {
      this.#record.mark(record, "refused", attempt.why);
      return false;
    }
    this.#taken = choice;
    this.#record.mark(record, "taken");
    this.#record.concludes(choice.candidate.strategy, "taken");
    return true;
  }

  async #secure(candidate: Candidate): Promise<SecuredBytes | undefined> {
    try {
      return await this.#walk.scratch.secure(candidate.open(this.#walk.signal), this.#walk.signal);
    } catch (error) {
      if (this.#walk.signal.aborted) throw error;
      const why = `its bytes could not be read: ${messageOf(error)}`;
      this.#record.add(candidate, { verdict: "refuse", why, checks: [] }, undefined);
      return undefined;
    }
  }

  async #factsOf(secured: SecuredBytes, candidate: Candidate): Promise<ContentFacts> {
    const good = this.#walk.lost.lastGood;
    const isChanged = candidate.sameInode === true && secured.sha256 !== good?.sha256;
    const resembles = isChanged ? await this.#resembles(secured) : undefined;
    const needsBlobId = good?.sha256 === undefined && good?.gitBlobId !== undefined;
    return {
      sha256: secured.sha256,
      sizeBytes: secured.sizeBytes,
      ...(needsBlobId ? { gitBlobId: await gitBlobIdOf(secured, this.#walk.signal) } : {}),
      validity: await this.#walk.watch.validate(secured.file, this.#walk.lost.path, this.#walk.signal),
      ...(resembles === undefined ? {} : { resembles }),
    };
  }

  async #resembles({ file }: SecuredBytes): Promise<boolean | undefined> {
    const { versions, lost, signal } = this.#walk;
    if (versions === undefined) return undefined;
    const content = readSecured(file, signal);
    return await resemblesLastGood({ versions, lost, content }, (text) => this.note(text), signal);
  }

  #maxAgeMs(step: BoundStep): number | undefined {
    try {
      return maxAgeMsOf(step.strategy.id, step.parameters);
    } catch (error) {
      this.note(messageOf(error));
      return 0; // a wrong limit must not let anything through
    }
  }

  #searchOf(step: BoundStep): Search {
    const { scratch } = this.#walk;
    return {
      parameters: step.parameters,
      note: (text) => this.note(`${step.strategy.id}: ${text}`),
      get scratchDir() {
        return scratch.path;
      },
    };
  }

  async #advice(steps: readonly BoundStep[]): Promise<readonly string[]> {
    const lines: string[] = [];
    for (const step of steps) {
      try {
        lines.push(...((await step.strategy.advise?.(this.#walk.lost, this.#searchOf(step))) ?? []));
      } catch (error) {
        if (!hasCode(error, "CONFIG_INVALID")) this.note(`${step.strategy.id}: ${messageOf(error)}`);
      }
    }
    return lines.slice(0, JUDGED_MAX);
  }
}

class OutsideFailure extends Error {}

/** The chain with what every chain has: what is held open first, the same content elsewhere after the backup. */
export function withImplied(steps: readonly ChainStep[]): readonly ChainStep[] {
  const names = new Set(steps.map((step) => step.strategy));
  const full = [...steps];
  if (!names.has(IMPLIED_AFTER_BACKUP)) {
    const backup = full.findIndex((step) => step.strategy === "latest_backup");
    full.splice(backup + 1, 0, { strategy: IMPLIED_AFTER_BACKUP, parameters: {} });
  }
  for (const strategy of IMPLIED_FIRST) if (!names.has(strategy)) full.unshift({ strategy, parameters: {} });
  return full;
}

/** A chain of one named strategy with the parameters that the path's own chain gives it. Throws USAGE for unknown names. */
export function chainOfOne(strategy: string, steps: readonly ChainStep[], chain: RecoveryChain): readonly ChainStep[] {
  const configured = steps.filter((step) => step.strategy === strategy);
  if (configured.length > 0) return configured;
  if (!chain.knows(strategy)) throw new HoldfastError("USAGE", `there is no recovery strategy "${strategy}" here`);
  return [{ strategy, parameters: {} }];
}
