import { expect, test } from "bun:test";
import { join } from "node:path";
import { missing, PEER_SYSTEMS, skipped } from "./peers.ts";

test.skipIf(missing !== undefined).each(PEER_SYSTEMS)(
  `guests of random bytes neither make the backend throw nor misuse libnvmm on %s${skipped}`,
  (system) => {
    const script = join(import.meta.dir, "random-guests.ts");
    const child = Bun.spawnSync([process.execPath, script, system, "1", "33"], { stderr: "pipe", timeout: 60_000 });
    expect([child.stdout.toString().trim(), child.stderr.toString()]).toEqual(["done", ""]);
  },
  60_000,
);
