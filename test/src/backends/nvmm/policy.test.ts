import { expect, test } from "bun:test";
import { DEFAULT_POLICY, NvmmMsrs } from "../../../../src/backends/nvmm/policy.ts";

const UNKNOWN = 0x12345678;

test("NvmmMsrs answers the MSRs of its table: APIC_BASE kept, MTRR and machine-check ones 0", () => {
  const msrs = new NvmmMsrs(0, DEFAULT_POLICY, undefined);
  expect(msrs.onRead(0x1b)).toEqual({ do: "answer", value: 0xfee00900n });
  expect(msrs.onWrite(0x1b, 0xfee01900n)).toEqual({ do: "answer", value: 0xfee01900n });
  expect(msrs.onRead(0x1b)).toEqual({ do: "answer", value: 0xfee01900n });
  for (const index of [0xfe, 0x2ff, 0x179, 0x17a]) expect(msrs.onRead(index)).toEqual({ do: "answer", value: 0n });
  expect([msrs.onWrite(0x2ff, 0xc00n).do, msrs.onRead(0x2ff)]).toEqual(["answer", { do: "answer", value: 0n }]);
  expect([msrs.onWrite(0xfe, 1n).do, msrs.onWrite(0x179, 1n).do]).toEqual(["fault", "fault"]);
});

test("NvmmMsrs marks only vCPU 0 as bootstrap processor", () => {
  expect(new NvmmMsrs(1, DEFAULT_POLICY, undefined).get(0x1b)).toBe(0xfee00800n);
});

test.each([
  ["fault", undefined, "fault"],
  ["fault", { invalid: false }, "fault"],
  ["ignore", undefined, "answer"],
  ["fault", { invalid: true }, "exit"],
  ["ignore", { invalid: true }, "exit"],
] as const)("with unknownMsrs %s and msrExits %j an unknown MSR comes to %s", (unknownMsrs, exits, verdict) => {
  const msrs = new NvmmMsrs(0, { ...DEFAULT_POLICY, unknownMsrs }, exits);
  expect(msrs.onRead(UNKNOWN).do).toBe(verdict);
  expect(msrs.onWrite(UNKNOWN, 5n).do).toBe(verdict);
  expect(msrs.set(UNKNOWN, 5n)).toBe(false);
});
