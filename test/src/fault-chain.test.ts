import { expect, test } from "bun:test";
import { guestPath } from "../../guests/assemble.ts";
import { testGuest } from "../../src/testing/index.ts";

test("a triple fault on the software CPU keeps the chain of faults that led to it, and the crash screen tells it", async () => {
  using guest = await testGuest(guestPath("triple-fault", "bin"), { backend: "soft", mode: "prot32" });
  await expect(guest).toTripleFault();
  // UD2 without an IDT: each delivery fails with #GP for its gate, index × 8 + IDT + the event's own bit (SDM Vol. 3A).
  expect(guest.vcpu.faultChain.map(({ vector }) => vector)).toEqual([6, 13, 8, 13]);
  expect(guest.report().replaceAll(/\s+/g, " ")).toContain("oldest first: #UD (6), then #GP (13) (error code 0x33)");
});
