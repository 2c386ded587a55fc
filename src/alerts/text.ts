/** Text of a message: made harmless and short before it enters the outbox, whatever file names and errors contain. */

/** Longest value of a fact or sample, characters. */
export const TEXT_CHARACTERS_MAX = 500;

/**
 * One line of at most `limit` characters without control characters and without the invisible ones that turn text
 * around; what was there shows as `\n`, `\x1b` and so on.
 */
export function plainText(text: string, limit = TEXT_CHARACTERS_MAX): string {
  const visible = text
    .slice(0, limit * 2)
    // eslint-disable-next-line no-control-regex -- control characters are exactly what is looked for
    .replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]/g, escaped)
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
  return visible.length <= limit ? visible : `${trimSurrogate(visible.slice(0, limit - 1))}…`;
}

/** What another program answered, without the secrets it was given: servers and proxies repeat what they refuse. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  const longestFirst = secrets.filter((secret) => secret !== "").sort((a, b) => b.length - a.length);
  return longestFirst.reduce((clean, secret) => clean.replaceAll(secret, "[secret]"), text);
}

/** A word of a command, quoted for a shell when it needs to be. */
export function shellWord(text: string): string {
  // eslint-disable-next-line no-control-regex -- a newline or an escape must not reach a terminal as it is
  if (/[\u0000-\u001f\u007f-\u009f]/.test(text)) {
    const bytes = [...Buffer.from(text, "utf8")];
    return `$'${bytes.map((byte) => (byte >= 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c ? String.fromCharCode(byte) : `\\x${hex(byte)}`)).join("")}'`;
  }
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** `1 file`, `1,000 files`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
}

function escaped(character: string): string {
  if (character === "\n") return "\\n";
  if (character === "\t") return "\\t";
  const code = character.charCodeAt(0);
  return code < 256 ? `\\x${hex(code)}` : `\\u${code.toString(16).padStart(4, "0")}`;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

function trimSurrogate(text: string): string {
  return /[\ud800-\udbff]$/.test(text) ? text.slice(0, -1) : text;
}
