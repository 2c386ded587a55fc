/**
 * How the process gives memory back. V8 collects when it allocates, so an idle process keeps its garbage; and glibc keeps
 * what was freed: it makes up to eight arenas for each core, raises by itself the size above which a buffer gets pages
 * of its own, and gives nothing back from the middle of an arena. A daemon that has made one large backup would hold
 * its memory for months. glibc is told through the optional package koffi; without it only the garbage goes, sooner.
 */
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { bindNative } from "./koffi.js";

export interface MemoryCalls {
  /** Settles where freed memory goes; for the start of a process that runs long. */
  keepSmall(): void;
  /** Collects garbage; V8 frees it beside the event loop afterwards. Holds the loop for some 50 ms: only when quiet. */
  collect(): void;
  /** Gives freed pages back to the system. Takes some 10 ms for each 100 MiB; other threads wait for their arena. */
  giveBack(): void;
  /** Lets go of the pages of files below a folder that this process has mapped; a later use reads them anew. */
  letGoOfFiles(folder: string): void;
}

/** mallopt(3): parameters, and their values here. */
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;
/** Free memory at an arena's end above this is given back at once, bytes. */
const TRIM_BYTES = 2 * 2 ** 20;
/** Buffers above this get pages of their own, which go back when they are freed, bytes. */
const MMAP_BYTES = 2 ** 20;
const ARENAS_MAX = 2;
/** madvise(2): of pages that are in use again nothing is lost, whatever the range has become meanwhile. */
const MADV_PAGEOUT = 21;

let loaded: MemoryCalls | undefined;

/** The calls. Loaded at the first use. */
export function memoryCalls(): MemoryCalls {
  if (loaded === undefined) {
    const glibc = loadGlibc();
    loaded = {
      keepSmall: () => {
        growSlowly();
        glibc?.keepSmall();
      },
      collect: collectGarbage,
      giveBack: () => glibc?.giveBack(),
      letGoOfFiles: (folder) => glibc?.letGoOfFiles(folder),
    };
  }
  return loaded;
}

/** V8 with the flag below; others are not known to have it, and say so on stderr. */
const V8_MAJOR_MAX = 14;
/** An old heap may grow by this much between two collections; V8's own choice lets one of 40 MiB grow to 110, percent. */
const HEAP_GROWTH_PERCENT = 50;

/** Holds for all threads. Costs a backup of many files about 1 % of its time and spares a fifth of its memory. */
function growSlowly(): void {
  if (Number.parseInt(process.versions.v8, 10) > V8_MAJOR_MAX) return;
  setFlagsFromString(`--heap-growing-percent=${String(HEAP_GROWTH_PERCENT)}`);
}

/** Node has no call for it; a context that is made while the flag stands has V8's own. */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (typeof collect === "function") (collect as () => void)();
}

function loadGlibc(): Omit<MemoryCalls, "collect"> | undefined {
  return bindNative((koffi) => {
    const library = koffi.load(null);
    const mallopt = library.func("int mallopt(int parameter, int value)");
    const trim = library.func("int malloc_trim(ulong padding)");
    const madvise = library.func("int madvise(ulong address, ulong length, int advice)");
    return {
      keepSmall: () => {
        mallopt(M_ARENA_MAX, ARENAS_MAX);
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
      },
      giveBack: () => {
        trim(0);
      },
      letGoOfFiles: (folder) => {
        // A kernel before 5.4 does not know the advice: the pages stay.
        for (const { start, end } of mappingsBelow(folder)) madvise(start, end - start, MADV_PAGEOUT);
      },
    };
  }); // undefined: no koffi, or a C library without these; memory is then as large as it is
}

interface Mapping {
  readonly start: bigint;
  readonly end: bigint;
}

function mappingsBelow(folder: string): Mapping[] {
  const mappings: Mapping[] = [];
  for (const line of readFileSync("/proc/self/maps", "latin1").split("\n")) {
    const path = line.slice(line.indexOf("/"));
    const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) r--s /.exec(line) ?? [];
    if (start === undefined || end === undefined || !path.startsWith(`${folder}/`)) continue;
    mappings.push({ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) });
  }
  return mappings;
}
