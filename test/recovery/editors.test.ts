/** What emacs, nano and LibreOffice keep in folders of their own, made by the real emacs and nano where installed. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { rename, rm, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { Candidate, LostFile } from "../../src/recovery/strategy.js";
import { findEditorCopies } from "../../src/recovery/strategies/editor-copies.js";
import { tempFilesStrategy } from "../../src/recovery/strategies/temp-files.js";
import { MemoryVersions, NEVER, bytesOf, lostFile, nodeAt } from "../support/recovery-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("copies that editors keep elsewhere", () => {
  const folder = useTempFolder("editors");

  it("of emacs: the autosave of a killed session, and the backup from before the save", async function () {
    requirePrograms(this, "emacs");
    const file = await folder().write("data/no!te.txt", "first\n");
    for (const name of ["backups", "auto-save"]) await folder().folder(`home/.emacs.d/${name}`);
    const home = folder().at("home/.emacs.d");
    const session = `(progn
      (setq backup-directory-alist '(("." . "${home}/backups")) make-backup-files t backup-by-copying t
            backup-enable-predicate (lambda (name) t)
            auto-save-file-name-transforms '((".*" "${home}/auto-save/" t)) auto-save-default t)
      (find-file "${file}") (goto-char (point-max)) (insert "second\\n") (save-buffer)
      (insert "never saved\\n") (auto-save-mode 1) (do-auto-save t) (kill-emacs))`;
    execFileSync("emacs", ["-Q", "--batch", "--eval", session], { stdio: "ignore" });
    const found = await lose(file);
    expect(found).to.deep.equal({
      "first\nsecond\nnever saved\n": ["emacs autosave", "newer"],
      "first\n": ["editor backup", "older"],
    });
  });

  it("of nano: what a hang-up saved beside the file, and the backup in its folder", async function () {
    requirePrograms(this, "nano", "script");
    const file = await folder().write("data/a.txt", "first\n");
    const backups = await folder().folder("home/.nano/backups");
    const nano = spawn("script", ["-qfc", `exec nano -I -B -C '${backups}' '${file}'`, "/dev/null"], {
      stdio: ["pipe", "pipe", "ignore"],
      env: { ...process.env, TERM: "xterm" },
    });
    const shown: string[] = [];
    nano.stdout.on("data", (part: Buffer) => shown.push(part.toString("latin1")));
    const until = async (text: string): Promise<void> => {
      while (!shown.join("").includes(text)) await once(nano.stdout, "data");
      shown.length = 0;
    };
    await until("first");
    nano.stdin.write("saved \u000f\r");
    await until("Wrote");
    nano.stdin.write("unsaved ");
    await until("unsaved");
    execFileSync("pkill", ["-HUP", "-P", String(nano.pid), "nano"]);
    await once(nano, "exit");
    const found = await lose(file);
    expect(found).to.deep.equal({
      "saved unsaved first\n": ["nano emergency save", "newer"],
      "first\n": ["editor backup", "older"],
    });
  });

  it("of LibreOffice: the recovery copy that its profile lists for the document", async () => {
    const file = await folder().write("data/a ü.odt", "saved");
    const user = folder().at("home/.config/libreoffice/4/user");
    await folder().write("home/.config/libreoffice/4/user/backup/a ü.odt_0.odt", "autosaved");
    await folder().write("home/.config/libreoffice/4/user/secret", "secret");
    const item = (number: number, original: string, copy: string): string =>
      `<item oor:path="/org.openoffice.Office.Recovery/RecoveryList"><node oor:name="recovery_item_${String(number)}" ` +
      `oor:op="replace"><prop oor:name="OriginalURL" oor:op="fuse"><value>file://${encodeURI(original)}</value></prop>` +
      `<prop oor:name="TempURL" oor:op="fuse"><value>${copy}</value></prop></node></item>\n`;
    const list = [
      item(1, "/other.odt", `file://${encodeURI(`${user}/backup/a ü.odt_0.odt`)}`),
      item(2, file, `file://${encodeURI(`${user}/secret`)}`),
      item(3, file, "file:///etc/passwd"),
      item(4, file, "$(userurl)/backup/a%20%C3%BC.odt_0.odt"),
    ];
    await writeFile(
      `${user}/registrymodifications.xcu`,
      `<?xml version="1.0"?>\n<oor:items>${list.join("")}</oor:items>`,
    );
    expect(await lose(file)).to.deep.equal({ autosaved: ["LibreOffice recovery copy", "newer"] });
  });

  it("of JetBrains' IDEs are named to people and never read", async () => {
    const storage = "home/.cache/JetBrains/IntelliJIdea2025.2/LocalHistory/changes.storageData";
    await folder().write(storage, Buffer.from([0, 1, 2, 3]));
    const file = await folder().write("data/src/a.txt", "first\n");
    const search = async (): Promise<readonly string[]> => {
      const notes: string[] = [];
      const asked = { parameters: { homes: [folder().at("home")] }, scratchDir: folder().path };
      const around = { ...asked, note: (text: string): void => void notes.push(text) };
      for await (const _ of tempFilesStrategy(new MemoryVersions()).find(lostFile(pathFromText(file)), around, NEVER))
        throw new Error("something was offered");
      return notes;
    };
    await rm(file);
    expect(await search(), "outside of a project").to.deep.equal([]);
    await folder().write("data/.idea/misc.xml", "<project/>");
    const [note, ...others] = await search();
    expect(others).to.deep.equal([]);
    expect(note).to.contain("IntelliJIdea2025.2/LocalHistory: ").and.to.contain("Local History > Show History");
  });

  it("are never reached through a link below the home", async () => {
    const file = await folder().write("data/a.txt", "mine");
    const marked = file.replaceAll("/", "!");
    await folder().write(`secret/${marked}~`, "secret");
    await folder().folder("home/.emacs.d");
    await symlink(folder().at("secret"), folder().at("home/.emacs.d/backups"));
    const history = { version: 1, resource: `file://${file}`, entries: [{ id: "aaaa", timestamp: 1 }] };
    await folder().write("secret/h/entries.json", JSON.stringify(history));
    await folder().write("secret/h/aaaa", "secret");
    await folder().folder("home/.config/Code/User");
    await symlink(folder().at("secret"), folder().at("home/.config/Code/User/History"));
    expect(await lose(file)).to.deep.equal({});
    await rm(folder().at("home/.emacs.d/backups"));
    await rename(folder().at("secret"), folder().at("home/.emacs.d/backups"));
    await writeFile(file, "mine");
    expect(await lose(file)).to.deep.equal({ secret: ["editor backup", "older"] });
  });

  it("are looked for without harm in lists of any bytes", async () => {
    await folder().folder("home/.config/libreoffice/4/user");
    const list = folder().at("home/.config/libreoffice/4/user/registrymodifications.xcu");
    const piece = fc.constantFrom(
      '<node oor:name="recovery_item_1"',
      '<prop oor:name="OriginalURL"><value>',
      "</value>",
      "</node>",
      "file:///a",
      "%zz",
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(piece, fc.string())), async (pieces) => {
        await writeFile(list, pieces.join(""));
        await findEditorCopies("/a" as BytePath, folder().bytes("home"), NEVER);
      }),
      { numRuns: 50 },
    );
    await writeFile(list, '<node oor:name="recovery_item_1'.repeat(400_000));
    const startMs = performance.now();
    expect(await findEditorCopies("/a" as BytePath, folder().bytes("home"), NEVER)).to.deep.equal([]);
    expect(performance.now() - startMs).to.be.lessThan(2000);
  });

  /** Deletes the file; gives what is found of it: kind and relation by content. */
  async function lose(file: string): Promise<Readonly<Record<string, readonly [string, string]>>> {
    const path = pathFromText(file);
    const versions = new MemoryVersions();
    versions.keep(path);
    const lost: LostFile = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(file);
    const search = { parameters: { homes: [folder().at("home")] }, note: () => undefined, scratchDir: folder().path };
    const found: Record<string, readonly [string, string]> = {};
    for await (const candidate of tempFilesStrategy(versions).find(lost, search, NEVER))
      found[(await bytesOf(candidate.open(NEVER))).toString("utf8")] = [labelOf(candidate), candidate.fidelity];
    return found;
  }
});

function labelOf(candidate: Candidate): string {
  return candidate.origin.slice(0, candidate.origin.indexOf(" /"));
}
