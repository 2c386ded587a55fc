/**
 * The lists of what can be plugged in: recovery strategies and alert channels. The only file that enters the rooms of
 * other folders. A channel's library is loaded when such a channel is configured.
 */
import { readFile } from "node:fs/promises";
import type { AlertChannel } from "../alerts/channel.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { ChannelConfiguration, EmailChannelConfiguration } from "../config/configuration.js";
import { readSecret } from "../config/secrets.js";
import type { VersionReader } from "../recovery/ports.js";
import { type LinkReader, NO_LINKS } from "../recovery/link-pins.js";
import { NO_PINS, type PinReader } from "../recovery/pins.js";
import { ProcessFiles } from "../recovery/proc.js";
import type { RecoveryStrategy } from "../recovery/strategy.js";
import { fsSnapshotsStrategy } from "../recovery/strategies/fs-snapshots.js";
import { gitHistoryStrategy } from "../recovery/strategies/git-history.js";
import { latestBackupStrategy } from "../recovery/strategies/latest-backup.js";
import { manualRecoveryStrategy } from "../recovery/strategies/manual-recovery.js";
import { openFilesStrategy } from "../recovery/strategies/open-files.js";
import { packageManagerStrategy } from "../recovery/strategies/package-manager.js";
import { pinnedStrategy } from "../recovery/strategies/pinned.js";
import { pinnedLinksStrategy } from "../recovery/strategies/pinned-links.js";
import { reconstructFromLogsStrategy } from "../recovery/strategies/reconstruct-from-logs.js";
import { regenerateStrategy } from "../recovery/strategies/regenerate.js";
import { sameContentStrategy } from "../recovery/strategies/same-content.js";
import { sqliteWalStrategy } from "../recovery/strategies/sqlite-wal.js";
import { tempFilesStrategy } from "../recovery/strategies/temp-files.js";

/** All strategies, in no order: chains are ordered by configuration. */
export function recoveryStrategies(
  reader: VersionReader,
  clock: Clock,
  pins: PinReader = NO_PINS,
  links: LinkReader = NO_LINKS,
): readonly RecoveryStrategy[] {
  const processes = new ProcessFiles(clock);
  return [
    pinnedStrategy(pins, links),
    pinnedLinksStrategy(links),
    openFilesStrategy(processes),
    latestBackupStrategy(reader),
    sameContentStrategy(reader),
    fsSnapshotsStrategy(),
    gitHistoryStrategy(),
    packageManagerStrategy(),
    tempFilesStrategy(reader),
    sqliteWalStrategy(reader, processes),
    reconstructFromLogsStrategy(),
    regenerateStrategy(),
    manualRecoveryStrategy(),
  ];
}

/** The configured channels, with their secrets read. Throws SECRET_UNREADABLE, CONFIG_INVALID. */
export async function alertChannels(
  configured: readonly ChannelConfiguration[],
  warn: (message: string) => void,
  signal: AbortSignal,
): Promise<readonly AlertChannel[]> {
  const channels: AlertChannel[] = [];
  for (const channel of configured) {
    if (channel.kind === "slack") {
      const { slackChannel } = await import("../alerts/channels/slack.js");
      channels.push(slackChannel({ name: channel.name, webhook: await readSecret(channel.webhook, { warn }, signal) }));
    } else {
      channels.push(await mailChannel(channel, warn, signal));
    }
  }
  return channels;
}

async function mailChannel(
  channel: { readonly name: string } & EmailChannelConfiguration,
  warn: (message: string) => void,
  signal: AbortSignal,
): Promise<AlertChannel> {
  const { emailChannel, parseSmtpUrl } = await import("../alerts/channels/email.js");
  const { user, password, caFile } = channel;
  const server = parseSmtpUrl(channel.smtp);
  const secret = password === undefined ? undefined : await readSecret(password, { warn }, signal);
  return emailChannel({
    name: channel.name,
    server: channel.requireTls && server.security === "opportunistic" ? { ...server, security: "starttls" } : server,
    from: channel.from,
    to: channel.to,
    ...(user === undefined || secret === undefined ? {} : { auth: { user, password: secret } }),
    ...(caFile === undefined ? {} : { certificates: await readCertificates(channel.name, caFile) }),
  });
}

async function readCertificates(name: string, file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new HoldfastError(
      "CONFIG_INVALID",
      `the certificates of the channel ${name} cannot be read: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
