/** The port of the watcher child's ears: one kind asks the kernel itself, the other goes through @parcel/watcher. */

export interface HeardEvent {
  readonly type: "create" | "update" | "delete";
  /** Absolute, as text; a name that is not UTF-8 is mangled. */
  readonly path: string;
}

export interface EarHooks {
  heard(events: readonly HeardEvent[]): void;
  /** From now on something is not heard. */
  failed(message: string): void;
}

/** Ears on one folder. */
export interface Ear {
  /**
   * Listens anew, also to folders that went unheard; resolves when everything from now on is heard. `folders` (absolute, as
   * text): only what is in these may go unheard; ears that cannot listen to a part anew take the whole.
   */
  renew(folders?: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export interface Ears extends EarsFacts {
  /** Resolves when everything from now on is heard. `shallow`: what is in folders of the folder is not. */
  listen(root: string, shallow: boolean, hooks: EarHooks): Promise<Ear>;
  /** Resolves when all that was taken from the kernel until now was given to the hooks. */
  settle(): Promise<void>;
}

export interface EarsFacts {
  /** In how many floods of events, until now, the kernel may have dropped some. */
  floods(): number;
  /** A batch of more events is taken as a sign of a flood. */
  readonly batchMax: number;
}
