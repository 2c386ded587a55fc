/**
 * What becomes of the registry when something is settled: a commit is durable, or a person (or a judge) has taken a
 * removal or new content as meant. The registry moves here and nowhere else for what the repository holds.
 */
import { type BytePath, pathText } from "../base/paths.js";
import type { ChangeJudge } from "./changes.js";
import type { SourceContext } from "./context.js";
import type { SourceCurrency } from "./currency.js";
import type { FreshReadings } from "./fresh.js";
import { healedAtMs } from "./intent.js";
import { isSameStat, lookAt, stampOf } from "./look.js";
import type { LossJudge } from "./losses.js";
import type { DurableReceipt } from "./ports.js";
import type { RegistryRecord } from "./registry.js";
import { recordOf } from "./registry-record.js";
import type { RestMark } from "./rest-mark.js";
import { noteThrough } from "./start-evidence.js";

/** Who has to hear of what is settled. */
export interface RecorderParts {
  readonly changes: Pick<ChangeJudge, "accept" | "awaitRemoval" | "mark" | "settleAwaited">;
  readonly losses: Pick<LossJudge, "present">;
  readonly currency: Pick<SourceCurrency, "forget" | "missed" | "saw">;
  readonly fresh: FreshReadings;
  readonly rest: Pick<RestMark, "registered">;
}

export class Recorder {
  readonly #context: SourceContext;
  readonly #parts: RecorderParts;

  constructor(context: SourceContext, parts: RecorderParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** A commit is durable: what it holds is known from now on. */
  recordDurable(receipt: DurableReceipt): void {
    const { changes, currency, rest } = this.#parts;
    const { shared, name } = this.#context;
    const times = { nowMs: this.#context.nowMs(), readFromMs: receipt.readFromMs };
    rest.registered(times.nowMs);
    for (const entry of [...receipt.stored, ...receipt.unchanged]) this.#register(entry.path, recordOf(entry, times));
    for (const path of receipt.removed) this.#registerRemoval(path);
    if (receipt.seq > 0) noteThrough(this.#context, receipt.seq);
    for (const path of receipt.vanished) {
      changes.settleAwaited(path, undefined);
      changes.mark(path, "event");
    }
    for (const { path, errno } of receipt.unreadable) {
      changes.settleAwaited(path, undefined);
      currency.missed(path);
      shared.log.warn("watch.unreadable", { source: name, path: pathText(path), errno });
    }
  }

  /** Takes a removal as meant: recorded, told, no longer missed. */
  acceptRemoval(path: BytePath, record: RegistryRecord, reason: string): void {
    const { shared, name } = this.#context;
    this.#parts.losses.present(path);
    shared.registry.put(name, path, { ...record, state: "removing", reason });
    this.#parts.changes.awaitRemoval(path);
    shared.bus.emit("file.removed", { source: name, path, reason, seenAtMs: this.#context.nowMs() });
  }

  /** Takes what stands at the path as a new version, whatever the validators say. */
  acceptContent(path: BytePath, record: RegistryRecord | undefined): void {
    const look = lookAt(path);
    if (look.is !== "there") return;
    const { shared, name } = this.#context;
    if (record !== undefined) {
      const { lossKind: _lossKind, damagedStamp: _damagedStamp, ...kept } = record;
      shared.registry.put(name, path, { ...kept, state: "live" });
    }
    const item = { noticedBy: "event", seenAtMs: this.#context.nowMs(), thorough: false } as const;
    this.#parts.changes.accept({ path, node: look.node, record: undefined, item });
  }

  #register(path: BytePath, fresh: RegistryRecord): void {
    const { shared, name } = this.#context;
    const before = shared.registry.get(name, path);
    const stamp = stampOf(fresh.stat);
    const valid = this.#parts.changes.settleAwaited(path, stamp);
    if (before?.state === "lost" && before.damagedStamp === stamp) return; // the good version stays what is registered
    const isSameContent = before?.sha256 === fresh.sha256;
    this.#parts.fresh.note(path, fresh);
    this.#parts.currency.saw(path, fresh);
    shared.registry.put(name, path, {
      ...fresh,
      valid: valid ?? (isSameContent ? before?.valid : undefined),
      healedAtMs: healedAtMs(before, fresh, this.#context.nowMs()),
    });
    // It may have changed or gone while it was made durable; then nothing else would tell.
    const look = lookAt(path);
    if (
      look.is === "missing" ||
      (look.is === "there" && fresh.kind !== "folder" && !isSameStat(fresh.stat, look.node.stat))
    )
      this.#parts.changes.mark(path, "event");
  }

  #registerRemoval(path: BytePath): void {
    const { shared, name } = this.#context;
    this.#parts.changes.settleAwaited(path, undefined);
    this.#parts.currency.forget(path);
    const record = shared.registry.get(name, path);
    if (record === undefined || record.state === "lost") return; // found to be an attack while it was made durable
    shared.registry.put(name, path, { ...record, state: "removed", registeredAtMs: this.#context.nowMs() });
    if (lookAt(path).is === "there") this.#parts.changes.mark(path, "event");
  }
}
