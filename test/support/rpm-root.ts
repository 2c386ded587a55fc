/** A folder that rpm takes for a system of its own, with packages that are built and installed by rpm itself. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export interface RpmSpec {
  readonly name: string;
  readonly version: string;
  /** Contents by absolute name; names that a spec file can hold. */
  readonly files: Readonly<Record<string, string>>;
  /** Names that are links to the inode of others. */
  readonly links?: Readonly<Record<string, string>>;
  readonly configurationFiles?: readonly string[];
}

const DATABASE = "/var/lib/rpm";

export class RpmRoot {
  readonly path: string;
  readonly #workplace: string;

  /** `workplace` is where packages are built. */
  constructor(path: string, workplace: string) {
    this.path = path;
    this.#workplace = workplace;
    mkdirSync(join(path, DATABASE), { recursive: true });
  }

  /** Builds the package file; gives where it is. */
  build(spec: RpmSpec): string {
    const staged = join(this.#workplace, `${spec.name}-${spec.version}`);
    const configuration = spec.configurationFiles ?? [];
    const commands = [
      ...Object.entries(spec.files).map(([name, content]) => {
        const from = join(staged, name);
        mkdirSync(dirname(from), { recursive: true });
        writeFileSync(from, content);
        return `install -D -m 644 "${from}" "%{buildroot}${name}"`;
      }),
      ...Object.entries(spec.links ?? {}).map(([name, of]) => `ln "%{buildroot}${of}" "%{buildroot}${name}"`),
    ];
    const names = [...Object.keys(spec.files), ...Object.keys(spec.links ?? {})];
    const text = [
      ...[`Name: ${spec.name}`, `Version: ${spec.version}`, "Release: 1", "Summary: made by a test", "License: none"],
      ...["BuildArch: noarch", "%description", "made by a test", "%install", ...commands],
      ...["%files", "%defattr(0644,root,root,0755)"],
      ...names.map((name) => (configuration.includes(name) ? `%config "${name}"` : `"${name}"`)),
      "",
    ];
    const file = join(this.#workplace, `${spec.name}.spec`);
    writeFileSync(file, text.join("\n"));
    const defined = [`_topdir ${this.#workplace}/top`, `_rpmdir ${this.#workplace}`].flatMap((each) => [
      "--define",
      each,
    ]);
    execFileSync("rpmbuild", ["-bb", ...defined, file], { stdio: "ignore" });
    return join(this.#workplace, "noarch", `${spec.name}-${spec.version}-1.noarch.rpm`);
  }

  /** Builds and installs a package; its file lies in dnf's cache afterwards unless told. */
  install(spec: RpmSpec, isCached = true): string {
    const archive = this.build(spec);
    const options = [`--root=${this.path}`, `--dbpath=${DATABASE}`, "--nodeps", "--noscripts"];
    execFileSync("rpm", [...options, "-i", archive], { stdio: "ignore" });
    if (isCached) this.cache(archive);
    return archive;
  }

  /** Puts a package file where dnf would keep it, under the name of another if told. */
  cache(archive: string, name = archive.split("/").pop() ?? ""): void {
    const folder = join(this.path, "var/cache/dnf/updates-0123/packages");
    mkdirSync(folder, { recursive: true });
    cpSync(archive, join(folder, name));
  }
}
