/**
 * Who did what to which path lately, from fanotify's events. A folder is named by a handle, which is turned into its
 * path once and remembered; of a folder that is gone already the event of its own removal tells the path, and what
 * happened in it is named then.
 */
import type { Actor } from "../../base/events.js";
import { type BytePath, isWithin, joinPath, parentPath } from "../../base/paths.js";
import { FAN, type FanEvent, type FanPlace, inodeOfHandle } from "./fan-events.js";

export type DeedKind = "removed" | "written";

export interface DeedPorts {
  /** The path of a folder; undefined when it is gone. */
  pathOf(place: FanPlace): BytePath | undefined;
  actorOf(pid: number): Actor;
  monotonicMs(): number;
  /** Wall ms. */
  nowMs(): number;
}

interface Deed {
  readonly kind: DeedKind;
  readonly actor: Actor;
  readonly atMs: number;
  /** What it was done to; undefined where that is not known. */
  readonly ino: string | undefined;
  /** The deed brought the file to the path. */
  readonly named: Naming | undefined;
}

/** A file came to its path by a rename. */
interface Naming {
  readonly actor: Actor;
  readonly atMs: number;
  /** The same, wall ms. */
  readonly wallMs: number;
  readonly ino: string;
  /** Its name before. */
  readonly from: BytePath;
}

/** The newest removal in a folder, and whether one process did all of them that are remembered. */
interface FolderDeed extends Deed {
  readonly isOnlyOne: boolean;
}

interface Unplaced extends Deed {
  readonly name: string;
}

/** 50,000 deeds of about 200 bytes are 10 MB; older ones go, and their folder's newest stands for them. */
const DEEDS_MAX = 50_000;
const FOLDERS_MAX = 10_000;
const HANDLES_MAX = 20_000;
const UNPLACED_MAX = 20_000;
/** A deed explains what is missed this long after it at most, ms. */
const KEEP_MS = 600_000;
/** What a process gave a name and removed within this time was set aside for its own use, ms. */
const OWN_USE_MS = 10_000;
const NAMINGS_MAX = 10_000;

export class DeedBook {
  readonly #ports: DeedPorts;
  readonly #ownPid: number;
  readonly #deeds = new Map<BytePath, Deed>();
  readonly #namings = new Map<BytePath, Naming>();
  readonly #inFolder = new Map<BytePath, FolderDeed>();
  /** Path of each folder by its handle; undefined: it holds nothing that is watched. */
  readonly #handles = new Map<string, BytePath | undefined>();
  readonly #unplaced = new Map<string, Unplaced[]>();
  #unplacedCount = 0;
  #roots: readonly BytePath[] = [];

  constructor(ports: DeedPorts, ownPid: number) {
    this.#ports = ports;
    this.#ownPid = ownPid;
  }

  /** Only what is at or below these folders is remembered. */
  watchOnly(roots: readonly BytePath[]): void {
    this.#roots = roots;
    this.#handles.clear();
  }

  take(event: FanEvent): void {
    const { mask, pid, place, self } = event;
    const isFolder = (mask & FAN.onFolder) !== 0n;
    const isRemoval = (mask & (FAN.delete | FAN.rename | FAN.movedFrom)) !== 0n;
    if (pid !== this.#ownPid) this.#noteBoth(event, { isFolder, isRemoval });
    if (!isFolder) return;
    if ((mask & FAN.delete) !== 0n && place !== undefined && self !== undefined) this.#folderRemoved(place, self);
    else if (isRemoval) this.#handles.clear(); // the paths of all folders in it are others now
  }

  /**
   * Who did it last; undefined: nobody was seen. Of a removal that went unseen it is who removed other things in that
   * folder, or the folder, if that was one process only.
   */
  whoDid(kind: DeedKind, path: BytePath): Actor | undefined {
    const sinceMs = this.#ports.monotonicMs() - KEEP_MS;
    const fits = (deed: Deed | undefined): deed is Deed => deed?.kind === kind && deed.atMs >= sinceMs;
    const own = this.#deeds.get(path);
    if (fits(own)) return own.actor;
    if (kind === "written") return undefined;
    const near = this.#inFolder.get(parentPath(path));
    if (near !== undefined && fits(near)) return near.isOnlyOne ? guessed(near) : undefined;
    for (let folder = parentPath(path); folder !== "/"; folder = parentPath(folder)) {
      const above = this.#deeds.get(folder);
      if (fits(above)) return guessed(above);
    }
    return undefined;
  }

  /** At the place, and of a rename at the new one. */
  #noteBoth(
    { pid, place, target, self }: FanEvent,
    { isFolder, isRemoval }: { readonly isFolder: boolean; readonly isRemoval: boolean },
  ): void {
    const actor = this.#ports.actorOf(pid);
    const ino = self === undefined || isFolder ? undefined : inodeOfHandle(self)?.toString();
    const deed = { actor, atMs: this.#ports.monotonicMs(), ino };
    if (place !== undefined) this.#note(place, { ...deed, kind: isRemoval ? "removed" : "written", named: undefined });
    if (target === undefined) return;
    const from = place === undefined ? undefined : this.#pathIn(place);
    const wallMs = this.#ports.nowMs();
    const named = from === undefined || ino === undefined ? undefined : { actor, atMs: deed.atMs, wallMs, ino, from };
    this.#note(target, { ...deed, kind: "written", named });
  }

  #note(place: FanPlace, deed: Deed): void {
    const key = keyOf(place.fileSystem, place.folder);
    if (!this.#handles.has(key)) {
      const found = this.#ports.pathOf(place);
      if (found === undefined) {
        this.#keepUnplaced(key, { ...deed, name: place.name });
        return;
      }
      this.#learn(key, found);
    }
    const folder = this.#handles.get(key);
    if (folder !== undefined) this.#remember(folder, place.name, deed);
  }

  #learn(key: string, folder: BytePath): void {
    const isWatched = this.#roots.some((root) => isWithin(folder, root) || parentPath(root) === folder);
    this.#handles.set(key, isWatched ? folder : undefined);
    dropOldest(this.#handles, HANDLES_MAX);
  }

  #remember(folder: BytePath, name: string, deed: Deed): void {
    const path = name === "." || name === "" ? folder : joinPath(folder, name);
    if (!this.#roots.some((root) => isWithin(path, root))) return;
    this.#deeds.delete(path);
    this.#deeds.set(path, this.#withNaming(path, deed));
    dropOldest(this.#deeds, DEEDS_MAX);
    if (deed.kind !== "removed") return;
    const holder = parentPath(path);
    const before = this.#inFolder.get(holder);
    const isFresh = before !== undefined && deed.atMs - before.atMs < KEEP_MS;
    const isOnlyOne = !isFresh || (before.isOnlyOne && isSameProcess(before.actor, deed.actor));
    this.#inFolder.delete(holder);
    this.#inFolder.set(holder, { ...deed, isOnlyOne });
    dropOldest(this.#inFolder, FOLDERS_MAX);
  }

  /** Adds to a removal that the same process had given the name; anybody else's deed makes it another's. */
  #withNaming(path: BytePath, deed: Deed): Deed {
    const naming = deed.named ?? this.#namings.get(path);
    this.#namings.delete(path);
    if (naming === undefined || !isSameProcess(naming.actor, deed.actor)) return deed;
    if (deed.kind === "written") {
      this.#namings.set(path, naming);
      dropOldest(this.#namings, NAMINGS_MAX);
      return deed;
    }
    const isOwn = naming.ino === deed.ino && deed.atMs - naming.atMs <= OWN_USE_MS;
    return isOwn
      ? { ...deed, actor: { ...deed.actor, namedIt: { ino: naming.ino, atMs: naming.wallMs, from: naming.from } } }
      : deed;
  }

  /** Undefined: its folder is not known, or not watched. */
  #pathIn({ fileSystem, folder, name }: FanPlace): BytePath | undefined {
    const known = this.#handles.get(keyOf(fileSystem, folder));
    return known === undefined ? undefined : joinPath(known, name);
  }

  #keepUnplaced(key: string, deed: Unplaced): void {
    const list = this.#unplaced.get(key) ?? [];
    list.push(deed);
    this.#unplaced.set(key, list);
    this.#unplacedCount += 1;
    while (this.#unplacedCount > UNPLACED_MAX) {
      const [oldest] = this.#unplaced.keys();
      if (oldest === undefined) return;
      this.#unplacedCount -= this.#unplaced.get(oldest)?.length ?? 0;
      this.#unplaced.delete(oldest);
    }
  }

  /** A folder was removed: its parent and name tell where that was, which was too late to be asked. */
  #folderRemoved(place: FanPlace, self: Buffer): void {
    const key = keyOf(place.fileSystem, self);
    const parentKey = keyOf(place.fileSystem, place.folder);
    const waiting = this.#unplaced.get(key) ?? [];
    this.#unplaced.delete(key);
    this.#unplacedCount -= waiting.length;
    this.#handles.delete(key); // the handle may come to name another folder
    const parent = this.#handles.get(parentKey);
    for (const { name, ...deed } of waiting) {
      const below = `${place.name}/${name}`;
      if (parent !== undefined) this.#remember(parent, below, deed);
      else if (!this.#handles.has(parentKey)) this.#keepUnplaced(parentKey, { ...deed, name: below });
    }
  }
}

/** Who it may have been, by what happened around it: enough to tell people, not to call the removal meant. */
function guessed({ actor }: Deed): Actor {
  const { worksFor: _worksFor, namedIt: _namedIt, ...about } = actor;
  return { ...about, tool: undefined, isGuess: true };
}

function isSameProcess(left: Actor, right: Actor): boolean {
  return left.pid === right.pid && left.startTicks === right.startTicks && left.program === right.program;
}

function keyOf(fileSystem: string, handle: Buffer): string {
  return fileSystem + handle.toString("latin1");
}

function dropOldest<K, V>(map: Map<K, V>, countMax: number): void {
  if (map.size <= countMax) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}
