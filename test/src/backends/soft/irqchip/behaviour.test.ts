import { describe, expect, test } from "bun:test";
import { assemble } from "../../../../../src/asm/index.ts";
import type { Backend } from "../../../../../src/backend.ts";
import { openKvm } from "../../../../../src/backends/kvm/backend.ts";
import { openSoft } from "../../../../../src/backends/soft/backend.ts";
import type { Exit } from "../../../../../src/exit.ts";
import type { Vcpu } from "../../../../../src/vcpu.ts";
import { Vm } from "../../../../../src/vm.ts";
import { noKvm } from "../../../boot/host-kvm.ts";

/** One guest in unreal mode, so that it reaches the APICs; its interrupt vectors lead to labels. */
class Guest implements Disposable {
  readonly vm: Vm;
  readonly vcpu: Vcpu;

  constructor(backend: Backend, source: string, handlers: Record<number, string> = {}) {
    this.vm = new Vm(backend, { memoryBytes: 0x20000, irqchip: "full", pit: true });
    this.vcpu = this.vm.createVcpu(0);
    const program = assemble(`bits 16\n org 0x1000\n${DEFINITIONS}\n${source}`);
    this.vm.memory.write(0x1000, program.bytes);
    for (const [vector, label] of Object.entries(handlers)) {
      this.vm.memory.writeU16(Number(vector) * 4, Number(program.symbols.get(label)));
      this.vm.memory.writeU16(Number(vector) * 4 + 2, 0);
    }
    this.vcpu.enterMode("unreal16", { entry: 0x1000 });
  }

  /** Port and low byte of the next OUTs. */
  outs(count: number, vcpu: Vcpu = this.vcpu): [port: number, value: number][] {
    return Array.from({ length: count }, () => {
      let exit = vcpu.run({ timeoutMs: 4000 });
      while (exit.kind === "interrupted" && exit.by === "signal") exit = vcpu.run({ timeoutMs: 4000 });
      if (exit.kind !== "pioOut") throw new Error(`expected an OUT, not ${JSON.stringify(exit)}`);
      return [exit.port, exit.data[0] as number];
    });
  }

  rest(timeoutMs = 5): Exit {
    return this.vcpu.run({ timeoutMs });
  }

  [Symbol.dispose](): void {
    this.vm[Symbol.dispose]();
  }
}

const DEFINITIONS = `
PIC1 equ 0x20
PIC2 equ 0xa0
LAPIC equ 0xfee00000
IOAPIC equ 0xfec00000
%macro outp 2
        mov al, %2
        out %1, al
%endmacro
%macro pics 2                   ; masks of both PICs, vectors from 0x20 and 0x28
        outp PIC1, 0x11
        outp PIC1 + 1, 0x20
        outp PIC1 + 1, 4
        outp PIC1 + 1, 1
        outp PIC2, 0x11
        outp PIC2 + 1, 0x28
        outp PIC2 + 1, 2
        outp PIC2 + 1, 1
        outp PIC1 + 1, %1
        outp PIC2 + 1, %2
%endmacro
%macro apic 2
        mov dword [dword LAPIC + %1], %2
%endmacro
%macro redirect 3               ; pin, low, high
        mov dword [dword IOAPIC], 0x11 + 2 * %1
        mov dword [dword IOAPIC + 0x10], %3
        mov dword [dword IOAPIC], 0x10 + 2 * %1
        mov dword [dword IOAPIC + 0x10], %2
%endmacro`;

const ENGINES: [name: string, skip: string, open: () => Backend][] = [
  ["soft", "", openSoft],
  ["kvm", noKvm, openKvm],
];

for (const [name, skip, open] of ENGINES) {
  const rule = (title: string, check: (backend: Backend) => void): void => {
    test.skipIf(skip !== "")(title + skip, () => {
      using backend = open();
      check(backend);
    });
  };
  describe(`irqchip on ${name}`, () => {
    rule("IRQ 9 comes through both PICs, and the next one waits for both EOIs", (backend) => {
      using guest = new Guest(
        backend,
        `pics 0xfb, 0xfd
        sti
        out 0x80, al
.wait:  hlt
        jmp .wait
nine:   outp 0x81, 9
        outp PIC2, 0x20
        outp PIC1, 0x20
        iret`,
        { 41: "nine" },
      );
      guest.outs(1);
      const line = guest.vm.irqLine(9);
      for (let i = 0; i < 2; i++) {
        line.set(true);
        line.set(false);
        expect(guest.outs(1)).toEqual([[0x81, 9]]);
      }
      expect(guest.rest()).toEqual({ kind: "interrupted", by: "timeout" });
    });

    rule("a line of higher priority nests, one of lower priority waits for EOI", (backend) => {
      using guest = new Guest(
        backend,
        `pics 0xa5, 0xff        ; lines 1, 3, 4, 6
        sti
        out 0x80, al
        jmp $
one:    outp 0x81, 1
        outp PIC1, 0x61         ; specific EOI
        iret
four:   outp 0x81, 4
        sti
        outp 0x82, 0            ; here line 1 nests, line 6 does not
        nop
        outp PIC1, 0x64
        iret
six:    outp 0x81, 6
        outp PIC1, 0x66
        iret`,
        { 33: "one", 36: "four", 38: "six" },
      );
      guest.outs(1);
      guest.vm.irqLine(4).set(true);
      expect(guest.outs(2)).toEqual([
        [0x81, 4],
        [0x82, 0],
      ]);
      guest.vm.irqLine(6).set(true);
      guest.vm.irqLine(1).set(true);
      expect(guest.outs(2)).toEqual([
        [0x81, 1],
        [0x81, 6],
      ]);
    });

    rule("the APIC timer wakes HLT periodically until it is masked", (backend) => {
      using guest = new Guest(
        backend,
        `apic 0xf0, 0x1ff
        apic 0x3e0, 0xb         ; divide by 1
        apic 0x320, 0x20041     ; periodic, vector 0x41
        apic 0x380, 1000000     ; 1 ms
        mov cx, 3
.wait:  sti
        hlt
        cli
        test cx, cx
        jnz .wait
        apic 0x320, 0x10041
        sti
        hlt
tick:   test cx, cx
        jz .late                ; raised before it was masked
        outp 0x81, cl
        dec cx
.late:  apic 0xb0, 0
        iret`,
        { 65: "tick" },
      );
      expect(guest.outs(3)).toEqual([
        [0x81, 3],
        [0x81, 2],
        [0x81, 1],
      ]);
      expect(guest.rest()).toEqual({ kind: "interrupted", by: "timeout" });
    });

    rule("a self-IPI waits for the task priority, whether written by MMIO or not", (backend) => {
      using guest = new Guest(
        backend,
        `apic 0xf0, 0x1ff
        apic 0x80, 0x60
        sti
        apic 0x300, 0x44055     ; to itself, vector 0x55
        nop
        mov eax, [dword LAPIC + 0x200 + 2 * 16]
        shr eax, 21             ; IRR bit 0x55
        and al, 1
        out 0x81, al
        apic 0x80, 0x50         ; its own class: still held off
        nop
        outp 0x82, 0
        apic 0x80, 0x40
.wait:  cmp byte [0x500], 0     ; an engine may look for interrupts only every so many instructions
        je .wait
        outp 0x83, 0
        jmp $
ipi:    outp 0x84, 0
        inc byte [0x500]
        apic 0xb0, 0
        iret`,
        { 85: "ipi" },
      );
      expect(guest.outs(4)).toEqual([
        [0x81, 1],
        [0x82, 0],
        [0x84, 0],
        [0x83, 0],
      ]);
    });

    rule("a level-triggered pin of the I/O APIC asks again after EOI while it is high", (backend) => {
      using guest = new Guest(
        backend,
        `pics 0xff, 0xff
        apic 0xf0, 0x1ff
        redirect 17, 0x8061, 0  ; level, vector 0x61, APIC 0
        sti
        out 0x80, al
.wait:  hlt
        jmp .wait
pin:    mov dword [dword IOAPIC], 0x10 + 2 * 17
        mov eax, [dword IOAPIC + 0x10]
        shr eax, 14
        and al, 1
        out 0x81, al            ; Remote IRR
        apic 0xb0, 0
        iret`,
        { 97: "pin" },
      );
      guest.outs(1);
      const line = guest.vm.irqLine(17);
      line.set(true);
      expect(guest.outs(2)).toEqual([
        [0x81, 1],
        [0x81, 1],
      ]);
      line.set(false);
      // kvm_pvm has taken a third one by then.
      const last = guest.rest();
      if (last.kind !== "interrupted") expect(guest.rest()).toEqual({ kind: "interrupted", by: "timeout" });
    });

    rule("an MSI reaches the processor it names, and false tells that none took it", (backend) => {
      using guest = new Guest(
        backend,
        `out 0x80, al            ; the APIC is still off
        apic 0xf0, 0x1ff
        sti
        out 0x80, al
        jmp $
msi:    outp 0x81, 1
        apic 0xb0, 0
        iret`,
        { 113: "msi" },
      );
      guest.outs(1);
      expect(guest.vm.signalMsi({ address: 0xfee0_0000, data: 0x71 })).toBe(false);
      guest.outs(1);
      expect(guest.vm.signalMsi({ address: 0xfee0_0000, data: 0x71 })).toBe(true);
      expect(guest.outs(1)).toEqual([[0x81, 1]]);
    });

    rule("INIT and startup IPIs start a second vCPU in real mode at the page they name", (backend) => {
      using guest = new Guest(
        backend,
        `apic 0xf0, 0x1ff
        apic 0x310, 0x01000000
        apic 0x300, 0x4500      ; INIT
        apic 0x300, 0x4602      ; startup at 0x2000
        outp 0x80, 0
        jmp $`,
      );
      const { vm } = guest;
      const ap = vm.createVcpu(1);
      vm.memory.write(0x2000, assemble("bits 16\n mov ax, cs\n mov al, ah\n out 0x85, al\n hlt").bytes);
      expect(ap.registers.mpState).toBe("uninitialized");
      expect(ap.run({ timeoutMs: 3 })).toEqual({ kind: "interrupted", by: "timeout" });
      guest.outs(1);
      expect(guest.outs(1, ap)).toEqual([[0x85, 0x02]]);
      expect(ap.registers.cs.base).toBe(0x2000n);
      expect(ap.run({ timeoutMs: 3 })).toEqual({ kind: "interrupted", by: "timeout" });
      expect(ap.registers.mpState).toBe("halted");
    });

    rule("a restored vCPU takes the interrupt that was waiting in its local APIC", (backend) => {
      const source = `apic 0xf0, 0x1ff
        cli
        apic 0x300, 0x44055
        out 0x80, al
        sti
        jmp $
ipi:    outp 0x84, 0
        apic 0xb0, 0
        iret`;
      using first = new Guest(backend, source, { 85: "ipi" });
      first.outs(1);
      const state = first.vcpu.saveState();
      using second = new Guest(backend, source, { 85: "ipi" });
      second.vcpu.restoreState(state);
      expect(second.outs(1)).toEqual([[0x84, 0]]);
    });
  });
}
