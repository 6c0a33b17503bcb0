import { describe, expect, test } from "bun:test";
import { openKvm } from "../../../../src/backends/kvm/backend.ts";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import type { Exit } from "../../../../src/exit.ts";
import { EXPECTATIONS, type Need } from "../../../guests/expectations.ts";
import { pagesOutsideLongMode, runGuest } from "../../../guests/machine.ts";
import { missing, openRig, PEER_SYSTEMS, skipped } from "./peers.ts";
import { recording } from "./recording.ts";

describe.each(PEER_SYSTEMS)(`guests on NVMM of %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("need the peer", () => {});
    return;
  }
  const { backend, peer } = openRig(system, "guests");
  using kvm = openKvm();
  const legacyPaging = pagesOutsideLongMode(kvm);
  const lacking: Partial<Record<Need, string>> = {
    irqchip: "NVMM has no irqchip",
    pit: "NVMM has no PIT",
    ...(legacyPaging ? {} : { legacyPaging: "this host pages only in long mode" }),
  };

  for (const expectation of EXPECTATIONS) {
    const reason = expectation.needs?.map((need) => lacking[need]).find((why) => why !== undefined);
    const skip = reason === undefined ? "" : ` (skipped: ${reason})`;
    test.skipIf(reason !== undefined)(`${expectation.guest} runs as on KVM and on soft, exit by exit${skip}`, () => {
      using host = openKvm();
      using soft = openSoft();
      const onNvmm: Exit[] = [];
      const onKvm: Exit[] = [];
      const onSoft: Exit[] = [];
      const run = runGuest(recording(backend, onNvmm), expectation);
      expect(run.transcript).toEqual([...expectation.transcript]);
      if (expectation.rip !== undefined) expect(run.rip).toBe(expectation.rip);
      runGuest(recording(host, onKvm), expectation);
      expect(onNvmm).toEqual(onKvm);
      runGuest(recording(soft, onSoft), expectation);
      expect(onNvmm).toEqual(onSoft);
      expect(peer.violation()).toBe("");
    });
  }
});
