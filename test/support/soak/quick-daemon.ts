/** A built daemon in a place of its own that settles and rests for a moment only, to be ended at a moment and begun again. */
import { join } from "node:path";
import { expect } from "chai";
import { Sandbox } from "../program.js";
import { SoakedDaemon } from "./daemon.js";

export class QuickDaemon implements AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly daemon: SoakedDaemon;

  protected constructor(sandbox: Sandbox) {
    this.sandbox = sandbox;
    this.daemon = new SoakedDaemon(sandbox, join(sandbox.home, "log"));
  }

  /** A place that is configured; nothing runs there yet. */
  protected static async place(): Promise<Sandbox> {
    const sandbox = await Sandbox.create();
    await sandbox.configure({ defaults: { settle: "100ms", rest: "50ms" } });
    return sandbox;
  }

  async start(): Promise<void> {
    this.daemon.begin();
    expect(await this.daemon.settle()).to.equal(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandbox[Symbol.asyncDispose]();
  }
}
