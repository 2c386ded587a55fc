/**
 * `git_history`: what git knows of the path: the index, all branches, tags and reflogs, stashes, and objects that
 * nothing refers to any more. A blob of the right id is the last good content; anything else is judged by its time.
 * Parameters: `max_commits` (default 100), `max_age_hours` (judged by the chain).
 */
import { isoTime } from "../../base/clock.js";
import { type BytePath, joinPath, pathText } from "../../base/paths.js";
import { ParameterReader } from "../parameters.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import {
  BLOB_BYTES_MAX,
  type GitObject,
  GitRepository,
  type Transformation,
  lfsPointer,
  withCrlf,
} from "./git-repository.js";
import { quoted } from "./latest-backup.js";
import { fidelityByTime, readRegularFile, regularFileAt } from "../regular-file.js";
import { lineSimilarity } from "./similarity.js";

const ID = "git_history";
const COMMITS_DEFAULT = 100;
const COMMITS_MAX = 100_000;
const STASHES_MAX = 100;
const DANGLING_MAX = 2000;
/** Nameless blobs are read to see whether they are like the file: this many, of at most this size. */
const NAMELESS_READ_MAX = 200;
const NAMELESS_BYTES_MAX = 4 * 2 ** 20;
/** Share of lines that a nameless blob must have in common with a named one to be worth a look. */
const SIMILARITY_MIN = 0.3;

export function gitHistoryStrategy(): RecoveryStrategy {
  return {
    id: ID,
    effort: "reads",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const repository = await GitRepository.holding(lost.path);
      const name = repository?.nameOf(lost.path);
      if (repository === undefined || name === undefined) {
        search.note(
          repository === undefined ? "the file is in no git work tree" : "git cannot be asked about this name",
        );
        return;
      }
      const parameters = new ParameterReader(ID, search.parameters);
      const commitsMax = parameters.number("max_commits", { min: 1, max: COMMITS_MAX }) ?? COMMITS_DEFAULT;
      yield* new GitSearch({ repository, name, lost, search, signal }).candidates(commitsMax);
    },
    advise: async (lost) => {
      const repository = await GitRepository.holding(lost.path);
      const name = repository?.nameOf(lost.path);
      if (repository === undefined || name === undefined) return [];
      const git = `git -C ${quoted(pathText(repository.workTree))}`;
      const file = quoted(Buffer.from(name, "latin1").toString("utf8"));
      return [`${git} log --all --reflog --full-history -- ${file}`, `${git} fsck --lost-found`];
    },
  };
}

/** A name in the repository that may stand for the file's content. */
interface Place {
  /** As `git cat-file` takes it, bytes as characters. */
  readonly name: string;
  readonly origin: string;
  readonly timeMs: number | undefined;
}

/** What one search is about. */
interface GitCase {
  readonly repository: GitRepository;
  /** The path as git names it. */
  readonly name: string;
  readonly lost: LostFile;
  readonly search: Search;
  readonly signal: AbortSignal;
}

/** One search in one repository. */
class GitSearch {
  readonly #given: GitCase;
  readonly #seen = new Set<string>();
  #transformation: Transformation | undefined;
  #reference: { readonly object: GitObject; readonly origin: string } | undefined;

  constructor(given: GitCase) {
    this.#given = given;
  }

  async *candidates(commitsMax: number): AsyncIterable<Candidate> {
    const blobId = this.#given.lost.lastGood?.gitBlobId;
    if (blobId !== undefined) yield* this.#at([{ name: blobId, origin: "object of the right id", timeMs: undefined }]);
    this.#transformation = await this.#given.repository.transformationOf(this.#given.name, this.#given.signal);
    if (this.#transformation !== undefined)
      this.#given.search.note(`git stores other bytes than the work tree has (${this.#transformation.what})`);
    yield* this.#at(
      ["0", "2", "3", "1"].map((stage) => ({
        name: `:${stage}:${this.#given.name}`,
        origin: stage === "0" ? "index" : `index, stage ${stage} of a merge`,
        timeMs: undefined,
      })),
    );
    yield* this.#at(await this.#commitPlaces(commitsMax));
    yield* this.#forgotten(commitsMax);
  }

  async #commitPlaces(commitsMax: number): Promise<Place[]> {
    const stashes = await this.#given.repository.stashCommits(STASHES_MAX, this.#given.signal);
    const commits = await this.#given.repository.commitsTouching(this.#given.name, commitsMax, [], this.#given.signal);
    const stashIds = new Set(stashes.map((stash) => stash.oid));
    return [...stashes, ...commits.filter((commit) => !stashIds.has(commit.oid))]
      .sort((a, b) => b.timeMs - a.timeMs)
      .map(({ oid, timeMs }) => this.#placeIn(oid, timeMs, stashIds.has(oid) ? "stash" : "commit"));
  }

  #placeIn(commit: string, timeMs: number, what: string): Place {
    return {
      name: `${commit}:${this.#given.name}`,
      origin: `${what} ${commit.slice(0, 10)} of ${isoTime(timeMs)}`,
      timeMs,
    };
  }

  /** What nothing refers to any more: commits are asked for the name, blobs have none. */
  async *#forgotten(commitsMax: number): AsyncIterable<Candidate> {
    const { commits, blobs } = await this.#given.repository.dangling(DANGLING_MAX, this.#given.signal);
    if (commits.length > 0) {
      const touching = await this.#given.repository.commitsTouching(
        this.#given.name,
        commitsMax,
        commits,
        this.#given.signal,
      );
      const found = new Set(touching.map((commit) => commit.oid));
      // A dropped stash touches the name by its tree, whether or not the walk says so.
      const tips = commits.filter((oid) => !found.has(oid)).map((oid) => ({ oid, timeMs: undefined }));
      yield* this.#at(
        [...touching, ...tips].map(({ oid, timeMs }) =>
          timeMs === undefined
            ? { name: `${oid}:${this.#given.name}`, origin: `dangling commit ${oid.slice(0, 10)}`, timeMs }
            : this.#placeIn(oid, timeMs, "dangling commit"),
        ),
      );
    }
    yield* this.#nameless(blobs);
  }

  async *#at(places: readonly Place[]): AsyncIterable<Candidate> {
    const objects = await this.#given.repository.resolve(
      places.map((place) => place.name),
      this.#given.signal,
    );
    for (const [index, place] of places.entries()) {
      const object = objects[index];
      if (object?.type !== "blob" || this.#seen.has(object.oid)) continue;
      this.#seen.add(object.oid);
      const candidate = await this.#candidateOf(object, place);
      if (candidate === undefined) continue;
      this.#reference ??= { object, origin: place.origin };
      yield candidate;
    }
  }

  async #candidateOf(object: GitObject, place: Place): Promise<Candidate | undefined> {
    if (object.sizeBytes > BLOB_BYTES_MAX) {
      this.#given.search.note(`${place.origin}: too large to be read through git (${String(object.sizeBytes)} bytes)`);
      return undefined;
    }
    const pointer =
      object.sizeBytes <= 1024
        ? lfsPointer(await this.#given.repository.blob(object.oid, this.#given.signal))
        : undefined;
    if (pointer !== undefined) return await this.#lfsCandidate(pointer, place);
    const good = this.#given.lost.lastGood;
    const isLastGood = good?.gitBlobId === object.oid;
    const timeMs = place.timeMs ?? (await this.#given.repository.writtenAtMs(object.oid, this.#given.signal));
    const fidelity = timeMs === undefined ? "older" : fidelityByTime(this.#given.lost, timeMs);
    return {
      strategy: ID,
      origin: `git ${place.origin} in ${pathText(this.#given.repository.workTree)}`,
      fidelity: isLastGood ? "exact" : fidelity,
      ...(timeMs === undefined ? {} : { modifiedAtMs: timeMs }),
      ...(isLastGood && good.sha256 !== undefined ? { sha256: good.sha256 } : {}),
      ownerUid: this.#given.repository.ownerUid,
      command: this.#commandFor(object.oid),
      ...(await this.#contentOf(object, isLastGood ? undefined : this.#transformation)),
    };
  }

  /** The bytes as the work tree has them, as far as we can tell. */
  async #contentOf(
    object: GitObject,
    change: Transformation | undefined,
  ): Promise<Pick<Candidate, "sizeBytes" | "notes" | "unfit" | "open">> {
    const { repository, signal } = this.#given;
    const stored = async (inner: AbortSignal): Promise<Buffer> => await repository.blob(object.oid, inner);
    if (change?.kind === "crlf") {
      return {
        sizeBytes: withCrlf(await stored(signal)).length,
        notes: [`with the line ends of the work tree (${change.what})`],
        open: async function* (inner) {
          yield withCrlf(await stored(inner));
        },
      };
    }
    return {
      sizeBytes: object.sizeBytes,
      notes: [],
      ...(change === undefined ? {} : { unfit: `git's bytes are not the work tree's (${change.what} lies between)` }),
      open: async function* (inner) {
        yield await stored(inner);
      },
    };
  }

  /** git has only a pointer; the content may lie beside it, under its digest. */
  async #lfsCandidate(pointer: { sha256: string; sizeBytes: number }, place: Place): Promise<Candidate | undefined> {
    const store = await this.#given.repository.gitPath("lfs/objects", this.#given.signal);
    const { sha256 } = pointer;
    const file = [sha256.slice(0, 2), sha256.slice(2, 4), sha256].reduce<BytePath | undefined>(
      (folder, part) => (folder === undefined ? undefined : joinPath(folder, part)),
      store,
    );
    const stat = file === undefined ? undefined : await regularFileAt(file);
    if (file === undefined || stat === undefined) {
      this.#given.search.note(
        `git ${place.origin} is only an LFS pointer; \`git lfs fetch\` may bring sha256:${sha256}`,
      );
      return undefined;
    }
    return {
      strategy: ID,
      origin: `git LFS object of ${place.origin}`,
      fidelity: place.timeMs === undefined ? "older" : fidelityByTime(this.#given.lost, place.timeMs),
      ...(place.timeMs === undefined ? {} : { modifiedAtMs: place.timeMs }),
      sizeBytes: pointer.sizeBytes,
      sha256,
      ownerUid: Number(stat.uid),
      notes: [],
      command: `cp ${quoted(pathText(file))} RECOVERED`,
      open: (signal) => readRegularFile(file, signal),
    };
  }

  /** Blobs without a name are offered when they are like a named version, newest first. */
  async *#nameless(blobs: readonly string[]): AsyncIterable<Candidate> {
    const reference = this.#reference;
    const unseen = blobs.filter((oid) => !this.#seen.has(oid));
    if (unseen.length === 0) return;
    if (reference === undefined || reference.object.sizeBytes > NAMELESS_BYTES_MAX) {
      this.#given.search.note(
        `git has ${String(unseen.length)} blobs without a name; \`git fsck --lost-found\` writes them out`,
      );
      return;
    }
    const known = await this.#given.repository.blob(reference.object.oid, this.#given.signal);
    const sized = await this.#given.repository.resolve(unseen.slice(0, NAMELESS_READ_MAX), this.#given.signal);
    for (const object of sized) {
      if (object?.type !== "blob" || object.sizeBytes > NAMELESS_BYTES_MAX || object.sizeBytes === 0) continue;
      const similarity = lineSimilarity(known, await this.#given.repository.blob(object.oid, this.#given.signal));
      if (similarity < SIMILARITY_MIN) continue;
      const place = { name: object.oid, origin: `object ${object.oid.slice(0, 10)} without a name`, timeMs: undefined };
      const candidate = await this.#candidateOf(object, place);
      if (candidate === undefined) continue;
      const share = `${String(Math.round(similarity * 100))} % of its lines are those of the ${reference.origin}`;
      yield { ...candidate, notes: [...candidate.notes, share], offerOnly: "nothing proves that it was this file" };
    }
  }

  #commandFor(oid: string): string {
    return `git -C ${quoted(pathText(this.#given.repository.workTree))} cat-file blob ${oid} > RECOVERED`;
  }
}
