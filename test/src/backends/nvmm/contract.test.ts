import { afterAll, expect, test } from "bun:test";
import { contract } from "../../../contract/contract.ts";
import { missing, openRig, PEER_SYSTEMS, type Rig, skipped } from "./peers.ts";

for (const system of PEER_SYSTEMS) {
  const rig: Rig | undefined = missing === undefined ? openRig(system, "contract") : undefined;
  // As at HZ=1000: the suite's deadlines are short.
  rig?.peer.option("tickMs", 1);
  contract({ name: `nvmm on ${system}'s libnvmm`, host: rig?.host, missing });

  test.skipIf(rig === undefined)(`the contract misuses libnvmm of ${system} nowhere${skipped}`, () => {
    const { peer } = rig as Rig;
    expect(peer.violation()).toBe("");
    expect(peer.counter("violations")).toBe(0);
    expect(peer.counter("run")).toBeGreaterThan(100);
  });

  afterAll(() => rig?.host[Symbol.dispose]());
}
