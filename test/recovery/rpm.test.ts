/** Files of rpm packages, built, installed and read by rpm itself. */
import { copyFile, readFile, rm, writeFile } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { Candidate, LostFile } from "../../src/recovery/strategy.js";
import { packageManagerStrategy } from "../../src/recovery/strategies/package-manager.js";
import { fileInCpio } from "../../src/recovery/strategies/rpm.js";
import { NEVER, RecoveryRig, bytesOf, lostFile, nodeAt, sha256 } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { RpmRoot } from "../support/rpm-root.js";
import { useTempFolder } from "../support/temp-folder.js";

const NAME = "/usr/share/hf-tool/a.txt";
const TOOL = {
  name: "hf-tool",
  version: "2.0",
  files: { [NAME]: "packaged\n", "/etc/hf.conf": "a=1\n" },
  links: { "/usr/share/hf-tool/z.txt": NAME },
  configurationFiles: ["/etc/hf.conf"],
};

describe("a file of an rpm package", () => {
  const folder = useTempFolder("rpm");
  const notes: string[] = [];

  before(function () {
    requireRoot(this);
    requirePrograms(this, "rpm", "rpm2cpio", "rpmbuild");
  });
  beforeEach(() => {
    notes.length = 0;
  });

  const system = (): RpmRoot => new RpmRoot(folder().at("system"), folder().below("build").path);
  const at = (name: string): BytePath => pathFromText(`${folder().at("system")}${name}`);
  const search = async (lost: LostFile, parameters = {}): Promise<Candidate[]> => {
    const around = { scratchDir: folder().path, note: (text: string): void => void notes.push(text) };
    const asked = { ...around, parameters: { root: folder().at("system"), ...parameters } };
    const found: Candidate[] = [];
    for await (const candidate of packageManagerStrategy().find(lost, asked, NEVER)) found.push(candidate);
    return found;
  };

  it("comes from the same version in dnf's cache by the digest of the database, also when its content is a link's", async () => {
    system().install(TOOL);
    for (const name of [NAME, "/usr/share/hf-tool/z.txt"]) {
      const path = at(name);
      const lost = lostFile(path, lastGoodOf(nodeAt(path)));
      await rm(folder().at(`system${name}`));
      const [one, ...others] = await search(lost);
      expect(others).to.deep.equal([]);
      if (one === undefined) throw new Error(notes.join());
      expect((await bytesOf(one.open(NEVER))).toString()).to.equal("packaged\n");
      expect(one).to.deep.include({ fidelity: "exact", sha256: sha256("packaged\n"), ownerUid: 0 });
      expect(one.origin).to.equal("package hf-tool 2.0-1 (noarch)");
    }
  });

  it("heals damage by itself, and is offered as older when its owner had changed it", async () => {
    const root = system();
    root.install(TOOL);
    const chain = [{ strategy: "package_manager", parameters: { root: root.path } }];
    await using rig = await RecoveryRig.create(folder(), { policy: { chain, root: pathFromText(root.path) } });
    await rig.start();
    const path = at(NAME);
    rig.register(path);
    rig.versions.damage(sha256("packaged\n"));
    await writeFile(folder().at(`system${NAME}`), "");
    await rig.lose(path, "truncated");
    expect(await readFile(folder().at(`system${NAME}`), "utf8")).to.equal("packaged\n");
    await writeFile(folder().at("system/etc/hf.conf"), "a=2\n");
    const conf = at("/etc/hf.conf");
    const lost = lostFile(conf, lastGoodOf(nodeAt(conf)));
    await rm(folder().at("system/etc/hf.conf"));
    const [one] = await search(lost);
    expect(one?.fidelity).to.equal("older");
    expect(one?.notes.join()).to.contain("had been changed").and.to.contain("configuration file");
  });

  it("is not taken from another version, nor from a package file with other bytes", async () => {
    const root = system();
    root.install(TOOL, false);
    await rm(folder().at(`system${NAME}`));
    const lost = lostFile(at(NAME));
    expect(await search(lost)).to.deep.equal([]);
    expect(notes.join()).to.contain("hf-tool 2.0-1, whose package file is not on this machine");
    root.cache(root.build({ ...TOOL, version: "2.1" }), "hf-tool-2.0-1.noarch.rpm");
    expect(await rejection(search(lost))).to.have.property("code", "RECOVERY_FAILED");
    const forged = root.build({ ...TOOL, files: { ...TOOL.files, [NAME]: "forged\n" } });
    await copyFile(forged, folder().at("system/var/cache/dnf/updates-0123/packages/hf-tool-2.0-1.noarch.rpm"));
    expect(await search(lost)).to.deep.equal([]);
    expect(notes.join()).to.contain("other bytes than the package database promises");
    expect(await search(lostFile(at("/usr/share/none")))).to.deep.equal([]);
  });
});

describe("a cpio archive", () => {
  it("of hostile bytes ends the search and never crashes it", () => {
    const head = Buffer.from(`070701${"0".repeat(8)}000081a4${"0".repeat(88)}`);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.nat(109),
        fc.uint8Array({ maxLength: 9 }),
        (tail, at, noise) => {
          const bytes = Buffer.concat([head, tail]);
          bytes.set(noise.subarray(0, bytes.length - at), at);
          const found = fileInCpio(bytes, Buffer.from("./a"));
          expect(found === undefined || found.length <= bytes.length).to.equal(true);
        },
      ),
    );
  });
});
