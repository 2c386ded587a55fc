/**
 * From the checked file to the `Configuration`: applies defaults and finds what no schema can see (names used twice
 * or not at all, channels that do not exist, a metrics port without a token).
 */
import { dirname, isAbsolute, resolve } from "node:path";
import { findGroup } from "../base/accounts.js";
import type { BytePath } from "../base/paths.js";
import { isWithin, pathText } from "../base/paths.js";
import { formatDuration, parseDurationMs, parseShare, parseSizeBytes } from "../base/units.js";
import type {
  AlertRuleConfiguration,
  AlertsConfiguration,
  ChannelConfiguration,
  Configuration,
  EncryptionConfiguration,
  KeyServiceConfiguration,
  LimitsConfiguration,
  MassConfiguration,
  MetricsConfiguration,
  RotationConfiguration,
  SecretReference,
  SocketConfiguration,
  SourceConfiguration,
  VerifyConfiguration,
  WatchConfiguration,
} from "./configuration.js";
import type { Places } from "./places.js";
import { type ConfigProblem, type Fault, type KeyPath, configInvalid, didYouMean } from "./problems.js";
import { checkScheduleNames, frequencySchedules, resolveSchedules } from "./resolve-schedule.js";
import { resolveSource, uniqueNames } from "./resolve-source.js";
import type { ConfigFile } from "./schema.js";

export interface Surroundings {
  readonly places: Places;
  readonly storeUrl?: string;
  /** Also finds what is wrong only on this machine. */
  readonly forThisMachine?: boolean;
}

/** Throws CONFIG_INVALID with every fault found. */
export function resolveConfiguration(
  file: ConfigFile,
  report: (path: KeyPath, message: string, hint: string) => ConfigProblem,
  around: Surroundings,
): Configuration {
  const problems: ConfigProblem[] = [];
  const fault: Fault = (path, message, hint) => problems.push(report(path, message, hint));
  const { places } = around;
  const baseFolder = places.configFile === undefined ? process.cwd() : dirname(places.configFile);
  const writtenState = file.state_dir === undefined ? undefined : resolve(baseFolder, file.state_dir);
  const stateDir = places.stateDirGiven ?? writtenState ?? places.stateDirDefault;
  const isStateChosen = stateDir !== places.stateDirDefault;
  const writtenStore = resolveStore(file.store, baseFolder, fault);
  const sources = resolveSources(file, baseFolder, fault);
  const configuration: Configuration = {
    file: places.configFile,
    storeUrl: around.storeUrl ?? writtenStore ?? places.storeDefault(stateDir, isStateChosen),
    stateDir,
    sources,
    sourceDefaults: resolveSource("/", { defaults: file.defaults ?? {}, baseFolder, fault: () => undefined }),
    schedule: [...resolveSchedules(file, fault), ...frequencySchedules(sources)],
    timeZone: resolveTimeZone(file, fault),
    rotation: resolveRotation(file.rotation ?? {}),
    mass: resolveMass(file.mass ?? {}),
    watch: resolveWatch(file.watch ?? {}, fault),
    pins: resolvePins(file),
    verify: resolveVerify(file, fault),
    alerts: resolveAlerts(file, baseFolder, fault),
    encryption: resolveEncryption(file, baseFolder, fault),
    socket: resolveSocket(file, baseFolder, { places, stateDir }),
    metrics: resolveMetrics(file, baseFolder, fault),
    limits: resolveLimits(file),
    log: { level: file.log?.level ?? "info" },
    versionsKeptMs: versionsKept(file),
    parity: resolveParity(file, fault),
    recompress: resolveRecompress(file),
    warnings: [...overlapWarnings(sources), ...keepWarnings(file)],
  };
  checkSchedules(configuration, file, fault);
  checkScheduleNames(file, configuration.schedule, fault);
  checkEncryption(configuration, fault);
  if (around.forThisMachine === true) checkGroup(configuration, fault);
  if (problems.length > 0) throw configInvalid(problems);
  return configuration;
}

function resolvePins({ pins }: ConfigFile): Configuration["pins"] {
  return { reflinks: pins?.reflinks ?? true, hardLinks: pins?.hard_links ?? false };
}

function versionsKept(file: ConfigFile): number {
  return parseDurationMs(file.tiers?.hot?.keep ?? "7d");
}

/** A change that goes sooner than this is hardly meant to be kept at all, ms. */
const VERSIONS_KEPT_DOUBTFUL_MS = 3_600_000;

/** Months are what other programs call `m`. */
function keepWarnings(file: ConfigFile): readonly string[] {
  const keptMs = versionsKept(file);
  if (keptMs >= VERSIONS_KEPT_DOUBTFUL_MS) return [];
  return [
    `tiers.hot.keep is ${formatDuration(keptMs)}: older changes between backups go (\`m\` are minutes, \`30d\` a month)`,
  ];
}

/** Shards of one group that the code can tell apart. */
const PARITY_SHARDS_MAX = 255;

function resolveParity(file: ConfigFile, fault: Fault): Configuration["parity"] {
  const [, dataPacks, parityPacks] = /^(\d+)\+(\d+)$/.exec(file.parity ?? "") ?? [];
  if (dataPacks === undefined || parityPacks === undefined) return undefined;
  const layout = { dataPacks: Number(dataPacks), parityPacks: Number(parityPacks) };
  if (layout.dataPacks + layout.parityPacks > PARITY_SHARDS_MAX)
    fault(["parity"], "a group has at most 255 packs, parity included", "Write parity: 10+2.");
  return layout;
}

function resolveRecompress({ recompress }: ConfigFile): Configuration["recompress"] {
  if (recompress === undefined) return undefined;
  const [, fromHour, fromMinute, toHour, toMinute] = /^(\d+):(\d+)-(\d+):(\d+)$/.exec(recompress.between ?? "") ?? [];
  const minute = (hours = "0", minutes = "0"): number => Number(hours) * 60 + Number(minutes);
  const between = { fromMinute: minute(fromHour, fromMinute), toMinute: minute(toHour, toMinute) };
  return {
    to: `zstd:${Number(recompress.to.slice("zstd:".length))}`,
    between: recompress.between === undefined ? undefined : between,
    bytesPerDay: parseSizeBytes(recompress.per_day ?? "50GiB"),
  };
}

/** More often than this a look at everything would never end, ms. */
const VERIFY_EVERY_MIN_MS = 60_000;

function resolveVerify(file: ConfigFile, fault: Fault): VerifyConfiguration {
  const every = (key: "checksums" | "blocks", otherwise: string): number => {
    const written = file.verify?.[key]?.every ?? otherwise;
    const everyMs = parseDurationMs(written);
    if (everyMs < VERIFY_EVERY_MIN_MS) fault(["verify", key, "every"], `"${written}" is too often`, "at least 1m");
    return everyMs;
  };
  return { checksumsEveryMs: every("checksums", "7d"), blocksEveryMs: every("blocks", "30d") };
}

function resolveEncryption(file: ConfigFile, baseFolder: string, fault: Fault): EncryptionConfiguration {
  const { key, key_service: service } = file.encryption ?? {};
  if (key !== undefined && service !== undefined)
    fault(["encryption", "key_service"], "both a key and a key service are given", "Keep one of them.");
  return {
    keyService: service === undefined ? undefined : resolveKeyService(service, baseFolder),
    enabled: file.defaults?.encrypt ?? true,
    cipher: file.encryption?.cipher ?? "aes-256-gcm",
    kdf: file.encryption?.kdf ?? "pbkdf2-sha256",
    key: key === undefined ? undefined : secretAt(key, baseFolder),
  };
}

/** Where a secret is, its file by an absolute path: the daemon runs elsewhere than where its configuration lies. */
function secretAt(reference: SecretReference, baseFolder: string): SecretReference {
  return "file" in reference ? { file: resolve(baseFolder, reference.file) } : reference;
}

type KeyServiceFile = NonNullable<NonNullable<ConfigFile["encryption"]>["key_service"]>;

function resolveKeyService(
  { vault, aws_kms: kms }: KeyServiceFile,
  baseFolder: string,
): KeyServiceConfiguration | undefined {
  const caOf = (ca: string | undefined): string | undefined => (ca === undefined ? undefined : resolve(baseFolder, ca));
  const secret = (reference: SecretReference): SecretReference => secretAt(reference, baseFolder);
  if (vault !== undefined) {
    const { address, key, mount, namespace } = vault;
    const token = secret(vault.token);
    return { service: "vault-transit", address, key, mount, namespace, token, caFile: caOf(vault.ca) };
  }
  if (kms === undefined) return undefined;
  const secrets = {
    accessKeyId: secret(kms.access_key_id),
    secretAccessKey: secret(kms.secret_access_key),
    sessionToken: kms.session_token === undefined ? undefined : secret(kms.session_token),
  };
  const { key_id: keyId, region, endpoint } = kms;
  return { service: "aws-kms", keyId, region, endpoint, ...secrets, caFile: caOf(kms.ca) };
}

function resolveLimits(file: ConfigFile): LimitsConfiguration {
  const { memory, workers } = file.limits ?? {};
  return { memoryBytes: parseSizeBytes(memory ?? "1GiB"), workers: typeof workers === "number" ? workers : undefined };
}

function resolveSources(file: ConfigFile, baseFolder: string, fault: Fault): SourceConfiguration[] {
  const written = file.sources ?? [];
  const sources = written.map((entry, index) =>
    resolveSource(entry, {
      defaults: file.defaults ?? {},
      baseFolder,
      fault: (path, message, hint) => fault(["sources", index, ...path], message, hint),
    }),
  );
  const isWritten = written.map((entry) => typeof entry !== "string" && entry.name !== undefined);
  return uniqueNames(sources, isWritten, fault);
}

const LATER_STORES = /^(sftp|s3|gs|az|rclone|http|https):/;

function resolveStore(written: string | undefined, baseFolder: string, fault: Fault): string | undefined {
  if (written === undefined) return undefined;
  if (LATER_STORES.test(written)) {
    fault(
      ["store"],
      `stores of the kind "${written.split(":")[0] ?? ""}" are not supported by this version yet`,
      "name a folder",
    );
  }
  return isAbsolute(written) || written.includes("://") ? written : resolve(baseFolder, written);
}

function resolveTimeZone(file: ConfigFile, fault: Fault): string | undefined {
  const zone = file.schedule?.time_zone;
  if (zone === undefined) return undefined;
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
  } catch {
    fault(["schedule", "time_zone"], `"${zone}" is no time zone`, "write a name such as Europe/Berlin");
  }
  return zone;
}

function resolveRotation(written: NonNullable<ConfigFile["rotation"]>): RotationConfiguration {
  return {
    last: written.last ?? 0,
    hourly: written.hourly ?? 24,
    daily: written.daily ?? 7,
    weekly: written.weekly ?? 4,
    monthly: written.monthly ?? 12,
    yearly: written.yearly ?? 5,
    minCopies: written.min_copies ?? 2,
    withinMs: parseDurationMs(written.within ?? "0s"),
  };
}

function resolveWatch(written: NonNullable<ConfigFile["watch"]>, fault: Fault): WatchConfiguration {
  const watch = { actors: written.actors ?? true, stopAttacker: written.stop_attacker ?? false };
  if (watch.stopAttacker && !watch.actors)
    fault(["watch", "stop_attacker"], "who attacks is not known without actors", "Set actors: true, or leave it out.");
  return watch;
}

function resolveMass(written: NonNullable<ConfigFile["mass"]>): MassConfiguration {
  return {
    files: written.files ?? 50,
    share: parseShare(written.share ?? "20%"),
    minFiles: written.min_files ?? 10,
    withinMs: parseDurationMs(written.within ?? "60s"),
    then: written.then ?? "hold",
  };
}

function resolveAlerts(file: ConfigFile, baseFolder: string, fault: Fault): AlertsConfiguration {
  const channels: ChannelConfiguration[] = Object.entries(file.alerts?.channels ?? {}).map(([name, written]) =>
    resolveChannel(name, written, baseFolder),
  );
  const names = channels.map((channel) => channel.name);
  const rules = (file.alerts?.rules ?? []).map((written, index, all): AlertRuleConfiguration => {
    const faultAt: Fault = (path, message, hint) => fault(["alerts", "rules", index, ...path], message, hint);
    checkAlertRule(written, names, faultAt);
    if (all.findIndex(({ when }) => when === written.when) < index)
      faultAt(["when"], `there is a rule for ${written.when} already`, "join them into one");
    const retry = written.auto_retry;
    return {
      when: written.when,
      severity: written.severity,
      threshold: typeof written.threshold === "string" ? parseShare(written.threshold) : written.threshold,
      actions: written.actions ?? names,
      autoRetry:
        retry === undefined ? undefined : { times: retry.times, backoffMs: parseDurationMs(retry.backoff ?? "30s") },
      autoCleanup: written.auto_cleanup ?? false,
    };
  });
  return { channels, rules };
}

type WrittenRule = NonNullable<NonNullable<ConfigFile["alerts"]>["rules"]>[number];

function checkAlertRule(written: WrittenRule, channels: readonly string[], fault: Fault): void {
  for (const [at, action] of (written.actions ?? []).entries()) {
    if (!channels.includes(action))
      fault(["actions", at], `there is no channel "${action}"`, didYouMean(action, channels));
  }
  const { threshold, when } = written;
  if (typeof threshold === "string" && when !== "storage_full")
    fault(["threshold"], "a share is only known for storage_full", "write a count");
  const share = typeof threshold === "string" ? parseShare(threshold) : (threshold ?? 1);
  if (when === "storage_full" && (share <= 0 || share > 1))
    fault(["threshold"], `${String(threshold)} is no share of the space`, "write a share such as 90%");
  if (written.auto_retry?.backoff !== undefined && parseDurationMs(written.auto_retry.backoff) === 0)
    fault(["auto_retry", "backoff"], "there must be a wait between two tries", "write 30s");
}

type WrittenChannel = NonNullable<NonNullable<ConfigFile["alerts"]>["channels"]>[string];

function resolveChannel(name: string, written: WrittenChannel, baseFolder: string): ChannelConfiguration {
  const { email, slack } = written;
  if (slack !== undefined) return { name, kind: "slack", webhook: secretAt(slack.webhook, baseFolder) };
  if (email === undefined) throw new Error("the schema lets no channel without a kind through");
  return {
    name,
    kind: "email",
    smtp: email.smtp,
    user: email.user,
    password: email.password === undefined ? undefined : secretAt(email.password, baseFolder),
    from: email.from,
    to: email.to,
    requireTls: email.require_tls ?? false,
    caFile: email.ca === undefined ? undefined : resolve(baseFolder, email.ca),
  };
}

function resolveSocket(
  file: ConfigFile,
  baseFolder: string,
  at: { readonly places: Places; readonly stateDir: string },
): SocketConfiguration {
  const written = file.access?.socket ?? {};
  const path = written.path === undefined ? undefined : resolve(baseFolder, written.path);
  return {
    path: at.places.socketGiven ?? path ?? at.places.socketDefault(at.stateDir),
    group: written.group,
    mode: parseInt(written.mode ?? (written.group === undefined ? "0600" : "0660"), 8),
    others: written.others ?? "refuse",
  };
}

function resolveMetrics(file: ConfigFile, baseFolder: string, fault: Fault): MetricsConfiguration {
  const { listen, token } = file.metrics ?? {};
  if (listen !== undefined && token === undefined) {
    fault(["metrics", "listen"], "a metrics port needs a token", "add token: {file: PATH}");
  }
  const port = Number(listen?.slice(listen.lastIndexOf(":") + 1) ?? 0);
  if (port > 65_535) fault(["metrics", "listen"], `${port} is no port`, "0 to 65535");
  return { listen, token: token === undefined ? undefined : secretAt(token, baseFolder) };
}

function checkSchedules(configuration: Configuration, file: ConfigFile, fault: Fault): void {
  const names = configuration.sources.map((source) => source.name);
  const check = (sources: readonly string[] | undefined, path: KeyPath): void => {
    for (const [index, source] of (sources ?? []).entries()) {
      if (names.includes(source)) continue;
      fault([...path, "sources", index], `there is no source "${source}"`, didYouMean(source, names));
    }
  };
  const { cron, time_zone: _zone, ...named } = file.schedule ?? {};
  for (const [name, entry] of Object.entries(named)) check(entry.sources, ["schedule", name]);
  for (const [index, entry] of (cron ?? []).entries()) check(entry.sources, ["schedule", "cron", index]);
}

function checkEncryption(configuration: Configuration, fault: Fault): void {
  if (configuration.encryption.enabled) return;
  for (const [index, source] of configuration.sources.entries()) {
    if (!source.encryptionRequired) continue;
    const place = ["sources", index, "encryption_required"];
    fault(place, `source "${source.name}" demands encryption`, "remove `encrypt: false` from defaults");
  }
}

/** A daemon that makes its socket itself does not start without the group. */
function checkGroup({ socket: { group } }: Configuration, fault: Fault): void {
  if (group !== undefined && findGroup(group) === undefined)
    fault(["access", "socket", "group"], `there is no group "${group}"`, `make it with: groupadd --system ${group}`);
}

/** Paths that two sources protect; it is allowed, and rarely meant. At most ten are told. */
function overlapWarnings(sources: readonly SourceConfiguration[]): string[] {
  const all = sources.flatMap((source) => source.paths.map((path) => ({ name: source.name, path })));
  const sorted = all.sort((a, b) => (a.path < b.path ? -1 : 1));
  const warnings: string[] = [];
  for (const [index, outer] of sorted.entries()) {
    const inner = sorted[index + 1];
    if (inner === undefined || inner.name === outer.name || !isWithin(inner.path, outer.path)) continue;
    warnings.push(overlapText(outer, inner));
  }
  return warnings.slice(0, 10);
}

function overlapText(
  outer: { readonly name: string; readonly path: BytePath },
  inner: { readonly name: string; readonly path: BytePath },
): string {
  return `${pathText(inner.path)} is protected twice: by source ${outer.name} and by source ${inner.name}`;
}
