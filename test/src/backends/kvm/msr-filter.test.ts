import { describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import type { MsrExitPolicy } from "../../../../src/backend.ts";
import { openKvm } from "../../../../src/backends/kvm/backend.ts";
import type { Exit } from "../../../../src/exit.ts";
import { kvmGuest, noKvm } from "./guest.ts";

const lacksFilter = (): string => {
  if (noKvm !== "") return noKvm;
  using kvm = openKvm();
  return kvm.capabilities.msrFilter ? "" : " (skipped: this KVM lacks KVM_CAP_X86_MSR_FILTER)";
};
const noFilter = lacksFilter();

const LSTAR = 0xc0000082;
const CSTAR = 0xc0000083;
const SFMASK = 0xc0000084;

/** Reads and writes three neighbours; what becomes an exit is told. */
function accesses(filter: NonNullable<MsrExitPolicy["filter"]>): string[] {
  const one = (msr: number) => `
    mov ecx, ${msr}
    rdmsr
    wrmsr`;
  using guest = kvmGuest(
    asm({ bits: 16 })`${[LSTAR, CSTAR, SFMASK].map(one).join("\n")}
    hlt`,
    { msrExits: { filter } },
  );
  const seen: string[] = [];
  for (
    let exit: Exit = guest.vcpu.run({ timeoutMs: 5000 });
    exit.kind !== "hlt";
    exit = guest.vcpu.run({ timeoutMs: 5000 })
  ) {
    if (exit.kind !== "rdmsr" && exit.kind !== "wrmsr") throw new Error(exit.kind);
    expect(exit.reason).toBe("filter");
    seen.push(`${exit.kind} ${exit.msr.toString(16)}`);
  }
  return seen;
}

describe.skipIf(noFilter !== "")(`setMsrFilter()${noFilter}`, () => {
  test("denies exactly the range it is given, for reads, for writes or for both", () => {
    const range = { first: CSTAR, count: 1 } as const;
    expect(accesses([{ ...range, access: "read" }])).toEqual(["rdmsr c0000083"]);
    expect(accesses([{ ...range, access: "write" }])).toEqual(["wrmsr c0000083"]);
    expect(accesses([{ ...range, access: "readWrite" }])).toEqual(["rdmsr c0000083", "wrmsr c0000083"]);
  });

  test("takes several ranges, and ranges of several MSRs", () => {
    expect(
      accesses([
        { first: LSTAR, count: 2, access: "read" },
        { first: SFMASK, count: 1, access: "write" },
      ]),
    ).toEqual(["rdmsr c0000082", "rdmsr c0000083", "wrmsr c0000084"]);
  });

  test("denies nothing with an empty list", () => {
    expect(accesses([])).toEqual([]);
  });

  for (const [what, filter] of [
    ["17 ranges", Array.from({ length: 17 }, (_, i) => ({ first: i * 16, count: 1, access: "read" }) as const)],
    ["a range of none", [{ first: 0, count: 0, access: "read" }]],
    ["a range of 12,289", [{ first: 0, count: 12289, access: "read" }]],
    ["a range of a fraction", [{ first: 0, count: 1.5, access: "read" }]],
  ] as [string, NonNullable<MsrExitPolicy["filter"]>][]) {
    test(`refuses ${what} as RangeError`, () => {
      using kvm = openKvm();
      expect(() => kvm.createVm({ msrExits: { filter } })).toThrow(RangeError);
    });
  }

  test("takes a range as large as KVM allows", () => {
    using kvm = openKvm();
    kvm
      .createVm({ msrExits: { filter: [{ first: 0x40000000, count: 12288, access: "readWrite" }] } })
      [Symbol.dispose]();
  });
});
