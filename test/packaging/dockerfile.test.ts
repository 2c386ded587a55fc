/**
 * The Dockerfile, as far as it can be judged without a Docker engine: by hadolint, and by what the build copies; and the
 * shell scripts, by shellcheck.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { expect } from "chai";
import { projectPath } from "../support/project.js";
import { requirePrograms } from "../support/requirements.js";

interface Instruction {
  readonly name: string;
  readonly value: string;
}

/** Instructions with their continued lines joined and comments left out. */
function parseDockerfile(text: string): Instruction[] {
  const joined = text.replace(/^\s*#.*\n/gm, "").replace(/\\\n\s*/g, "");
  return joined
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const match = /^([A-Z]+)\s+(.*)$/.exec(line);
      if (match === null) throw new Error(`not an instruction: ${line}`);
      return { name: match[1] ?? "", value: match[2] ?? "" };
    });
}

const KNOWN = new Set(
  "FROM WORKDIR COPY RUN LABEL ENV VOLUME USER STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD ARG EXPOSE".split(" "),
);

describe("the Dockerfile", () => {
  let all: Instruction[];
  /** Of the last stage, which is what runs. */
  let last: Instruction[];
  const values = (name: string): string[] => last.filter((each) => each.name === name).map(({ value }) => value);

  before(async () => {
    all = parseDockerfile(await readFile(projectPath("Dockerfile"), "utf8"));
    last = all.slice(all.findLastIndex(({ name }) => name === "FROM"));
  });

  it("passes its linter, which a bad one does not", function () {
    requirePrograms(this, "hadolint");
    const lint = (input: string): { readonly status: number | null; readonly stdout: string } =>
      spawnSync("hadolint", ["-"], { input, encoding: "utf8" });
    expect(lint("FROM debian\nRUN cd /tmp && sudo make\n").status).to.equal(1);
    const { status, stdout } = lint(readFileSync(projectPath("Dockerfile"), "utf8"));
    expect(stdout).to.equal("");
    expect(status).to.equal(0);
  });

  it("has only instructions that are known, and no ADD", () => {
    expect(all.map(({ name }) => name).filter((name) => !KNOWN.has(name))).to.deep.equal([]);
  });

  it("builds in one stage and runs in another, both on a slim image of a named version", () => {
    const images = all.filter(({ name }) => name === "FROM").map(({ value }) => value);
    expect(images).to.have.lengthOf(2);
    for (const image of images) expect(image).to.match(/^node:\d+-\w+-slim\b/);
  });

  it("leaves the compiler, the sources and the package lists behind", () => {
    expect(all.some(({ value }) => value.includes("npm prune --omit=dev"))).to.equal(true);
    expect(values("COPY").some((value) => /(?:^|\s)src(?:\s|$)|test/.test(value))).to.equal(false);
    for (const command of values("RUN").filter((value) => value.includes("apt-get install"))) {
      expect(command).to.contain("--no-install-recommends");
      expect(command).to.contain("rm -rf /var/lib/apt/lists/*");
    }
  });

  it("does not run as root, by number, so that Kubernetes can check it", () => {
    expect(values("USER")).to.deep.equal(["10001:10001"]);
  });

  it("starts, checks and stops the program without a shell, so that signals reach it", () => {
    expect(JSON.parse(values("ENTRYPOINT")[0] ?? "")).to.deep.equal([
      "tini",
      "--",
      "node",
      "--max-semi-space-size=2",
      "/opt/holdfast/bin/holdfast",
    ]);
    expect(JSON.parse(values("CMD")[0] ?? "")).to.deep.equal(["daemon"]);
    const health = values("HEALTHCHECK")[0] ?? "";
    expect(JSON.parse(health.slice(health.indexOf("CMD ") + 4))).to.include.members(["node", "health"]);
    expect(values("STOPSIGNAL")).to.deep.equal(["SIGTERM"]);
  });

  it("copies from the checkout only what is there and what .dockerignore lets through", async () => {
    const ignore = await readFile(projectPath(".dockerignore"), "utf8");
    const copied = all
      .filter(({ name, value }) => name === "COPY" && !value.startsWith("--from="))
      .flatMap(({ value }) => value.split(/\s+/).slice(0, -1));
    expect(copied).to.include.members(["package-lock.json", "src", "bin", "config"]);
    for (const name of copied) {
      expect(existsSync(projectPath(name)), name).to.equal(true);
      expect(ignore.split("\n"), name).to.include(`!${name}`);
    }
  });

  it("holds no secret", () => {
    expect(values("ENV").join("\n")).not.to.match(/password|secret|token|key/i);
  });
});

describe("shell scripts", () => {
  it("pass shellcheck", function () {
    requirePrograms(this, "shellcheck");
    const { status, stdout } = spawnSync("shellcheck", [projectPath(".ci/run")], { encoding: "utf8" });
    expect(stdout).to.equal("");
    expect(status).to.equal(0);
  });
});
