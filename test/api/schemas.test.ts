/** The schemas of the interface: valid ones, since the program does not look at them again when it starts. */
import { Ajv } from "ajv";
import formats from "ajv-formats";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import type { Route } from "../../src/api/route.js";
import { browseRoutes } from "../../src/api/routes/browse.js";
import { dataRoutes } from "../../src/api/routes/data.js";
import { observeRoutes } from "../../src/api/routes/observe.js";
import { recoveryRoutes } from "../../src/api/routes/recovery.js";
import { systemRoutes } from "../../src/api/routes/system.js";
import { watchRoutes } from "../../src/api/routes/watch.js";

describe("the schemas of the interface", () => {
  it("are valid, so that each compiles when it is first needed", () => {
    const ajv = new Ajv({ strict: false });
    formats.default(ajv);
    const routes: readonly Route[] = [
      ...dataRoutes,
      ...browseRoutes,
      ...watchRoutes,
      ...recoveryRoutes,
      ...systemRoutes,
      ...observeRoutes(systemClock, new AbortController().signal),
    ];
    for (const { path, query, body } of routes) {
      for (const schema of [query, body]) {
        if (schema !== undefined) expect(() => ajv.compile(schema), path).not.to.throw();
      }
    }
    expect(() => ajv.compile({ type: "no such type" })).to.throw();
  });
});
