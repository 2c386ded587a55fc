/**
 * Backups over WebDAV (class 1, read-only), for users who cannot mount: `/<backup id>/<absolute path>`, and `latest` as
 * a folder of its own. WebDAV knows no links: a symbolic link to a file of the same backup shows as that file; other
 * links, FIFOs and devices are left out. Every request needs the password; content is verified before it is sent.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Clock } from "../base/clock.js";
import { HoldfastError, errnoOf, hasCode, messageOf } from "../base/errors.js";
import type { Secret } from "../base/observe.js";
import { type BytePath, joinPath } from "../base/paths.js";
import { BackupTree } from "./backup-tree.js";
import type { BackupLibrary, BrowseBackup, BrowseFile, BrowseNode } from "./library.js";
import {
  type DavResource,
  FINITE_DEPTH,
  MULTISTATUS_CLOSE,
  MULTISTATUS_OPEN,
  decodedNames,
  httpDate,
  lineHtml,
  pageParts,
  responseXml,
} from "./webdav-xml.js";

export const WEBDAV_USER = "holdfast";
const METHODS = "OPTIONS, GET, HEAD, PROPFIND";
const LATEST = "latest";
const ROOT = "/" as BytePath;
const NS_PER_MS = 1_000_000n;
/** Named limits of the server. */
const LIMITS = { connections: 64, headerBytes: 16_384, headersTimeoutMs: 10_000, requestTimeoutMs: 30_000 } as const;
/** Lines of a folder are sent in parts of about this many characters. */
const PART_CHARS = 64 * 2 ** 10;

export interface WebdavOptions {
  readonly library: BackupLibrary;
  readonly clock: Clock;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly password: Secret;
}

/** What an address names. */
interface Target extends DavResource {
  /** "" for the root, which holds the backups. */
  readonly backupId: string;
  readonly path: BytePath;
  readonly file: BrowseFile | undefined;
}

export class WebdavServer implements AsyncDisposable {
  readonly #options: WebdavOptions;
  readonly #tree: BackupTree;
  readonly #stop = new AbortController();
  readonly #server: Server;
  readonly #credentials: Buffer;

  private constructor(options: WebdavOptions) {
    this.#options = options;
    this.#tree = new BackupTree(options.library, options.clock, this.#stop.signal);
    this.#credentials = digest(`${WEBDAV_USER}:${options.password.reveal()}`);
    const { headerBytes, headersTimeoutMs, requestTimeoutMs, connections } = LIMITS;
    this.#server = createServer(
      { maxHeaderSize: headerBytes, headersTimeout: headersTimeoutMs, requestTimeout: requestTimeoutMs },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = connections;
  }

  /** Listens. Throws LISTEN_FAILED, and what listing backups throws. */
  static async listen(options: WebdavOptions, signal: AbortSignal): Promise<WebdavServer> {
    await options.library.backups(signal); // a repository that cannot be read is told at once
    const made = new WebdavServer(options);
    const { host, port } = options;
    try {
      made.#server.listen(port, host);
      await once(made.#server, "listening", { signal });
    } catch (error) {
      const why = errnoOf(error) === "EADDRINUSE" ? "something listens there already" : messageOf(error);
      throw new HoldfastError("LISTEN_FAILED", `cannot listen on ${host}:${port}: ${why}`, { cause: error });
    }
    return made;
  }

  /** The port it listens on. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new HoldfastError("INTERRUPTED", "the server is being closed"));
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on("error", () => undefined); // the client has gone
    request.resume(); // bodies of PROPFIND are not needed: every property is always told
    try {
      await this.#answer(request, response);
    } catch (error) {
      if (response.headersSent)
        response.destroy(); // a cut answer is noticed by its missing end
      else end(response, statusOf(error), messageOf(error));
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader("DAV", "1");
    response.setHeader("X-Content-Type-Options", "nosniff");
    if (!this.#isAllowed(request)) {
      response.setHeader("WWW-Authenticate", 'Basic realm="holdfast", charset="UTF-8"');
      end(response, 401, "the user is holdfast, the password is the one that was printed");
      return;
    }
    const method = request.method ?? "";
    response.setHeader("Allow", METHODS);
    if (method === "OPTIONS") end(response, 204);
    else if (!METHODS.split(", ").includes(method)) end(response, 405, "backups are read-only");
    else await this.#look(method, request, response);
  }

  #isAllowed(request: IncomingMessage): boolean {
    const [scheme = "", given = ""] = (request.headers.authorization ?? "").split(" ");
    const isBasic = scheme.toLowerCase() === "basic";
    return timingSafeEqual(digest(Buffer.from(given, "base64").toString("utf8")), this.#credentials) && isBasic;
  }

  async #look(method: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const names = decodedNames(request.url ?? "/");
    const target = names === undefined ? undefined : await this.#target(names);
    if (target === undefined) end(response, 404, "there is no such file or folder");
    else if (method === "PROPFIND") await this.#propfind(target, request.headers["depth"], response);
    else if (target.isFolder) await this.#sendPage(target, method === "HEAD", response);
    else await this.#sendFile(target, request, response);
  }

  // --- what an address names -----------------------------------------------------------------------------------------

  async #target(names: readonly string[]): Promise<Target | undefined> {
    const [first, ...rest] = names;
    const backups = await this.#tree.backups();
    if (first === undefined) return folderTarget("/", "backups", backups.at(-1)?.timeMs ?? 0);
    const backup = first === LATEST ? backups.at(-1) : backups.find(({ id }) => id === first);
    if (backup === undefined) return undefined;
    const top = backupTarget(backup, first);
    const name = rest.at(-1);
    if (name === undefined) return top;
    const path = `/${rest.join("/")}` as BytePath;
    const node = await this.#tree.find(backup.id, path);
    return node === undefined
      ? undefined
      : await this.#resource({ ...top, path }, `${top.href}${rest.join("/")}`, node);
  }

  /** A node as a resource; undefined for what WebDAV cannot show. */
  async #resource(at: Pick<Target, "backupId" | "path">, href: string, node: BrowseNode): Promise<Target | undefined> {
    const { backupId, path } = at;
    if (node.kind === "folder") return { ...folderTarget(`${href}/`, node.name, msOf(node)), backupId, path };
    const found = node.kind === "symlink" ? await this.#tree.follow(backupId, path) : { path, node };
    if (found?.node.kind !== "file") return undefined;
    const { sizeBytes, sha256 = "" } = found.node;
    const file: BrowseFile = { backupId, path: found.path, sizeBytes, sha256 };
    const etag = `"${sha256}"`;
    const modifiedMs = msOf(found.node);
    return { href, name: node.name, isFolder: false, sizeBytes, modifiedMs, etag, backupId, path, file };
  }

  async *#children(folder: Target): AsyncGenerator<Target> {
    if (folder.backupId === "") {
      const backups = await this.#tree.backups();
      const newest = backups.at(-1);
      if (newest !== undefined) yield backupTarget(newest, LATEST);
      for (const backup of backups) yield backupTarget(backup, backup.id);
      return;
    }
    const { nodes } = await this.#tree.folder(folder.backupId, folder.path);
    for (const node of nodes) {
      const at = { backupId: folder.backupId, path: joinPath(folder.path, node.name) };
      const child = await this.#resource(at, folder.href + node.name, node);
      if (child !== undefined) yield child;
    }
  }

  // --- answers -------------------------------------------------------------------------------------------------------

  async #propfind(target: Target, depth: unknown, response: ServerResponse): Promise<void> {
    response.setHeader("Content-Type", "application/xml; charset=utf-8");
    if (depth !== "0" && depth !== "1") {
      end(response, 403, FINITE_DEPTH);
      return;
    }
    response.statusCode = 207;
    const children = depth === "1" && target.isFolder ? this.#children(target) : nothing();
    const lines = mapped(children, responseXml);
    await sendText(response, MULTISTATUS_OPEN + responseXml(target), lines, MULTISTATUS_CLOSE);
  }

  async #sendPage(folder: Target, isHead: boolean, response: ServerResponse): Promise<void> {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.setHeader("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    const { open, close } = pageParts(folder.href);
    if (isHead) response.end();
    else await sendText(response, open, mapped(this.#children(folder), lineHtml), close);
  }

  async #sendFile(target: Target, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { file, etag = "", sizeBytes } = target;
    if (file === undefined) return;
    response.setHeader("ETag", etag);
    response.setHeader("Last-Modified", httpDate(target.modifiedMs));
    response.setHeader("Accept-Ranges", "bytes");
    if (request.headers["if-none-match"] === etag) {
      response.writeHead(304).end();
      return;
    }
    const ifRange = request.headers["if-range"];
    const wanted = ifRange === undefined || ifRange === etag ? request.headers.range : undefined;
    const range = rangeOf(wanted, sizeBytes);
    if (range === "outside") {
      response.setHeader("Content-Range", `bytes */${sizeBytes}`);
      end(response, 416, "the range lies outside of the file");
      return;
    }
    response.setHeader("Content-Type", "application/octet-stream");
    const { first, end: endBytes } = range ?? { first: 0, end: sizeBytes };
    if (range !== undefined) response.setHeader("Content-Range", `bytes ${first}-${endBytes - 1}/${sizeBytes}`);
    response.setHeader("Content-Length", endBytes - first);
    response.statusCode = range === undefined ? 200 : 206;
    if (request.method !== "HEAD" && endBytes > first) await this.#sendBytes(file, first, endBytes, response);
    response.end();
  }

  async #sendBytes(file: BrowseFile, first: number, endBytes: number, response: ServerResponse): Promise<void> {
    const signal = AbortSignal.any([goneSignal(response), this.#stop.signal]);
    let sentBytes = 0;
    for await (const part of this.#options.library.read(file, first, endBytes - first, signal)) {
      sentBytes += part.length;
      if (!response.write(part)) await once(response, "drain", { signal });
    }
    if (sentBytes !== endBytes - first) throw new HoldfastError("RECORD_DAMAGED", "a file ends before its size");
  }
}

function folderTarget(href: string, name: string, modifiedMs: number): Target {
  const folder = { isFolder: true, sizeBytes: 0, etag: undefined, file: undefined } as const;
  return { ...folder, href, name, modifiedMs, backupId: "", path: ROOT };
}

function backupTarget(backup: BrowseBackup, name: string): Target {
  return { ...folderTarget(`/${name}/`, name, backup.timeMs), backupId: backup.id };
}

function msOf(node: BrowseNode): number {
  return Number(node.mtimeNs / NS_PER_MS);
}

/** The one range that was asked for; undefined for none, several or a malformed one: then the whole file is sent. */
export function rangeOf(
  header: string | undefined,
  sizeBytes: number,
): { readonly first: number; readonly end: number } | "outside" | undefined {
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === "" && to === "") return undefined;
  if (from === "") {
    const count = Math.min(Number(to), sizeBytes);
    return count === 0 ? "outside" : { first: sizeBytes - count, end: sizeBytes };
  }
  const first = Number(from);
  const end = to === "" ? sizeBytes : Math.min(Number(to) + 1, sizeBytes);
  if (to !== "" && Number(to) < first) return undefined;
  return first >= sizeBytes ? "outside" : { first, end };
}

function statusOf(error: unknown): number {
  if (hasCode(error, "BACKUP_NOT_FOUND") || hasCode(error, "VERSION_NOT_FOUND")) return 404;
  if (hasCode(error, "PERMISSION_DENIED")) return 403;
  return hasCode(error, "DAEMON_UNREACHABLE") ? 503 : 500;
}

function end(response: ServerResponse, status: number, text = ""): void {
  for (const name of ["Content-Length", "Content-Range", "ETag"]) if (status >= 500) response.removeHeader(name);
  if (status >= 500) response.removeHeader("Content-Type");
  if (!response.hasHeader("Content-Type") && text !== "") {
    response.setHeader("Content-Type", "text/plain; charset=utf-8");
  }
  response.writeHead(status);
  response.end(text === "" || text.endsWith("\n") ? text : `${text}\n`);
}

/** Aborts when the client goes away. */
function goneSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  response.on("close", () => gone.abort(new HoldfastError("INTERRUPTED", "the client went away")));
  return gone.signal;
}

async function sendText(
  response: ServerResponse,
  open: string,
  lines: AsyncIterable<string>,
  close: string,
): Promise<void> {
  const signal = goneSignal(response);
  let part = open;
  for await (const line of lines) {
    part += line;
    if (part.length < PART_CHARS) continue;
    if (!response.write(part)) await once(response, "drain", { signal });
    part = "";
  }
  response.end(part + close);
}

async function* mapped(items: AsyncIterable<Target>, line: (item: DavResource) => string): AsyncGenerator<string> {
  for await (const item of items) yield line(item);
}

async function* nothing(): AsyncGenerator<never> {
  // a file has nothing in it, and depth 0 does not ask
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text, "utf8").digest();
}
