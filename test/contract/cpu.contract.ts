import { expect } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import { copyExit, type ExitOf } from "../../src/index.ts";
import { boot, chapter, type Engine, rule } from "./engine.ts";

const UNKNOWN_MSR = 0x12345678;

/** Registers, MSRs, CPUID, debugging, saved state. */
export function cpuContract(engine: Engine): void {
  chapter(engine, "the processor", () => {
    rule(engine, "registers written before a run are what the guest starts with", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          add eax, ebx
          hlt`,
      );
      const { registers } = guest.vcpu;
      registers.set({ rax: 0x11111111n, rbx: 0x22222222n });
      expect(guest.next().kind).toBe("hlt");
      expect([registers.rax, registers.rip]).toEqual([0x33333333n, 0x1004n]);
    });

    rule(engine, "a segment assigned back moves what the guest addresses", [], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov al, [0]
          hlt`,
      );
      const { registers } = guest.vcpu;
      registers.ds = { ...registers.ds, base: 0x3000n, selector: 0x300 };
      guest.vm.memory.writeU8(0x3000, 0x5a);
      guest.next();
      expect(registers.rax & 0xffn).toBe(0x5an);
      expect(registers.ds.base).toBe(0x3000n);
    });

    rule(engine, "all general registers read back as written", [], (host) => {
      using guest = boot(host, asm.real16`hlt`);
      const { registers } = guest.vcpu;
      const names = [
        "rax",
        "rbx",
        "rcx",
        "rdx",
        "rsi",
        "rdi",
        "rbp",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
      ] as const;
      names.forEach((name, i) => {
        registers[name] = 0x0123456789abcdefn + BigInt(i);
      });
      guest.next();
      expect(names.map((name) => registers[name])).toEqual(names.map((_, i) => 0x0123456789abcdefn + BigInt(i)));
    });

    rule(
      engine,
      "XMM registers set by the script are what ring 3 stores, and what it loads is read back",
      [],
      (host) => {
        using guest = boot(
          host,
          asm.long64`
          movups [0x3000], xmm3
          movups xmm5, [0x3010]
          mov [0x100000], al`,
          { mode: "long64-ring3" },
        );
        const value = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 - i);
        guest.vcpu.registers.cr4 |= 0x600n;
        guest.vcpu.registers.setXmm(3, value);
        guest.vm.memory.write(0x3010, value.toReversed());
        expect(guest.next().kind).toBe("mmioWrite");
        expect(guest.vm.memory.read(0x3000, 16)).toEqual(value);
        expect(guest.vcpu.registers.xmm(5)).toEqual(value.toReversed());
      },
    );

    rule(engine, "MSRs are read and written by name", [], (host) => {
      using guest = boot(host, asm.real16`hlt`);
      const { registers } = guest.vcpu;
      registers.setMsr("LSTAR", 0x7fff12345678n);
      expect(registers.msr("LSTAR")).toBe(0x7fff12345678n);
      expect(registers.msr(0xc0000082)).toBe(0x7fff12345678n);
      expect(() => registers.msr(UNKNOWN_MSR)).toThrow(RangeError);
    });

    rule(engine, "RDMSR left to the script yields rdmsr and puts value into EDX:EAX", ["msrExits"], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov ecx, ${UNKNOWN_MSR}
          rdmsr
          hlt`,
        { msrExits: { invalid: true } },
      );
      const exit = guest.next() as ExitOf<"rdmsr">;
      expect(exit).toMatchObject({ kind: "rdmsr", msr: UNKNOWN_MSR, value: 0n, error: false });
      expect(guest.vcpu.registers.rip).toBe(0x1006n);
      exit.value = 0x1122334455667788n;
      expect(guest.next().kind).toBe("hlt");
      const { rax, rdx } = guest.vcpu.registers;
      expect([rdx & 0xffffffffn, rax & 0xffffffffn]).toEqual([0x11223344n, 0x55667788n]);
    });

    rule(engine, "an MSR exit answered with error raises #GP in the guest", ["msrExits"], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov ecx, ${UNKNOWN_MSR}
          wrmsr
          hlt
        handler:
          mov al, 13
          out 0x80, al
          hlt`,
        { msrExits: { invalid: true } },
      );
      guest.vm.memory.writeU16(13 * 4, 0x1009);
      guest.vm.memory.writeU16(13 * 4 + 2, 0);
      guest.vcpu.registers.set({ rax: 0x55667788n, rdx: 0x11223344n });
      const exit = guest.next() as ExitOf<"wrmsr">;
      expect(exit).toMatchObject({ kind: "wrmsr", msr: UNKNOWN_MSR, value: 0x1122334455667788n });
      exit.error = true;
      expect(guest.next()).toMatchObject({ kind: "pioOut", port: 0x80, data: Uint8Array.of(13) });
    });

    rule(
      engine,
      "a filter takes known MSRs from the engine, for reads or for writes",
      ["msrExits", "msrFilter"],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          mov ecx, 0xc0000082
          mov eax, 0x1000
          xor edx, edx
          wrmsr
          rdmsr
          hlt`,
          { msrExits: { filter: [{ first: 0xc0000082, count: 1, access: "read" }] } },
        );
        const exit = guest.next() as ExitOf<"rdmsr">;
        expect(exit).toMatchObject({ kind: "rdmsr", msr: 0xc0000082, reason: "filter" });
        exit.value = 0xabcdn;
        expect(guest.next().kind).toBe("hlt");
        expect(guest.vcpu.registers.rax & 0xffffffffn).toBe(0xabcdn);
        expect(guest.vcpu.registers.msr("LSTAR")).toBe(0x1000n);
      },
    );

    rule(engine, "CPUID answers what the override says, and the host's vendor otherwise", [], (host) => {
      const program = asm.real16`
          mov eax, 0x40000000
          cpuid
          mov esi, ebx
          xor eax, eax
          cpuid
          hlt`;
      using guest = boot(host, program, { vcpu: { cpuid: { "0x40000000": { eax: 0x40000001, ebx: 0x12345678 } } } });
      expect(guest.next().kind).toBe("hlt");
      const vendor = host.supportedCpuid().find(({ leaf }) => leaf === 0);
      const { rsi, rbx, rcx, rdx } = guest.vcpu.registers;
      expect(rsi & 0xffffffffn).toBe(0x12345678n);
      expect([rbx, rdx, rcx].map((value) => Number(value & 0xffffffffn))).toEqual([
        vendor?.ebx,
        vendor?.edx,
        vendor?.ecx,
      ] as number[]);
    });

    rule(
      engine,
      "single step yields one debug exit per instruction, with the address of the next",
      ["singleStep"],
      (host) => {
        using guest = boot(
          host,
          asm.real16`
          mov al, 1
          inc al
          nop
          hlt`,
        );
        guest.vcpu.debug({ singleStep: true });
        const steps = [guest.next(), guest.next(), guest.next()].map((exit) => copyExit(exit) as ExitOf<"debug">);
        expect(steps.map(({ kind, pc }) => [kind, pc])).toEqual([
          ["debug", 0x1002n],
          ["debug", 0x1004n],
          ["debug", 0x1005n],
        ]);
        guest.vcpu.debug({});
        expect(guest.next().kind).toBe("hlt");
      },
    );

    rule(engine, "single step goes on behind an instruction that loads RFLAGS", ["singleStep"], (host) => {
      using guest = boot(
        host,
        asm.real16`
          pushf
          popf
          nop
          nop
          hlt`,
      );
      guest.vcpu.debug({ singleStep: true });
      const steps = [guest.next(), guest.next(), guest.next(), guest.next()];
      expect(steps.map((exit) => exit.kind === "debug" && exit.pc)).toEqual([0x1001n, 0x1002n, 0x1003n, 0x1004n]);
    });

    rule(engine, "a hardware breakpoint stops before its instruction", ["hardwareBreakpoints"], (host) => {
      using guest = boot(
        host,
        asm.real16`
          mov al, 1
          inc al
          inc al
          hlt`,
      );
      guest.vcpu.debug({ breakpoints: [{ address: 0x1004n, on: "execute" }] });
      expect(guest.next()).toMatchObject({ kind: "debug", pc: 0x1004n });
      expect(guest.vcpu.registers.rax & 0xffn).toBe(2n);
      guest.vcpu.debug({});
      expect(guest.next().kind).toBe("hlt");
    });

    rule(
      engine,
      "translate() gives the guest-physical address, and undefined where nothing is mapped",
      ["translate"],
      (host) => {
        using guest = boot(host, asm.long64`mov [0x100000], al`, {
          mode: "long64-ring3",
          modeOptions: {
            map: [
              { gva: 0n, gpa: 0, bytes: 0x200000, user: true },
              { gva: 0x7f0000000000n, gpa: 0x3000, bytes: 0x1000, user: true },
            ],
          },
        });
        expect(guest.next().kind).toBe("mmioWrite");
        expect(guest.vcpu.translate(0x7f0000000123n)).toBe(0x3123);
        expect(guest.vcpu.translate(0x7f0000001000n)).toBeUndefined();
      },
    );

    rule(engine, "saved state restored into a new vCPU goes on where the first one was", [], (host) => {
      const program = asm.real16`
          mov cx, 3
        again:
          inc bx
          out 0x80, al
          loop again
          hlt`;
      using first = boot(host, program);
      first.next();
      first.next();
      const state = first.vcpu.saveState();
      using second = boot(host, program);
      second.vcpu.restoreState(state);
      expect(second.next().kind).toBe("pioOut");
      expect(second.next().kind).toBe("hlt");
      expect(second.vcpu.registers.rbx & 0xffffn).toBe(3n);
    });
  });
}
