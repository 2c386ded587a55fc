/** The log: what a line looks like, what never appears in it, and that it neither blocks nor grows. */
import { fstatSync } from "node:fs";
import { PassThrough, Writable } from "node:stream";
import { expect } from "chai";
import fc from "fast-check";
import { HoldfastError } from "../../src/base/errors.js";
import { Secret } from "../../src/base/observe.js";
import {
  LOG_BACKLOG_BYTES_MAX,
  type Log,
  LOG_LINE_CHARACTERS_MAX,
  chooseLogFormat,
  isJournal,
  openLog,
} from "../../src/telemetry/logger.js";
import { DEPTH_MAX, FIELDS_MAX, STRING_CHARACTERS_MAX, redactText, safeFields } from "../../src/telemetry/redact.js";
import { FakeClock } from "../support/fake-clock.js";

interface Written {
  readonly log: Log;
  readonly lines: () => Promise<readonly string[]>;
}

function open(
  format: "json" | "text",
  more: { level?: "debug" | "info"; colour?: boolean; journal?: boolean } = {},
): Written {
  const stream = new PassThrough();
  const log = openLog({
    level: more.level ?? "info",
    format,
    journal: more.journal ?? false,
    stream,
    colour: more.colour ?? false,
    clock: new FakeClock(),
  });
  return {
    log,
    async lines() {
      await log[Symbol.asyncDispose]();
      return String(stream.read() ?? "")
        .split("\n")
        .slice(0, -1);
    },
  };
}

describe("the log", () => {
  it("is one JSON object a line for machines: time, level, event, fields", async () => {
    const { log, lines } = open("json");
    log.info("commit.durable", { source: "photos", paths: 3 });
    log.debug("not.shown");
    const written = await lines();
    expect(written).to.have.length(1);
    expect(JSON.parse(written[0] ?? "")).to.deep.equal({
      time: "2026-01-15T12:00:00.000Z",
      level: "info",
      event: "commit.durable",
      source: "photos",
      paths: 3,
    });
  });

  it("is one short line for people, coloured when asked", async () => {
    const { log, lines } = open("text");
    log.warn("file.unreadable", { path: "/srv/a b", errno: "EACCES" });
    expect(await lines()).to.deep.equal(['12:00:00.000 warn  file.unreadable path="/srv/a b" errno=EACCES']);
    const coloured = open("text", { colour: true });
    coloured.log.error("x");
    expect((await coloured.lines())[0]).to.contain("\u001b[31merror");
  });

  it("changes its level while it is open", async () => {
    const { log, lines } = open("json");
    log.setLevel("debug");
    log.debug("shown");
    log.setLevel("error");
    log.warn("hidden");
    expect((await lines()).map((line) => (JSON.parse(line) as { event: string }).event)).to.deep.equal(["shown"]);
  });

  it("obeys no control character and no text that turns around, whatever a file is called", async () => {
    for (const format of ["json", "text"] as const) {
      const { log, lines } = open(format);
      log.info("x", { path: "/a\nb\r\u001b[2J\u009b31m\u202etxt\u2066" });
      const written = await lines();
      expect(written).to.have.length(1);
      // eslint-disable-next-line no-control-regex -- they are what must not be there
      expect(written[0]).to.not.match(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
    }
  });

  it("does not let a field stand for time, level or event", async () => {
    const { log, lines } = open("json");
    log.info("real", { event: "fake", level: "error", time: 0 });
    expect(JSON.parse((await lines())[0] ?? "")).to.include({
      event: "real",
      level: "info",
      event_: "fake",
      level_: "error",
    });
  });

  it("never prints a secret: not as a Secret, not under a telling name, not in a URL, not in an error", async () => {
    const secret = "hunter2-very-secret";
    const { log, lines } = open("json", { level: "debug" });
    const error = new HoldfastError("CHANNEL_FAILED", `cannot reach smtps://ops:${secret}@mail.example.org/`, {
      details: { password: secret, hint: { apiKey: secret } },
      cause: new Error(`Authorization: Bearer ${secret}`),
    });
    log.error("x", {
      value: new Secret(secret),
      nested: [{ deep: new Secret(secret) }, new Map([["token", secret]])],
      password: secret,
      "x-api-key": secret,
      Authorization: [secret],
      webhook: `https://hooks.slack.com/services/${secret}`,
      url: `https://hooks.slack.com/services/T/B/${secret}`,
      query: `https://example.org/?access_token=${secret}&x=1`,
      dsn: `postgres://user:${secret}@host:5432/db?sslmode=require`,
      error,
    });
    const text = (await lines()).join("\n");
    expect(text).to.not.contain(secret);
    expect(text).to.contain("[secret]").and.contain("mail.example.org").and.contain("CHANNEL_FAILED");
  });

  it("takes a password out of any URL", () => {
    // What may stand in the user part of a URL without being escaped.
    const part = fc.stringMatching(/^[A-Za-z0-9!$%&'()*+,;=:._~@-]{1,20}$/);
    fc.assert(
      fc.property(fc.constantFrom("https", "smtp", "s3", "postgres+ssl"), part, (scheme, password) => {
        const clean = redactText(`failed: ${scheme}://u:PW${password}PW@host.example/p`);
        expect(clean).to.equal(`failed: ${scheme}://[secret]@host.example/p`);
      }),
    );
  });

  it("bounds any fields: depth, width, length and sum; and never throws", () => {
    const circular: Record<string, unknown> = { name: "x" };
    circular["self"] = circular;
    const hostile = {
      get boom(): string {
        throw new Error("no");
      },
    };
    const wide = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`k${String(index)}`, circular]));
    const safe = safeFields({
      circular,
      hostile,
      wide,
      long: "x".repeat(1e6),
      big: 10n,
      buffer: Buffer.alloc(9),
      nan: NaN,
    });
    const text = JSON.stringify(safe);
    expect(text.length).to.be.lessThan(60_000);
    expect(safe).to.include({ hostile: "[unreadable]", big: "10", buffer: "[9 bytes]", nan: "NaN" });
    expect(String(safe["long"]).length).to.be.lessThan(STRING_CHARACTERS_MAX + 40);
    expect(Object.keys(safe["wide"] ?? {}).length).to.be.at.most(FIELDS_MAX + 1);
    fc.assert(
      fc.property(
        fc.object({ maxDepth: DEPTH_MAX + 3, withBigInt: true, withMap: true, withSet: true, withDate: true }),
        (fields) => {
          JSON.stringify(safeFields(fields));
        },
      ),
    );
  });

  it("takes no long time over any text", () => {
    const startMs = performance.now();
    for (const text of ["z", "?", "://", "a://", "bearer ", "&token", "hooks.slack.com/", "x@"])
      for (let round = 0; round < 10; round += 1) safeFields({ text: text.repeat(100_000) });
    expect(performance.now() - startMs).to.be.lessThan(2000);
  });

  it("cuts a line that is too long, and keeps it JSON", async () => {
    const { log, lines } = open("json");
    log.info(
      "x",
      Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`k${String(index)}`, "y".repeat(1900)])),
    );
    const [line = ""] = await lines();
    expect(line.length).to.be.at.most(LOG_LINE_CHARACTERS_MAX);
    expect(JSON.parse(line)).to.include({ event: "x", cut: true });
  });

  it("drops and counts lines instead of growing while nobody reads, and says so afterwards", async () => {
    let release: (() => void) | undefined;
    const seen: string[] = [];
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        if (chunk.length > 0) seen.push(String(chunk));
        if (release === undefined) release = done;
        else done();
      },
    });
    const log = openLog({ level: "info", format: "json", stream, colour: false, clock: new FakeClock() });
    const field = "z".repeat(1900);
    for (let index = 0; index < 20_000; index += 1) log.info("flood", { index, a: field, b: field, c: field });
    expect(stream.writableLength).to.be.lessThan(LOG_BACKLOG_BYTES_MAX + 100_000);
    release?.();
    await new Promise((resolve) => setImmediate(resolve));
    log.info("after");
    await log[Symbol.asyncDispose]();
    const events = seen.map((line) => JSON.parse(line) as { event: string; lines?: number });
    const told = events.find(({ event }) => event === "log.dropped");
    expect(events.filter(({ event }) => event === "flood").length + (told?.lines ?? 0)).to.equal(20_000);
    expect(events.at(-1)?.event).to.equal("after");
  });

  it("survives a reader that goes away", async () => {
    const stream = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
    const clock = new FakeClock();
    const log = openLog({ level: "info", format: "json", stream, colour: false, clock });
    log.info("one");
    log.info("two");
    const closing = log[Symbol.asyncDispose]();
    await clock.advance(5000);
    await closing;
  });

  it("has written every line when it is closed", async () => {
    const seen: string[] = [];
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        setTimeout(() => {
          if (chunk.length > 0) seen.push(String(chunk));
          done();
        }, 1);
      },
    });
    const log = openLog({ level: "info", format: "json", stream, colour: false, clock: new FakeClock() });
    for (let index = 0; index < 100; index += 1) log.info("line", { index });
    await log[Symbol.asyncDispose]();
    expect(seen).to.have.length(100);
  });

  it("is JSON under journald and when asked, text otherwise", () => {
    expect(chooseLogFormat({ JOURNAL_STREAM: "8:1" }, false)).to.equal("json");
    expect(chooseLogFormat({}, true)).to.equal("json");
    expect(chooseLogFormat({}, false)).to.equal("text");
  });

  it("tells journald the priority of each line, and only journald", async () => {
    const { log, lines } = open("json", { level: "debug", journal: true });
    log.error("a");
    log.warn("b");
    log.info("c");
    log.debug("d");
    expect((await lines()).map((line) => line.slice(0, 4))).to.deep.equal(["<3>{", "<4>{", "<6>{", "<7>{"]);
    const { dev, ino } = fstatSync(0, { bigint: true });
    expect(isJournal({ JOURNAL_STREAM: `${String(dev)}:${String(ino)}` }, 0)).to.equal(true);
    expect(isJournal({ JOURNAL_STREAM: `${String(dev)}:${String(ino + 1n)}` }, 0)).to.equal(false);
    expect(isJournal({}, 0)).to.equal(false);
  });
});
