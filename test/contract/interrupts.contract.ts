import { expect } from "bun:test";
import { asm, type Program } from "../../src/asm/index.ts";
import { type Booted, boot, chapter, type Engine, rule } from "./engine.ts";

/** Points an interrupt vector of real mode at a label. */
function vector(guest: Booted, number: number, program: Program, label: string): void {
  guest.vm.memory.writeU16(number * 4, Number(program.symbols.get(label)));
  guest.vm.memory.writeU16(number * 4 + 2, 0);
}

/** Interrupts, NMIs and faults from the script. */
export function interruptsContract(engine: Engine): void {
  chapter(engine, "interrupts", () => {
    rule(engine, "a queued interrupt wakes HLT through the IVT, and IRET goes on behind it", [], (host) => {
      const program = asm.real16`
          sti
          hlt
          out 0x81, al
          hlt
        handler:
          out 0x80, al
          iret`;
      using guest = boot(host, program);
      vector(guest, 0x20, program, "handler");
      expect(guest.next().kind).toBe("hlt");
      guest.vcpu.interrupt(0x20);
      expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x80 });
      expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x81 });
    });

    rule(engine, "an interrupt queued while IF is clear waits for STI and its shadow", [], (host) => {
      const program = asm.real16`
          cli
          out 0x70, al
          sti
        wait_for_it:            ; an engine may look for interrupts only every so many instructions
          cmp byte [0x500], 0
          je wait_for_it
          out 0x71, al
          hlt
        handler:
          out 0x80, al
          inc byte [0x500]
          iret`;
      using guest = boot(host, program);
      vector(guest, 0x21, program, "handler");
      expect(guest.next()).toMatchObject({ port: 0x70 });
      guest.vcpu.interrupt(0x21);
      expect(guest.vcpu.interruptReady).toBe(false);
      expect([guest.next(), guest.next()].map((exit) => exit.kind === "pioOut" && exit.port)).toEqual([0x80, 0x71]);
      expect(guest.vcpu.pendingInterrupts).toEqual([]);
    });

    rule(engine, "two queued interrupts are delivered one after the other, in order", [], (host) => {
      const program = asm.real16`
          sti
        wait_for_both:
          cmp byte [0x500], 2
          jne wait_for_both
          hlt
        first:
          out 0x80, al
          inc byte [0x500]
          iret
        second:
          out 0x81, al
          inc byte [0x500]
          iret`;
      using guest = boot(host, program);
      vector(guest, 0x20, program, "first");
      vector(guest, 0x21, program, "second");
      guest.vcpu.interrupt(0x20);
      guest.vcpu.interrupt(0x21);
      const ports = [guest.next(), guest.next()].map((exit) => exit.kind === "pioOut" && exit.port);
      expect(ports).toEqual([0x80, 0x81]);
      expect(guest.next().kind).toBe("hlt");
    });

    rule(engine, "requestInterruptWindow() yields irqWindow once the guest can take an interrupt", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          cli
          out 0x70, al
          sti
          jmp $`,
      );
      guest.next();
      guest.vcpu.requestInterruptWindow(true);
      expect(guest.next()).toEqual({ kind: "irqWindow" });
      expect(guest.vcpu.interruptReady).toBe(true);
      guest.vcpu.requestInterruptWindow(false);
      expect(guest.vcpu.run({ timeoutMs: 5 })).toEqual({ kind: "interrupted", by: "timeout" });
    });

    rule(engine, "an NMI is taken through vector 2 with IF clear", [], (host) => {
      const program = asm.real16`
          cli
          out 0x70, al
          nop
          hlt
        handler:
          out 0x82, al
          iret`;
      using guest = boot(host, program);
      vector(guest, 2, program, "handler");
      guest.next();
      guest.vcpu.nmi();
      expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x82 });
      expect(guest.next().kind).toBe("hlt");
    });

    rule(engine, "exception() raises a fault at the next instruction", [], (host) => {
      const program = asm.real16`
          out 0x70, al
          hlt
        handler:
          out 0x86, al
          hlt`;
      using guest = boot(host, program);
      vector(guest, 6, program, "handler");
      guest.next();
      guest.vcpu.exception(6);
      expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x86 });
    });

    rule(engine, "an IRQ line reaches the guest through the PIC", ["irqchip"], (host) => {
      const program = asm.real16`
          mov al, 0x11        ; ICW1: edge, cascade, ICW4
          out 0x20, al
          mov al, 0x20        ; ICW2: vectors from 0x20
          out 0x21, al
          mov al, 0x04        ; ICW3: slave on line 2
          out 0x21, al
          mov al, 0x01        ; ICW4: 8086
          out 0x21, al
          mov al, 0xef        ; only line 4
          out 0x21, al
          sti
        wait_for_it:
          hlt
          jmp wait_for_it
        handler:
          out 0x84, al
          mov al, 0x20
          out 0x20, al
          iret`;
      using guest = boot(host, program, { irqchip: "full" });
      vector(guest, 0x24, program, "handler");
      expect(guest.vcpu.run({ timeoutMs: 20 })).toEqual({ kind: "interrupted", by: "timeout" });
      const line = guest.vm.irqLine(4);
      line.set(true);
      expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x84 });
      line.set(false);
    });

    rule(engine, "interrupt lines of a VM without irqchip are refused by name", [], (host) => {
      using vm = host.createVm();
      expect(() => vm.irqLine(4)).toThrow(/interrupt lines of a VM without irqchip/);
    });
  });
}
