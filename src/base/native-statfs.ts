/** The id that a file system gives by statfs(2), which Node leaves out; through the optional package koffi. */
import { createRequire } from "node:module";

type Statfs = (path: Buffer, result: Buffer) => number;

interface Koffi {
  load(library: string | null): { func(signature: string): Statfs };
}

/** Larger than the structure on any 64-bit Linux (120 bytes). */
const RESULT_BYTES = 256;
/** Behind seven words: type, block size, blocks, free, available, files, free files. */
const ID_OFFSET = 56;

let loaded: { readonly statfs: Statfs | undefined } | undefined;

/** 16 hex digits; undefined where the call cannot be made, or the file system has no id. */
export function fileSystemIdOf(path: Buffer): string | undefined {
  loaded ??= { statfs: load() };
  if (loaded.statfs === undefined) return undefined;
  const result = Buffer.alloc(RESULT_BYTES);
  if (loaded.statfs(Buffer.concat([path, Buffer.alloc(1)]), result) !== 0) return undefined;
  const id = result.toString("hex", ID_OFFSET, ID_OFFSET + 8);
  return /^0+$/.test(id) ? undefined : id;
}

function load(): Statfs | undefined {
  const isKnownLayout = process.platform === "linux" && ["x64", "arm64"].includes(process.arch);
  if (!isKnownLayout || process.env["HOLDFAST_NO_NATIVE"] === "1") return undefined;
  try {
    const koffi = createRequire(import.meta.url)("koffi") as Koffi;
    return koffi.load(null).func("int statfs(const void *path, _Out_ void *result)");
  } catch {
    return undefined; // no koffi here
  }
}
