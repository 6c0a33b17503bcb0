import { expect, test } from "bun:test";
import { asm } from "../../../../../src/asm/index.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import type { Vcpu } from "../../../../../src/vcpu.ts";
import { Vm } from "../../../../../src/vm.ts";

/** Functions of one byte's difference, `spacing` bytes apart; the guest calls them in turn for ever through EBX. */
const FUNCTIONS = 0x10000;
const CALLER = asm.prot32`
  from:
    mov ebx, ${FUNCTIONS}
    mov ecx, [0x8000]
  next:
    call ebx
    add ebx, [0x8004]
    dec ecx
    jnz next
    jmp from`;

interface Shape {
  readonly functions: number;
  readonly spacing: number;
}

/** `mov al, value; out 0x40, al; ret` */
const body = (value: number) => Uint8Array.of(0xb0, value, 0xe6, 0x40, 0xc3);

function guest({ functions, spacing }: Shape): { vm: Vm; vcpu: Vcpu } {
  const backend = openSoft();
  const vm = new Vm(backend, { memoryBytes: 1 << 20 }, backend);
  const vcpu = vm.createVcpu();
  vcpu.load(CALLER);
  vm.memory.write(0x8000, new Uint8Array(Uint32Array.of(functions, spacing).buffer));
  for (let i = 0; i < functions; i++) vm.memory.write(FUNCTIONS + i * spacing, body(i));
  return { vm, vcpu };
}

const SHAPES: readonly Shape[] = [
  { functions: 3, spacing: 64 },
  { functions: 40, spacing: 64 },
  { functions: 6, spacing: 4096 },
  { functions: 40, spacing: 4096 },
];

for (const shape of SHAPES) {
  const { functions, spacing } = shape;
  test(`code that a device rewrites runs as it is now, in any of ${functions} functions ${spacing} bytes apart`, () => {
    const { vm, vcpu } = guest(shape);
    using _vm = vm;
    const values = Array.from({ length: functions }, (_, i) => i);
    let calls = 0;
    let wrong = 0;
    let seed = functions;
    vm.pio.map(0x40, 1, {
      name: "rewriter",
      read() {},
      write(_, data) {
        if (data[0] !== values[calls++ % functions]) wrong++;
        if (calls % 37 !== 0) return;
        seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
        const which = (seed >>> 16) % functions;
        values[which] = seed >>> 24;
        vm.memory.write(FUNCTIONS + which * spacing + 1, Uint8Array.of(seed >>> 24));
      },
    });
    // Beyond the runs after which the CPU asks anew what to compare.
    vcpu.run({ maxExits: 10_000 });
    expect({ calls, wrong }).toEqual({ calls: 10_000, wrong: 0 });
  });
}

test("regions that were translated one by one are merged, with the same result at every instruction count", () => {
  const shape = { functions: 40, spacing: 64 };
  const run = (slice: number) => {
    const { vm, vcpu } = guest(shape);
    using _vm = vm;
    let sum = 0;
    vm.pio.map(0x40, 1, {
      name: "sum",
      read() {},
      write(_, data) {
        sum = (Math.imul(sum, 31) + (data[0] as number)) | 0;
      },
    });
    // Long enough for several looks at where the guest is.
    for (let left = 600_000; left > 0; left -= slice) vcpu.run({ maxInstructions: Math.min(slice, left) });
    const { rip, rbx, rcx, rflags } = vcpu.registers;
    return { sum, rip, rbx, rcx, rflags, instructions: vcpu.instructions, exits: vcpu.exits };
  };
  const whole = run(600_000);
  expect(whole.instructions).toBe(600_000);
  expect({ ...run(77_777), exits: 0 }).toEqual({ ...whole, exits: 0 });
});
