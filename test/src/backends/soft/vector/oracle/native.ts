import { CFunction, dlopen, FFIType, type Pointer, toArrayBuffer } from "bun:ffi";

/**
 * Runs one instruction on the host processor with chosen x87, vector, general and memory operands.
 *
 * An executable page holds a stub (assembled by nasm) that loads everything from a block of memory, executes the
 * instruction under test and stores everything back. The instruction may use any register but R14 and R15; R14
 * addresses `MEMORY`.
 */

/** Offsets in the block. */
export const FXSAVE = 0;
export const YMM = 512;
export const GPR = 1024;
export const FLAGS = 1152;
/** 1 when the host raised SIGFPE at the instruction, then MXCSR as it was then lies at FAULT + 8. */
export const FAULT = 1160;
export const MEMORY = 2048;
export const BLOCK = 4096;

/** Bytes reserved for the instruction under test. */
const SLOT = 32;

const STUB = `
bits 64
default rel
enter_stub:
  push rbx
  push rbp
  push r12
  push r13
  push r14
  push r15
  mov r15, rdi
  mov [rel saved_stack], rsp
  mov [rel block], rdi
  mov qword [r15+${FAULT}], 0
  fxrstor64 [r15]
%assign i 0
%rep 16
  vmovdqu ymm%[i], [r15+${YMM}+32*i]
%assign i i+1
%endrep
  mov rax, [r15+${GPR}]
  mov rcx, [r15+${GPR}+8]
  mov rdx, [r15+${GPR}+16]
  mov rbx, [r15+${GPR}+24]
  mov rbp, [r15+${GPR}+40]
  mov rsi, [r15+${GPR}+48]
  mov rdi, [r15+${GPR}+56]
  mov r8, [r15+${GPR}+64]
  mov r9, [r15+${GPR}+72]
  mov r10, [r15+${GPR}+80]
  mov r11, [r15+${GPR}+88]
  mov r12, [r15+${GPR}+96]
  mov r13, [r15+${GPR}+104]
  lea r14, [r15+${MEMORY}]
  push qword [r15+${FLAGS}]
  popfq
slot:
  times ${SLOT} nop
resume:
  mov [r15+${GPR}], rax
  pushfq
  pop rax
  mov [r15+${FLAGS}], rax
  mov [r15+${GPR}+8], rcx
  mov [r15+${GPR}+16], rdx
  mov [r15+${GPR}+24], rbx
  mov [r15+${GPR}+40], rbp
  mov [r15+${GPR}+48], rsi
  mov [r15+${GPR}+56], rdi
  mov [r15+${GPR}+64], r8
  mov [r15+${GPR}+72], r9
  mov [r15+${GPR}+80], r10
  mov [r15+${GPR}+88], r11
  mov [r15+${GPR}+96], r12
  mov [r15+${GPR}+104], r13
  fxsave64 [r15]
%assign i 0
%rep 16
  vmovdqu [r15+${YMM}+32*i], ymm%[i]
%assign i i+1
%endrep
  fninit
  vzeroupper
  ldmxcsr [rel default_mxcsr]
  cld
  pop r15
  pop r14
  pop r13
  pop r12
  pop rbp
  pop rbx
  ret
align 16
; void handler(int, siginfo_t *, ucontext_t *): notes the fault and goes on behind the instruction.
handler:
  mov rax, [rel block]
  mov qword [rax+${FAULT}], 1
  lea rcx, [rel resume]
  mov [rdx+168], rcx
  ret
align 16
restorer:
  mov eax, 15
  syscall
align 8
saved_stack: dq 0
block: dq 0
default_mxcsr: dd 0x1f80
align 8
table: dq slot - enter_stub, handler - enter_stub, restorer - enter_stub
`;

const libc = () =>
  dlopen("libc.so.6", {
    mmap: {
      args: [FFIType.ptr, FFIType.u64, FFIType.i32, FFIType.i32, FFIType.i32, FFIType.i64],
      returns: FFIType.ptr,
    },
    syscall: { args: [FFIType.i64, FFIType.i64, FFIType.ptr, FFIType.ptr, FFIType.i64], returns: FFIType.i64 },
  });

/** Why the host cannot be asked, or undefined when it can. */
export function unavailable(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs an x86-64 Linux host";
  if (!Bun.which("nasm")) return "needs nasm";
  if (!hostFlags().has("avx")) return "needs a host with AVX";
  return undefined;
}

/** The processor's feature flags as Linux names them. */
export function hostFlags(): Set<string> {
  const text = require("node:fs").readFileSync("/proc/cpuinfo", "utf8") as string;
  return new Set(/^flags\s*:\s*(.*)$/m.exec(text)?.[1]?.split(" ") ?? []);
}

function assemble(source: string): Uint8Array {
  const directory = require("node:fs").mkdtempSync(`${require("node:os").tmpdir()}/vmexit-oracle-`) as string;
  const fs = require("node:fs") as typeof import("node:fs");
  try {
    fs.writeFileSync(`${directory}/stub.asm`, source);
    const r = Bun.spawnSync(["nasm", "-f", "bin", "-o", `${directory}/stub.bin`, `${directory}/stub.asm`]);
    if (r.exitCode !== 0) throw new Error(r.stderr.toString());
    return new Uint8Array(fs.readFileSync(`${directory}/stub.bin`));
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

export class NativeOracle {
  readonly block: Uint8Array;
  readonly view: DataView;
  readonly #slot: Uint8Array;
  readonly #enter: (block: Pointer) => void;
  readonly #blockPointer: Pointer;

  constructor() {
    const stub = assemble(STUB);
    const { mmap, syscall } = libc().symbols;
    const page = mmap(null, 16384n, 7, 0x22, -1, 0n) as Pointer;
    const bytes = new Uint8Array(toArrayBuffer(page, 0, 16384));
    bytes.set(stub);
    const table = new DataView(stub.buffer, stub.length - 24, 24);
    const at = (i: number) => Number(table.getBigUint64(i * 8, true));
    this.#slot = bytes.subarray(at(0), at(0) + SLOT);
    this.block = bytes.subarray(8192, 8192 + BLOCK);
    this.view = new DataView(bytes.buffer, 8192, BLOCK);
    this.#blockPointer = (page + 8192) as Pointer;
    this.#enter = CFunction({ ptr: page, args: [FFIType.ptr], returns: FFIType.void }) as unknown as (
      b: Pointer,
    ) => void;
    // struct kernel_sigaction: handler, flags (SA_SIGINFO | SA_RESTORER | SA_NODEFER), restorer, mask.
    const action = new BigUint64Array([BigInt(page + at(1)), 0x4400_0004n, BigInt(page + at(2)), 0n]);
    if (syscall(13n, 8n, action, null, 8n) !== 0n) throw new Error("rt_sigaction(SIGFPE) failed");
  }

  /** Host address of an offset in the block. */
  address(offset: number): bigint {
    return BigInt(this.#blockPointer) + BigInt(offset);
  }

  /** Executes `instruction` over the block. Returns false when the host raised a floating-point fault at it. */
  run(instruction: ArrayLike<number>): boolean {
    this.#slot.fill(0x90);
    this.#slot.set(instruction);
    this.#enter(this.#blockPointer);
    return this.view.getUint32(FAULT, true) === 0;
  }
}
