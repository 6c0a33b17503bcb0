import { describe, expect, test } from "bun:test";
import { asm } from "../../../../src/asm/index.ts";
import { openSoft } from "../../../../src/backends/soft/backend.ts";
import type { Device } from "../../../../src/device.ts";
import { dispatch } from "../../../../src/dispatch.ts";
import { DeviceError } from "../../../../src/errors.ts";
import { copyExit, type Exit } from "../../../../src/exit.ts";
import type { Vcpu } from "../../../../src/vcpu.ts";
import { Vm, type VmOptions } from "../../../../src/vm.ts";

/**
 * The software CPU lets devices answer without coming back to the run loop. Nobody may notice: whatever a device does and
 * sees is what it does and sees when a script enters the vCPU exit by exit and asks the buses itself.
 */
const ACCESSES = asm.prot32`
    mov esi, text
    mov edi, 0x8000
    mov ecx, 3
  again:
    mov al, cl
    out 0x40, al
    in ax, 0x41
    add ebx, eax
    mov dx, 0x42
    out dx, eax
    mov [0xd0000000], ebx
    add ebx, [0xd0000004]
    xor dword [0xd0000008], 5
    loop again
    mov ecx, 4
    mov dx, 0x43
    rep outsb
    mov ecx, 4
    mov dx, 0x44
    rep insb
    hlt
  text: db "abcd"`;
const STORM = asm.prot32`
  again:
    inc eax
    out 0x40, al
    jmp again`;

interface Guest extends Disposable {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
}

function guestOf(program: { bytes: Uint8Array; origin: number; bits: 16 | 32 | 64 }, options: VmOptions = {}): Guest {
  const backend = openSoft();
  const vm = new Vm(backend, { memoryBytes: 1 << 20, ...options }, backend);
  const vcpu = vm.createVcpu();
  vcpu.load(program);
  return { vm, vcpu, [Symbol.dispose]: () => vm[Symbol.dispose]() };
}

/** What a device sees of the vCPU while it answers. */
const seen = ({ registers, instructions, exits, pendingInterrupts }: Vcpu) => {
  const { rip, rflags, rax, rbx, rcx, rdx, rsi, rdi } = registers;
  return { rip, rflags, rax, rbx, rcx, rdx, rsi, rdi, instructions, exits, pending: [...pendingInterrupts] };
};

type Seen = ReturnType<typeof seen> & { access: string };

/** Maps one device over everything the guests touch; `act` runs inside it with the number of the access. */
function watch({ vm, vcpu }: Guest, log: Seen[], act: (count: number) => void = () => {}): void {
  const device = (name: string): Device => ({
    name,
    read(offset, data) {
      data.forEach((_, i) => {
        data[i] = log.length + offset + i;
      });
      log.push({ access: `${name} read ${offset} ${data.length}`, ...seen(vcpu) });
      act(log.length);
    },
    write(offset, data) {
      log.push({ access: `${name} write ${offset} ${data.toHex()}`, ...seen(vcpu) });
      act(log.length);
    },
  });
  vm.pio.map(0x40, 8, device("port"));
  vm.mmio.map(0xd000_0000, 16, device("memory"));
}

/** The same by hand: enter, count, ask the buses. */
function runByHand({ vm, vcpu }: Guest, most = Number.POSITIVE_INFINITY): Exit {
  for (let left = most; left > 0; left--) {
    const exit = vcpu.enter();
    if (!dispatch(exit, vm)) return exit;
    if (vm.outcome !== undefined) return { kind: "interrupted", by: "kick" };
  }
  return { kind: "interrupted", by: "maxExits" };
}

interface Scene {
  readonly program?: typeof ACCESSES;
  readonly act?: (guest: Guest, count: number) => void;
  readonly most?: number;
}

/** Runs a scene both ways, twice over where it throws, and returns what everybody saw. */
function play(scene: Scene, way: "driven" | "byHand"): unknown {
  using guest = guestOf(scene.program ?? ACCESSES);
  const log: Seen[] = [];
  const observed: string[] = [];
  guest.vm.observe(({ kind }, vcpu) => observed.push(`${kind} ${vcpu.exits}`));
  watch(guest, log, (count) => scene.act?.(guest, count));
  const ends: unknown[] = [];
  for (let turn = 0; turn < 2; turn++) {
    try {
      const limits = scene.most === undefined ? {} : { maxExits: scene.most };
      ends.push(copyExit(way === "driven" ? guest.vcpu.run(limits) : runByHand(guest, scene.most)));
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      ends.push(error.message);
    }
    if (guest.vm.disposed) break;
    ends.push(seen(guest.vcpu));
  }
  return { log, observed, ends };
}

const SCENES: Readonly<Record<string, Scene>> = {
  "answers IN, OUT, MMIO and string instructions": {},
  "stops after exactly maxExits": { program: STORM, most: 5 },
  "throws at an OUT": {
    act: (_, count) => {
      if (count === 1) throw new Error("no");
    },
  },
  "throws at an IN": {
    act: (_, count) => {
      if (count === 2) throw new Error("no");
    },
  },
  "throws at an MMIO read": {
    act: (_, count) => {
      if (count === 5) throw new Error("no");
    },
  },
  "stops the VM": {
    program: STORM,
    most: 9,
    act: ({ vm }, count) => {
      if (count === 3) vm.stop();
    },
  },
  "kicks the vCPU": {
    program: STORM,
    most: 9,
    act: ({ vcpu }, count) => {
      if (count === 3) vcpu.kick();
    },
  },
  "queues an interrupt, which waits": {
    act: ({ vcpu }, count) => {
      if (count === 3) vcpu.interrupt(0x20);
    },
  },
  "raises an exception without a handler": {
    act: ({ vcpu }, count) => {
      if (count === 3) vcpu.exception(13, 0);
    },
  },
  "moves RIP to the end at an OUT": {
    act: ({ vcpu }, count) => {
      if (count === 1) vcpu.registers.rip = BigInt(ACCESSES.origin + ACCESSES.bytes.length - 5);
    },
  },
  "moves RIP to the end at an IN": {
    act: ({ vcpu }, count) => {
      if (count === 2) vcpu.registers.rip = BigInt(ACCESSES.origin + ACCESSES.bytes.length - 5);
    },
  },
  "changes registers": {
    act: ({ vcpu }) => {
      vcpu.registers.rbx += 1000n;
      vcpu.registers.rax ^= 0xffn;
    },
  },
  "rewrites the code that runs next": {
    program: STORM,
    most: 9,
    act: ({ vm }, count) => {
      // INC EAX becomes INC EBX.
      if (count === 4) vm.memory.write(STORM.origin, Uint8Array.of(0x43));
    },
  },
  "asks for single steps": {
    act: ({ vcpu }, count) => {
      if (count === 4) vcpu.debug({ singleStep: true });
    },
  },
  "sets a breakpoint ahead": {
    act: ({ vcpu }, count) => {
      const address = BigInt(ACCESSES.origin + ACCESSES.bytes.length - 5);
      if (count === 4) vcpu.debug({ breakpoints: [{ address, on: "execute" }] });
    },
  },
  "restores the state of three exits before": (() => {
    let saved: ReturnType<Vcpu["saveState"]> | undefined;
    return {
      program: STORM,
      most: 9,
      act: ({ vcpu }, count) => {
        if (count === 2) saved = vcpu.saveState();
        if (count === 5 && saved !== undefined) vcpu.restoreState(saved);
      },
    } satisfies Scene;
  })(),
  "runs the vCPU itself": {
    program: STORM,
    most: 9,
    act: ({ vcpu }, count) => {
      if (count === 3) for (let i = 0; i < 4; i++) vcpu.enter();
    },
  },
  "unmaps the device that is asked": {
    program: STORM,
    most: 9,
    act: ({ vm }, count) => {
      if (count === 3) vm.pio.mappings[0]?.[Symbol.dispose]();
    },
  },
};

describe("a device of the software CPU", () => {
  for (const [what, scene] of Object.entries(SCENES)) {
    test(`${what} as it does when a script enters exit by exit`, () => {
      expect(play(scene, "driven")).toEqual(play(scene, "byHand"));
    });
  }

  test("that disposes the VM ends the run with an error, and no harm", () => {
    const guest = guestOf(STORM);
    watch(guest, [], (count) => {
      if (count === 3) guest.vm[Symbol.dispose]();
    });
    expect(() => guest.vcpu.run()).toThrow("disposed");
  });

  test("counts the same exits and ends the same for vm.run()", async () => {
    using guest = guestOf(ACCESSES);
    const log: Seen[] = [];
    watch(guest, log);
    const { outcome, exit, exits } = await guest.vm.run({ maxExits: 7 });
    expect({ outcome, exits, seen: log.length }).toEqual({ outcome: { kind: "maxExits" }, exits: 7, seen: 7 });
    expect(exit).toMatchObject({ kind: "mmioWrite", gpa: 0xd000_0008 });
    expect((await guest.vm.run()).outcome).toEqual({ kind: "halted" });
  });

  test("that aborts the run stops it behind the exit it answers", async () => {
    using guest = guestOf(STORM);
    const controller = new AbortController();
    const log: Seen[] = [];
    watch(guest, log, (count) => {
      if (count === 12) controller.abort();
    });
    const { outcome, exits } = await guest.vm.run({ signal: controller.signal });
    expect({ outcome, exits, seen: log.length }).toEqual({ outcome: { kind: "aborted" }, exits: 12, seen: 12 });
  });
});

/** Numbers below `limit`, the same from the same seed. */
function randomOf(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) % limit;
  };
}

/** A loop of port accesses of all sizes between instructions that need and set registers and flags. */
function randomLoop(seed: number): typeof ACCESSES {
  const random = randomOf(seed);
  const code: number[] = [];
  for (let i = 0; i < 40; i++) {
    const port = 0x40 + random(8);
    const pieces = [
      [0xe6, port],
      [0x66, 0xe7, port],
      [0xe7, port],
      [0xe4, port],
      [0x66, 0xe5, port],
      [0xe5, port],
      [0x40 + random(4)],
      [0x04, random(256)],
      [0x11, 0xc3],
      [0x0f, 0x92, 0xc1],
      [0xa3, 0x00, 0x90, 0x00, 0x00],
      [0xf8 + random(2)],
    ];
    code.push(...(pieces[random(pieces.length)] as number[]));
  }
  code.push(0xe9, ...new Uint8Array(Int32Array.of(-code.length - 5).buffer));
  return { ...ACCESSES, bytes: Uint8Array.from(code) };
}

/** What a device may do beside answering: mostly nothing. */
function meddle({ vm, vcpu }: Guest, program: typeof ACCESSES, random: (limit: number) => number): void {
  switch (random(24)) {
    case 0:
      vcpu.kick();
      break;
    case 1:
      vcpu.registers.rbx += BigInt(random(1000));
      break;
    case 2:
      vcpu.registers.rflags ^= 0x8d5n & ~4n;
      break;
    case 3:
      vcpu.registers.rip = BigInt(program.origin);
      break;
    case 4:
      // NOP over anything: what is left of it decodes as it may, on both ways.
      vm.memory.write(program.origin + random(program.bytes.length - 5), Uint8Array.of(0x90));
      break;
    case 5:
      vcpu.debug(random(2) === 0 ? { singleStep: true } : {});
      break;
    case 6:
      throw new Error("broken");
    case 7:
      vm.stop();
      break;
  }
}

describe("devices that meddle", () => {
  for (let seed = 1; seed <= 30; seed++) {
    // Every third with controllers in the engine, which have four of the ports to themselves.
    const options: VmOptions = seed % 3 === 0 ? { irqchip: "full", pit: true } : {};
    test(`see and do the same in random program ${seed}, driven or entered exit by exit`, () => {
      const program = randomLoop(seed);
      const outcome = (way: "driven" | "byHand") => {
        using guest = guestOf(program, options);
        const random = randomOf(seed * 977);
        const log: Seen[] = [];
        watch(guest, log, () => meddle(guest, program, random));
        const ends: unknown[] = [];
        while (log.length < 300 && ends.length < 120) {
          try {
            // A loop whose ports the controllers own makes no exit at all, and memory below the program is slow: it changes itself.
            guest.vcpu.limitInstructions(100);
            ends.push(copyExit(way === "driven" ? guest.vcpu.run({ maxExits: 50 }) : runByHand(guest, 50)));
          } catch (error) {
            if (!(error instanceof DeviceError)) throw error;
            ends.push(error.message);
          }
          ends.push(seen(guest.vcpu));
        }
        return { log, ends };
      };
      expect(outcome("driven")).toEqual(outcome("byHand"));
    });
  }
});
