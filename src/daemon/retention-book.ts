/**
 * Retention policies that were made at run time: each for the sources it names, all others under the configuration's
 * `rotation`. They are kept in a file of their own beside the state database, which may be set aside when it is damaged:
 * to forget a policy would remove backups. A file that cannot be read is left as it is, and nothing is removed meanwhile.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileDurably } from "../base/atomic-file.js";
import { Mutex } from "../base/concurrency.js";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import type { Logger } from "../base/observe.js";
import type { RetentionPolicy } from "../policy/retention.js";

const FILE_NAME = "retention-policies.json";
/** The configuration's own. */
export const DEFAULT_POLICY_ID = "default";
export const POLICIES_MAX = 1_000;

/** Rules that are left out are those of the configuration. */
export type PolicyOverrides = { readonly [Rule in keyof RetentionPolicy]?: number };

export interface KeptPolicy {
  readonly id: string;
  /** Never empty; no two policies share one. */
  readonly sources: readonly string[];
  readonly rules: PolicyOverrides;
}

export class RetentionBook {
  readonly #file: string;
  readonly #policies: Map<string, KeptPolicy>;
  readonly #changes = new Mutex();
  /** Why the policies are not known, for people; undefined when they are. */
  readonly unreadableBecause: string | undefined;

  private constructor(file: string, policies: readonly KeptPolicy[], unreadableBecause: string | undefined) {
    this.#file = file;
    this.#policies = new Map(policies.map((policy) => [policy.id, policy]));
    this.unreadableBecause = unreadableBecause;
  }

  /** Reads what was kept; never throws. */
  static async open(stateDir: string, log: Logger): Promise<RetentionBook> {
    const file = join(stateDir, FILE_NAME);
    try {
      return new RetentionBook(file, parsed(await readFile(file, "utf8")), undefined);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return new RetentionBook(file, [], undefined);
      log.error("retention.unreadable", { file, message: messageOf(error) });
      return new RetentionBook(file, [], `the retention policies in ${file} cannot be read`);
    }
  }

  all(): readonly KeptPolicy[] {
    return [...this.#policies.values()];
  }

  find(id: string): KeptPolicy | undefined {
    return this.#policies.get(id);
  }

  /** The rules for a source, over those of the configuration. */
  policyOf(source: string, standard: RetentionPolicy): RetentionPolicy {
    const own = this.all().find(({ sources }) => sources.includes(source));
    return own === undefined ? standard : { ...standard, ...own.rules };
  }

  /** Throws POLICY_EXISTS when the name or one of the sources is taken, LIMIT_REACHED. */
  async add(policy: KeptPolicy): Promise<void> {
    await this.#change(() => {
      const isTaken = policy.id === DEFAULT_POLICY_ID || this.#policies.has(policy.id);
      if (isTaken) throw new HoldfastError("POLICY_EXISTS", `a policy is called "${policy.id}" already`);
      if (this.#policies.size >= POLICIES_MAX)
        throw new HoldfastError("LIMIT_REACHED", `${String(POLICIES_MAX)} retention policies are the limit`);
      return this.#with(policy);
    });
  }

  /** Throws POLICY_NOT_FOUND, POLICY_EXISTS when another one is for one of its sources, USAGE for the default. */
  async replace(policy: KeptPolicy): Promise<void> {
    await this.#change(() => {
      this.#own(policy.id);
      return this.#with(policy);
    });
  }

  /** Throws POLICY_NOT_FOUND, USAGE for the default. */
  async remove(id: string): Promise<void> {
    await this.#change(() => {
      this.#own(id);
      return this.all().filter((policy) => policy.id !== id);
    });
  }

  #own(id: string): void {
    if (id === DEFAULT_POLICY_ID) {
      throw new HoldfastError("USAGE", "the default policy is `rotation` in the configuration", {
        hint: "Change it there, then run `holdfast config reload`.",
      });
    }
    if (!this.#policies.has(id)) throw new HoldfastError("POLICY_NOT_FOUND", `no retention policy is called "${id}"`);
  }

  #with(policy: KeptPolicy): readonly KeptPolicy[] {
    const others = this.all().filter(({ id }) => id !== policy.id);
    for (const { id, sources } of others) {
      const shared = sources.find((source) => policy.sources.includes(source));
      if (shared !== undefined) throw new HoldfastError("POLICY_EXISTS", `the policy ${id} is for ${shared} already`);
    }
    return [...others, policy];
  }

  /** One change at a time; in force when it is durable. */
  async #change(next: () => readonly KeptPolicy[]): Promise<void> {
    await this.#changes.run(async () => {
      if (this.unreadableBecause !== undefined) {
        throw new HoldfastError("INTERNAL", this.unreadableBecause, {
          hint: "Correct or remove the file, then restart the daemon.",
        });
      }
      const policies = next();
      await writeFileDurably(this.#file, `${JSON.stringify(policies, undefined, 2)}\n`);
      this.#policies.clear();
      for (const policy of policies) this.#policies.set(policy.id, policy);
    });
  }
}

/** Throws when it is not what `#change` writes. */
function parsed(text: string): readonly KeptPolicy[] {
  const found: unknown = JSON.parse(text);
  if (!Array.isArray(found) || !found.every(isKeptPolicy)) throw new Error("it holds something else");
  return found;
}

function isKeptPolicy(value: unknown): value is KeptPolicy {
  const { id, sources, rules } = (value ?? {}) as Partial<Record<keyof KeptPolicy, unknown>>;
  const areSources = Array.isArray(sources) && sources.every((source) => typeof source === "string");
  const areRules = typeof rules === "object" && rules !== null && Object.values(rules).every(isCount);
  return typeof id === "string" && areSources && areRules;
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
