import { expect, test } from "bun:test";
import { enterMode, MODE_BITS, type Mode, type ModeOptions } from "../../../src/boot/index.ts";
import { guestStateOf } from "../../../src/inspect/guest-state.ts";
import { validateState } from "../../../src/inspect/validate.ts";
import { GuestMemory } from "../../../src/memory.ts";
import { GPR_NAMES } from "../../../src/registers.ts";
import { noHardware, noKvm, withKvm } from "./host-kvm.ts";

/** `mov eax, 0xd0000000; mov byte [eax], CS's low byte`: tells the ring to whoever emulates the MMIO store. */
const STORE_CS = [0x8c, 0xc9, 0xb8, 0, 0, 0, 0xd0, 0x88, 0x08];
/** `mov dx, 0xe9; mov ax, cs; out dx, al` in 16-bit code, where 0xd0000000 is out of reach. */
const OUT_CS = [0xba, 0xe9, 0x00, 0x8c, 0xc8, 0xee];

/** Runs the guest in 64 KiB and returns its first exit as text, and CS's selector. */
function firstExit(mode: Mode, options: ModeOptions): string {
  return withKvm((kvm) => {
    using vm = kvm.createVm();
    using memory = new GuestMemory(vm, kvm);
    memory.add({ gpa: 0, bytes: 0x10000 });
    using vcpu = vm.createVcpu(0);
    const setup = enterMode(vcpu.registers, memory, mode, options);
    memory.write(0x1000, Uint8Array.from(MODE_BITS[mode] === 16 ? OUT_CS : STORE_CS));
    expect(validateState(guestStateOf(vcpu.registers), { memory })).toEqual([]);
    vcpu.setDeadline(performance.now() + 5000);
    const exit = vcpu.run();
    const told = exit.kind === "mmioWrite" || exit.kind === "pioOut" ? exit.data[0] : undefined;
    expect([exit.kind, told]).toEqual([exit.kind, setup.segments.cs.selector & 0xff]);
    expect(vcpu.registers.readGpr(GPR_NAMES.indexOf("rsp"))).toBe(setup.gprs.rsp);
    return exit.kind === "mmioWrite" ? `mmioWrite ${exit.gpa.toString(16)}` : exit.kind;
  });
}

const MODES_RUN: [Mode, ModeOptions, string, string][] = [
  ["real16", {}, "pioOut", noKvm],
  ["unreal16", {}, "pioOut", noKvm],
  ["prot16", {}, "pioOut", noKvm],
  ["prot32", {}, "mmioWrite d0000000", noKvm],
  ["prot32", { ring: 3 }, "mmioWrite d0000000", noKvm],
  ["paged32", {}, "mmioWrite d0000000", noHardware],
  ["paged32", { ring: 3 }, "mmioWrite d0000000", noHardware],
  ["pae", {}, "mmioWrite d0000000", noHardware],
  ["pae", { ring: 3 }, "mmioWrite d0000000", noHardware],
  ["long64", {}, "mmioWrite d0000000", noKvm],
  ["long64-ring3", {}, "mmioWrite d0000000", noKvm],
  ["compat32", {}, "mmioWrite d0000000", noKvm],
  ["compat32", { ring: 3 }, "mmioWrite d0000000", noKvm],
];
for (const [mode, options, expected, skipped] of MODES_RUN) {
  const ring = options.ring === 3 ? " in ring 3" : "";
  test.skipIf(skipped !== "")(`enterMode() makes KVM run ${mode}${ring} in 64 KiB${skipped}`, () => {
    expect(firstExit(mode, options)).toBe(expected);
  });
}

test.skipIf(noHardware !== "")(`enterMode() makes KVM run paged32 with 4 KiB pages${noHardware}`, () => {
  const map = [
    { gva: 0, gpa: 0, bytes: 0x10000 },
    { gva: 0xd0000000, gpa: 0xe0000000, bytes: 0x1000 },
  ];
  expect(firstExit("paged32", { pageBytes: 0x1000, map })).toBe("mmioWrite e0000000");
});

test.skipIf(noKvm !== "")(`enterMode() lets prot32 reload its segments from the GDT it wrote${noKvm}`, () => {
  // mov ax, 0x10; mov ds, ax; mov ss, ax; jmp 0x18:next; next: mov eax, 0xd0000000; mov [eax], cl
  const code = [0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xd0, 0xea, 0x0f, 0x10, 0, 0, 0x18, 0, ...STORE_CS.slice(2)];
  const kind = withKvm((kvm) => {
    using vm = kvm.createVm();
    using memory = new GuestMemory(vm, kvm);
    memory.add({ gpa: 0, bytes: 0x10000 });
    using vcpu = vm.createVcpu(0);
    enterMode(vcpu.registers, memory, "prot32");
    memory.write(0x1000, Uint8Array.from(code));
    vcpu.setDeadline(performance.now() + 5000);
    return [vcpu.run().kind, vcpu.registers.readSegment("cs").selector];
  });
  expect(kind).toEqual(["mmioWrite", 0x18]);
});
