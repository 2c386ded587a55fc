/** What every alert channel must do, whatever its medium: the suite that each implementer's tests run. */
import { expect } from "chai";
import type { AlertChannel, AlertMessage } from "../../src/alerts/channel.js";

/** How a channel's test plays the other side. */
export interface ChannelStage {
  readonly channel: AlertChannel;
  /** What the receiver has been given so far, as one text for each message. */
  received(): Promise<readonly string[]>;
  /** The receiver answers from now on with a passing failure, refuses for good, or never answers. */
  behave(manner: "well" | "busy" | "refuse" | "hang"): void;
  /** The receiver is gone: nobody listens. */
  leave(): Promise<void>;
  close(): Promise<void>;
}

/** A message with everything in it; `overrides` change parts. */
export function sampleMessage(overrides: Partial<AlertMessage> = {}): AlertMessage {
  return {
    id: "hf-0123456789abcdef",
    thread: "alert_0011223344",
    state: "firing",
    condition: "recovery_failed",
    severity: "critical",
    source: "photos",
    host: "web1.example.org",
    subject: "[holdfast CRITICAL] web1: 1 file of photos could NOT be put back",
    summary: "1 file of photos is lost, and no recovery strategy brought it back.",
    facts: [
      ["source", "photos"],
      ["file", "/srv/photos/a.jpg"],
    ],
    done: "holdfast tried every configured strategy.",
    advice: "Look at what was tried:",
    commands: ["holdfast incidents show inc_1"],
    createdAtMs: Date.UTC(2026, 0, 15, 12),
    ...overrides,
  };
}

const never = new AbortController().signal;

/** Defines the suite. */
export function itIsAnAlertChannel(name: string, open: () => Promise<ChannelStage>): void {
  describe(`the channel contract, kept by ${name}`, () => {
    let stage: ChannelStage;
    beforeEach(async () => {
      stage = await open();
    });
    afterEach(async () => {
      await stage.close();
    });

    it("delivers what a person needs: what, where, what was done, what to type", async () => {
      const result = await stage.channel.send(sampleMessage(), never);
      expect(result).to.deep.equal({ kind: "delivered" });
      const [text] = await stage.received();
      for (const part of ["could NOT be put back", "/srv/photos/a.jpg", "tried every", "holdfast incidents show inc_1"])
        expect(text).to.contain(part);
    });

    it("asks to retry when the receiver is busy, and delivers later", async () => {
      stage.behave("busy");
      expect((await stage.channel.send(sampleMessage(), never)).kind).to.equal("retry");
      stage.behave("well");
      expect((await stage.channel.send(sampleMessage(), never)).kind).to.equal("delivered");
    });

    it("says that a message is rejected when the receiver refuses it for good", async () => {
      stage.behave("refuse");
      expect((await stage.channel.send(sampleMessage(), never)).kind).to.equal("rejected");
    });

    it("asks to retry when nobody listens", async () => {
      await stage.leave();
      expect((await stage.channel.send(sampleMessage(), never)).kind).to.equal("retry");
    });

    it("ends soon with retry when it is aborted while the receiver hangs", async () => {
      stage.behave("hang");
      const abort = new AbortController();
      const sending = stage.channel.send(sampleMessage(), abort.signal);
      setTimeout(() => abort.abort(), 100);
      expect((await sending).kind).to.equal("retry");
    });

    it("does not send when it is aborted before", async () => {
      expect((await stage.channel.send(sampleMessage(), AbortSignal.abort())).kind).to.equal("retry");
      expect(await stage.received()).to.deep.equal([]);
    });
  });
}
