/**
 * `reconstruct_from_logs`: the file made anew out of JSON-lines logs by a declared recipe (`log-recipe.ts`). What it
 * makes is partial by nature and labelled so: it is applied by itself only where the policy accepts partial content.
 */
import { constants, createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { LOG_STRATEGY, LogFold, type LogRecipe, RECORDS_MAX, recipeOf } from "./log-recipe.js";

const FILES_MAX = 10_000;
/** All logs together; beyond, the newest files are read. */
const BYTES_MAX = 4 * 2 ** 30;
const LINE_BYTES_MAX = 16 * 2 ** 20;

export function reconstructFromLogsStrategy(): RecoveryStrategy {
  return {
    id: LOG_STRATEGY,
    effort: "makes",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const recipe = recipeOf(search.parameters, lost);
      const fold = new LogFold(recipe, lost);
      let badLines = 0;
      const files = await logFiles(recipe);
      for (const file of files) {
        for await (const record of recordsIn(file, signal)) {
          if (record === NOT_JSON) badLines += 1;
          else if (!fold.take(record))
            throw new HoldfastError("LIMIT_REACHED", `the recipe takes more than ${String(RECORDS_MAX)} records`);
        }
      }
      const bytes = fold.bytes();
      if (bytes === undefined) {
        search.note(`none of the records in ${String(files.length)} logs of ${recipe.logDir} fits the recipe`);
        return;
      }
      yield {
        strategy: LOG_STRATEGY,
        origin: `${String(fold.count)} records of ${String(files.length)} logs in ${recipe.logDir}`,
        fidelity: "partial",
        ...(fold.newestMs === undefined ? {} : { modifiedAtMs: fold.newestMs }),
        sizeBytes: bytes.length,
        notes: [
          "pieced together from logs: what was never logged is missing",
          ...(badLines === 0 ? [] : [`${String(badLines)} lines are no JSON and were passed over`]),
        ],
        // eslint-disable-next-line @typescript-eslint/require-await -- the bytes are in memory already
        async *open() {
          yield bytes;
        },
      };
    },
  };
}

const NOT_JSON = Symbol("not JSON");

/** Logs of the recipe, oldest first, so that the last record of a key is the newest. */
async function logFiles(recipe: LogRecipe): Promise<readonly string[]> {
  const patterns = recipe.files.map(globPattern);
  const found: { readonly file: string; readonly mtimeMs: number; readonly sizeBytes: number }[] = [];
  for (const name of await namesIn(recipe.logDir)) {
    if (!patterns.some((pattern) => pattern.test(name)) || found.length >= FILES_MAX) continue;
    const file = join(recipe.logDir, name);
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await handle.stat();
    await handle.close();
    if (stat.isFile()) found.push({ file, mtimeMs: stat.mtimeMs, sizeBytes: stat.size });
  }
  found.sort((a, b) => b.mtimeMs - a.mtimeMs || (a.file < b.file ? 1 : -1));
  let sizeBytes = 0;
  const kept = found.filter((log) => (sizeBytes += log.sizeBytes) <= BYTES_MAX);
  return kept.reverse().map((log) => log.file);
}

async function* recordsIn(file: string, signal: AbortSignal): AsyncIterable<unknown> {
  const input = createReadStream(file, { signal });
  const lines = createInterface({ input, crlfDelay: Infinity });
  for await (const line of lines) {
    signal.throwIfAborted();
    if (line.trim() !== "") yield line.length > LINE_BYTES_MAX ? NOT_JSON : parsed(line);
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return NOT_JSON;
  }
}

/** `*` and `?` on one name. */
function globPattern(glob: string): RegExp {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", "[^/]*").replaceAll("?", "[^/]")}$`, "s");
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    throw new HoldfastError("NOT_FOUND", `the log folder ${folder} cannot be read: ${errnoOf(error) ?? "?"}`, {
      cause: error,
    });
  }
}
