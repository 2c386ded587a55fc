/** `holdfast serve webdav` with the built program: what clients get, what they are refused, who is let in. */
import { expect } from "chai";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { DaemonProcess, Sandbox, until } from "../support/program.js";
import { requirePrograms } from "../support/requirements.js";

const run = promisify(execFile);

/** A sandbox with one backup, served. */
class Served implements AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly big = randomBytes(3_000_000);
  #process: DaemonProcess | undefined;
  url = "";
  password = "";

  private constructor(sandbox: Sandbox) {
    this.sandbox = sandbox;
  }

  static async start(): Promise<Served> {
    const served = new Served(await Sandbox.create());
    const { data } = served.sandbox;
    await mkdir(join(data, "folder"));
    await writeFile(join(data, "big"), served.big);
    await writeFile(join(data, "empty"), "");
    await writeFile(Buffer.concat([Buffer.from(`${data}/a&b<`), Buffer.of(0xff)]), "odd");
    await symlink("../big", join(data, "folder/link"));
    await symlink("folder", join(data, "loop"));
    await symlink("/etc/passwd", join(data, "outside"));
    await run("mkfifo", [join(data, "pipe")]);
    await served.sandbox.json("init");
    await served.sandbox.json("create");
    const process = new DaemonProcess(["serve", "webdav", "--json"], served.sandbox.environment);
    served.#process = process;
    await until("it listens", 20_000, () => process.output.includes("password"));
    Object.assign(served, JSON.parse(process.output.split("\n").find((line) => line.startsWith("{")) ?? "{}"));
    return served;
  }

  /** Address of a path of the newest backup. */
  address(path: string): string {
    return `${this.url}latest${this.sandbox.data}/${path}`;
  }

  async ask(method: string, address: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    const credentials = Buffer.from(`holdfast:${this.password}`).toString("base64");
    return await fetch(address, { method, headers: { authorization: `Basic ${credentials}`, ...headers } });
  }

  async end(): Promise<number | undefined> {
    return await this.#process?.end("SIGINT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.sandbox[Symbol.asyncDispose]();
  }
}

describe("holdfast serve webdav", () => {
  it("lists folders, and of links only those to files of the backup", async () => {
    await using served = await Served.start();
    const answer = await served.ask("PROPFIND", served.address(""), { depth: "1" });
    expect(answer.status).to.equal(207);
    const hrefs = [...(await answer.text()).matchAll(/<D:href>([^<]*)</g)].map(
      ([, href = ""]) => href.split("/data/")[1],
    );
    expect(hrefs.sort()).to.deep.equal(["", "a%26b%3C%FF", "big", "empty", "folder/"]);
    const inside = await (await served.ask("PROPFIND", served.address("folder"), { depth: "1" })).text();
    expect(inside).to.include("folder/link</D:href>");
    expect(inside).to.include(`<D:getcontentlength>${served.big.length}<`);
    const page = await (await served.ask("GET", served.address("folder/"))).text();
    expect(page).to.include(">link</a>");
  });

  it("gives files whole, in parts, and not again when the client has them", async () => {
    await using served = await Served.start();
    const whole = await served.ask("GET", served.address("folder/link"));
    expect(Buffer.from(await whole.arrayBuffer()).equals(served.big)).to.equal(true);
    const part = await served.ask("GET", served.address("big"), { range: "bytes=1999990-2000009" });
    expect([part.status, part.headers.get("content-range")]).to.deep.equal([206, "bytes 1999990-2000009/3000000"]);
    expect(Buffer.from(await part.arrayBuffer()).equals(served.big.subarray(1_999_990, 2_000_010))).to.equal(true);
    const etag = whole.headers.get("etag") ?? "";
    expect((await served.ask("GET", served.address("big"), { "if-none-match": etag })).status).to.equal(304);
    expect((await served.ask("GET", served.address("big"), { range: "bytes=3000000-" })).status).to.equal(416);
    const head = await served.ask("HEAD", served.address("big"));
    expect([head.headers.get("content-length"), await head.text()]).to.deep.equal(["3000000", ""]);
    expect(await (await served.ask("GET", served.address("empty"))).text()).to.equal("");
    expect(await (await served.ask("GET", served.address("a%26b%3c%ff"))).text()).to.equal("odd");
  });

  it("refuses to write, endless depth, and names that are not there", async () => {
    await using served = await Served.start();
    for (const method of ["PUT", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK", "POST"]) {
      const answer = await served.ask(method, served.address("big"));
      expect([method, answer.status, answer.headers.get("allow")]).to.deep.equal([
        method,
        405,
        "OPTIONS, GET, HEAD, PROPFIND",
      ]);
    }
    const endless = await served.ask("PROPFIND", served.address(""), { depth: "infinity" });
    expect([endless.status, await endless.text()]).to.satisfy(
      ([status, text]: [number, string]) => status === 403 && text.includes("propfind-finite-depth"),
    );
    for (const path of ["none", "pipe", "outside", "loop/link", "big/x", "%2e%2e/x"]) {
      expect([path, (await served.ask("GET", served.address(path))).status]).to.deep.equal([path, 404]);
    }
    const options = await served.ask("OPTIONS", served.url);
    expect([options.status, options.headers.get("dav")]).to.deep.equal([204, "1"]);
  });

  it("lets nobody in without the password, and listens on the loopback only", async () => {
    await using served = await Served.start();
    expect(new URL(served.url).hostname).to.equal("127.0.0.1");
    expect((await fetch(served.url)).status).to.equal(401);
    for (const wrong of ["", "Basic", "Basic x", `Bearer ${served.password}`, `Basic ${btoa("holdfast:guess")}`]) {
      const answer = await fetch(served.address("big"), { headers: { authorization: wrong } });
      expect([wrong, answer.status]).to.deep.equal([wrong, 401]);
      expect(await answer.text()).not.to.include(served.password);
    }
    const remote = await served.sandbox.run("serve", "webdav", "--listen", "0.0.0.0:0", "--json");
    expect(remote.exitCode).to.equal(2);
    const taken = await served.sandbox.run("serve", "webdav", "--listen", new URL(served.url).host, "--json");
    expect(taken.json()).to.have.nested.property("error.code").that.is.oneOf(["LISTEN_FAILED", "REPO_LOCKED"]);
  });

  it("survives clients that leave in the middle, and ends with 0 at Ctrl-C", async () => {
    await using served = await Served.start();
    const credentials = Buffer.from(`holdfast:${served.password}`).toString("base64");
    const { port, pathname } = new URL(served.address("big"));
    for (let client = 0; client < 20; client += 1) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(`GET ${pathname} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ${credentials}\r\n\r\n`);
      await new Promise((resolve) => socket.once("data", resolve));
      socket.destroy();
    }
    expect((await served.ask("GET", served.address("big"))).status).to.equal(200);
    expect(await served.end()).to.equal(0);
  });

  it("works with rclone", async function () {
    requirePrograms(this, "rclone");
    await using served = await Served.start();
    const target = join(served.sandbox.home, "copy");
    const { stdout: obscured } = await run("rclone", ["obscure", served.password]);
    const remote = ["--webdav-url", served.url, "--webdav-user", "holdfast", "--webdav-pass", obscured.trim()];
    await run("rclone", ["--config", "/dev/null", ...remote, "copy", `:webdav:latest${served.sandbox.data}`, target]);
    expect((await readFile(join(target, "folder/link"))).equals(served.big)).to.equal(true);
    expect((await readdir(target)).length).to.equal(4);
  });

  it("works with cadaver", async function () {
    requirePrograms(this, "cadaver");
    await using served = await Served.start();
    const { home, data } = served.sandbox;
    const { hostname } = new URL(served.url);
    await writeFile(join(home, ".netrc"), `machine ${hostname} login holdfast password ${served.password}\n`, {
      mode: 0o600,
    });
    await writeFile(join(home, "orders"), `cd latest${data}\nget big ${join(home, "fetched")}\nquit\n`);
    await run("sh", ["-c", 'cadaver "$1" < "$2"', "sh", served.url, join(home, "orders")], {
      env: { ...process.env, HOME: home },
    });
    expect((await readFile(join(home, "fetched"))).equals(served.big)).to.equal(true);
  });
});
