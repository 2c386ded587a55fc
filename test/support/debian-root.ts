/** A folder that dpkg takes for a system of its own, with packages that are built and installed by dpkg itself. */
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export interface PackageSpec {
  readonly name: string;
  readonly version: string;
  /** Contents by absolute name. */
  readonly files: Readonly<Record<string, string>>;
  readonly configurationFiles?: readonly string[];
}

export class DebianRoot {
  readonly path: string;
  readonly #workplace: string;

  /** `workplace` is where packages are built. */
  constructor(path: string, workplace: string) {
    this.path = path;
    this.#workplace = workplace;
    for (const folder of [
      "var/lib/dpkg/info",
      "var/lib/dpkg/updates",
      "var/lib/dpkg/triggers",
      "var/cache/apt/archives",
    ])
      mkdirSync(join(path, folder), { recursive: true });
    for (const file of ["status", "available"]) writeFileSync(join(path, "var/lib/dpkg", file), "");
  }

  /** Builds the package file; gives where it is. */
  build(spec: PackageSpec): string {
    const tree = join(this.#workplace, `${spec.name}-${spec.version.replaceAll(":", "_")}`);
    for (const [name, content] of Object.entries(spec.files)) {
      mkdirSync(join(tree, dirname(name)), { recursive: true });
      writeFileSync(join(tree, name), content);
      chmodSync(join(tree, name), 0o644);
    }
    mkdirSync(join(tree, "DEBIAN"), { recursive: true, mode: 0o755 });
    chmodSync(join(tree, "DEBIAN"), 0o755);
    const control = [
      ...[`Package: ${spec.name}`, `Version: ${spec.version}`, "Architecture: all"],
      ...["Maintainer: Nobody <nobody@example.org>", "Description: made by a test", ""],
    ];
    writeFileSync(join(tree, "DEBIAN/control"), control.join("\n"));
    const configuration = spec.configurationFiles ?? [];
    if (configuration.length > 0) writeFileSync(join(tree, "DEBIAN/conffiles"), `${configuration.join("\n")}\n`);
    const sums = Object.keys(spec.files)
      .filter((name) => !configuration.includes(name))
      .map((name) => execFileSync("md5sum", [name.slice(1)], { cwd: tree, encoding: "utf8" }));
    writeFileSync(join(tree, "DEBIAN/md5sums"), sums.join(""));
    const name = `${spec.name}_${spec.version.replaceAll(":", "%3a")}_all.deb`;
    const archive = join(this.#workplace, name);
    execFileSync("dpkg-deb", ["--root-owner-group", "-Zgzip", "-b", tree, archive], { stdio: "ignore" });
    return archive;
  }

  /** Builds and installs a package; its file lies in the cache afterwards unless told. */
  install(spec: PackageSpec, isCached = true): void {
    const archive = this.build(spec);
    const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
    execFileSync("dpkg", [`--root=${this.path}`, "--force-bad-path", "-i", archive], {
      stdio: "ignore",
      env: { ...process.env, PATH: path },
    });
    if (isCached) this.cache(archive);
  }

  /** Puts a package file where apt would keep it. */
  cache(archive: string): void {
    cpSync(archive, join(this.path, "var/cache/apt/archives", archive.split("/").pop() ?? ""));
  }
}
