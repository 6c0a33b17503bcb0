import { expect } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import type { Exit } from "../../src/index.ts";
import { boot, chapter, type Engine, rule } from "./engine.ts";

const ENDLESS = asm.real16`jmp $`;
/** Counts in AX, telling every value: a storm of exits. */
const STORM = asm.real16`
  again:
    inc ax
    out 0x80, ax
    jmp again`;

/** Bounded runs: they end, and nothing is lost when they do. */
export function limitsContract(engine: Engine): void {
  chapter(engine, "limits", () => {
    rule(
      engine,
      "run() returns interrupted by timeout from a guest in jmp $, and not before the time is up",
      [],
      (host) => {
        using guest = boot(host, ENDLESS);
        const start = performance.now();
        expect(guest.vcpu.run({ timeoutMs: 30 })).toEqual({ kind: "interrupted", by: "timeout" });
        expect(performance.now() - start).toBeGreaterThanOrEqual(29.5);
        expect(guest.vcpu.registers.rip).toBe(0x1000n);
      },
    );

    rule(engine, "a run with time left is not ended by the deadline of the run before it", [], (host) => {
      using guest = boot(
        host,
        asm.real16`out 0x80, al
                                          jmp $`,
      );
      expect(guest.vcpu.run({ timeoutMs: 150 }).kind).toBe("pioOut");
      Bun.sleepSync(200);
      const start = performance.now();
      expect(guest.vcpu.run({ timeoutMs: 30 })).toEqual({ kind: "interrupted", by: "timeout" });
      expect(performance.now() - start).toBeGreaterThanOrEqual(29.5);
    });

    rule(
      engine,
      "a deadline not reached is gone when the script awaits, and so is one inside vm.exits()",
      [],
      async (host) => {
        // The event loop opens every signal while it sleeps: a timer left armed would end this process.
        using guest = boot(
          host,
          asm.real16`
        again:
          out 0x80, al
          jmp again`,
        );
        expect(guest.vcpu.run({ timeoutMs: 10 }).kind).toBe("pioOut");
        await Bun.sleep(20);
        let exits = 0;
        for await (const exit of guest.vm.exits({ timeoutMs: 5000, sliceMs: 2 })) {
          expect(exit.kind).toBe("pioOut");
          await Bun.sleep(4);
          if (++exits === 5) break;
        }
        await Bun.sleep(10);
        expect(exits).toBe(5);
      },
    );

    rule(
      engine,
      "run() returns from HLT with interrupts off inside an irqchip when the time is up",
      ["irqchip"],
      (host) => {
        using guest = boot(
          host,
          asm.real16`cli
                                          hlt`,
          { irqchip: "full" },
        );
        expect(guest.vcpu.run({ timeoutMs: 30 })).toEqual({ kind: "interrupted", by: "timeout" });
      },
    );

    rule(engine, "maxExits counts what devices answered too, and stops before the next entry", [], (host) => {
      using guest = boot(host, STORM);
      let answered = 0;
      guest.vm.pio.map(0x80, 1, { name: "counter", read: () => {}, write: () => void answered++ });
      expect(guest.vcpu.run({ maxExits: 7 })).toEqual({ kind: "interrupted", by: "maxExits" });
      expect([answered, guest.vcpu.registers.rax & 0xffffn]).toEqual([7, 7n]);
      expect(guest.vcpu.run({ maxExits: 0 })).toEqual({ kind: "interrupted", by: "maxExits" });
      expect(answered).toBe(7);
    });

    rule(engine, "no exit of a storm is lost or told twice, however often deadlines cut it short", [], (host) => {
      using guest = boot(host, STORM);
      const values: number[] = [];
      guest.vm.pio.map(0x80, 1, {
        name: "recorder",
        read: () => {},
        write: (_offset, data) => void values.push((data[0] as number) | ((data[1] as number) << 8)),
      });
      for (let i = 0; i < 40; i++) expect(guest.vcpu.run({ timeoutMs: 0.5 }).kind).toBe("interrupted");
      expect(values.length).toBeGreaterThan(0);
      expect(values).toEqual(Array.from(values, (_, i) => (i + 1) & 0xffff));
    });

    rule(engine, "the answer to an IN survives a run that a kick ends at once", [], (host) => {
      using guest = boot(
        host,
        asm.real16`in al, 0x60
                                          hlt`,
      );
      const exit = guest.next();
      if (exit.kind !== "pioIn") throw new Error(exit.kind);
      exit.data[0] = 0x42;
      guest.vcpu.kick();
      expect(guest.vcpu.run()).toEqual({ kind: "interrupted", by: "kick" });
      expect(guest.vcpu.run().kind).toBe("hlt");
      expect(guest.vcpu.registers.rax & 0xffn).toBe(0x42n);
    });

    rule(
      engine,
      "an aborted signal ends a run before it enters the guest, and an abort from a device ends it behind",
      [],
      (host) => {
        using guest = boot(host, STORM);
        expect(guest.vcpu.run({ signal: AbortSignal.abort() })).toEqual({ kind: "interrupted", by: "abort" });
        expect(guest.vcpu.exits).toBe(0);
        const controller = new AbortController();
        guest.vm.pio.map(0x80, 1, { name: "aborter", read: () => {}, write: () => controller.abort() });
        expect(guest.vcpu.run({ signal: controller.signal })).toEqual({ kind: "interrupted", by: "abort" });
        expect(guest.vcpu.exits).toBe(1);
      },
    );

    rule(engine, "limits that mean nothing are refused by name", [], (host) => {
      using guest = boot(host, ENDLESS);
      expect(() => guest.vcpu.run({ timeoutMs: -1 })).toThrow("timeoutMs");
      expect(() => guest.vcpu.run({ maxExits: Number.NaN })).toThrow("maxExits");
    });

    rule(engine, "vm.run() lets timers fire while the guest spins: one of them can stop it", [], async (host) => {
      using guest = boot(host, ENDLESS);
      setTimeout(() => guest.vm.stop({ kind: "poweredOff" }), 5);
      const result = await guest.vm.run({ timeoutMs: 60_000, sliceMs: 5 });
      expect(result.outcome).toEqual({ kind: "poweredOff" });
    });

    rule(engine, "vm.run() tells that the time is up", [], async (host) => {
      using guest = boot(host, ENDLESS);
      expect((await guest.vm.run({ timeoutMs: 20, sliceMs: 5 })).outcome).toEqual({ kind: "timeout" });
    });

    rule(engine, "vm.run() ends as aborted when a timer aborts it", [], async (host) => {
      using guest = boot(host, ENDLESS);
      const result = await guest.vm.run({ signal: AbortSignal.timeout(20), sliceMs: 5 });
      expect(result.outcome).toEqual({ kind: "aborted" });
    });

    rule(engine, "vm.run() ends as halted at HLT, and as whatever a device stops it with", [], async (host) => {
      using guest = boot(
        host,
        asm.real16`out 0x80, al
                                          hlt`,
      );
      expect((await guest.vm.run({ timeoutMs: 5000 })).outcome).toEqual({ kind: "halted" });
      guest.vcpu.registers.rip = 0x1000n;
      guest.vm.pio.map(0x80, 1, { name: "switch", read: () => {}, write: () => guest.vm.stop({ kind: "poweredOff" }) });
      expect((await guest.vm.run({ timeoutMs: 5000 })).outcome).toEqual({ kind: "poweredOff" });
    });

    rule(
      engine,
      "vm.run() with an irqchip ends as halted when every vCPU sleeps with interrupts off",
      ["irqchip"],
      async (host) => {
        using guest = boot(
          host,
          asm.real16`cli
                                          hlt`,
          { irqchip: "full" },
        );
        expect((await guest.vm.run({ timeoutMs: 5000 })).outcome).toEqual({ kind: "halted" });
      },
    );

    rule(engine, "vm.exits() yields each exit to answer, and ends when the loop is left", [], async (host) => {
      using guest = boot(
        host,
        asm.real16`
          in al, 0x60
          out 0x80, al
          hlt`,
      );
      const seen: Exit["kind"][] = [];
      for await (const exit of guest.vm.exits({ timeoutMs: 5000 })) {
        seen.push(exit.kind);
        if (exit.kind === "pioIn") exit.data[0] = 9;
        if (exit.kind === "pioOut") expect(exit.data[0]).toBe(9);
        if (exit.kind === "hlt") break;
      }
      expect(seen).toEqual(["pioIn", "pioOut", "hlt"]);
    });

    rule(engine, "two vCPUs take turns, and vm.run() ends when both have halted", [], async (host) => {
      const program = asm.real16`
          mov cx, 1000
        spin:
          loop spin
          out 0x80, al
          hlt`;
      using guest = boot(host, program);
      const second = guest.vm.createVcpu(1);
      second.enterMode("real16", { entry: 0x1000 });
      if (second.registers.mpState !== "runnable") second.registers.mpState = "runnable";
      const outs: number[] = [];
      const result = await guest.vm.run({
        timeoutMs: 5000,
        sliceMs: 1,
        onExit: (exit, vcpu) => {
          if (exit.kind === "pioOut") outs.push(vcpu.id);
          return undefined;
        },
      });
      expect(result.outcome).toEqual({ kind: "halted" });
      expect(outs.toSorted()).toEqual([0, 1]);
    });
  });
}
