/** The page about the API: it names every route that is served, and no other. */
import { readFile } from "node:fs/promises";
import { expect } from "chai";
import { projectPath } from "../support/project.js";
import { useTempFolder } from "../support/temp-folder.js";
import { send, startServer } from "./api-server.js";

const BASE = "/api/v1/backup/";
/** `GET, POST backups/:id/{files,verify}` in code marks. */
const ENTRY = /`((?:GET|POST|PUT|PATCH|DELETE)(?:, (?:GET|POST|PUT|PATCH|DELETE))*) ([^\s`]+)`/g;

/** `a/{b,c}` stands for `a/b` and `a/c`. */
function expanded(path: string): readonly string[] {
  const group = /\{([^}]+)\}/.exec(path);
  if (group === null) return [path];
  return (group[1] ?? "").split(",").flatMap((word) => expanded(path.replace(group[0], word)));
}

describe("docs/api.md", () => {
  const folder = useTempFolder("reference");

  it("names every canonical route, and none that is not there", async () => {
    await using _served = await startServer(folder().at("sock"));
    const answer = await send(folder().at("sock"), { path: "/openapi.json" });
    const { paths } = answer.json() as { paths: Record<string, Record<string, unknown>> };
    const served = Object.entries(paths)
      .filter(([path]) => path.startsWith(BASE))
      .flatMap(([path, methods]) => {
        const name = path.slice(BASE.length).replace(/\{(\w+)\}/g, ":$1");
        return Object.keys(methods).map((method) => `${method.toUpperCase()} ${name}`);
      });
    const table = (await readFile(projectPath("docs", "api.md"), "utf8"))
      .split("\n")
      .filter((line) => line.startsWith("|"));
    const told = [...table.join("\n").matchAll(ENTRY)].flatMap(([, methods = "", path = ""]) =>
      methods.split(", ").flatMap((method) => expanded(path).map((name) => `${method} ${name}`)),
    );
    expect([...told].sort()).to.deep.equal([...served].sort());
  });
});
