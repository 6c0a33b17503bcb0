import { describe, expect, test } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import { createVm, GuestStateError } from "../../src/index.ts";

/** On the software CPU, which would run on in a state that no processor enters. */
function guest() {
  const vm = createVm({ backend: "soft", memoryBytes: 0x20000 });
  const vcpu = vm.createVcpu();
  vcpu.load(asm.long64`hlt`);
  return { vm, vcpu, [Symbol.dispose]: () => vm[Symbol.dispose]() };
}

describe("Vcpu and the state before its first run", () => {
  test("a bit that the script set wrong is named with its rule, and nothing ran", () => {
    using made = guest();
    const { registers } = made.vcpu;
    registers.cs = { ...registers.cs, db: 1 };
    let error: unknown;
    try {
      made.vcpu.run();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(GuestStateError);
    expect((error as GuestStateError).violations[0]?.what).toBe("CS.L and CS.D are both 1");
    expect(made.vcpu.exits).toBe(0);
  });

  test("it is refused until it is mended, and runs then", () => {
    using made = guest();
    const { registers } = made.vcpu;
    const { cr4 } = registers;
    registers.cr4 = cr4 | (1n << 63n);
    for (let i = 0; i < 2; i++) expect(() => made.vcpu.run()).toThrow("reserved bit 63 set");
    registers.cr4 = cr4;
    expect(made.vcpu.run().kind).toBe("hlt");
  });

  test("what enterMode() sets breaks no rule", () => {
    using made = guest();
    expect(made.vcpu.validate()).toEqual([]);
  });
});
