import { afterEach, describe, expect, test } from "bun:test";
import { asm, type Program } from "../../../../src/asm/index.ts";
import { NvmmBackend } from "../../../../src/backends/nvmm/backend.ts";
import type { NvmmPolicy } from "../../../../src/backends/nvmm/policy.ts";
import { NvmmSystem } from "../../../../src/backends/nvmm/system.ts";
import type { NvmmVcpu } from "../../../../src/backends/nvmm/vcpu.ts";
import type { NvmmVm } from "../../../../src/backends/nvmm/vm.ts";
import type { Exit, ExitOf } from "../../../../src/exit.ts";
import type { Vcpu } from "../../../../src/vcpu.ts";
import { Vm, type VmOptions } from "../../../../src/vm.ts";
import type { PeerOption } from "../../../peers/libnvmm/build.ts";
import { missing, openRig, PEER_SYSTEMS, type Rig, skipped } from "./peers.ts";

const DEADLINE = { timeoutMs: 5000 };

/** Points a real-mode vector at a label. */
function handle(guest: Guest, vector: number, program: Program): void {
  guest.vm.memory.writeU16(vector * 4, Number(program.symbols.get("handler")));
  guest.vm.memory.writeU16(vector * 4 + 2, 0);
}

interface Guest extends Disposable {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  next(): Exit;
}

function boot(rig: Rig, program: Program, options: VmOptions & { policy?: Partial<NvmmPolicy> } = {}): Guest {
  const { policy = {}, ...vmOptions } = options;
  const vm = rig.host.createVm({ memoryBytes: 0x20000, ...vmOptions });
  Object.assign((vm.engine as NvmmVm).policy, policy);
  const vcpu = vm.createVcpu(0);
  vm.memory.write(0x1000, program.bytes);
  vcpu.enterMode("real16", { entry: 0x1000 });
  return { vm, vcpu, next: () => vcpu.run(DEADLINE), [Symbol.dispose]: () => vm[Symbol.dispose]() };
}

describe.each(PEER_SYSTEMS)(`NVMM exits on %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("need the peer", () => {});
    return;
  }
  const rig = openRig(system, "exits");
  const { peer } = rig;
  const set: PeerOption[] = [];
  const option = (name: PeerOption, value: number) => {
    set.push(name);
    peer.option(name, value);
  };
  afterEach(() => {
    for (const name of set.splice(0)) peer.option(name, 0);
    expect(peer.violation()).toBe("");
  });

  test("REP OUTSB yields every element in one exit, with RIP behind it", () => {
    using guest = boot(
      rig,
      asm.real16`mov si, 0x2000
      mov cx, 100
      mov dx, 0x3f8
      rep outsb
      hlt`,
    );
    const text = Uint8Array.from({ length: 100 }, (_, i) => i + 1);
    guest.vm.memory.write(0x2000, text);
    const exit = guest.next() as ExitOf<"pioOut">;
    expect(exit).toEqual({ kind: "pioOut", port: 0x3f8, size: 1, count: 100, data: text });
    expect(guest.vcpu.registers.rip).toBe(0x100bn);
    expect(guest.vcpu.registers.rcx).toBe(0n);
    expect(guest.next().kind).toBe("hlt");
  });

  test("REP INSW takes every element from one exit, and those beyond 1024 bytes from the next", () => {
    using guest = boot(
      rig,
      asm.real16`mov di, 0x2000
      mov cx, 600
      mov dx, 0x60
      rep insw
      hlt`,
    );
    const first = guest.next() as ExitOf<"pioIn">;
    expect([first.size, first.count, first.data.length]).toEqual([2, 512, 1024]);
    first.data.forEach((_, i) => {
      first.data[i] = i;
    });
    const second = guest.next() as ExitOf<"pioIn">;
    expect([second.size, second.count]).toEqual([2, 88]);
    second.data.fill(0xee);
    expect(guest.next().kind).toBe("hlt");
    expect(guest.vm.memory.read(0x2000, 1024)).toEqual(Uint8Array.from({ length: 1024 }, (_, i) => i));
    expect(guest.vm.memory.read(0x2400, 176)).toEqual(new Uint8Array(176).fill(0xee));
  });

  test("STD with REP OUTSB walks downwards", () => {
    using guest = boot(
      rig,
      asm.real16`std
      mov si, 0x2003
      mov cx, 4
      rep outsb
      hlt`,
    );
    guest.vm.memory.write(0x2000, Uint8Array.of(1, 2, 3, 4));
    expect((guest.next() as ExitOf<"pioOut">).data).toEqual(Uint8Array.of(4, 3, 2, 1));
  });

  test("INS into MMIO is its elements, then stores; OUTS from MMIO is loads, then its elements", () => {
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov es, ax
      mov ds, ax
      mov dx, 0x60
      mov di, 8
      mov cx, 2
      rep insw
      mov si, 4
      mov cx, 3
      rep outsb
      hlt`,
    );
    const input = guest.next() as ExitOf<"pioIn">;
    expect([input.size, input.count]).toEqual([2, 2]);
    input.data.set([1, 2, 3, 4]);
    expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xf0008, data: Uint8Array.of(1, 2) });
    expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xf000a, data: Uint8Array.of(3, 4) });
    for (const i of [0, 1, 2]) {
      const load = guest.next() as ExitOf<"mmioRead">;
      expect([load.kind, load.gpa, load.data.length]).toEqual(["mmioRead", 0xf0004 + i, 1]);
      load.data[0] = 0x50 + i;
    }
    const data = Uint8Array.of(0x50, 0x51, 0x52);
    expect(guest.next()).toEqual({ kind: "pioOut", port: 0x60, size: 1, count: 3, data });
    expect(guest.next().kind).toBe("hlt");
  });

  test("a plain port exit costs no system call but the run", () => {
    using guest = boot(
      rig,
      asm.real16`again: out 0x80, al
      in al, 0x60
      inc al
      jmp again`,
    );
    guest.next();
    guest.next();
    peer.clear();
    for (let i = 0; i < 50; i++) {
      const exit = guest.vcpu.enter();
      if (exit.kind === "pioIn") exit.data[0] = i;
      void guest.vcpu.registers.rip;
      void guest.vcpu.registers.cs;
      void guest.vcpu.registers.cr0;
    }
    expect([peer.counter("run"), peer.counter("syscalls")]).toEqual([50, 50]);
  });

  test("registers are fetched by group, once per exit, and only where NVMM has not cached them", () => {
    using guest = boot(rig, asm.real16`hlt`);
    guest.next();
    peer.clear();
    // Every exit carries these two.
    expect([guest.vcpu.registers.rflags, guest.vcpu.registers.cr8]).toEqual([2n, 0n]);
    expect(peer.counter("getstate")).toBe(0);
    void guest.vcpu.registers.rip;
    void guest.vcpu.registers.rax;
    // On NetBSD, where a HLT can get lost, RIP was read when this one came.
    const gprs = system === "netbsd" ? 0 : 1;
    expect(peer.counter("getstate")).toBe(gprs);
    void guest.vcpu.registers.ds;
    void guest.vcpu.registers.cs;
    expect(peer.counter("getstate")).toBe(gprs + 1);
  });

  test("a load from MMIO by MOVS changes no memory until it is answered", () => {
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov ds, ax
      xor ax, ax
      mov es, ax
      xor si, si
      mov di, 0x2000
      movsw
      hlt`,
    );
    guest.vm.memory.writeU16(0x2000, 0x1234);
    const exit = guest.next() as ExitOf<"mmioRead">;
    expect([exit.gpa, exit.data.length, guest.vm.memory.readU16(0x2000)]).toEqual([0xf0000, 2, 0x1234]);
    exit.data.set([0xcd, 0xab]);
    expect(guest.next().kind).toBe("hlt");
    expect(guest.vm.memory.readU16(0x2000)).toBe(0xabcd);
  });

  test("a read-modify-write of MMIO is a load, then a store", () => {
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov ds, ax
      or word [0x10], 0x0f
      hlt`,
    );
    const load = guest.next() as ExitOf<"mmioRead">;
    expect(load.gpa).toBe(0xf0010);
    load.data.set([0x30, 0x40]);
    expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xf0010, data: Uint8Array.of(0x3f, 0x40) });
    expect(guest.next().kind).toBe("hlt");
  });

  test("CMPS over two MMIO operands asks for both", () => {
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov ds, ax
      mov es, ax
      mov si, 8
      mov di, 16
      cmpsb
      hlt`,
    );
    const first = guest.next() as ExitOf<"mmioRead">;
    first.data[0] = 7;
    // A register written now takes the answer, and what follows from it is still seen.
    guest.vcpu.registers.rbp = 1n;
    const second = guest.next() as ExitOf<"mmioRead">;
    second.data[0] = 7;
    expect([first.gpa, second.gpa]).toEqual([0xf0008, 0xf0010]);
    expect(guest.next().kind).toBe("hlt");
    expect(guest.vcpu.registers.rflags & 0x40n).toBe(0x40n);
  });

  test("policy.mmio emulator gives the same exits and registers as libnvmm's assist", () => {
    const program = asm.real16`mov ax, 0xf000
      mov ds, ax
      mov es, ax
      mov byte [0], 5
      mov bx, [2]
      and [4], bx
      xchg cx, [6]
      movzx edx, byte [8]
      test byte [9], 0x80
      mov di, 0x20
      stosw
      mov si, 0x30
      lodsb
      mov [0x40], eax
      hlt`;
    const record = (mmio: NvmmPolicy["mmio"]) => {
      using guest = boot(rig, program, { policy: { mmio } });
      const seen: unknown[] = [];
      for (;;) {
        const exit = guest.next();
        seen.push({ ...exit, data: "data" in exit ? exit.data.slice() : [] }, guest.vcpu.registers.gprs());
        if (exit.kind === "hlt") return seen;
        if (exit.kind === "mmioRead") exit.data.fill(0xa5);
      }
    };
    const assisted = record("assist");
    expect(record("emulator")).toEqual(assisted);
    expect(assisted.length).toBe(24);
  });

  test("an instruction that libnvmm does not know is executed by vmexit's emulator", () => {
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov ds, ax
      add byte [1], 0x20
      hlt`,
    );
    const load = guest.next() as ExitOf<"mmioRead">;
    load.data[0] = 0xf0;
    expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xf0001, data: Uint8Array.of(0x10) });
    expect(guest.next().kind).toBe("hlt");
    expect(guest.vcpu.registers.rflags & 1n).toBe(1n);
  });

  test("an instruction that neither knows is an internalError with its bytes, and nothing of it is done", () => {
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov ds, ax
      fld dword [0]
      hlt`,
    );
    const exit = guest.next() as ExitOf<"internalError">;
    expect([exit.kind, exit.name]).toEqual(["internalError", "emulation failure"]);
    expect(exit.instruction.slice(0, 4)).toEqual(Uint8Array.of(0xd9, 0x06, 0, 0));
    expect(guest.vcpu.registers.rip).toBe(0x1005n);
  });

  test("a jump out of memory is an internalError", () => {
    using guest = boot(rig, asm.real16`jmp 0xf000:0`);
    expect(guest.next().kind).toBe("internalError");
  });

  test("without instruction bytes from the processor, as on Intel, MMIO works from guest memory", () => {
    option("intel", 1);
    using guest = boot(
      rig,
      asm.real16`mov ax, 0xf000
      mov ds, ax
      mov bl, [3]
      add [4], bl
      hlt`,
    );
    const load = guest.next() as ExitOf<"mmioRead">;
    load.data[0] = 2;
    const second = guest.next() as ExitOf<"mmioRead">;
    second.data[0] = 3;
    expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xf0004, data: Uint8Array.of(5) });
    expect(guest.next().kind).toBe("hlt");
  });

  test("MONITOR and MWAIT raise #UD, or are exits where the policy says so", () => {
    option("step", 1);
    const program = asm.real16`monitor
      mwait
      hlt
      handler: hlt`;
    {
      using guest = boot(rig, program);
      handle(guest, 6, program);
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vcpu.registers.rip).toBe((program.symbols.get("handler") as bigint) + 1n);
      expect(guest.vm.memory.readU16(Number(guest.vcpu.registers.rsp))).toBe(0x1000);
    }
    using guest = boot(rig, program, { policy: { monitor: "exit" } });
    expect(guest.next()).toEqual({ kind: "monitor" });
    expect(guest.vcpu.registers.rip).toBe(0x1000n);
    expect(guest.next()).toEqual({ kind: "mwait" });
    expect(guest.next()).toEqual({ kind: "hlt" });
    expect(guest.vcpu.registers.rip).toBe(0x1007n);
  });

  test("a CPUID leaf of policy.cpuidExits is an exit with NVMM's answer in the registers, and the script's stays", () => {
    using guest = boot(
      rig,
      asm.real16`mov eax, 1
      cpuid
      mov eax, 0x40000000
      cpuid
      hlt`,
      { policy: { cpuidExits: [0x40000000] } },
    );
    expect(guest.next()).toEqual({ kind: "cpuid", leaf: 0x40000000, subleaf: 0 });
    const { registers } = guest.vcpu;
    const vendor = new Uint8Array(Uint32Array.of(...[registers.rbx, registers.rcx, registers.rdx].map(Number)).buffer);
    expect(new TextDecoder().decode(vendor)).toBe("___ NVMM ___");
    expect(registers.rip).toBe(0x100en);
    registers.rbx = 0x12345678n;
    expect(guest.next().kind).toBe("hlt");
    expect([registers.rbx, registers.rip]).toEqual([0x12345678n, 0x1011n]);
  });

  test("CPUID leaf 1 shows MCE, MCA and MTRR, and the MSRs behind them answer", () => {
    using guest = boot(
      rig,
      asm.real16`mov eax, 1
      cpuid
      mov ebx, edx
      mov ecx, 0xfe
      rdmsr
      mov ecx, 0x179
      rdmsr
      mov ecx, 0x17a
      rdmsr
      mov ecx, 0x2ff
      wrmsr
      rdmsr
      mov ecx, 0x1b
      rdmsr
      hlt`,
    );
    expect(guest.next().kind).toBe("hlt");
    const { registers } = guest.vcpu;
    expect(registers.rbx & 0x5080n).toBe(0x5080n);
    expect(registers.rax).toBe(0xfee00900n);
    expect(registers.apicBase).toBe(0xfee00900n);
  });

  test("an unknown MSR raises #GP, or is ignored where the policy says so", () => {
    const program = asm.real16`mov ecx, 0x12345678
      mov eax, 7
      mov edx, 9
      wrmsr
      rdmsr
      hlt
      handler: hlt`;
    {
      using guest = boot(rig, program);
      handle(guest, 13, program);
      expect(guest.next().kind).toBe("hlt");
      expect(guest.vcpu.registers.rip).toBe((program.symbols.get("handler") as bigint) + 1n);
    }
    using guest = boot(rig, program, { policy: { unknownMsrs: "ignore" } });
    expect(guest.next().kind).toBe("hlt");
    expect([guest.vcpu.registers.rax, guest.vcpu.registers.rdx, guest.vcpu.registers.rip]).toEqual([0n, 0n, 0x1017n]);
  });

  test("an interrupt waits for IF and the window, and is delivered once", () => {
    const program = asm.real16`mov sp, 0x8000
      out 0x80, al
      sti
      nop
      nop
      again: out 0x81, al
      jmp again
      handler: out 0x82, al
      iret`;
    using guest = boot(rig, program);
    handle(guest, 0x20, program);
    const ports = (count: number) => Array.from({ length: count }, () => (guest.next() as ExitOf<"pioOut">).port);
    expect(ports(1)).toEqual([0x80]);
    guest.vcpu.interrupt(0x20);
    expect(guest.vcpu.interruptReady).toBe(false);
    const seen = ports(6);
    expect(seen.filter((port) => port === 0x82)).toEqual([0x82]);
    expect(guest.vcpu.pendingInterrupts).toEqual([]);
  });

  test("an NMI queued while another runs waits for its IRET, and nmiWindow comes where the policy asks for it", () => {
    const program = asm.real16`mov sp, 0x8000
      again: out 0x81, al
      jmp again
      handler: out 0x82, al
      out 0x83, al
      iret`;
    using guest = boot(rig, program, { policy: { nmiWindows: true } });
    handle(guest, 2, program);
    guest.next();
    guest.vcpu.nmi();
    const seen: string[] = [];
    for (let i = 0; i < 8; i++) {
      const exit = guest.next();
      if (exit.kind === "pioOut" && exit.port === 0x82 && seen.length === 0) guest.vcpu.nmi();
      seen.push(exit.kind === "pioOut" ? exit.port.toString(16) : exit.kind);
    }
    expect(seen.slice(0, 6)).toEqual(["82", "83", "nmiWindow", "82", "83", "nmiWindow"]);
  });

  test("injected exceptions push their error code, and those NVMM refuses are refused by name", () => {
    const program = asm.real16`mov sp, 0x8000
      again: out 0x81, al
      jmp again
      handler: hlt`;
    using guest = boot(rig, program);
    handle(guest, 6, program);
    guest.next();
    guest.vcpu.exception(6);
    expect(guest.next().kind).toBe("hlt");
    expect(() => guest.vcpu.exception(3)).toThrow(/injection of exception 3/);
    expect(() => guest.vcpu.exception(0)).toThrow(/injection of exception 0/);
  });

  test("spurious returns and replaced reasons change nothing a script sees", () => {
    const program = asm.real16`mov sp, 0x8000
      mov ax, 0xf000
      mov ds, ax
      mov cx, 20
      again: in al, 0x60
      out 0x80, al
      mov [0x10], al
      add [cs:0x3000], al
      sti
      loop again
      mov ecx, 0x12345678
      rdmsr
      hlt
      handler: out 0x90, al
      iret`;
    const run = () => {
      using guest = boot(rig, program, { msrExits: { invalid: true } });
      handle(guest, 0x20, program);
      const seen: unknown[] = [];
      for (let i = 0; i < 200; i++) {
        const exit = guest.next();
        seen.push(exit.kind === "pioOut" && exit.port === 0x90 ? "interrupt" : structuredClone({ ...exit }));
        if (exit.kind === "pioIn") exit.data[0] = i;
        if (exit.kind === "pioIn" && i % 7 === 0) guest.vcpu.interrupt(0x20);
        if (exit.kind === "hlt" || exit.kind === "shutdown") break;
      }
      return { seen, sum: guest.vm.memory.readU8(0x3000), left: guest.vcpu.pendingInterrupts.length };
    };
    const plain = run();
    expect(plain.seen.at(-1)).toEqual({ kind: "hlt" });
    expect(plain.seen.filter((exit) => exit === "interrupt").length).toBeGreaterThan(2);
    option("spurious", 2);
    option("overwrite", system === "netbsd" ? 3 : 0);
    expect(run()).toEqual(plain);
  });

  test("HLT and CPUID whose reason was replaced are reported from the guest's state", () => {
    option("overwrite", system === "netbsd" ? 2 : 0);
    const program = asm.real16`mov eax, 0x40000000
      cpuid
      hlt
      mov bl, 1
      hlt
      mov bl, 2
      hlt`;
    using guest = boot(rig, program, { policy: { cpuidExits: [0x40000000] } });
    const seen = Array.from({ length: 4 }, () => {
      const exit = guest.next();
      return [exit.kind, guest.vcpu.registers.rip];
    });
    expect(seen).toEqual([
      ["cpuid", 0x1006n],
      ["hlt", 0x1009n],
      ["hlt", 0x100cn],
      ["hlt", 0x100fn],
    ]);
  });

  test("TPR exits report a changed CR8 on Intel, with RIP behind it, and are refused on AMD by name", () => {
    {
      using vm = rig.host.createVm();
      (vm.engine as NvmmVm).policy.tprExits = true;
      expect(() => vm.createVcpu(0)).toThrow(/TPR exits/);
    }
    option("intel", 1);
    option("step", 1);
    // What a library can do is asked once: a copy of it, opened now, is the Intel one.
    using intel = new NvmmBackend(new NvmmSystem([rig.library]), { tprExits: true });
    using vm = new Vm(intel, { memoryBytes: 0x200000 });
    const program = asm.long64`mov eax, 3
      mov cr8, rax
      hlt`;
    vm.memory.write(0x1000, program.bytes);
    const vcpu = vm.createVcpu();
    vcpu.enterMode("long64", { entry: 0x1000 });
    expect(vcpu.run(DEADLINE)).toEqual({ kind: "setTpr", cr8: 3n });
    expect([vcpu.registers.cr8, vcpu.registers.rip]).toEqual([3n, 0x1009n]);
    expect(vcpu.run(DEADLINE).kind).toBe("hlt");
  });

  test("answerDirectly() answers an access inside the library, without an exit", () => {
    using vm = rig.host.createVm({ memoryBytes: 0x20000 });
    const engine = (vm.engine as NvmmVm).createVcpu(0);
    using vcpu: NvmmVcpu = engine;
    vm.memory.write(
      0x1000,
      asm.real16`mov bl, [0]
      mov [1], bl
      hlt`.bytes,
    );
    const { registers } = vcpu;
    registers.writeSegment("cs", { ...registers.readSegment("cs"), base: 0n, selector: 0 });
    registers.writeSegment("ds", { ...registers.readSegment("ds"), base: 0xf0000n, selector: 0xf000 });
    registers.writeGpr(16, 0x1000n);
    const seen: [number, boolean, number][] = [];
    vcpu.answerDirectly(({ gpa, isWrite, data }) => {
      if (!isWrite) data[0] = 0x77;
      seen.push([gpa, isWrite, data[0] as number]);
      return true;
    });
    expect(vcpu.run().kind).toBe("hlt");
    expect(seen).toEqual([
      [0xf0000, false, 0x77],
      [0xf0001, true, 0x77],
    ]);
  });
});
