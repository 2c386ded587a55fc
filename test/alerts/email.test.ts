/** Email against a real SMTP server: with TLS, authentication, refusals, and a connection that drops. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { expect } from "chai";
import PostalMime from "postal-mime";
import { SMTPServer, type SMTPServerOptions } from "smtp-server";
import { emailChannel, parseSmtpUrl, type EmailOptions } from "../../src/alerts/channels/email.js";
import { hasCode } from "../../src/base/errors.js";
import { Secret } from "../../src/base/observe.js";
import { type ChannelStage, itIsAnAlertChannel, sampleMessage } from "../contract/channel.js";
import { requirePrograms } from "../support/requirements.js";
import { TempFolder } from "../support/temp-folder.js";

const never = new AbortController().signal;

interface MailServer {
  readonly port: number;
  readonly mails: string[];
  manner: "well" | "busy" | "refuse" | "hang" | "drop";
  readonly users: string[];
  close(): Promise<void>;
}

async function startServer(options: SMTPServerOptions = {}): Promise<MailServer> {
  const state: MailServer = { port: 0, mails: [], manner: "well", users: [], close: () => Promise.resolve() };
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: options.secure === true || options.key !== undefined ? [] : ["STARTTLS"],
    closeTimeout: 50,
    onAuth(auth, _session, callback) {
      if (auth.password !== "right") {
        callback(new Error(`wrong: ${auth.password ?? ""} or ${Buffer.from(auth.password ?? "").toString("base64")}`));
        return;
      }
      state.users.push(auth.username ?? "");
      callback(null, { user: auth.username });
    },
    onRcptTo(address, _session, callback) {
      if (state.manner === "refuse") callback(failure(550, `no such user ${address.address}`));
      else callback();
    },
    onData(stream, _session, callback) {
      const parts: Buffer[] = [];
      stream.on("data", (part: Buffer) => parts.push(part));
      stream.on("end", () => {
        if (state.manner === "busy") callback(failure(451, "try later"));
        else if (state.manner === "drop") server.connections.forEach((connection) => connection.close());
        else if (state.manner === "hang") return;
        else {
          state.mails.push(Buffer.concat(parts).toString("utf8"));
          callback();
        }
      });
    },
    ...options,
  });
  server.on("error", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    await new Promise<void>((resolve) => {
      server.close(resolve);
    });
  };
  return Object.assign(state, { port, close });
}

function failure(responseCode: number, message: string): Error {
  return Object.assign(new Error(message), { responseCode });
}

function optionsFor(port: number, more: Partial<EmailOptions> = {}): EmailOptions {
  return {
    name: "mail",
    server: { host: "127.0.0.1", port, security: "opportunistic" },
    from: "holdfast@example.org",
    to: ["ops@example.org", "boss@example.org"],
    ...more,
  };
}

itIsAnAlertChannel("email", async (): Promise<ChannelStage> => {
  const server = await startServer();
  let isOpen = true;
  const leave = async (): Promise<void> => {
    if (isOpen) await server.close();
    isOpen = false;
  };
  return {
    channel: emailChannel(optionsFor(server.port)),
    async received() {
      const mails = await Promise.all(server.mails.map(async (mail) => await PostalMime.parse(mail)));
      return mails.map(({ subject, text }) => `${subject ?? ""}\n${text ?? ""}`);
    },
    behave: (manner) => {
      server.manner = manner;
    },
    leave,
    close: leave,
  };
});

describe("email", () => {
  let folder: TempFolder;
  let key: string;
  let certificate: string;

  before(async function () {
    requirePrograms(this, "openssl");
    folder = await TempFolder.create("email");
    await promisify(execFile)("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ...["-keyout", folder.at("key.pem"), "-out", folder.at("cert.pem")],
    ]);
    key = await readFile(folder.at("key.pem"), "utf8");
    certificate = await readFile(folder.at("cert.pem"), "utf8");
  });

  after(async () => {
    await folder[Symbol.asyncDispose]();
  });

  it("is a well-formed message: one Message-ID for all attempts, threaded, marked as automatic, urgent if critical", async () => {
    const server = await startServer();
    const channel = emailChannel(optionsFor(server.port));
    await channel.send(sampleMessage(), never);
    await channel.send(sampleMessage(), never);
    await server.close();
    const [first, second] = await Promise.all(server.mails.map(async (mail) => await PostalMime.parse(mail)));
    expect(first?.messageId).to.equal("<hf-0123456789abcdef@web1.example.org.holdfast>");
    expect(second?.messageId).to.equal(first?.messageId);
    expect(first?.references).to.contain("alert_0011223344");
    const headers = new Map(first?.headers.map(({ key: name, value }) => [name, value]));
    expect(headers.get("auto-submitted")).to.equal("auto-generated");
    expect(headers.get("x-priority")).to.contain("1");
    expect(first?.to?.map(({ address }) => address)).to.deep.equal(["ops@example.org", "boss@example.org"]);
    expect(first?.from?.address).to.equal("holdfast@example.org");
  });

  it("cannot be made to carry another header by a name with a line break", async () => {
    const server = await startServer();
    const evil = "x\r\nBcc: thief@example.org\r\n\r\nbody";
    await emailChannel(optionsFor(server.port)).send(
      sampleMessage({ subject: evil, condition: evil, thread: evil, host: evil }),
      never,
    );
    await server.close();
    const mail = await PostalMime.parse(server.mails[0] ?? "");
    expect(mail.bcc).to.equal(undefined);
    expect(mail.headers.map(({ key: name }) => name)).to.not.include("bcc");
    expect(mail.text).to.contain("1 file of photos is lost");
  });

  it("carries names in any script", async () => {
    const server = await startServer();
    const subject = "[holdfast INFO] Überprüfung 写真 📷";
    await emailChannel(optionsFor(server.port)).send(sampleMessage({ subject }), never);
    await server.close();
    expect((await PostalMime.parse(server.mails[0] ?? "")).subject).to.equal(subject);
  });

  it("speaks TLS from the start and authenticates, trusting a certificate given to it", async () => {
    const server = await startServer({ secure: true, key, cert: certificate, authOptional: false });
    const channel = emailChannel(
      optionsFor(server.port, {
        server: { host: "localhost", port: server.port, security: "tls" },
        auth: { user: "holdfast", password: new Secret("right") },
        certificates: certificate,
      }),
    );
    expect(await channel.send(sampleMessage(), never)).to.deep.equal({ kind: "delivered" });
    expect(server.users).to.deep.equal(["holdfast"]);
    await server.close();
  });

  it("does not deliver over TLS to a certificate that nobody vouches for", async () => {
    const server = await startServer({ secure: true, key, cert: certificate });
    const channel = emailChannel(
      optionsFor(server.port, { server: { host: "localhost", port: server.port, security: "tls" } }),
    );
    expect((await channel.send(sampleMessage(), never)).kind).to.equal("retry");
    expect(server.mails).to.deep.equal([]);
    await server.close();
  });

  it("upgrades by STARTTLS, and sends nothing when it must and the server cannot", async () => {
    const starttls = { host: "localhost", port: 0, security: "starttls" as const };
    const able = await startServer({ key, cert: certificate });
    const channel = emailChannel(
      optionsFor(able.port, { server: { ...starttls, port: able.port }, certificates: certificate }),
    );
    expect(await channel.send(sampleMessage(), never)).to.deep.equal({ kind: "delivered" });
    await able.close();
    const unable = await startServer();
    const refused = emailChannel(optionsFor(unable.port, { server: { ...starttls, port: unable.port } }));
    expect((await refused.send(sampleMessage(), never)).kind).to.equal("retry");
    expect(unable.mails).to.deep.equal([]);
    await unable.close();
  });

  it("waits half an hour after wrong credentials, and does not show the password", async () => {
    const server = await startServer({ secure: true, key, cert: certificate, authOptional: false });
    const channel = emailChannel(
      optionsFor(server.port, {
        server: { host: "localhost", port: server.port, security: "tls" },
        auth: { user: "holdfast", password: new Secret("wr0ng-pass") },
        certificates: certificate,
      }),
    );
    const result = await channel.send(sampleMessage(), never);
    expect(result).to.include({ kind: "retry", retryAfterMs: 1_800_000 });
    expect(JSON.stringify(result)).to.contain("wrong: [secret] or [secret]").and.not.contain("wr0ng-pass");
    await server.close();
  });

  it("asks to retry when the connection drops in the middle of the message", async () => {
    const server = await startServer();
    server.manner = "drop";
    expect((await emailChannel(optionsFor(server.port)).send(sampleMessage(), never)).kind).to.equal("retry");
    await server.close();
  });

  it("reads addresses of servers, and refuses what is none or holds a password", () => {
    expect(parseSmtpUrl("smtps://mail.example.org")).to.deep.equal({
      host: "mail.example.org",
      port: 465,
      security: "tls",
    });
    expect(parseSmtpUrl("smtp+starttls://m:2525")).to.deep.equal({ host: "m", port: 2525, security: "starttls" });
    expect(parseSmtpUrl("smtp://[::1]")).to.deep.equal({ host: "::1", port: 25, security: "opportunistic" });
    for (const wrong of ["mail.example.org", "https://x", "smtp://user:pass@host", "smtps://"])
      expect(() => parseSmtpUrl(wrong), wrong)
        .to.throw()
        .and.satisfy((error: unknown) => hasCode(error, "CONFIG_INVALID"));
    try {
      parseSmtpUrl("smtp://user:s3cret@host");
    } catch (error) {
      expect(String(error)).to.not.contain("s3cret");
    }
  });

  it("refuses to be without a receiver", () => {
    expect(() => emailChannel({ ...optionsFor(25), to: [] })).to.throw("no receiver");
  });
});
