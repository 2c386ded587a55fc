/** A holdfast without a daemon, for one command: the same parts and the same router, in this process. */
import { inProcessTransport } from "../api/in-process.js";
import type { Transport } from "../api/transport.js";
import { systemClock } from "../base/clock.js";
import { ResourceStack } from "../base/lifecycle.js";
import { memoryCalls } from "../base/native-memory.js";
import type { Logger } from "../base/observe.js";
import { silentObserver } from "../base/observe.js";
import { type LaunchOptions, launch, loadFor, passwordFor } from "./launch.js";
import { keyServiceFor } from "./key-service.js";
import { workersWithin } from "./limits.js";
import { type MadeRepository, makeRepository } from "./store.js";

export interface Standalone extends AsyncDisposable {
  readonly transport: Transport;
}

export interface StandaloneOptions extends LaunchOptions {
  readonly signal: AbortSignal;
  /** Where warnings of the parts go; silent unless told. */
  readonly log?: Logger;
}

/** Opens the store for one command. Throws REPO_NOT_FOUND, REPO_LOCKED, INDEX_LOCKED, REPO_KEY_WRONG, CONFIG_INVALID. */
export async function openStandalone(options: StandaloneOptions): Promise<Standalone> {
  memoryCalls().keepSmall();
  await using owner = new ResourceStack();
  const log = options.log ?? silentObserver.log;
  const configuration = await loadFor(options);
  const ground = { configuration, log, clock: systemClock, isDaemon: false, signal: options.signal };
  const launched = await launch(options, ground, false, owner);
  owner.defer(async () => await launched.router.http.close());
  const owned = owner.move();
  return {
    transport: inProcessTransport(launched.router),
    [Symbol.asyncDispose]: async () => await owned[Symbol.asyncDispose](),
  };
}

/** Makes the repository that the options name: `holdfast init`. Throws REPO_EXISTS, REPO_NOT_EMPTY. */
export async function initRepository(
  options: StandaloneOptions & { readonly encrypt?: boolean },
): Promise<MadeRepository & { readonly storeUrl: string; readonly encrypted: boolean }> {
  const log = options.log ?? silentObserver.log;
  const configuration = await loadFor(options);
  const encrypt = options.encrypt ?? (configuration.encryption.enabled && options.noEncrypt !== true);
  const password = await passwordFor(options, configuration, log, options.signal);
  const ground = { clock: systemClock, log };
  const made = await makeRepository({
    keyService: password === undefined ? await keyServiceFor(configuration, ground, options.signal) : undefined,
    storeUrl: configuration.storeUrl,
    stateDir: configuration.stateDir,
    password,
    encrypt,
    passwordKdf: configuration.encryption.kdf,
    workers: workersWithin(configuration.limits),
    clock: systemClock,
    observer: { ...silentObserver, log },
    signal: options.signal,
  });
  return { ...made, storeUrl: configuration.storeUrl, encrypted: encrypt };
}
