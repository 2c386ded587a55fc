/** What the daemon and the thread that listens to fanotify say to each other. */
import type { Actor } from "../../base/events.js";
import type { BytePath } from "../../base/paths.js";
import type { DeedKind } from "./deeds.js";

export type ActorOrder =
  | { readonly type: "watch"; readonly id: number; readonly root: BytePath }
  | { readonly type: "unwatch"; readonly id: number }
  | { readonly type: "ask"; readonly id: number; readonly kind: DeedKind; readonly paths: readonly BytePath[] }
  | { readonly type: "end" };

export type ActorReport =
  | { readonly type: "listening"; readonly id: number }
  | { readonly type: "answer"; readonly id: number; readonly actors: readonly (Actor | undefined)[] }
  /** One folder's file system cannot be listened to. */
  | { readonly type: "unheard"; readonly reason: string }
  /** It cannot listen here, now or any more. */
  | { readonly type: "deaf"; readonly reason: string };
