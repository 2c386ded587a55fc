/**
 * The folders of a source, when each last changed and what each was like when all in it was known, as a tree of names:
 * whole subtrees are forgotten at once, however many folders there are, and a folder costs its own name, not its whole
 * path.
 */
import { type BytePath, joinPath } from "../base/paths.js";

/** What a walk said of a folder that is to be compared. */
export interface Offer {
  readonly digest: number;
}

interface Node {
  /** Undefined: only folders below it are known. */
  mtimeNs: bigint | undefined;
  /** Undefined: something in it may be other than is known. */
  digest: number | undefined;
  offer: Offer | undefined;
  children: Map<string, Node> | undefined;
}

export class FolderTree {
  readonly #top: Node = { mtimeNs: undefined, digest: undefined, offer: undefined, children: undefined };
  #count = 0;

  /** Known folders. */
  get size(): number {
    return this.#count;
  }

  /** mtime of the folder when its names were last compared, ns; undefined: it is not known. */
  get(folder: BytePath): bigint | undefined {
    return this.#find(folder)?.mtimeNs;
  }

  has(folder: BytePath): boolean {
    return this.get(folder) !== undefined;
  }

  set(folder: BytePath, mtimeNs: bigint): void {
    let node = this.#top;
    for (const name of namesOf(folder)) {
      node.children ??= new Map();
      let child = node.children.get(name);
      if (child === undefined) {
        child = { mtimeNs: undefined, digest: undefined, offer: undefined, children: undefined };
        node.children.set(name, child);
      }
      node = child;
    }
    if (node.mtimeNs === undefined) this.#count += 1;
    node.mtimeNs = mtimeNs;
  }

  /** What the folder was like when all that lies directly in it was known. */
  digestOf(folder: BytePath): number | undefined {
    return this.#find(folder)?.digest;
  }

  /** Only of known folders. */
  setDigest(folder: BytePath, digest: number | undefined): void {
    const node = this.#find(folder);
    if (node?.mtimeNs !== undefined) node.digest = digest;
  }

  offerOf(folder: BytePath): Offer | undefined {
    return this.#find(folder)?.offer;
  }

  /** Only of known folders. */
  setOffer(folder: BytePath, offer: Offer | undefined): void {
    const node = this.#find(folder);
    if (node?.mtimeNs !== undefined) node.offer = offer;
  }

  /** Takes out what was offered of folders at and below one. */
  *takeOffers(under: BytePath): Generator<readonly [BytePath, Offer]> {
    const node = this.#find(under);
    if (node !== undefined) yield* offersIn(node, under);
  }

  /** Forgets a folder and all below it. */
  forget(folder: BytePath): void {
    const names = namesOf(folder);
    const last = names.pop();
    if (last === undefined) {
      this.#count = 0;
      this.#top.children = undefined;
      this.#top.mtimeNs = undefined;
      this.#top.digest = undefined;
      this.#top.offer = undefined;
      return;
    }
    let parent: Node | undefined = this.#top;
    for (const name of names) parent = parent?.children?.get(name);
    const node = parent?.children?.get(last);
    if (node === undefined) return;
    parent?.children?.delete(last);
    this.#count -= countIn(node);
  }

  /** Every known folder with its time, parents first; folders may come and go meanwhile. */
  *entries(): Generator<readonly [BytePath, bigint]> {
    if (this.#top.mtimeNs !== undefined) yield ["/" as BytePath, this.#top.mtimeNs];
    yield* below(this.#top, "");
  }

  #find(folder: BytePath): Node | undefined {
    let node: Node | undefined = this.#top;
    for (const name of namesOf(folder)) {
      node = node.children?.get(name);
      if (node === undefined) return undefined;
    }
    return node;
  }
}

function* below(node: Node, path: string): Generator<readonly [BytePath, bigint]> {
  for (const [name, child] of node.children ?? []) {
    const folder = `${path}/${name}`;
    if (child.mtimeNs !== undefined) yield [folder as BytePath, child.mtimeNs];
    yield* below(child, folder);
  }
}

function* offersIn(node: Node, folder: BytePath): Generator<readonly [BytePath, Offer]> {
  const { offer } = node;
  node.offer = undefined;
  if (offer !== undefined) yield [folder, offer];
  for (const [name, child] of node.children ?? []) yield* offersIn(child, joinPath(folder, name));
}

function countIn(node: Node): number {
  let count = node.mtimeNs === undefined ? 0 : 1;
  for (const child of node.children?.values() ?? []) count += countIn(child);
  return count;
}

function namesOf(folder: BytePath): string[] {
  return folder === "/" ? [] : folder.slice(1).split("/");
}
