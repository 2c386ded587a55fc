/** Key services against stand-ins that check what real ones check: form, token, signature; and AWS's own test vectors. */
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { Secret } from "../../src/base/observe.js";
import { Repository } from "../../src/engine/repository.js";
import type { KeyService } from "../../src/storage/key-service.js";
import { openKeyService } from "../../src/storage/open-key-service.js";
import { signAws } from "../../src/storage/key-services/aws-signature.js";
import { silentObserver } from "../../src/base/observe.js";
import { codeOf, NEVER, thrownCode } from "../support/engine-keys.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

const CREDENTIALS = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
const BODY_MAX = 100_000;

interface Asked {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}
type Answer = (asked: Asked) => { readonly status: number; readonly body: unknown };

describe("AWS Signature Version 4", () => {
  const when = { region: "us-east-1", service: "service", nowMs: Date.UTC(2015, 7, 30, 12, 36) };
  const signatureOf = (method: string, place: string, headers = {}, body = ""): string => {
    const url = new URL(place, "https://example.amazonaws.com");
    return signAws({ method, url, headers, body, ...when }, CREDENTIALS)["authorization"]?.split("Signature=")[1] ?? "";
  };

  it("is that of AWS's test suite", () => {
    const form = { "Content-Type": "application/x-www-form-urlencoded" };
    expect(signatureOf("GET", "/")).to.equal("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    expect(signatureOf("GET", "/?Param2=value2&Param1=value1")).to.equal(
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    );
    expect(signatureOf("POST", "/")).to.equal("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    expect(signatureOf("POST", "/", form, "Param1=value1")).to.equal(
      "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    );
  });

  it("signs the session token with the rest", () => {
    const url = new URL("https://example.amazonaws.com/");
    const request = { method: "GET", url, headers: {}, body: "", ...when };
    const signed = signAws(request, { ...CREDENTIALS, sessionToken: "token" });
    expect(signed["authorization"]).to.include("SignedHeaders=host;x-amz-date;x-amz-security-token,");
    expect(signed["x-amz-security-token"]).to.equal("token");
  });
});

describe("a key service", () => {
  const folder = useTempFolder("key-service");
  let server: Server | undefined;

  afterEach(() => {
    server?.close();
    server?.closeAllConnections();
  });

  async function standIn(answer: Answer): Promise<string> {
    const listening = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        const body = Buffer.concat(parts).toString("utf8").slice(0, BODY_MAX);
        const { status, body: said } = answer({ path: request.url ?? "", headers: request.headers, body });
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(said));
      });
    });
    server = listening;
    await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${String((listening.address() as AddressInfo).port)}`;
  }

  /** KMS as far as a client can see: it proves the signature by signing what it received itself. */
  function kms(seen: string[] = []): Answer {
    return ({ path, headers, body }) => {
      const refused = { status: 400, body: { __type: "InvalidSignatureException", message: "wrong signature" } };
      const sent = headers.authorization ?? "";
      const names = /SignedHeaders=([^,]*)/.exec(sent)?.[1]?.split(";") ?? [];
      for (const needed of ["host", "x-amz-date", "x-amz-target", "content-type"])
        if (!names.includes(needed)) return refused;
      const date = String(headers["x-amz-date"]);
      const nowMs = Date.parse(date.replace(/(....)(..)(..)T(..)(..)(..)Z/, "$1-$2-$3T$4:$5:$6Z"));
      const own = Object.fromEntries(
        names
          .filter((name) => !["host", "x-amz-date", "x-amz-security-token"].includes(name))
          .map((name) => [name, String(headers[name])]),
      );
      const url = new URL(path, `http://${headers.host ?? ""}`);
      const request = { method: "POST", url, headers: own, body, region: "eu-central-1", service: "kms", nowMs };
      const token = headers["x-amz-security-token"];
      const credentials = { ...CREDENTIALS, ...(token === undefined ? {} : { sessionToken: String(token) }) };
      if (signAws(request, credentials)["authorization"] !== sent) return refused;
      const fields = JSON.parse(body) as Record<string, unknown>;
      if (fields["KeyId"] !== "alias/holdfast")
        return { status: 400, body: { __type: "NotFoundException", message: "no key" } };
      const target = String(headers["x-amz-target"]);
      seen.push(target);
      const context = JSON.stringify(fields["EncryptionContext"]);
      if (target === "TrentService.Encrypt")
        return {
          status: 200,
          body: { CiphertextBlob: Buffer.from(`${context} ${String(fields["Plaintext"])}`).toString("base64") },
        };
      const [bound, plain] = Buffer.from(String(fields["CiphertextBlob"]), "base64").toString().split(" ");
      if (bound !== context) return { status: 400, body: { __type: "InvalidCiphertextException" } };
      return { status: 200, body: { Plaintext: plain } };
    };
  }

  function vault(seen: string[] = []): Answer {
    return ({ path, headers, body }) => {
      if (headers["x-vault-token"] !== "s.token") return { status: 403, body: { errors: ["permission denied"] } };
      seen.push(path);
      const fields = JSON.parse(body) as Record<string, string>;
      if (path === "/v1/keys/transit/encrypt/holdfast")
        return { status: 200, body: { data: { ciphertext: `vault:v1:${fields["plaintext"] ?? ""}` } } };
      if (path !== "/v1/keys/transit/decrypt/holdfast") return { status: 404, body: { errors: [] } };
      return { status: 200, body: { data: { plaintext: fields["ciphertext"]?.slice("vault:v1:".length) } } };
    };
  }

  const kmsAt = (endpoint: string, secret = CREDENTIALS.secretAccessKey): KeyService =>
    openKeyService({
      ...{ service: "aws-kms", keyId: "alias/holdfast", region: "eu-central-1", endpoint, clock: new FakeClock() },
      ...{
        accessKeyId: new Secret(CREDENTIALS.accessKeyId),
        secretAccessKey: new Secret(secret),
        sessionToken: new Secret("t"),
      },
    });
  const vaultAt = (address: string, token = "s.token"): KeyService =>
    openKeyService({
      service: "vault-transit",
      address,
      key: "holdfast",
      mount: "keys/transit",
      token: new Secret(token),
    });

  it("gives back what it wrapped, for its purpose only: AWS KMS", async () => {
    const seen: string[] = [];
    const service = kmsAt(await standIn(kms(seen)));
    const wrapped = await service.wrap(Buffer.from("secret"), "one", NEVER);
    expect((await service.unwrap(wrapped, "one", NEVER)).toString()).to.equal("secret");
    expect(await codeOf(service.unwrap(wrapped, "two", NEVER))).to.equal("KEY_SERVICE_FAILED");
    expect(seen).to.deep.equal(["TrentService.Encrypt", "TrentService.Decrypt", "TrentService.Decrypt"]);
  });

  it("gives back what it wrapped: Vault's transit engine", async () => {
    const service = vaultAt(await standIn(vault()));
    const wrapped = await service.wrap(Buffer.from("secret"), "one", NEVER);
    expect(wrapped).to.match(/^vault:v1:/);
    expect((await service.unwrap(wrapped, "one", NEVER)).toString()).to.equal("secret");
  });

  it("that refuses or is away is told, without the secret", async () => {
    const wrong = kmsAt(await standIn(kms()), "wrong secret");
    const error = await wrong.wrap(Buffer.from("x"), "one", NEVER).catch((thrown: unknown) => thrown);
    expect(String(error)).to.include("wrong signature").and.not.include("wrong secret");
    server?.close();
    const denied = vaultAt(await standIn(vault()), "s.other");
    expect(await codeOf(denied.unwrap("vault:v1:eA==", "one", NEVER))).to.equal("KEY_SERVICE_FAILED");
    server?.close();
    expect(await codeOf(vaultAt("http://127.0.0.1:1").wrap(Buffer.from("x"), "one", NEVER))).to.equal(
      "KEY_SERVICE_FAILED",
    );
    const odd = vaultAt(await standIn(() => ({ status: 200, body: { data: {} } })));
    expect(await codeOf(odd.wrap(Buffer.from("x"), "one", NEVER))).to.equal("KEY_SERVICE_FAILED");
  });

  it("is never asked without TLS on another machine", () => {
    for (const address of ["http://vault.example.org:8200", "ftp://127.0.0.1", "nothing"])
      expect(thrownCode(() => vaultAt(address))).to.equal("USAGE");
  });

  for (const name of ["aws-kms", "vault-transit"] as const) {
    it(`opens a repository that it closed, and nothing else does: ${name}`, async () => {
      const address = await standIn(name === "aws-kms" ? kms() : vault());
      const keyService = name === "aws-kms" ? kmsAt(address) : vaultAt(address);
      const place = {
        storeUrl: folder().at("store"),
        stateDir: folder().at("state"),
        clock: new FakeClock(),
        observer: silentObserver,
      };
      const { recoveryKey } = await Repository.init({ ...place, encrypt: true, keyService });
      const open = async (unlock: object): Promise<string> => {
        const repository = await Repository.open({ ...place, unlock, workers: 1, signal: NEVER });
        const kinds = (await repository.listKeys(NEVER)).map(({ kind }) => kind).sort();
        if (!repository.readOnly) await repository.rotateKeys({ unlock: { keyService } }, NEVER);
        await repository[Symbol.asyncDispose]();
        return kinds.join(" ");
      };
      expect(await codeOf(open({ password: new Secret("guess") }))).to.equal("REPO_KEY_WRONG");
      expect(await open({ keyService })).to.equal("recovery service");
      expect(await open({ keyService })).to.equal("recovery service");
      expect(await codeOf(open({ recoveryKey }))).to.equal("REPO_KEY_WRONG");
    });
  }
});
