/**
 * Small, valid content of many formats, made here byte by byte where no program is at hand: what the checks of structure
 * must accept, and what fuzz tests spoil.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { crc32, deflateSync, gzipSync } from "node:zlib";
import type { Format } from "../../src/monitor/validator.js";
import { hasProgram } from "./requirements.js";
import type { TempFolder } from "./temp-folder.js";

/** Compresses well. */
export const SAMPLE_TEXT = "Some words that compress well, again and again and again.\n".repeat(40);

export function chunk(name: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(name, "latin1"), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

export function png(): Buffer {
  const header = Buffer.from([0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0, 0, 0]);
  const pixels = deflateSync(randomBytes(8 * 9));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))]);
}

export function gif(): Buffer {
  const screen = Buffer.from([0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
  return Buffer.concat([screen, Buffer.from([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3b])]);
}

export function jpeg(): Buffer {
  const scan = Buffer.from(Array.from({ length: 200 }, (_none, index) => index % 250));
  return Buffer.concat([
    Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xda, 0, 4, 1, 2]),
    scan,
    Buffer.from([0xff, 0, 0xff, 0xd0, 7, 0xff, 0xd9]),
  ]);
}

export function pdf(): Buffer {
  const packed = deflateSync(SAMPLE_TEXT);
  const head = `%PDF-1.4\n1 0 obj\n<< /Length ${String(packed.length)} /Filter /FlateDecode >>\nstream\n`;
  const body = Buffer.concat([Buffer.from(head), packed, Buffer.from("\nendstream\nendobj\n")]);
  return Buffer.concat([body, Buffer.from(`xref\n0 1\ntrailer\n<<>>\nstartxref\n${String(body.length)}\n%%EOF\n`)]);
}

const TEXTS: Readonly<Record<string, string>> = {
  json: '{"session": "a1", "list": [1, 2.5, null, true, "\\u00e9"], "inner": {"when": "2026-01-01T00:00:00Z"}}',
  yaml: "a: &x [1, 2]\nb: *x\nc:\n  - {d: e}\n  - |\n    text\n---\nf: 'g'\n",
  toml: 'a = 1\n[b]\nc = [1, 2]\nd = 2026-01-01T00:00:00Z\n[[e]]\nf = """x\ny"""\n',
  xml: "<?xml version='1.0'?><!DOCTYPE a><a><!-- b --><c d='e'>&lt;f&gt;</c><![CDATA[g]]></a>",
  csv: 'a,b,c\n1,"2 ""x""",3\n4,"5\n6",7\n',
  ini: "; note\n[a]\nb = c\n[d]\ne: f\n",
  env: "export A=1\nB='x y'\n# note\nC=\"z\"\n",
  text: "Plain \u00fcn\u00efcode text.\n",
};

/** Valid content of every format that can be made here. */
export function formatSamples(folder: TempFolder): ReadonlyMap<Format, Buffer> {
  const made = (name: string, program: string, args: readonly string[]): Buffer | undefined => {
    if (!hasProgram(program)) return undefined;
    execFileSync(program, args, { cwd: folder.path, stdio: "ignore" });
    return readFileSync(folder.at(name));
  };
  const python = (name: string, code: string): Buffer | undefined => made(name, "python3", ["-c", code]);
  const zip = "import zipfile\nz=zipfile.ZipFile('z.zip','w',8)\nz.writestr('a.txt','word '*99)\nz.writestr('b',b'x')";
  const rows = "c.executemany('insert into t values(?)',[(str(i)*9,) for i in range(300)])";
  const database = `import sqlite3\nc=sqlite3.connect('d.db')\nc.execute('create table t(x)')\n${rows}\nc.commit()`;
  const all: readonly (readonly [Format, Buffer | undefined])[] = [
    ...Object.entries(TEXTS).map(([format, text]) => [format as Format, Buffer.from(text)] as const),
    ["gzip", gzipSync(SAMPLE_TEXT)],
    ["png", png()],
    ["gif", gif()],
    ["jpeg", jpeg()],
    ["pdf", pdf()],
    ["elf", readFileSync("/bin/true")],
    ["tar", made("t.tar", "tar", ["-cf", "t.tar", "--", "/etc/passwd"])],
    ["zip", python("z.zip", zip)],
    ["sqlite", python("d.db", database)],
  ];
  return new Map(all.flatMap(([format, content]) => (content === undefined ? [] : [[format, content] as const])));
}
