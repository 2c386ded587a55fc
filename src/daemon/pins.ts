/** Builds what holds the files of critical sources at hand: open descriptors, and links on their own file systems. */
import type { EventBus } from "../base/events.js";
import type { ResourceStack } from "../base/lifecycle.js";
import type { BytePath } from "../base/paths.js";
import type { Repository } from "../engine/repository.js";
import type { Entry } from "../engine/types.js";
import { LinkPins, type LinkReader, NO_LINKS } from "../recovery/link-pins.js";
import type { LinkKind } from "../recovery/pin-folder.js";
import { NO_PINS, type PinReader, Pins } from "../recovery/pins.js";
import type { Ground } from "./parts.js";
import type { SourceBook } from "./source-book.js";

export interface PinsAround {
  readonly ground: Ground;
  readonly bus: EventBus;
  readonly repository: Repository;
  readonly book: SourceBook;
}

/** A command that works alone holds nothing: it is over before anything could be lost. */
export async function pinsOf(
  { ground, bus, repository, book }: PinsAround,
  owner: ResourceStack,
): Promise<readonly [PinReader, LinkReader]> {
  if (!ground.isDaemon) return [NO_PINS, NO_LINKS];
  const { clock, metrics: observer, configuration } = ground;
  const { stateDir } = configuration;
  const isCritical = (source: string): boolean => book.find(source)?.configuration.priority === "critical";
  const filesOf = async function* (source: string): AsyncIterable<Pick<Entry, "path" | "node">> {
    for await (const { path, node } of repository.currentEntries(source))
      if (node.kind === "file") yield { path, node };
  };
  const pathsOf = async function* (source: string): AsyncIterable<BytePath> {
    for await (const { path } of filesOf(source)) yield path;
  };
  const pins = owner.use(new Pins({ clock, observer, bus, isCritical, filesOf: pathsOf, stateDir }));
  const links = owner.use(
    await LinkPins.open({
      clock,
      observer,
      bus,
      criticalSources: () => book.all().flatMap(({ name }) => (isCritical(name) ? [name] : [])),
      filesOf,
      nodeOf: async (path) => (await repository.versions(path, { limit: 1 }))[0]?.node,
      stateDir,
      kinds: kindsOf(configuration.pins),
    }),
  );
  return [pins, links];
}

function kindsOf({ reflinks, hardLinks }: Ground["configuration"]["pins"]): ReadonlySet<LinkKind> {
  return new Set<LinkKind>([...(reflinks ? ["reflink" as const] : []), ...(hardLinks ? ["hard_link" as const] : [])]);
}
