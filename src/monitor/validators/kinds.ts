/**
 * What content is by its first bytes, and which kinds an ending of a name stands for. A table, so that one look tells;
 * text has no magic and is no kind here.
 */

export const KINDS = [
  "gzip",
  "zip",
  "png",
  "jpeg",
  "gif",
  "pdf",
  "elf",
  "sqlite",
  "tar",
  "xz",
  "bzip2",
  "zstd",
  "lz4",
  "7z",
  "rar",
  "mp4",
  "mp3",
  "ogg",
  "flac",
  "riff",
  "matroska",
  "ole",
  "pyc",
  "class",
  "wasm",
  "woff",
  "font",
  "tiff",
  "ar",
  "rpm",
  "git_pack",
  "mo",
  "terminfo",
  "keys",
  "pgp",
  "age",
  "luks",
  "openssl",
] as const;
export type Kind = (typeof KINDS)[number];

type Signature = readonly [kind: Kind, atByte: number, bytes: string];

/** Bytes as characters. */
const SIGNATURES: readonly Signature[] = [
  ["gzip", 0, "\x1f\x8b\x08"],
  ["zip", 0, "PK\x03\x04"],
  ["zip", 0, "PK\x05\x06"],
  ["png", 0, "\x89PNG\r\n\x1a\n"],
  ["jpeg", 0, "\xff\xd8\xff"],
  ["gif", 0, "GIF87a"],
  ["gif", 0, "GIF89a"],
  ["pdf", 0, "%PDF-"],
  ["elf", 0, "\x7fELF"],
  ["sqlite", 0, "SQLite format 3\0"],
  ["tar", 257, "ustar"],
  ["xz", 0, "\xfd7zXZ\0"],
  ["bzip2", 0, "BZh"],
  ["zstd", 0, "\x28\xb5\x2f\xfd"],
  ["lz4", 0, "\x04\x22\x4d\x18"],
  ["7z", 0, "7z\xbc\xaf\x27\x1c"],
  ["rar", 0, "Rar!\x1a\x07"],
  ["mp4", 4, "ftyp"],
  ["mp3", 0, "ID3"],
  ["ogg", 0, "OggS"],
  ["flac", 0, "fLaC"],
  ["riff", 0, "RIFF"],
  ["matroska", 0, "\x1a\x45\xdf\xa3"],
  ["ole", 0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
  ["pyc", 1, "\r\r\n"],
  ["class", 0, "\xca\xfe\xba\xbe"],
  ["wasm", 0, "\0asm"],
  ["woff", 0, "wOF"],
  ["font", 0, "\0\x01\0\0\0"],
  ["font", 0, "OTTO"],
  ["font", 0, "ttcf"],
  ["tiff", 0, "II*\0"],
  ["tiff", 0, "MM\0*"],
  ["ar", 0, "!<arch>\n"],
  ["rpm", 0, "\xed\xab\xee\xdb"],
  ["git_pack", 0, "PACK\0\0\0"],
  ["git_pack", 0, "\xfftOc\0\0\0"],
  ["mo", 0, "\xde\x12\x04\x95"],
  ["mo", 0, "\x95\x04\x12\xde"],
  ["terminfo", 0, "\x1a\x01"],
  ["terminfo", 0, "\x1e\x02"],
  ["keys", 0, "\xfe\xed\xfe\xed"],
  ["pgp", 0, "-----BEGIN PGP MESSAGE"],
  ["age", 0, "age-encryption.org/"],
  ["luks", 0, "LUKS\xba\xbe"],
  ["openssl", 0, "Salted__"],
];

/** Kinds whose bytes look random when all is well: compressed or encrypted. */
const DENSE: ReadonlySet<Kind> = new Set([
  ...(["gzip", "zip", "png", "jpeg", "gif", "pdf", "xz", "bzip2", "zstd", "lz4", "7z", "rar", "mp4", "mp3"] as const),
  ...(["ogg", "flac", "riff", "matroska", "woff", "rpm", "git_pack", "pgp", "age", "luks", "openssl"] as const),
]);
/** Kinds that hold programs or tables, where a random block in the middle has no business. */
const PLAIN: ReadonlySet<Kind> = new Set(["elf", "pyc", "class", "wasm", "mo", "terminfo", "font"]);
/** Kinds that say that they are encrypted: made by a tool that a person uses. */
const SEALED: ReadonlySet<Kind> = new Set(["pgp", "age", "luks", "openssl"]);

const EXTENSIONS: Readonly<Record<string, readonly Kind[]>> = {
  ...each("gzip", ".gz .tgz .svgz"),
  ...each("zip", ".zip .jar .docx .xlsx .pptx .odt .ods .odp .epub .whl .apk"),
  ...each("png", ".png"),
  ...each("jpeg", ".jpg .jpeg"),
  ...each("gif", ".gif"),
  ...each("pdf", ".pdf"),
  ...each("elf", ".so .o .ko"),
  ...each("sqlite", ".sqlite .sqlite3"),
  ...each("tar", ".tar"),
  ...each("xz", ".xz .txz"),
  ...each("bzip2", ".bz2 .tbz2"),
  ...each("zstd", ".zst"),
  ...each("7z", ".7z"),
  ...each("rar", ".rar"),
  ...each("mp4", ".mp4 .m4a .m4v .mov .heic .avif"),
  ...each("ogg", ".ogg .oga .ogv .opus"),
  ...each("flac", ".flac"),
  ...each("riff", ".webp .wav .avi"),
  ...each("matroska", ".mkv .webm"),
  ...each("ole", ".doc .xls .ppt .msi"),
  ...each("class", ".class"),
  ...each("wasm", ".wasm"),
  ...each("tiff", ".tif .tiff"),
};

function each(kind: Kind, extensions: string): Record<string, readonly Kind[]> {
  return Object.fromEntries(extensions.split(" ").map((extension) => [extension, [kind]]));
}

/** The kind that the first bytes tell; undefined for text and for what nobody knows. */
export function kindOfContent(content: Buffer): Kind | undefined {
  for (const [kind, at, bytes] of SIGNATURES)
    if (content.length >= at + bytes.length && content.toString("latin1", at, at + bytes.length) === bytes) return kind;
  return undefined;
}

/** Kinds that files with this ending (`.png`, any case) have; empty when nothing is known. */
export function kindsOfExtension(extension: string): readonly Kind[] {
  const key = extension.toLowerCase();
  return Object.hasOwn(EXTENSIONS, key) ? (EXTENSIONS[key] ?? []) : [];
}

export function isDense(kind: Kind): boolean {
  return DENSE.has(kind);
}

export function isPlain(kind: Kind): boolean {
  return PLAIN.has(kind);
}

export function isSealed(kind: Kind): boolean {
  return SEALED.has(kind);
}
