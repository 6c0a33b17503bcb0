import { CFunction, dlopen, FFIType, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * One integer instruction on the host processor, with every register its own.
 *
 * A page at a fixed low address holds a stub (assembled by nasm) that loads sixteen registers and RFLAGS from a block of
 * memory, executes the instruction and stores them back; a signal handler on its own stack catches what faults.
 */

/** Linear addresses, the same for the guest. */
export const PAGE = 0x2000_0000;
const BLOCK = PAGE + 0x1000;
/** Memory operands lie here: two pages, so that some cross the border. */
export const DATA = PAGE + 0x4000;
export const DATA_BYTES = 0x2000;
const MAPPED = 0x10000;
const SIGNAL_STACK = PAGE + 0x8000;
const SLOT = 32;

const INPUT = 0;
const OUTPUT = 0x100;
const FLAGS = 0x80;
const SIGNAL = 0x200;
const SAVED = 0x208;

const NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];

const STUB = `
bits 64
default abs
org ${PAGE}
enter:
  push rbx
  push rbp
  push r12
  push r13
  push r14
  push r15
  mov [${BLOCK + SAVED}], rsp
  mov qword [${BLOCK + SIGNAL}], 0
  push qword [${BLOCK + FLAGS}]
  popfq
${NAMES.map((name, i) => `  mov ${name}, [${BLOCK + INPUT + i * 8}]`).join("\n")}
  jmp slot
leave:
${NAMES.map((name, i) => `  mov [${BLOCK + OUTPUT + i * 8}], ${name}`).join("\n")}
  mov rsp, [${BLOCK + SAVED}]
  pushfq
  pop qword [${BLOCK + OUTPUT + FLAGS}]
  cld
  pop r15
  pop r14
  pop r13
  pop r12
  pop rbp
  pop rbx
  ret
handler:
  mov [${BLOCK + SIGNAL}], rdi
  lea rax, [leave]
  mov [rdx+168], rax
  ret
restorer:
  mov eax, 15
  syscall
align 64
slot:
  times ${SLOT} nop
  jmp leave
align 8
table: dq slot, handler, restorer
`;

/** Signals that stand for exceptions: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV. */
const SIGNALS = [4, 5, 7, 8, 11];

/** Why the host cannot be asked, or undefined when it can. */
export function unavailable(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs an x86-64 Linux host";
  return Bun.which("nasm") === null ? "needs nasm" : undefined;
}

/** The processor's feature flags as Linux names them. */
export function hostFlags(): ReadonlySet<string> {
  return new Set(/^flags\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? []);
}

function assemble(source: string): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), "vmexit-host-"));
  try {
    writeFileSync(join(directory, "stub.asm"), source);
    const run = Bun.spawnSync(["nasm", "-f", "bin", "-o", join(directory, "stub.bin"), join(directory, "stub.asm")]);
    if (run.exitCode !== 0) throw new Error(run.stderr.toString());
    return new Uint8Array(readFileSync(join(directory, "stub.bin")));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const SYSTEM = {
  mmap: { args: [FFIType.u64, FFIType.u64, FFIType.i32, FFIType.i32, FFIType.i32, FFIType.i64], returns: FFIType.i64 },
  munmap: { args: [FFIType.u64, FFIType.u64], returns: FFIType.i32 },
  syscall: { args: [FFIType.i64, FFIType.i64, FFIType.ptr, FFIType.ptr, FFIType.i64], returns: FFIType.i64 },
} as const;
const RT_SIGACTION = 13n;
const SIGALTSTACK = 131n;

export class HostProcessor implements Disposable {
  /** RAX … R15 before the instruction. */
  readonly input: BigUint64Array;
  readonly output: BigUint64Array;
  readonly data: Uint8Array;
  readonly #words: BigUint64Array;
  readonly #slot: Uint8Array;
  readonly #enter: () => void;
  readonly #libc = dlopen("libc.so.6", SYSTEM);
  readonly #old: { signal: number; action: BigUint64Array }[] = [];

  constructor() {
    const stub = assemble(STUB);
    const { mmap, syscall } = this.#libc.symbols;
    // MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    const at = Number(mmap(BigInt(PAGE), BigInt(MAPPED), 7, 0x10_0022, -1, 0n));
    if (at !== PAGE) throw new Error(`Cannot map the stub at 0x${PAGE.toString(16)}`);
    const memory = toArrayBuffer(PAGE as Pointer, 0, MAPPED);
    new Uint8Array(memory).set(stub);
    const table = new DataView(stub.buffer, stub.length - 24, 24);
    const address = (i: number) => table.getBigUint64(i * 8, true);
    this.#slot = new Uint8Array(memory, Number(address(0)) - PAGE, SLOT);
    this.input = new BigUint64Array(memory, BLOCK - PAGE + INPUT, 16);
    this.output = new BigUint64Array(memory, BLOCK - PAGE + OUTPUT, 16);
    this.#words = new BigUint64Array(memory, BLOCK - PAGE, 128);
    this.data = new Uint8Array(memory, DATA - PAGE, DATA_BYTES);
    this.#enter = CFunction({ ptr: PAGE as Pointer, args: [], returns: FFIType.void }) as unknown as () => void;
    const stack = new BigUint64Array([BigInt(SIGNAL_STACK), 0n, 0x8000n]);
    syscall(SIGALTSTACK, BigInt(pointer(stack)), null, null, 0n);
    // SA_SIGINFO | SA_RESTORER | SA_NODEFER | SA_ONSTACK
    const action = new BigUint64Array([address(1), 0x4c00_0004n, address(2), 0n]);
    for (const signal of SIGNALS) {
      const old = new BigUint64Array(4);
      syscall(RT_SIGACTION, BigInt(signal), asPointer(action), asPointer(old), 8n);
      this.#old.push({ signal, action: old });
    }
  }

  set flags(value: number) {
    this.#words[FLAGS >> 3] = BigInt(value);
  }
  get flags(): number {
    return Number((this.#words[(OUTPUT + FLAGS) >> 3] as bigint) & 0xffff_ffffn);
  }

  set instruction(bytes: Uint8Array) {
    this.#slot.fill(0x90);
    this.#slot.set(bytes);
  }

  /** Executes the instruction. The signal that stopped it, 0 for none. */
  run(): number {
    this.#enter();
    return Number(this.#words[SIGNAL >> 3] as bigint);
  }

  [Symbol.dispose](): void {
    const { munmap, syscall } = this.#libc.symbols;
    for (const { signal, action } of this.#old) syscall(RT_SIGACTION, BigInt(signal), asPointer(action), null, 8n);
    munmap(BigInt(PAGE), BigInt(MAPPED));
    this.#libc.close();
  }
}

function pointer(of: BigUint64Array): number {
  return Number(ptr(of));
}
function asPointer(of: BigUint64Array): Pointer {
  return ptr(of);
}
