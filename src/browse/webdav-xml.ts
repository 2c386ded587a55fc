/** The texts of WebDAV and of a browser's folder page. Names are bytes: in an address they are percent-encoded. Pure. */

/** What a client sees of a file or folder. */
export interface DavResource {
  /** Absolute path of the address, names as bytes-as-characters; folders end with `/`. */
  readonly href: string;
  readonly name: string;
  readonly isFolder: boolean;
  readonly sizeBytes: number;
  /** Wall ms. */
  readonly modifiedMs: number;
  /** With its quotes; files only. */
  readonly etag: string | undefined;
}

export const MULTISTATUS_OPEN = `<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n`;
export const MULTISTATUS_CLOSE = `</D:multistatus>\n`;
/** The body of a refused `Depth: infinity`. */
export const FINITE_DEPTH = `<?xml version="1.0" encoding="utf-8"?>\n<D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>\n`;

/** One resource of a multistatus. */
export function responseXml(resource: DavResource): string {
  const file = resource.isFolder
    ? "<D:resourcetype><D:collection/></D:resourcetype>"
    : `<D:resourcetype/><D:getcontentlength>${resource.sizeBytes}</D:getcontentlength>` +
      `<D:getcontenttype>application/octet-stream</D:getcontenttype>` +
      `<D:getetag>${escaped(resource.etag ?? "")}</D:getetag>`;
  return (
    `<D:response><D:href>${escaped(encodedPath(resource.href))}</D:href><D:propstat><D:prop>` +
    `<D:displayname>${escaped(shown(resource.name))}</D:displayname>${file}` +
    `<D:getlastmodified>${httpDate(resource.modifiedMs)}</D:getlastmodified>` +
    `</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n`
  );
}

/** A folder for a browser: what stands before and after its lines. */
export function pageParts(title: string): { readonly open: string; readonly close: string } {
  const text = escaped(shown(title));
  const style = "body{font-family:system-ui;margin:2rem}td{padding:0 1.5rem 0 0}td.n{text-align:right}";
  return {
    open: `<!doctype html><html lang="en"><meta charset="utf-8"><title>${text}</title><style>${style}</style><h1>${text}</h1><table>\n<tr><td><a href="../">../</a></td></tr>\n`,
    close: "</table></html>\n",
  };
}

/** One line of a folder's page. */
export function lineHtml({ href, name, isFolder, sizeBytes, modifiedMs }: DavResource): string {
  const size = isFolder ? "" : String(sizeBytes);
  const text = escaped(shown(name)) + (isFolder ? "/" : "");
  return `<tr><td><a href="${escaped(encodedPath(href))}">${text}</a></td><td class="n">${size}</td><td>${httpDate(modifiedMs)}</td></tr>\n`;
}

/** HTTP writes years 0 to 9999 only. */
const HTTP_DATE_MS_MAX = Date.UTC(9999, 11, 31);

export function httpDate(timeMs: number): string {
  return new Date(Math.min(Math.max(timeMs, 0), HTTP_DATE_MS_MAX)).toUTCString();
}

/** A path of bytes-as-characters as it stands in an address. */
export function encodedPath(path: string): string {
  return path.replace(/[^A-Za-z0-9/._~-]/g, (character) => {
    return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
  });
}

/** The names of an address, bytes as characters; undefined when it is none of ours. */
export function decodedNames(address: string): string[] | undefined {
  const path = address.split(/[?#]/)[0] ?? "";
  if (!path.startsWith("/") || /%(?![0-9A-Fa-f]{2})/.test(path)) return undefined;
  const names = path
    .split("/")
    .filter((name) => name !== "")
    .map((name) => name.replace(/%(..)/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 16))));
  const isOdd = (name: string): boolean => name === "." || name === ".." || /[/\0]/.test(name);
  return names.some(isOdd) ? undefined : names;
}

/** Bytes-as-characters as text for people. */
function shown(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}

/** Text in XML and HTML; characters that XML 1.0 cannot hold become U+FFFD. */
function escaped(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "\uFFFD")
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
