/**
 * Messages on their way, in the state database: written before the first attempt, removed after the receiver has taken
 * them, so that a crash at any moment loses none (one may be sent twice, under the same id). Bounded per channel: beyond
 * the limit the oldest less important messages are folded into one digest; critical ones are never dropped, only joined
 * with newer ones about the same thing. Order per channel is the order of adding.
 */
import { type AlertChannel, type AlertMessage, type Severity, SEVERITIES } from "./channel.js";
import { type Bucket, type BucketWrite, entriesBelow, writeDurably } from "./bucket.js";
import { numberOr, pairs, parseObject, strings } from "./record.js";

/** Waiting messages per channel before folding begins; a message takes some 2 KiB, so 1 MiB a channel. */
export const OUTBOX_MESSAGES_MAX = 500;
/** Subjects that a digest names; the rest are counted together. */
export const DIGEST_LINES_MAX = 40;

const PREFIX = "outbox!";
const MORE_SUBJECTS = "(other messages)";

export interface OutboxEntry {
  readonly key: string;
  readonly channel: string;
  message: AlertMessage;
  attempts: number;
  /** Not to be tried before, steady ms; not stored, so that a new start tries again at once. */
  notBeforeMs: number;
  /** Wall ms. */
  readonly addedMs: number;
  /** Being sent now: must not be folded. */
  isSending: boolean;
  /** Of a digest: the subjects that it stands for, and how often. */
  folded: (readonly [subject: string, count: number])[];
}

export interface OutboxOptions {
  readonly bucket: Bucket;
  /** Makes the digest of folded messages. */
  readonly digest: (folded: OutboxEntry["folded"], severity: Severity) => AlertMessage;
  /** Messages waiting per channel before folding begins. */
  readonly messagesMax?: number;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #queues = new Map<string, OutboxEntry[]>();
  /** Steady ms. */
  readonly #closedUntilMs = new Map<string, number>();
  #nextNumber = 1;

  private constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Reads what an earlier process has left. What cannot be read is removed. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const outbox = new Outbox(options);
    const unreadable: BucketWrite[] = [];
    for await (const [key, text] of entriesBelow(options.bucket, PREFIX)) {
      const entry = parseEntry(key, text);
      outbox.#nextNumber = Math.max(outbox.#nextNumber, Number(key.slice(PREFIX.length)) + 1 || 1);
      if (entry === undefined) unreadable.push({ type: "del", key });
      else outbox.#queue(entry.channel).push(entry);
    }
    await writeDurably(options.bucket, unreadable);
    return outbox;
  }

  /**
   * Adds one message for each named channel, together with other writes, in one durable batch. The messages are in the
   * queue even when the batch fails (the state's disk may be what the message is about); then the failure is thrown.
   */
  async add(
    message: AlertMessage,
    channels: readonly string[],
    nowMs: number,
    also: readonly BucketWrite[],
  ): Promise<void> {
    const writes: BucketWrite[] = [...also];
    for (const channel of channels) {
      const entry = this.#newEntry(channel, message, nowMs);
      this.#queue(channel).push(entry);
      writes.push(stored(entry), ...this.#makeRoom(channel, nowMs));
    }
    await writeDurably(this.#options.bucket, writes);
  }

  /**
   * The next message of a channel that may be tried at `steadyMs`, or when to ask again (undefined: nothing waits). A
   * channel that is closed for now keeps its order; a message that was rejected lets others pass.
   */
  next(channel: string, steadyMs: number): { readonly entry: OutboxEntry } | { readonly atMs: number } | undefined {
    const queue = this.#queue(channel);
    if (queue.length === 0) return undefined;
    const closedUntilMs = this.#closedUntilMs.get(channel) ?? 0;
    if (closedUntilMs > steadyMs) return { atMs: closedUntilMs };
    const ready = queue.find((entry) => entry.notBeforeMs <= steadyMs);
    return ready === undefined ? { atMs: Math.min(...queue.map((entry) => entry.notBeforeMs)) } : { entry: ready };
  }

  /** Removes a message that was delivered or given up. */
  async remove(entry: OutboxEntry): Promise<void> {
    const queue = this.#queue(entry.channel);
    const index = queue.indexOf(entry);
    if (index >= 0) queue.splice(index, 1);
    await writeDurably(this.#options.bucket, [{ type: "del", key: entry.key }]);
  }

  /** Keeps a message for later: only itself when `alone`, else its whole channel is closed, so that the order stays. */
  async postpone(entry: OutboxEntry, notBeforeMs: number, alone: boolean): Promise<void> {
    entry.isSending = false;
    entry.attempts += 1;
    if (alone) entry.notBeforeMs = notBeforeMs;
    else this.#closedUntilMs.set(entry.channel, notBeforeMs);
    await writeDurably(this.#options.bucket, [stored(entry)]);
  }

  /** Messages that wait for a channel. */
  waiting(channel: string): readonly OutboxEntry[] {
    return this.#queue(channel);
  }

  /** Channels that messages wait for, whether they still exist or not. */
  get channels(): readonly string[] {
    return [...this.#queues].filter(([, queue]) => queue.length > 0).map(([channel]) => channel);
  }

  /** When the oldest waiting message was added, wall ms; undefined when none waits. */
  get oldestMs(): number | undefined {
    const oldest = [...this.#queues.values()].flatMap((queue) => queue.map((entry) => entry.addedMs));
    return oldest.length === 0 ? undefined : Math.min(...oldest);
  }

  /**
   * Gives the critical messages of channels that do not exist any more to `heir` and drops the others; without an heir
   * everything stays. Returns how many were dropped.
   */
  async adopt(existing: readonly AlertChannel[], nowMs: number): Promise<number> {
    const heir = existing[0];
    if (heir === undefined) return 0;
    let dropped = 0;
    for (const channel of this.channels.filter((name) => !existing.some((known) => known.name === name))) {
      for (const entry of [...this.#queue(channel)]) {
        if (entry.message.severity === "critical") await this.add(entry.message, [heir.name], nowMs, []);
        else dropped += 1;
        await this.remove(entry);
      }
      this.#queues.delete(channel);
    }
    return dropped;
  }

  #queue(channel: string): OutboxEntry[] {
    const queue = this.#queues.get(channel) ?? [];
    this.#queues.set(channel, queue);
    return queue;
  }

  #newEntry(channel: string, message: AlertMessage, nowMs: number): OutboxEntry {
    const key = `${PREFIX}${String(this.#nextNumber++).padStart(16, "0")}`;
    return { key, channel, message, attempts: 0, notBeforeMs: 0, addedMs: nowMs, isSending: false, folded: [] };
  }

  /** Folds the least important and oldest until the channel's queue fits; gives the writes for it. */
  #makeRoom(channel: string, nowMs: number): BucketWrite[] {
    const queue = this.#queue(channel);
    const limit = this.#options.messagesMax ?? OUTBOX_MESSAGES_MAX;
    const writes: BucketWrite[] = [];
    if (queue.length <= limit) return writes;
    writes.push(...this.#joinThreads(queue));
    if (queue.length <= limit) return writes;
    const victims = this.#leastImportant(queue, queue.length - limit + 1);
    if (victims.length < 2) return writes;
    const known = queue.find((entry) => entry.folded.length > 0 && !entry.isSending);
    // A new digest takes the place, and the key, of the oldest that it stands for.
    const [oldest] = [...victims].sort(byKey);
    const digest = known ?? { ...this.#newEntry(channel, emptyMessage, nowMs), key: oldest?.key ?? "" };
    digest.folded = foldedOf([...(known === undefined ? [] : [known]), ...victims]);
    digest.message = this.#options.digest(digest.folded, worstOf(victims));
    for (const victim of victims) queue.splice(queue.indexOf(victim), 1);
    if (known === undefined) queue.push(digest);
    queue.sort(byKey);
    writes.push(...victims.map((victim): BucketWrite => ({ type: "del", key: victim.key })), stored(digest));
    return writes;
  }

  /** Of several messages about the same thing only the newest stays: it holds the counts of the older ones. */
  #joinThreads(queue: OutboxEntry[]): BucketWrite[] {
    const newest = new Map<string, OutboxEntry>();
    for (const entry of queue) newest.set(`${entry.message.thread}/${entry.message.state}`, entry);
    const older = queue.filter(
      (entry) =>
        !entry.isSending &&
        entry.folded.length === 0 &&
        newest.get(`${entry.message.thread}/${entry.message.state}`) !== entry,
    );
    for (const entry of older) queue.splice(queue.indexOf(entry), 1);
    return older.map((entry) => ({ type: "del", key: entry.key }));
  }

  #leastImportant(queue: readonly OutboxEntry[], count: number): OutboxEntry[] {
    const foldable = queue.filter(
      (entry) => !entry.isSending && entry.folded.length === 0 && entry.message.severity !== "critical",
    );
    const infoFirst = [...foldable].sort(
      (a, b) => SEVERITIES.indexOf(a.message.severity) - SEVERITIES.indexOf(b.message.severity) || byKey(a, b),
    );
    return infoFirst.slice(0, count);
  }
}

const emptyMessage: AlertMessage = {
  id: "",
  thread: "",
  state: "digest",
  condition: "digest",
  severity: "info",
  source: "",
  host: "",
  subject: "",
  summary: "",
  facts: [],
  done: "",
  advice: "",
  commands: [],
  createdAtMs: 0,
};

function foldedOf(entries: readonly OutboxEntry[]): OutboxEntry["folded"] {
  const counts = new Map<string, number>();
  const countUp = (subject: string, count: number): void => {
    const name = counts.has(subject) || counts.size < DIGEST_LINES_MAX ? subject : MORE_SUBJECTS;
    counts.set(name, (counts.get(name) ?? 0) + count);
  };
  for (const entry of entries) {
    if (entry.folded.length === 0) countUp(entry.message.subject, 1);
    else for (const [subject, count] of entry.folded) countUp(subject, count);
  }
  return [...counts];
}

function byKey(a: OutboxEntry, b: OutboxEntry): number {
  return a.key < b.key ? -1 : 1;
}

function worstOf(entries: readonly OutboxEntry[]): Severity {
  return entries.some((entry) => entry.message.severity === "warning") ? "warning" : "info";
}

function stored(entry: OutboxEntry): BucketWrite {
  const { key, channel, message, attempts, addedMs, folded } = entry;
  return { type: "put", key, value: JSON.stringify({ channel, message, attempts, addedMs, folded }) };
}

function parseEntry(key: string, text: string): OutboxEntry | undefined {
  const value = parseObject(text);
  const message = value === undefined ? undefined : parseMessage(JSON.stringify(value["message"] ?? null));
  if (value === undefined || message === undefined || typeof value["channel"] !== "string") return undefined;
  const folded = Array.isArray(value["folded"])
    ? value["folded"].flatMap((item: unknown): [string, number][] =>
        Array.isArray(item) && typeof item[0] === "string" ? [[item[0], numberOr(item[1], 1)]] : [],
      )
    : [];
  return {
    key,
    channel: value["channel"],
    message,
    attempts: numberOr(value["attempts"], 0),
    notBeforeMs: 0,
    addedMs: numberOr(value["addedMs"], 0),
    isSending: false,
    folded,
  };
}

function parseMessage(json: string): AlertMessage | undefined {
  const value = parseObject(json);
  if (value === undefined) return undefined;
  const severity = SEVERITIES.find((known) => known === value["severity"]);
  const state = (["firing", "resolved", "digest", "test"] as const).find((known) => known === value["state"]);
  const text = (name: string): string => (typeof value[name] === "string" ? value[name] : "");
  if (severity === undefined || state === undefined || text("id") === "" || text("subject") === "") return undefined;
  return {
    id: text("id"),
    thread: text("thread"),
    state,
    condition: text("condition"),
    severity,
    source: text("source"),
    host: text("host"),
    subject: text("subject"),
    summary: text("summary"),
    facts: pairs(value["facts"]),
    done: text("done"),
    advice: text("advice"),
    commands: strings(value["commands"]),
    createdAtMs: numberOr(value["createdAtMs"], 0),
  };
}
