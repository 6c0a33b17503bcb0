import { expect } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import { copyExit, type Exit, type ExitOf } from "../../src/index.ts";
import { boot, chapter, type Engine, rule } from "./engine.ts";

/** Memory slots, MMIO and the dirty log. */
export function memoryContract(engine: Engine): void {
  chapter(engine, "memory", () => {
    rule(engine, "a store where no slot is yields mmioWrite, a load mmioRead, with address and bytes", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov ax, 0xa000
          mov es, ax
          mov eax, 0x44332211
          mov [es:0x10], al
          mov [es:0x20], ax
          mov [es:0x30], eax
          mov bl, [es:0x40]
          mov cx, [es:0x50]
          mov edx, [es:0x60]
          hlt`,
      );
      const seen: Exit[] = [];
      for (let exit = guest.next(); exit.kind !== "hlt"; exit = guest.next()) {
        seen.push(copyExit(exit));
        if (exit.kind === "mmioRead") exit.data.set([0xa1, 0xa2, 0xa3, 0xa4].slice(0, exit.data.length));
      }
      expect(seen).toEqual([
        { kind: "mmioWrite", gpa: 0xa0010, data: Uint8Array.of(0x11) },
        { kind: "mmioWrite", gpa: 0xa0020, data: Uint8Array.of(0x11, 0x22) },
        { kind: "mmioWrite", gpa: 0xa0030, data: Uint8Array.of(0x11, 0x22, 0x33, 0x44) },
        { kind: "mmioRead", gpa: 0xa0040, data: Uint8Array.of(0xff) },
        { kind: "mmioRead", gpa: 0xa0050, data: Uint8Array.of(0xff, 0xff) },
        { kind: "mmioRead", gpa: 0xa0060, data: Uint8Array.of(0xff, 0xff, 0xff, 0xff) },
      ]);
      const { registers } = guest.vcpu;
      expect([registers.rbx & 0xffn, registers.rcx & 0xffffn, registers.rdx]).toEqual([0xa1n, 0xa2a1n, 0xa4a3a2a1n]);
    });

    rule(
      engine,
      "RIP is behind an MMIO store when its exit is seen, and at an MMIO load until the next run",
      [],
      (host) => {
        const program = asm.real16`
          mov ax, 0xa000
          mov es, ax
          mov [es:0], al
        after_store:
          mov al, [es:0]
        after_load:
          hlt`;
        using guest = boot(host, program);
        const at = (name: string): bigint => BigInt(program.symbols.get(name) as number | bigint);
        expect(guest.next().kind).toBe("mmioWrite");
        expect(guest.vcpu.registers.rip).toBe(at("after_store"));
        expect(guest.next().kind).toBe("mmioRead");
        expect(guest.vcpu.registers.rip).toBe(at("after_store"));
        expect(guest.next().kind).toBe("hlt");
        expect(guest.vcpu.registers.rip).toBe(at("after_load") + 1n);
      },
    );

    rule(
      engine,
      "an instruction that reads and writes MMIO makes a read and then a write of what it computed",
      [],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          mov ax, 0xa000
          mov es, ax
          or byte [es:8], 0x81
          hlt`,
        );
        const read = guest.next() as ExitOf<"mmioRead">;
        expect([read.kind, read.gpa]).toEqual(["mmioRead", 0xa0008]);
        read.data[0] = 0x42;
        expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xa0008, data: Uint8Array.of(0xc3) });
        expect(guest.next().kind).toBe("hlt");
      },
    );

    rule(engine, "a 64-bit MMIO access from ring 3 is one exit of 8 bytes", [], (host) => {
      using guest = boot(
        host,
        asm.long64`
          mov rbx, 0x100000
          mov rax, [rbx]
          add rax, 1
          mov [rbx + 8], rax
          mov [rbx + 16], rax`,
        { mode: "long64-ring3" },
      );
      const read = guest.next() as ExitOf<"mmioRead">;
      expect([read.gpa, read.data.length]).toEqual([0x100000, 8]);
      read.data.set([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
      expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0x100008, data: Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0) });
      expect(guest.next()).toMatchObject({ kind: "mmioWrite", gpa: 0x100010 });
    });

    rule(
      engine,
      "a store to a read-only slot yields mmioWrite and changes nothing, a load reads it",
      ["readOnlyMemory"],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          mov ax, 0xf000
          mov es, ax
          mov byte [es:0], 0x99
          mov al, [es:0]
          hlt`,
        );
        const rom = guest.vm.memory.add({ gpa: 0xf0000, bytes: 0x10000, readOnly: true });
        rom.data[0] = 0x55;
        expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xf0000, data: Uint8Array.of(0x99) });
        expect(guest.next().kind).toBe("hlt");
        expect([rom.data[0], guest.vcpu.registers.rax & 0xffn]).toEqual([0x55, 0x55n]);
      },
    );

    rule(engine, "an alias shows the same memory at a second address", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov ax, 0x8000
          mov es, ax
          mov byte [es:0x10], 0x77
          mov al, [0x2010]
          hlt`,
      );
      const ram = guest.vm.memory.slots[0];
      if (ram === undefined) throw new Error("no RAM");
      guest.vm.memory.alias({ gpa: 0x80000, of: ram, offset: 0x2000, bytes: 0x1000 });
      expect(guest.next().kind).toBe("hlt");
      expect([guest.vcpu.registers.rax & 0xffn, guest.vm.memory.readU8(0x2010)]).toEqual([0x77n, 0x77]);
    });

    rule(engine, "a slot removed between two runs turns into MMIO, and one added turns into memory", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov ax, 0x4000
          mov es, ax
        again:
          inc byte [es:0]
          out 0x80, al
          jmp again`,
      );
      const slot = guest.vm.memory.add({ gpa: 0x40000, bytes: 0x1000 });
      expect(guest.next().kind).toBe("pioOut");
      expect(slot.data[0]).toBe(1);
      slot[Symbol.dispose]();
      expect(slot.data.length).toBe(0);
      expect(guest.next().kind).toBe("mmioRead");
      expect(guest.next().kind).toBe("mmioWrite");
      expect(guest.next().kind).toBe("pioOut");
      const again = guest.vm.memory.add({ gpa: 0x40000, bytes: 0x1000 });
      expect(guest.next().kind).toBe("pioOut");
      expect(again.data[0]).toBe(1);
    });

    rule(
      engine,
      "the dirty log names the pages the guest wrote since the last call, each once",
      ["dirtyLog"],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          mov ax, 0x4000
          mov es, ax
          mov byte [es:0x0000], 1
          mov byte [es:0x1000], 1
          mov byte [es:0x5fff], 1
          out 0x80, al
          mov byte [es:0x3000], 1
          hlt`,
        );
        const slot = guest.vm.memory.add({ gpa: 0x40000, bytes: 0x8000, logDirty: true });
        guest.next();
        expect([...guest.vm.memory.dirtyPages(slot)]).toEqual([
          { gpa: 0x40000, bytes: 0x2000 },
          { gpa: 0x45000, bytes: 0x1000 },
        ]);
        guest.next();
        expect([...guest.vm.memory.dirtyPages()]).toEqual([{ gpa: 0x43000, bytes: 0x1000 }]);
        expect([...guest.vm.memory.dirtyPages()]).toEqual([]);
      },
    );

    rule(engine, "the guest sees what the host wrote before the run, across touching slots", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov ax, 0x1fff
          mov es, ax
          mov eax, [es:0xe]
          hlt`,
        { memoryBytes: 0x20000 },
      );
      guest.vm.memory.add({ gpa: 0x20000, bytes: 0x10000 });
      guest.vm.memory.write(0x1fffe, Uint8Array.of(1, 2, 3, 4));
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vcpu.registers.rax).toBe(0x04030201n);
    });
  });
}
