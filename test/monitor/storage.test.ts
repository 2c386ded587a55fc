/** Whether the file system under a root is the one of before, whatever its device is called now. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { expect } from "chai";
import { nativeCalls } from "../../src/base/native.js";
import { type RootIdentity, type RootVerdict, judgeRoot } from "../../src/monitor/watch/mounts.js";
import { storageIdOf } from "../../src/monitor/watch/storage-id.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the storage under a root", () => {
  const folder = useTempFolder();

  /** A second look at the root, on that device with that id. */
  const judged = (before: RootIdentity, what: string, id: string | undefined): RootVerdict => {
    const mount = { id: "9", device: "8:33", point: folder().bytes(), what };
    return judgeRoot(folder().bytes("root"), before, [mount], () => id);
  };
  const identity = (id: string | undefined): RootIdentity => {
    mkdirSync(folder().at("root"), { recursive: true });
    const mount = { id: "7", device: "8:17", point: folder().bytes(), what: "xfs /dev/sdb1" };
    const verdict = judgeRoot(folder().bytes("root"), undefined, [mount], () => id);
    if (verdict.state !== "there") throw new Error("the root is not there");
    return verdict.identity;
  };

  it("is the same under another device's name, and another under the same name", () => {
    const before = identity("uuid:one");
    expect(judged(before, "xfs /dev/sdc1", "uuid:one").state).to.equal("there");
    expect(judged(before, "xfs /dev/sdb1", "uuid:two")).to.deep.include({ state: "gone" });
    expect(judged(before, "xfs /dev/sdc1", "uuid:two")).to.deep.include({ state: "gone" });
  });

  it("goes by the device's name where an id is unknown, or was told in another way", () => {
    for (const [then, now] of [
      [undefined, "uuid:one"],
      ["uuid:one", undefined],
      ["fsid:one", "uuid:one"],
    ] as const) {
      expect(judged(identity(then), "xfs /dev/sdb1", now).state).to.equal("there");
      expect(judged(identity(then), "xfs /dev/sdc1", now).state).to.equal("gone");
    }
  });

  it("is known by what udev and btrfs say", async () => {
    await folder().write("udev/b8:17", "S:disk\nE:ID_FS_UUID=aaaa-bbbb\nE:ID_FS_TYPE=xfs\n");
    await folder().write("btrfs/cccc-dddd/devices/sdd1", "");
    const places = { udev: folder().at("udev"), byUuid: folder().at("none"), btrfs: folder().at("btrfs") };
    const at = (device: string, what: string): string | undefined =>
      storageIdOf({ device, point: folder().bytes(), what }, places);
    expect(at("8:17", "xfs /dev/sdb1")).to.equal("uuid:aaaa-bbbb");
    expect(at("8:18", "xfs /dev/sdb2")).to.equal(undefined);
    expect(at("0:40", "btrfs /dev/sdd1")).to.equal("uuid:cccc-dddd");
    expect(at("0:41", "tmpfs none")).to.equal(undefined);
  });

  it("is told apart on real disks: the same one on another device, another one, and a new one", function () {
    requireRoot(this);
    if (nativeCalls() === undefined) return skip(this, "koffi does not load here");
    const point = folder().at("disk");
    const root = folder().bytes("disk/root");
    mkdirSync(point);
    const makeRoot = (): void => {
      mkdirSync(folder().at("disk/root"));
    };
    const [first, second] = ["first.img", "second.img"].map((name) => newDisk(folder().at(name)));
    const look = (device: string, before: RootIdentity | undefined, make: () => void): RootVerdict =>
      mounted(device, point, () => {
        make();
        return judgeRoot(root, before);
      });
    const attached = [first, second].map((image) => attach(image ?? ""));
    try {
      const [a = "", b = ""] = attached;
      const before = look(a, undefined, makeRoot);
      if (before.state !== "there") throw new Error("the root is not there");
      const copied = attach(first ?? "");
      attached.push(copied);
      expect(look(copied, before.identity, () => undefined).state).to.equal("there");
      expect(look(b, before.identity, makeRoot).state).to.equal("gone");
      execFileSync("mkfs.ext4", ["-q", "-F", a]);
      expect(look(a, before.identity, () => undefined).state, "an empty disk in its place").to.equal("deleted");
      expect(look(a, before.identity, makeRoot).state).to.equal("gone");
    } finally {
      for (const device of attached) execFileSync("losetup", ["-d", device]);
    }
  });

  it("tells xfs by its first block where no udev notes it, and is the same on another device", function () {
    requireRoot(this);
    requirePrograms(this, "mkfs.xfs", "blkid");
    const image = folder().at("xfs.img");
    execFileSync("truncate", ["-s", "320M", image]);
    execFileSync("mkfs.xfs", ["-q", image]);
    const places = { udev: folder().at("none"), byUuid: folder().at("none"), btrfs: folder().at("none") };
    const told = execFileSync("blkid", ["-s", "UUID", "-o", "value", image], { encoding: "utf8" }).trim();
    const devices = [attach(image), attach(image)];
    try {
      const ids = devices.map((device) =>
        storageIdOf({ device: "7:0", point: folder().bytes(), what: `xfs ${device}` }, places),
      );
      expect(ids).to.deep.equal([`uuid:${told}`, `uuid:${told}`]);
      const none = storageIdOf({ device: "7:0", point: folder().bytes(), what: "xfs /dev/zero" }, places);
      expect(none).to.equal(undefined);
    } finally {
      for (const device of devices) execFileSync("losetup", ["-d", device]);
    }
  });
});

function newDisk(image: string): string {
  execFileSync("truncate", ["-s", "8M", image]);
  execFileSync("mkfs.ext4", ["-q", image]);
  return image;
}

function attach(image: string): string {
  return execFileSync("losetup", ["-f", "--show", image], { encoding: "utf8" }).trim();
}

function mounted<T>(device: string, point: string, work: () => T): T {
  execFileSync("mount", [device, point]);
  try {
    return work();
  } finally {
    execFileSync("umount", [point]);
  }
}
