/**
 * Files that go together or not at all: a source may name such groups by patterns. When a part of a group goes while
 * the rest stays, that is a loss also where deletions are allowed; when all of it goes, its owner let it go.
 */
import type { BytePath } from "../base/paths.js";
import { lookAt } from "./look.js";
import type { KnownPath } from "./registry.js";
import { matcherOf } from "./rules.js";

/** Files of a group that are looked at for one that is still there; beyond, the group counts as gone. */
const LOOKS_MAX = 10_000;

interface Group {
  readonly pattern: string;
  readonly holds: (path: BytePath) => boolean;
}

export class FileGroups {
  readonly #groups: readonly Group[];

  constructor(patterns: readonly string[], roots: readonly BytePath[]) {
    this.#groups = patterns.map((pattern) => {
      const matches = matcherOf(pattern);
      return { pattern, holds: (path) => matches(path, roots) };
    });
  }

  /** True when the source names no groups. */
  get isEmpty(): boolean {
    return this.#groups.length === 0;
  }

  /**
   * Tells, for one round of missing files, the pattern of the group that a path is a missing part of; undefined: of
   * none, or all of the group is gone. `known` gives all registered paths of the source.
   */
  round(known: () => AsyncIterable<readonly KnownPath[]>): (path: BytePath) => Promise<string | undefined> {
    const isBroken = new Map<Group, Promise<boolean>>();
    return async (path) => {
      for (const group of this.#groups) {
        if (!group.holds(path)) continue;
        const broken = isBroken.get(group) ?? hasOneLeft(group, known());
        isBroken.set(group, broken);
        if (await broken) return group.pattern;
      }
      return undefined;
    };
  }
}

async function hasOneLeft(group: Group, known: AsyncIterable<readonly KnownPath[]>): Promise<boolean> {
  let looks = 0;
  for await (const page of known) {
    for (const { path, record } of page) {
      if (record.kind === "folder" || record.state !== "live" || !group.holds(path)) continue;
      if (lookAt(path).is === "there") return true;
      if (++looks >= LOOKS_MAX) return false;
    }
  }
  return false;
}
