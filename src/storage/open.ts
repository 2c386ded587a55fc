/** From the place a person names (a path, `file:///path`, later `s3://…`) to the backend that serves it. */
import type { Backend } from "./backend.js";
import type { FileIo } from "./file-io.js";

export interface OpenBackendOptions {
  /** Makes the folder when it is missing; otherwise a missing place is REPO_NOT_FOUND. */
  readonly create?: boolean;
  /** File calls for writing; the system's unless told. */
  readonly io?: FileIo;
}

/** Opens the backend of a path or URL. Throws UNSUPPORTED for schemes without a driver, REPO_NOT_FOUND, STORE_IO. */
export declare function openBackend(place: string, options?: OpenBackendOptions): Promise<Backend>;

/** The local folder of a place, absolute, or undefined when it is not on this machine's file system. */
export declare function localFolderOf(place: string): string | undefined;

/** Removes what crashed writers left in the staging folder. Only the holder of the writer's lock may call it. */
export declare function clearStaging(backend: Backend, io?: FileIo): Promise<number>;
