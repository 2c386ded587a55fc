/** Where things are: option before environment before configuration before default. */
import { expect } from "chai";
import { resolveControl } from "../../src/config/control.js";
import { resolvePlaces } from "../../src/config/places.js";
import { loadConfiguration } from "../../src/config/load.js";
import { useTempFolder } from "../support/temp-folder.js";

const folder = useTempFolder("places");

interface Wanted {
  readonly stateDir: string;
  readonly socket: string;
  readonly store: string;
}

describe("the places of holdfast", () => {
  for (const [name, options, wanted] of [
    [
      "root",
      { isRoot: true, env: { HOME: "/root" } },
      { stateDir: "/var/lib/holdfast", socket: "/run/holdfast/api.sock", store: "/var/lib/holdfast/store" },
    ],
    [
      "a service of its own user under systemd",
      { isRoot: false, env: { HOME: "/", STATE_DIRECTORY: "/var/lib/holdfast" } },
      { stateDir: "/var/lib/holdfast", socket: "/run/holdfast/api.sock", store: "/var/lib/holdfast/store" },
    ],
    [
      "a person with XDG folders",
      {
        isRoot: false,
        env: { HOME: "/h", XDG_STATE_HOME: "/xs", XDG_DATA_HOME: "/xd", XDG_RUNTIME_DIR: "/run/user/7" },
      },
      { stateDir: "/xs/holdfast", socket: "/run/user/7/holdfast/api.sock", store: "/xd/holdfast/store" },
    ],
    [
      "a person without any",
      { isRoot: false, env: { HOME: "/h", XDG_RUNTIME_DIR: "" } },
      {
        stateDir: "/h/.local/state/holdfast",
        socket: "/h/.local/state/holdfast/api.sock",
        store: "/h/.local/share/holdfast/store",
      },
    ],
    [
      "a state folder that was named",
      { isRoot: false, env: { HOME: "/h", HOLDFAST_STATE_DIR: "/s" } },
      { stateDir: "/s", socket: "/s/api.sock", store: "/s/store" },
    ],
    [
      "a socket and a state folder that were named",
      { isRoot: true, env: { HOME: "/h", HOLDFAST_STATE_DIR: "/s", HOLDFAST_SOCKET: "/x.sock" } },
      { stateDir: "/s", socket: "/x.sock", store: "/s/store" },
    ],
    [
      "options over the environment",
      { isRoot: true, env: { HOLDFAST_STATE_DIR: "/s", HOLDFAST_SOCKET: "/x" }, stateDir: "/o", socket: "/o.sock" },
      { stateDir: "/o", socket: "/o.sock", store: "/o/store" },
    ],
  ] as readonly (readonly [string, Parameters<typeof resolvePlaces>[0], Wanted])[]) {
    it(`are right for ${name}`, async () => {
      const file = await folder().write("empty.yaml", "");
      const loaded = await loadConfiguration({ ...options, configFile: file });
      const found = { stateDir: loaded.stateDir, socket: loaded.socket.path, store: loaded.storeUrl };
      expect(found).to.deep.equal(wanted);
      const control = await resolveControl({ ...options, configFile: file });
      expect({ stateDir: control.stateDir, socket: control.socket }).to.deep.equal({
        stateDir: wanted.stateDir,
        socket: wanted.socket,
      });
    });
  }

  it("are found by the command line in the configuration that the daemon reads", async () => {
    const text = "state_dir: ./st\naccess: {socket: {path: ./api.sock}}\n";
    const configFile = await folder().write("holdfast.yaml", text);
    const control = await resolveControl({ configFile, env: { HOME: "/h" }, isRoot: true });
    expect(control.socket).to.equal(folder().at("api.sock"));
    expect(control.stateDir).to.equal(folder().at("st"));
    const given = await resolveControl({ configFile, env: { HOLDFAST_SOCKET: "/over.sock" }, isRoot: true });
    expect(given.socket).to.equal("/over.sock");
  });

  it("prefer the file that an option names, then the environment's, then the person's own", async () => {
    const own = await folder().write(".config/holdfast/holdfast.yaml", "");
    const env = { HOME: folder().path };
    expect((await resolvePlaces({ env })).configFile).to.equal(own);
    expect((await resolvePlaces({ env: { ...env, HOLDFAST_CONFIG: "/e.yaml" } })).configFile).to.equal("/e.yaml");
    const both = await resolvePlaces({ env: { ...env, HOLDFAST_CONFIG: "/e.yaml" }, configFile: "/o.yaml" });
    expect(both.configFile).to.equal("/o.yaml");
  });
});
