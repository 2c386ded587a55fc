/** The ways to zstd that exist on a machine, in order of their speed. Each is safe to use in several threads at once. */
import * as zlib from "node:zlib";
import type { ZstdCalls } from "./port.js";
import { libraryCalls } from "./zstd-library.js";

interface NodeZstd {
  readonly constants: Readonly<Record<string, number>>;
  zstdCompressSync(data: Uint8Array, options: object): Buffer;
  zstdDecompressSync(data: Uint8Array, options: object): Buffer;
}

/** The best calls of this machine; undefined when there are none. */
export async function findZstd(): Promise<ZstdCalls | undefined> {
  return libraryCalls() ?? nodeCalls(zlib) ?? (await wasmCalls());
}

/** node:zlib of Node 22.15 and later. */
function nodeCalls(module: object): ZstdCalls | undefined {
  if (!isNodeZstd(module)) return undefined;
  const { ZSTD_c_compressionLevel: levelKey = 100, ZSTD_c_contentSizeFlag: sizeKey = 200 } = module.constants;
  const decompress = (data: Uint8Array, plainBytes: number): Buffer =>
    module.zstdDecompressSync(data, { maxOutputLength: Math.max(1, plainBytes) });
  return {
    compress: (data, level) =>
      module.zstdCompressSync(data, { pledgedSrcSize: data.length, params: { [levelKey]: level, [sizeKey]: 1 } }),
    decompress,
    decompressOnce: decompress,
  };
}

function isNodeZstd(module: object): module is NodeZstd {
  return "zstdCompressSync" in module && "zstdDecompressSync" in module && "constants" in module;
}

interface WasmZstd {
  compress(data: Uint8Array, level: number): Uint8Array;
  decompress(data: Uint8Array): Uint8Array;
}

/** The optional package @cloudpss/zstd, its WebAssembly only: each thread has an instance of its own. */
async function wasmCalls(): Promise<ZstdCalls | undefined> {
  try {
    const module: unknown = await import("@cloudpss/zstd/wasm");
    if (!isWasmZstd(module)) return undefined;
    const decompress = (data: Uint8Array): Uint8Array => module.decompress(data);
    return { compress: (data, level) => module.compress(data, level), decompress, decompressOnce: decompress };
  } catch {
    return undefined; // not installed: lz4 it is
  }
}

function isWasmZstd(value: unknown): value is WasmZstd {
  return typeof value === "object" && value !== null && "compress" in value && "decompress" in value;
}
