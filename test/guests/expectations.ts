import type { Mode } from "../../src/boot/mode.ts";
import type { Exit } from "../../src/exit.ts";
import type { VcpuOptions, VmOptions } from "../../src/vm.ts";

/** What a guest asks of a backend and its host beyond running. */
export type Need = "irqchip" | "pit" | "msrExits" | "legacyPaging";

/** What the script does with an exit that no device answers; `"handled"` after a HLT lets the guest go on. */
export type HostScript = (exit: Exit, vcpu: { interrupt(vector: number): void }) => "handled" | undefined;

/**
 * How a guest is run and what comes of it, the same on every backend.
 *
 * Every machine has a 16550 UART at port 0x3f8 (on IRQ 4 where there is an irqchip), a debug console at 0xe9, a debug exit at 0xf4 and ACPI power at 0x604.
 * The transcript has what they did and the other exits in order, neighbours of the same kind joined: engines cut string
 * I/O into exits as they like.
 */
export interface GuestExpectation {
  readonly guest: string;
  readonly mode: Mode;
  readonly needs?: readonly Need[];
  readonly vm?: VmOptions;
  readonly vcpu?: VcpuOptions;
  /** What the UART receives. */
  readonly input?: string;
  /** Debug console and debug exit in memory, for a guest that has no ports. */
  readonly mmio?: { readonly console: number; readonly exit: number };
  /** Made anew for each run. */
  readonly host?: () => HostScript;
  readonly timeoutMs?: number;
  readonly transcript: readonly string[];
  /** Exits in all, those included that devices answered: for guests without string I/O or polling. */
  readonly exits?: number;
  /** Where the guest is in the end. */
  readonly rip?: bigint;
}

const hlt = "hlt";
const hex = (bytes: Iterable<number>) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");

/** Fills what port 0x60 reads with "a", "b", "c" and so on. */
function alphabet(): HostScript {
  let next = 0x61;
  return (exit) => {
    if (exit.kind === "pioIn" && exit.port === 0x60) for (const i of exit.data.keys()) exit.data[i] = next++;
    return undefined;
  };
}

/** Answers a load at offset n of a page with 0x10 + n, and so on. */
function numberedBytes(): HostScript {
  return (exit) => {
    if (exit.kind === "mmioRead") for (const i of exit.data.keys()) exit.data[i] = 0x10 + (exit.gpa & 0xff) + i;
    return undefined;
  };
}

/** Has MSR 0x12340 to read and 0x12341 to write. */
function twoMsrs(): HostScript {
  return (exit) => {
    if (exit.kind === "rdmsr") {
      exit.value = 0x1122334455667788n;
      exit.error = exit.msr !== 0x12340;
    }
    if (exit.kind === "wrmsr") exit.error = exit.msr !== 0x12341;
    return undefined;
  };
}

/** Wakes the guest from its first HLT. */
function interruptOnce(): HostScript {
  let done = false;
  return (exit, vcpu) => {
    if (exit.kind !== "hlt" || done) return undefined;
    done = true;
    vcpu.interrupt(0x20);
    return "handled";
  };
}

export const EXPECTATIONS: readonly GuestExpectation[] = [
  {
    guest: "hello",
    mode: "real16",
    transcript: ['uart "Hello from vmexit!\\n"', 'console "That was all.\\n"', hlt],
    exits: 34,
    rip: 0x1013n,
  },
  {
    guest: "echo",
    mode: "real16",
    input: "What comes in,\ngoes out.\n\x04",
    transcript: ['uart "What comes in,\\ngoes out.\\n"', hlt],
  },
  {
    guest: "storm",
    mode: "real16",
    transcript: [`pioOut 0x80/1 ${hex(Array.from({ length: 1000 }, (_, i) => i & 0xff))}`, hlt],
    exits: 1001,
  },
  {
    guest: "string-out",
    mode: "real16",
    transcript: [
      'pioOut 0x10/1 "abcdefgh"',
      'pioOut 0x10/2 "ijklmnop"',
      'pioOut 0x10/4 "qrstuvwx"',
      'pioOut 0x10/1 "ba"',
      hlt,
    ],
  },
  {
    guest: "string-in",
    mode: "real16",
    host: alphabet,
    transcript: [
      'pioIn 0x60/1 "abcdefgh"',
      'pioIn 0x60/2 "ijklmnop"',
      'pioIn 0x60/4 "qrstuvwx"',
      'console "abcdefghijklmnopqrstuvwx"',
      hlt,
    ],
  },
  {
    guest: "mmio",
    mode: "long64",
    host: numberedBytes,
    transcript: [
      "mmioWrite 0xd0000000/1 11",
      "mmioWrite 0xd0000002/2 22 22",
      "mmioWrite 0xd0000004/4 33 33 33 33",
      "mmioWrite 0xd0000008/8 44 44 44 44 44 44 44 44",
      "mmioRead 0xd0000000/1 10",
      "mmioWrite 0xd0000100/1 10",
      "mmioRead 0xd0000002/2 12 13",
      "mmioWrite 0xd0000102/2 12 13",
      "mmioRead 0xd0000004/4 14 15 16 17",
      "mmioWrite 0xd0000104/4 14 15 16 17",
      "mmioRead 0xd0000008/8 18 19 1a 1b 1c 1d 1e 1f",
      "mmioWrite 0xd0000108/8 18 19 1a 1b 1c 1d 1e 1f",
      hlt,
    ],
    exits: 13,
  },
  {
    guest: "msr",
    mode: "real16",
    needs: ["msrExits"],
    vm: { msrExits: { invalid: true } },
    host: twoMsrs,
    transcript: [
      "rdmsr 0x12340 = 0x1122334455667788",
      "wrmsr 0x12341 = 0x1122334455667789",
      "rdmsr 0x12342 refused",
      'console "G"',
      "wrmsr 0x12343 refused",
      'console "G"',
      hlt,
    ],
    exits: 7,
  },
  {
    guest: "cpuid",
    mode: "real16",
    vcpu: { cpuid: { 0: { ebx: 0x78656d76, edx: 0x20207469, ecx: 0x55504376 } } },
    transcript: ['console "vmexit  vCPU\\n"', hlt],
    exits: 14,
  },
  {
    guest: "hlt-irq",
    mode: "real16",
    host: interruptOnce,
    transcript: [hlt, 'console "IW"', hlt],
    exits: 4,
  },
  {
    guest: "timer",
    mode: "real16",
    needs: ["irqchip", "pit"],
    vm: { irqchip: "full", pit: true },
    transcript: ['console "....."', "power off"],
    exits: 6,
  },
  {
    guest: "serial-irq",
    mode: "real16",
    needs: ["irqchip"],
    vm: { irqchip: "full" },
    input: "No polling.\n\x04",
    transcript: ['uart "No polling.\\n"', 'console "h"', "power off"],
  },
  { guest: "memtest", mode: "real16", transcript: ['console "memory ok\\n"', hlt], exits: 11 },
  { guest: "real16", mode: "real16", transcript: ['uart "real16 ok\\n"', hlt], exits: 11 },
  { guest: "prot32", mode: "prot32", transcript: ['uart "prot32 ok\\n"', hlt], exits: 11 },
  {
    guest: "paged32",
    mode: "paged32",
    needs: ["legacyPaging"],
    transcript: ['uart "paged32 ok\\n"', hlt],
    exits: 12,
  },
  { guest: "pae", mode: "pae", needs: ["legacyPaging"], transcript: ['uart "pae ok\\n"', hlt], exits: 8 },
  { guest: "long64", mode: "long64", transcript: ['uart "long64 ok\\n"', hlt], exits: 11 },
  {
    guest: "ring3",
    mode: "long64-ring3",
    mmio: { console: 0xd0000000, exit: 0xd0000004 },
    transcript: ['console "ring3 ok\\n"', "debug exit 0x10"],
    exits: 10,
  },
  { guest: "debug-exit", mode: "real16", transcript: ["debug exit 0x2a"], exits: 1 },
  { guest: "triple-fault", mode: "prot32", transcript: ["shutdown"], exits: 1 },
  { guest: "endless", mode: "real16", timeoutMs: 20, transcript: ["interrupted timeout"], rip: 0x1000n },
];
