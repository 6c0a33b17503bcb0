import { expect } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import { copyExit, type Exit, type ExitOf } from "../../src/index.ts";
import { ascii, boot, chapter, type Engine, rule } from "./engine.ts";

/** Port I/O: what an exit carries, and what the guest gets back. */
export function pioContract(engine: Engine): void {
  chapter(engine, "port I/O", () => {
    rule(engine, "OUT yields pioOut with its port, its size and the bytes in little-endian order", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov eax, 0x44332211
          out 0x10, al
          mov dx, 0xffff
          out dx, ax
          mov dx, 0x1234
          out dx, eax
          hlt`,
      );
      const seen: Exit[] = [];
      for (let exit = guest.next(); exit.kind !== "hlt"; exit = guest.next()) seen.push(copyExit(exit));
      expect(seen).toEqual([
        { kind: "pioOut", port: 0x10, size: 1, count: 1, data: Uint8Array.of(0x11) },
        { kind: "pioOut", port: 0xffff, size: 2, count: 1, data: Uint8Array.of(0x11, 0x22) },
        { kind: "pioOut", port: 0x1234, size: 4, count: 1, data: Uint8Array.of(0x11, 0x22, 0x33, 0x44) },
      ]);
    });

    rule(
      engine,
      "IN puts what data holds at the next run into AL, AX or EAX, and leaves the rest of EAX",
      [],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          mov eax, 0xddccbbaa
          in al, 0x60
          mov ebx, eax
          in ax, 0x60
          mov ecx, eax
          in eax, 0x60
          hlt`,
        );
        const { registers } = guest.vcpu;
        for (let exit = guest.next(); exit.kind === "pioIn"; exit = guest.next())
          exit.data.set([1, 2, 3, 4].slice(0, exit.size));
        expect([registers.rbx, registers.rcx, registers.rax]).toEqual([0xddccbb01n, 0xddcc0201n, 0x04030201n]);
      },
    );

    rule(engine, "IN that nobody answers reads all ones", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          xor eax, eax
          in ax, 0x70
          hlt`,
      );
      expect(guest.next()).toEqual({ kind: "pioIn", port: 0x70, size: 2, count: 1, data: Uint8Array.of(0xff, 0xff) });
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vcpu.registers.rax).toBe(0xffffn);
    });

    rule(engine, "an array put in the place of an exit's data is the answer too", [], (host) => {
      using guest = boot(
        host,
        asm.real16`in al, 0x60
                                          hlt`,
      );
      const exit = guest.next() as ExitOf<"pioIn">;
      exit.data = Uint8Array.of(0x42);
      guest.next();
      expect(guest.vcpu.registers.rax & 0xffn).toBe(0x42n);
    });

    rule(engine, "RIP is behind an OUT when its exit is seen, and at an IN until the next run", [], (host) => {
      const program = asm.real16`
          out 0x10, al
        after_out:
          in al, 0x60
        after_in:
          out 0x11, al
          hlt`;
      using guest = boot(host, program);
      const { registers } = guest.vcpu;
      const at = (name: string): bigint => BigInt(program.symbols.get(name) as number | bigint);
      guest.next();
      expect(registers.rip).toBe(at("after_out"));
      guest.next();
      expect(registers.rip).toBe(at("after_out"));
      guest.next();
      expect(registers.rip).toBe(at("after_in") + 2n);
    });

    rule(
      engine,
      "a register written while an IN waits is written behind it, and the answer given before is kept",
      [],
      (host) => {
        const program = asm.real16`
          in al, 0x60
          mov ah, bl
          hlt`;
        using guest = boot(host, program);
        const exit = guest.next() as ExitOf<"pioIn">;
        exit.data[0] = 0x7f;
        guest.vcpu.registers.rbx = 0x33n;
        expect(guest.next().kind).toBe("hlt");
        expect(guest.vcpu.registers.rax & 0xffffn).toBe(0x337fn);
      },
    );

    rule(engine, "REP OUTSB carries every byte in order, in however many exits", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov si, text
          mov cx, text_end - text
          mov dx, 0xe9
          cld
          rep outsb
          hlt
        text: db "every byte, in order"
        text_end:`,
      );
      const bytes: number[] = [];
      for (let exit = guest.next(); exit.kind === "pioOut"; exit = guest.next()) {
        expect(exit.data.length).toBe(exit.size * exit.count);
        bytes.push(...exit.data);
      }
      expect(bytes).toEqual([...ascii("every byte, in order")]);
      expect(guest.vcpu.registers.rcx & 0xffffn).toBe(0n);
    });

    rule(engine, "REP INSW stores every word of the answers", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov di, 0x3000
          mov cx, 5
          mov dx, 0x60
          cld
          rep insw
          hlt`,
      );
      let next = 0;
      for (let exit = guest.next(); exit.kind === "pioIn"; exit = guest.next()) {
        expect(exit.size).toBe(2);
        for (let i = 0; i < exit.data.length; i++) exit.data[i] = next++;
      }
      expect([...guest.vm.memory.read(0x3000, 11)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
      expect(guest.vcpu.registers.rdi & 0xffffn).toBe(0x300an);
    });

    rule(engine, "a device on the bus answers, and the run goes on to what no device claims", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          in al, 0x61
          out 0x62, al
          out 0x63, al
          hlt`,
      );
      const written: number[] = [];
      guest.vm.pio.map(0x61, 2, {
        name: "doubler",
        read: (offset, data) => void data.fill(0x21 + offset),
        write: (offset, data) => void written.push(offset, data[0] as number),
      });
      expect(guest.next()).toEqual({ kind: "pioOut", port: 0x63, size: 1, count: 1, data: Uint8Array.of(0x21) });
      expect(written).toEqual([1, 0x21]);
    });

    rule(
      engine,
      "a device that throws leaves its exit pending: the next run reads all ones and goes on",
      [],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          in al, 0x61
          hlt`,
        );
        guest.vm.pio.map(0x61, 1, {
          name: "broken",
          read: () => {
            throw new Error("out of order");
          },
          write: () => {},
        });
        expect(() => guest.next()).toThrow('Device "broken" threw on a read of port 0x61: out of order');
        expect(guest.next().kind).toBe("hlt");
        expect(guest.vcpu.registers.rax & 0xffn).toBe(0xffn);
      },
    );
  });
}
