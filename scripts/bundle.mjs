// Puts the compiled program together into few files, `app` beside `src`: the command line would else load 750 modules
// one by one, which takes longer than what most commands do. The pure JavaScript packages go in, native ones stay
// where they are. Tests import the compiled modules; what `bin/holdfast` starts is this.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Files that are started: the program, its threads and its child. Each becomes a file of its own, by this name. */
const ENTRIES = {
  holdfast: "cli/main.js",
  "engine-worker": "engine/workers/worker.js",
  "proof-child": "base/proof-child.js",
  "walk-worker": "sources/walk-worker.js",
  "inspect-worker": "monitor/inspect/worker.js",
  "watch-child": "monitor/watch/child.js",
  "actor-worker": "monitor/watch/actor-worker.js",
};

/** Packages with native parts or files beside them that they look for. */
const LEFT_OUT = ["@cloudpss/zstd", "@parcel/watcher", "classic-level", "koffi", "lz4-napi", "node-sqlite3-wasm"];

/** Packages of CommonJS find `require` where modules have none. */
const REQUIRE =
  'import { createRequire as bundledRequire } from "node:module";const require = bundledRequire(import.meta.url);';

const URL_OF_FILE = /new URL\("(\.\/[^"]+)", import\.meta\.url\)/g;

/** The file that stands beside a module is, put together, the entry of its own name beside the chunk. */
function urlsOfEntries(source) {
  const names = new Map(Object.entries(ENTRIES).map(([name, path]) => [resolve(source, path), name]));
  return {
    name: "urls of entries",
    setup(build) {
      build.onLoad({ filter: /\.js$/ }, async ({ path }) => {
        if (relative(source, path).startsWith("..")) return undefined;
        const text = await readFile(path, "utf8");
        const contents = text.replaceAll(URL_OF_FILE, (_all, target) => {
          const name = names.get(resolve(dirname(path), target));
          if (name === undefined) throw new Error(`${path} starts ${target}, which scripts/bundle.mjs does not know`);
          return `new URL("./${name}.js", import.meta.url)`;
        });
        return { contents, loader: "js" };
      });
    },
  };
}

/** Puts together what was compiled to `folder/src`, into `folder/app`. Throws when a module is missing. */
export async function bundle(folder) {
  const { build } = await import("esbuild");
  const source = join(folder, "src");
  const entries = Object.entries(ENTRIES).filter(([, path]) => existsSync(join(source, path)));
  await build({
    entryPoints: Object.fromEntries(entries.map(([name, path]) => [name, join(source, path)])),
    outdir: join(folder, "app"),
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    external: LEFT_OUT,
    banner: { js: REQUIRE },
    plugins: [urlsOfEntries(resolve(source))],
    sourcemap: true,
    sourcesContent: false,
    // A third less to read and keep: 20 MB and a tenth of the processor time of a short command. Names stay as they are.
    minifyWhitespace: true,
    logLevel: "warning",
  });
}

// `node scripts/bundle.mjs FOLDER`: for a build of one's own.
if (process.argv[1] === fileURLToPath(import.meta.url)) await bundle(process.argv[2] ?? "dist");
