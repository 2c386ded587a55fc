/** A process of its own for the test that kills it: adds messages and reports each one that is durable. */
import { Level } from "level";
import { Outbox } from "../../src/alerts/outbox.js";
import { digestMessage } from "../../src/alerts/wording.js";
import { sampleMessage } from "../contract/channel.js";

const [location = "", round = "0"] = process.argv.slice(2);
const database = new Level<string, string>(location);
const outbox = await Outbox.open({
  bucket: database.sublevel("alerts"),
  digest: (folded, severity) => digestMessage(folded, severity, { host: "web1", nowMs: 1, messageId: "hf-digest" }),
  messagesMax: 100_000,
});
for (let number = 0; ; number += 1) {
  const id = `hf-${round}-${String(number)}`;
  await outbox.add(sampleMessage({ id, thread: id }), ["mail"], number, []);
  process.send?.(id);
}
