import { describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import type { NvmmVm } from "../../../../src/backends/nvmm/vm.ts";
import type { Vm } from "../../../../src/vm.ts";
import { missing, openRig, PEER_SYSTEMS, skipped } from "./peers.ts";

describe.each(PEER_SYSTEMS)(`NVMM deadlines on %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("need the peer", () => {});
    return;
  }
  const { host, peer } = openRig(system, "deadline");

  function guest(program: ReturnType<typeof asm.real16>): { vm: Vm } & Disposable {
    const vm = host.createVm({ memoryBytes: 0x20000 });
    vm.memory.write(0x1000, program.bytes);
    vm.createVcpu().enterMode("real16", { entry: 0x1000 });
    return { vm, [Symbol.dispose]: () => vm[Symbol.dispose]() };
  }

  test("a guest that never exits comes back at its deadline, again and again, and goes on where it was", () => {
    using it = guest(asm.real16`again: inc eax
      jmp again`);
    const [vcpu] = it.vm.vcpus;
    let before = 0n;
    for (let i = 0; i < 3; i++) {
      const start = performance.now();
      expect(vcpu?.run({ timeoutMs: 30 })).toEqual({ kind: "interrupted", by: "timeout" });
      const elapsed = performance.now() - start;
      // The guest's processor notices a stop at the host's timer tick; the upper bound only says that it comes back at all.
      expect(elapsed).toBeGreaterThanOrEqual(30);
      expect(elapsed).toBeLessThan(2000);
      const rax = vcpu?.registers.rax as bigint;
      expect(rax).toBeGreaterThan(before);
      before = rax;
    }
  });

  test("no stop is lost, wherever between the look at the clock and the guest it comes", () => {
    using it = guest(asm.real16`again: inc eax
      jmp again`);
    const [vcpu] = it.vm.vcpus;
    peer.option("tickMs", 1);
    for (let i = 0; i < 80; i++) {
      expect(vcpu?.run({ timeoutMs: (i % 20) * 0.05 })).toEqual({ kind: "interrupted", by: "timeout" });
    }
    peer.option("tickMs", 0);
  });

  test("a deadline in an exit storm is met", () => {
    using it = guest(asm.real16`again: out 0xe9, al
      jmp again`);
    it.vm.pio.map(0xe9, 1, { name: "sink", read: () => {}, write: () => {} });
    expect(it.vm.vcpus[0]?.run({ timeoutMs: 20 })).toEqual({ kind: "interrupted", by: "timeout" });
    expect(it.vm.vcpus[0]?.exits).toBeGreaterThan(0);
  });

  test("a deadline that has passed before the run ends it before the guest moves", () => {
    using it = guest(asm.real16`out 0x80, al
      hlt`);
    expect(it.vm.vcpus[0]?.run({ timeoutMs: 0 })).toEqual({ kind: "interrupted", by: "timeout" });
    expect(it.vm.vcpus[0]?.registers.rip).toBe(0x1000n);
    expect(it.vm.vcpus[0]?.run().kind).toBe("pioOut");
  });

  test("a deadline that passes while the script works ends the next run, and the answer given before is not lost", () => {
    using it = guest(asm.real16`in al, 0x60
      again: jmp again`);
    const engine = (it.vm.engine as NvmmVm).createVcpu(1);
    using vcpu = engine;
    vcpu.registers.writeSegment("cs", { ...vcpu.registers.readSegment("cs"), base: 0n, selector: 0 });
    vcpu.registers.writeGpr(16, 0x1000n);
    vcpu.setDeadline(performance.now() + 20);
    const exit = vcpu.run();
    if (exit.kind !== "pioIn") throw new Error(`Unexpected ${exit.kind}`);
    exit.data[0] = 0x5a;
    Bun.sleepSync(40);
    expect(vcpu.run()).toEqual({ kind: "interrupted", by: "timeout" });
    expect([vcpu.registers.readGpr(0) & 0xffn, vcpu.registers.readGpr(16)]).toEqual([0x5an, 0x1002n]);
  });

  test("a stop that was served by another exit is no timeout of a later run without deadline", () => {
    using it = guest(asm.real16`again: out 0x80, al
      jmp again`);
    const [vcpu] = it.vm.vcpus;
    expect(vcpu?.run({ timeoutMs: 200 }).kind).toBe("pioOut");
    Bun.sleepSync(220);
    for (let i = 0; i < 20; i++) expect(vcpu?.run().kind).toBe("pioOut");
  });

  test("disposing a vCPU whose deadline is armed leaves nothing that could stop it later", () => {
    for (let i = 0; i < 5; i++) {
      using it = guest(asm.real16`hlt`);
      expect(it.vm.vcpus[0]?.run({ timeoutMs: 200 }).kind).toBe("hlt");
    }
    Bun.sleepSync(220);
    expect(peer.violation()).toBe("");
  });

  test("two vCPUs take turns under one deadline each", async () => {
    using it = guest(asm.real16`again: inc eax
      jmp again`);
    const second = it.vm.createVcpu();
    second.enterMode("real16", { entry: 0x1000 });
    const result = await it.vm.run({ timeoutMs: 60, sliceMs: 5 });
    expect(result.outcome).toEqual({ kind: "timeout" });
    for (const { registers } of it.vm.vcpus) expect(registers.rax).toBeGreaterThan(0n);
  });

  test("kick() from a device ends the run after its answer", () => {
    using it = guest(asm.real16`again: out 0xe9, al
      jmp again`);
    const [vcpu] = it.vm.vcpus;
    it.vm.pio.map(0xe9, 1, { name: "kicker", read: () => {}, write: () => vcpu?.kick() });
    expect(vcpu?.run({ timeoutMs: 5000 })).toEqual({ kind: "interrupted", by: "kick" });
    expect(vcpu?.registers.rip).toBe(0x1002n);
  });
});

test.skipIf(missing !== undefined)(`a process whose watcher thread waits ends by itself${skipped}`, () => {
  const { library } = openRig("netbsd", "deadline");
  const script = `
    import { openNvmm } from ${JSON.stringify(new URL("../../../../src/backends/nvmm/backend.ts", import.meta.url).pathname)};
    import { Vm } from ${JSON.stringify(new URL("../../../../src/vm.ts", import.meta.url).pathname)};
    using vm = new Vm(openNvmm({ library: process.argv[1] }));
    const vcpu = vm.createVcpu();
    vm.memory.write(0x1000, Uint8Array.of(0xeb, 0xfe));
    vcpu.enterMode("real16", { entry: 0x1000 });
    console.log(vcpu.run({ timeoutMs: 5 }).by);`;
  const child = Bun.spawnSync([process.execPath, "-e", script, library], { timeout: 20_000 });
  expect([child.stdout.toString().trim(), child.exitCode]).toEqual(["timeout", 0]);
});
