/**
 * Which mode a path is protected in, and why: the source's rules, first match wins, then the source's own mode, then
 * the defaults. Pure.
 */
import picomatch from "picomatch";
import { type BytePath, nameOf, relativeTo } from "../base/paths.js";

export const PROTECTION_MODES = ["protect", "ask", "mirror", "append-only", "growing", "alert", "ignore"] as const;
/**
 * protect: healed after grace; ask: held for a person; mirror: deletions allowed, versions kept; append-only: new files
 * and appended bytes are fine, all else is healed, whoever did it; growing: the same for logs, whose rotation is
 * recognised; alert: told, never touched; ignore: nothing.
 */
export type ProtectionMode = (typeof PROTECTION_MODES)[number];

/** Whether files of this mode may only grow. */
export function onlyGrows(mode: ProtectionMode): boolean {
  return mode === "append-only" || mode === "growing";
}

export interface ModeRule {
  /** A glob on the path below the source's folder, or on the name alone when it holds no `/`; or an absolute glob. */
  readonly match: string;
  readonly mode: ProtectionMode;
}

export interface ModeDecision {
  readonly mode: ProtectionMode;
  readonly rule: string;
  readonly origin: string;
  readonly why: string;
}

type Matcher = (path: BytePath, roots: readonly BytePath[]) => boolean;

/** A matcher for the globs that people write in `match`; the pattern is text and compared bytewise. */
export function matcherOf(pattern: string): Matcher {
  const glob = Buffer.from(pattern, "utf8").toString("latin1");
  const test = picomatch(glob.startsWith("/") ? glob : glob.replace(/^\.\//, ""), { dot: true, nonegate: true });
  if (glob.startsWith("/")) return (path) => test(path);
  if (!glob.includes("/")) return (path) => test(nameOf(path));
  return (path, roots) =>
    roots.some((root) => (path === root || path.startsWith(root)) && test(relativeTo(path, root)));
}

/** The compiled rules of one source. */
export class ModeRules {
  readonly #source: string;
  readonly #roots: readonly BytePath[];
  readonly #mode: ProtectionMode | undefined;
  readonly #rules: readonly { readonly rule: ModeRule; readonly matches: Matcher }[];

  constructor(source: string, roots: readonly BytePath[], mode?: ProtectionMode, rules: readonly ModeRule[] = []) {
    this.#source = source;
    this.#roots = roots;
    this.#mode = mode;
    this.#rules = rules.map((rule) => ({ rule, matches: matcherOf(rule.match) }));
  }

  /** The mode of a path. `isTracked` is asked only when nothing explicit decides: is it a file that git tracks? */
  decide(path: BytePath, isTracked: (path: BytePath) => boolean): ModeDecision {
    const index = this.#rules.findIndex(({ matches }) => matches(path, this.#roots));
    const found = this.#rules[index];
    if (found !== undefined) {
      return {
        mode: found.rule.mode,
        rule: `${found.rule.match}: ${found.rule.mode}`,
        origin: `rules[${String(index)}] of source ${this.#source}`,
        why: "it is the first rule that matches the path",
      };
    }
    if (this.#mode !== undefined) {
      return {
        mode: this.#mode,
        rule: `on_delete of source ${this.#source}`,
        origin: `source ${this.#source}`,
        why: "no rule matches the path, and the source names its mode",
      };
    }
    if (isTracked(path)) {
      return {
        mode: "mirror",
        rule: "files tracked by git: mirror",
        origin: "default",
        why: "git tracks the file, so checkouts and resets may remove it; every version is kept",
      };
    }
    return {
      mode: "protect",
      rule: "protected by default",
      origin: "default",
      why: "a person named the folder and set no other mode",
    };
  }
}
