import { expect, test } from "bun:test";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import { Host } from "../../../../src/host.ts";

const CODE = 0x2_0000;
/** INC EAX, HLT and DEC EAX, HLT. */
const INC = [0xff, 0xc0, 0xf4];
const DEC = [0xff, 0xc8, 0xf4];

test("code that the caller changed is translated anew in every mode, the one it ran in before too", () => {
  using host = new Host(openSoft());
  using vm = host.createVm({ memoryBytes: 0x10_0000 });
  // Nine pages of code: so many are not looked at before every run.
  for (let page = 0; page < 9; page++) vm.memory.write(CODE + page * 0x1000, new Uint8Array(INC));
  const vcpu = vm.createVcpu(0);
  vcpu.enterMode("prot32", { entry: CODE, stack: 0x8_0000 });
  const run = (entry: number, stackBits: 16 | 32) => {
    const { registers } = vcpu;
    registers.ss = { ...registers.ss, db: stackBits === 32 ? 1 : 0 };
    registers.rip = BigInt(entry);
    registers.rax = 5n;
    expect(vcpu.run({ timeoutMs: 1000 }).kind).toBe("hlt");
    return registers.rax;
  };
  for (let page = 8; page >= 0; page--) expect(run(CODE + page * 0x1000, 32)).toBe(6n);
  vm.memory.write(CODE, new Uint8Array(DEC));
  expect(run(CODE, 16)).toBe(4n);
  expect(run(CODE, 32)).toBe(4n);
});

test("an invalid instruction is valid once any of its bytes was changed", () => {
  using host = new Host(openSoft());
  using vm = host.createVm({ memoryBytes: 0x10_0000 });
  const vcpu = vm.createVcpu(0);
  vcpu.enterMode("prot32", { entry: CODE, stack: 0x8_0000 });
  const run = (modrm: number) => {
    vm.memory.write(CODE + 2, new Uint8Array([modrm]));
    vcpu.registers.rip = BigInt(CODE);
    vcpu.registers.rbx = 0x4_0000n;
    return vcpu.run({ timeoutMs: 1000 }).kind;
  };
  // LOCK INC EAX is #UD, which is a triple fault here; LOCK INC [EBX] is not.
  vm.memory.write(CODE, new Uint8Array([0xf0, 0xff, 0xc0, 0xf4]));
  expect(run(0xc0)).toBe("shutdown");
  expect(run(0x03)).toBe("hlt");
  expect(run(0xc0)).toBe("shutdown");
});
