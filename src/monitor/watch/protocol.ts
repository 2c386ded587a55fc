/** What the daemon and its watcher child say to each other. Paths are text, as @parcel/watcher gives them. */

export type WatchOrder =
  | { readonly type: "watch"; readonly id: number; readonly root: string; readonly shallow: boolean }
  /**
   * Subscribe again before the old subscription ends, so that new folders are watched too. `folders`: these, and what is in
   * them, are all that may be new.
   */
  | { readonly type: "rewatch"; readonly id: number; readonly folders?: readonly string[] }
  | { readonly type: "unwatch"; readonly id: number }
  /** Answer `fenced` when everything that happened before this order was passed on. `folder`: that of the pulse. */
  | { readonly type: "fence"; readonly fence: number; readonly folder: string };

export interface EventCounts {
  readonly create: number;
  readonly update: number;
  readonly delete: number;
}

export type WatchReport =
  /** The subscription stands: what happens from now on is heard. */
  | { readonly type: "armed"; readonly id: number }
  | { readonly type: "failed"; readonly id: number; readonly message: string }
  /** The watched folder itself was moved or removed. */
  | { readonly type: "uprooted"; readonly id: number }
  | {
      readonly type: "events";
      readonly id: number;
      readonly paths: readonly string[];
      readonly counts: EventCounts;
      /** When they were heard, wall ms: the daemon may come to them late. */
      readonly heardAtMs: number;
    }
  /** Events were dropped or are likely to have been. */
  | { readonly type: "overflow"; readonly id: number; readonly reason: string }
  /**
   * What happened before the fence was told before this report, but for what the kernel may have dropped in one of so
   * many floods. Undefined: some of it was not told.
   */
  | { readonly type: "fenced"; readonly fence: number; readonly floods: number | undefined };

/** The subscription of the pulse's folder. */
export const PULSE_ID = 0;
/** Paths in one message at most. */
export const MESSAGE_PATHS_MAX = 512;
/** Messages that may wait for the daemon; 256 x 512 paths of about 100 bytes are 13 MB. Beyond, they are dropped. */
export const MESSAGES_WAITING_MAX = 256;
