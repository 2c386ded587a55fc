/** What the API can ask about the upkeep of the repository: its repair, and the keys that open it. A port beside `services.ts`. */

export interface RepairRequest {
  readonly dry_run: boolean;
  /** Read and prove everything stored first. */
  readonly read_data: boolean;
  /** A folder or URL with another copy of the repository. */
  readonly from?: string;
}
/** The result of a `repair` job. */
export interface RepairDocument {
  readonly dry_run: boolean;
  readonly summary: string;
  readonly chunks_lost: number;
  readonly chunks_repaired: Readonly<Record<"parity" | "copy" | "live", number>>;
  readonly pack_bytes_restored: number;
  readonly bytes_written: number;
  /** Damaged parity objects that were removed; a collection makes them again. */
  readonly parity_dropped: number;
  readonly objects_repaired: readonly string[];
  /** True: start holdfast again and repair again; then it goes on with what the commits refer to that came back. */
  readonly restart_needed: boolean;
  /** What is still wrong; at most 1,000, the worst first. */
  readonly problems: readonly {
    readonly kind: string;
    readonly detail: string;
    readonly paths: readonly { readonly path: string; readonly path_b64?: string }[];
  }[];
}

export interface KeyDocument {
  readonly id: string;
  /** `password`, `raw` (a key file) or `recovery`. */
  readonly kind: string;
  readonly created_at: string;
}
export interface RotationDocument {
  /** Takes the place of all recovery keys before it. */
  readonly recovery_key: string;
  /** Rotations of this repository so far. */
  readonly rotations: number;
  readonly keys_removed: number;
  /** True in a daemon: new data is under the new key from its next start on. */
  readonly restart_needed: boolean;
}

/** Errors: NOT_FOUND, LIMIT_REACHED, UNSUPPORTED. */
export interface UpkeepService {
  /** Adds a password; keys that are there stay valid. */
  addKey(password: string): Promise<KeyDocument>;
  /** By id or unique prefix. */
  removeKey(id: string): Promise<KeyDocument>;
  /** Makes a new master key; only the key in use (or the new password) and a new recovery key stay valid. */
  rotateKeys(newPassword: string | undefined): Promise<RotationDocument>;
}
