/**
 * The words of a message, for somebody woken at three in the morning: what, where, since when, what holdfast did, what
 * to do and which command to type. Never file contents. Pure; everything variable goes through `plainText`.
 */
import { isoTime } from "../base/clock.js";
import { formatDuration } from "../base/units.js";
import type { AlertMessage, Severity } from "./channel.js";
import type { AlertRecord } from "./record.js";
import type { Condition } from "./rules.js";
import { counted, plainText, shellWord } from "./text.js";

interface Words {
  /** Completes `[holdfast CRITICAL] host: …`. */
  readonly subject: string;
  readonly summary: string;
  readonly done: string;
  readonly advice: string;
  readonly commands: readonly string[];
}

export interface WordingContext {
  readonly host: string;
  readonly nowMs: number;
  /** Id of the message; distinct for each one. */
  readonly messageId: string;
  /** What holdfast is trying by itself, such as `It tries again in 30 s (1 of 3).`; "" when nothing. */
  readonly attempt: string;
}

/** The message that tells of an alert, or of its end when it is resolved. */
export function alertMessage(record: AlertRecord, thread: string, context: WordingContext): AlertMessage {
  const isResolved = record.resolvedMs !== null;
  const words = isResolved ? resolvedWords(record, context.nowMs) : WORDS[record.condition](record);
  const label = isResolved ? "RESOLVED" : record.severity.toUpperCase();
  return {
    id: context.messageId,
    thread,
    state: isResolved ? "resolved" : "firing",
    condition: record.condition,
    severity: isResolved ? "info" : record.severity,
    source: plainText(record.source, 200),
    host: plainText(context.host, 200),
    subject: plainText(`[holdfast ${label}] ${context.host}: ${words.subject}`, 180),
    summary: plainText(words.summary, 1000),
    facts: factsOf(record, context.nowMs),
    done: isResolved ? "" : plainText([words.done, context.attempt].filter((part) => part !== "").join(" "), 1000),
    advice: plainText(words.advice, 1000),
    commands: words.commands,
    createdAtMs: context.nowMs,
  };
}

/** The message that stands for many less important ones that waited too long to be sent one by one. */
export function digestMessage(
  folded: readonly (readonly [subject: string, count: number])[],
  severity: Severity,
  context: Omit<WordingContext, "attempt">,
): AlertMessage {
  const total = folded.reduce((sum, [, count]) => sum + count, 0);
  return {
    id: context.messageId,
    thread: "digest",
    state: "digest",
    condition: "digest",
    severity,
    source: "",
    host: plainText(context.host, 200),
    subject: plainText(`[holdfast DIGEST] ${context.host}: ${counted(total, "message")} in one`, 180),
    summary: `${counted(total, "message")} could not be delivered one by one and ${total === 1 ? "is" : "are"} told here together.`,
    facts: folded.map(([subject, count]) => [plainText(subject, 150), counted(count, "time")]),
    done: "No critical message is among them: those are always sent one by one.",
    advice: "See what is still open.",
    commands: ["holdfast alerts", "holdfast incidents"],
    createdAtMs: context.nowMs,
  };
}

/** The message of `holdfast alerts test CHANNEL`. */
export function testMessage(channel: string, context: Omit<WordingContext, "attempt">): AlertMessage {
  return {
    id: context.messageId,
    thread: `test-${context.messageId}`,
    state: "test",
    condition: "test",
    severity: "info",
    source: "",
    host: plainText(context.host, 200),
    subject: plainText(`[holdfast TEST] ${context.host}: channel ${channel} works`, 180),
    summary: `This is a test of the alert channel ${plainText(channel, 100)}. Nothing has happened.`,
    facts: [["time", isoTime(context.nowMs)]],
    done: "",
    advice: "Nothing is to be done.",
    commands: [],
    createdAtMs: context.nowMs,
  };
}

function factsOf(record: AlertRecord, nowMs: number): AlertMessage["facts"] {
  const facts: (readonly [string, string])[] = [];
  if (record.source !== "") facts.push(["source", plainText(record.source, 200)]);
  facts.push(["since", `${isoTime(record.sinceMs)} (${formatDuration(Math.max(0, nowMs - record.sinceMs))} ago)`]);
  if (record.files > 0) facts.push(["files", record.files.toLocaleString("en-US")]);
  if (record.count > 1) facts.push(["times", record.count.toLocaleString("en-US")]);
  facts.push(...record.facts);
  if (record.resolvedMs === null) for (const sample of record.samples) facts.push(["file", plainText(sample)]);
  facts.push(["alert", record.id]);
  return facts;
}

const WORDS: Readonly<Record<Condition, (record: AlertRecord) => Words>> = {
  file_lost: (record) => ({
    subject: `${filesOf(record)} of ${record.source} lost or damaged`,
    summary: `${filesOf(record)} of ${record.source} ${are(record)} missing or damaged and ${are(record)} not back yet.`,
    done: "holdfast has opened an incident and is looking for the newest good copy.",
    advice: "As a rule nothing: wait for the message that the files are back. To watch it:",
    commands: incidentCommands(record),
  }),
  file_recovered: (record) => ({
    subject: `${filesOf(record)} of ${record.source} put back`,
    summary: `${filesOf(record)} of ${record.source} ${record.files > 1 ? "were" : "was"} lost or damaged and ${are(record)} back in place.`,
    done: "holdfast restored the content, owner, mode and times, and verified them; what was damaged is in quarantine.",
    advice: "If the files were deleted on purpose, delete them again: holdfast respects the second time. Details:",
    commands: incidentCommands(record),
  }),
  recovery_failed: (record) => ({
    subject: `${filesOf(record)} of ${record.source} could NOT be put back`,
    summary: `${filesOf(record)} of ${record.source} ${are(record)} lost or damaged, and no recovery strategy brought ${record.files > 1 ? "them" : "it"} back.`,
    done: "holdfast tried every configured strategy, kept what it found as offers, and left everything else as it is.",
    advice: "Look at what was tried and at the commands for recovering by hand:",
    commands: incidentCommands(record),
  }),
  incident_waiting: (record) => ({
    subject: `${filesOf(record)} of ${record.source} lost: waiting for your decision`,
    summary: `${filesOf(record)} of ${record.source} ${are(record)} lost or damaged in a way that holdfast does not undo without being told.`,
    done: "Nothing was restored. Every stored version is kept until you decide.",
    advice: "Approve to put everything back, or deny if it was meant:",
    commands: [
      ...incidentCommands(record),
      ...incidentsOf(record).flatMap((id) => [`holdfast incidents approve ${id}`, `holdfast incidents deny ${id}`]),
    ],
  }),
  backup_failed: (record) => ({
    subject: `backup of ${record.source} failed`,
    summary: `The backup of ${record.source} failed${record.count > 1 ? ` ${counted(record.count, "time")} in a row` : ""}. Earlier backups are untouched.`,
    done: "Changes that were already durable stay so.",
    advice: "Remove the cause given below, then start it again:",
    commands: [
      ...explainCommand(record),
      `holdfast create --type incremental --sources ${shellWord(record.source)}`,
      "holdfast status",
    ],
  }),
  backup_overdue: (record) => ({
    subject: `newest copy of ${record.source} is too old`,
    summary: `${record.source} has no copy as new as its target asks for: a loss now would cost more work than allowed.`,
    done: "holdfast keeps trying on schedule.",
    advice: "See why, then make a backup now:",
    commands: ["holdfast status", `holdfast create --type incremental --sources ${shellWord(record.source)}`],
  }),
  storage_full: (record) => {
    if (!record.facts.some(([label, value]) => label === "writing" && value === "stopped"))
      return {
        subject: "the store is nearly full",
        summary: "The store is nearly full. Everything is still being made durable.",
        done: "Nothing was deleted.",
        advice: "Free space on the store's file system, or see what retention would remove:",
        commands: ["holdfast cleanup --dry-run", "holdfast cleanup"],
      };
    const code = record.facts.find(([label]) => label === "error")?.[1] ?? "STORE_FULL";
    const isFull = code === "STORE_FULL";
    return {
      subject: `the store ${isFull ? "is full" : "cannot be written"}: new changes are NOT safe`,
      summary: `The store ${isFull ? "has no space left" : "cannot be written"}. New changes are remembered but not durable until it can be.`,
      done: "Nothing was deleted. holdfast keeps trying and goes on by itself as soon as writing works.",
      advice: isFull ? "Free space on the store's file system:" : "Make the store's file system writable again:",
      commands: isFull
        ? ["holdfast cleanup --dry-run", "holdfast cleanup"]
        : [`holdfast explain ${code}`, "holdfast doctor"],
    };
  },
  integrity_check_failed: (record) => ({
    subject: `integrity check failed: ${record.source}`,
    summary: `Stored data is damaged or missing: ${record.source}.`,
    done: "The damaged parts are marked; nothing was removed, and intact copies are used where there are any.",
    advice: "See what is touched, and check the disk under the store:",
    commands: [...explainCommand(record), "holdfast check --read-data", "holdfast repair --dry-run"],
  }),
  watch_degraded: (record) => ({
    subject: `changes of ${record.source} may be noticed late`,
    summary: `The watch on ${record.source} does not hear everything.`,
    done: "holdfast sweeps the source by itself, so that changes are found later instead of at once. Nothing is deleted.",
    advice: "See the reason; a missing folder may have to be mounted:",
    commands: ["holdfast status", "holdfast doctor"],
  }),
  expected_missing: (record) => ({
    subject: `files that ${record.source} should hold are missing`,
    summary: `${record.source} does not hold the files that its \`expect\` asks for.`,
    done: "Nothing was changed: these files may never have been written. Files that were stored and are lost are told and healed apart from this.",
    advice: "See whether what writes them still runs, and which versions are stored:",
    commands: ["holdfast status", "holdfast incidents"],
  }),
};

const RESOLVED: Readonly<Record<Condition, string>> = {
  file_lost: "nothing is missing any more",
  file_recovered: "files are back",
  recovery_failed: "the lost files are back or the incident is closed",
  incident_waiting: "the waiting incident was decided",
  backup_failed: "backups succeed again",
  backup_overdue: "the newest copy is as new as it should be",
  storage_full: "the store has space again",
  integrity_check_failed: "the integrity check passes again",
  watch_degraded: "changes are heard at once again",
  expected_missing: "the expected files are there again",
};

function resolvedWords(record: AlertRecord, nowMs: number): Words {
  const about = record.source === "" ? "" : `${record.source}: `;
  const lasted = formatDuration(Math.max(0, nowMs - record.sinceMs));
  const text = RESOLVED[record.condition];
  return {
    subject: `${about}${text}`,
    summary: `${about}${text}. It lasted ${lasted}.`,
    done: "",
    advice: "Nothing is to be done.",
    commands: [],
  };
}

function filesOf(record: AlertRecord): string {
  return counted(Math.max(1, record.files), "file");
}

function are(record: AlertRecord): string {
  return record.files > 1 ? "are" : "is";
}

/** Incidents that commands are given for; with more of them the list is the better start. */
const INCIDENTS_SHOWN_MAX = 3;

function incidentsOf(record: AlertRecord): readonly string[] {
  const latest = record.facts.filter(([label]) => label === "incident").map(([, id]) => id);
  const open = record.causes.filter((cause) => cause !== "");
  const ids = open.length > 0 ? open : latest;
  return ids.length > INCIDENTS_SHOWN_MAX ? [] : ids.map(shellWord);
}

function incidentCommands(record: AlertRecord): readonly string[] {
  const ids = record.condition === "file_recovered" && record.count > 1 ? [] : incidentsOf(record);
  return ids.length === 0 ? ["holdfast incidents list"] : ids.map((id) => `holdfast incidents show ${id}`);
}

function explainCommand(record: AlertRecord): readonly string[] {
  const code = record.facts.find(([label]) => label === "error")?.[1];
  return code === undefined ? [] : [`holdfast explain ${shellWord(code)}`];
}
