/** Secrets are read where the configuration says they are, and never shown. */
import { expect } from "chai";
import { inspect } from "node:util";
import { hasCode, messageOf } from "../../src/base/errors.js";
import { readSecret } from "../../src/config/secrets.js";
import type { Configuration, SecretReference } from "../../src/config/configuration.js";
import { loadConfiguration } from "../../src/config/load.js";
import { useTempFolder } from "../support/temp-folder.js";

const folder = useTempFolder("secrets");
const signal = new AbortController().signal;

async function load(text: string): Promise<Configuration> {
  return await loadConfiguration({ configFile: await folder().write("holdfast.yaml", text), env: {}, isRoot: false });
}

describe("a secret", () => {
  it("comes from a file, the environment, a credential or a program, without its last line break", async () => {
    const file = await folder().write("secret", "s3cret\n", 0o600);
    const env = { MY_SECRET: "s3cret", CREDENTIALS_DIRECTORY: folder().path };
    for (const reference of [
      { file },
      { env: "MY_SECRET" },
      { credential: "secret" },
      { command: ["printf", "s3cret\\n"] },
    ] as const) {
      const secret = await readSecret(reference, { env }, signal);
      expect(secret.reveal()).to.equal("s3cret");
      expect(`${String(secret)} ${JSON.stringify(secret)} ${inspect(secret)}`).not.to.contain("s3cret");
    }
  });

  it("that everybody can read is warned of", async () => {
    const warnings: string[] = [];
    const warn = (message: string): number => warnings.push(message);
    await readSecret({ file: await folder().write("open", "x", 0o644) }, { warn }, signal);
    await readSecret({ file: await folder().write("closed", "x", 0o600) }, { warn }, signal);
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.contain("chmod 600");
  });

  it("that cannot be read is told by its place, never by what the program printed", async () => {
    const empty = await folder().write("empty", "\n");
    const cases: readonly (readonly [SecretReference, string])[] = [
      [{ file: "/no/such" }, "file /no/such: there is no such file"],
      [{ file: empty }, "it is empty"],
      [{ env: "NOT_SET_AT_ALL" }, "the variable is not set"],
      [{ credential: "x" }, "there is no CREDENTIALS_DIRECTORY"],
      [{ command: ["sh", "-c", "echo s3cret; echo s3cret >&2; exit 3"] }, "the program ended with 3"],
      [{ command: ["/no/such/program"] }, "is not installed"],
    ];
    for (const [reference, why] of cases) {
      const thrown: unknown = await readSecret(reference, { env: {} }, signal).then(
        () => undefined,
        (caught: unknown) => caught,
      );
      expect(hasCode(thrown, "SECRET_UNREADABLE"), why).to.be.true;
      expect(messageOf(thrown)).to.contain(why).and.not.to.contain("s3cret");
    }
  });

  it("in a file is found beside the configuration, as all other paths", async () => {
    const loaded = await load(`
encryption: {key: {file: key}}
metrics: {listen: "127.0.0.1:9876", token: {file: ./token}}
alerts:
  channels:
    ops: {slack: {webhook: {file: hooks/slack}}}
    mail: {email: {smtp: "smtp://h", from: a@b, to: [c@d], user: u, password: {file: /etc/password}}}
`);
    const [ops, mail] = loaded.alerts.channels;
    expect(loaded.encryption.key).to.deep.equal({ file: folder().at("key") });
    expect(loaded.metrics.token).to.deep.equal({ file: folder().at("token") });
    expect(ops).to.deep.include({ webhook: { file: folder().at("hooks", "slack") } });
    expect(mail).to.deep.include({ password: { file: "/etc/password" } });
  });

  it("of a key service is found there, too", async () => {
    const vault = await load(
      'encryption: {key_service: {vault: {address: "https://v", key: k, token: {file: token}}}}\n',
    );
    expect(vault.encryption.keyService).to.deep.include({ token: { file: folder().at("token") } });
    const id = "access_key_id: {env: A}, secret_access_key: {file: secret}";
    const kms = await load(`encryption: {key_service: {aws_kms: {key_id: k, region: r, ${id}}}}\n`);
    expect(kms.encryption.keyService).to.deep.include({
      accessKeyId: { env: "A" },
      secretAccessKey: { file: folder().at("secret") },
    });
  });
});
