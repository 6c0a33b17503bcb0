import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assemble } from "../../../../../src/asm/index.ts";
import { GdbClient } from "./gdb.ts";
import { LAYOUT } from "./layout.ts";
import type { Program } from "./program.ts";
import type { Stop, Trace } from "./trace.ts";

/** Where the stub lies that brings QEMU's processor from reset into the program's mode. */
const STUB = 0x600;
const HLT = 0xf4;
const TF = 0x100n;
const LMA = 0x400n;
const COMPATIBILITY: ReadonlySet<bigint> = new Set([0x18n, 0x1bn, 0x23n, 0x38n, 0x3bn]);
/** Always set on a processor; QEMU shows it clear until CR0 is written. */
const CR0_ET = 0x10n;

/** From real mode into the state of `program.setup`: tables, control registers, segments, TR, cleared registers. */
function stub(program: Program): Uint8Array {
  const { setup } = program;
  const { controls, descriptorTables: tables, gprs } = setup;
  const hex = (value: bigint | undefined) => `0x${(value ?? 0n).toString(16)}`;
  const clear = ["eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"].map((name) => `  xor ${name}, ${name}`).join("\n");
  const word = { 16: "word", 32: "dword", 64: "qword" }[setup.bits];
  const popf = { 16: "popf", 32: "popfd", 64: "popfq" }[setup.bits];
  const start = `${clear}\n  mov esp, ${hex(gprs.rsp)}\n  push ${word} 2\n  ${popf}`;
  if (setup.bits === 16) {
    return assemble(
      `bits 16\norg ${STUB}\n  cli\n  xor ax, ax\n  mov ds, ax\n  mov es, ax\n  mov fs, ax\n  mov gs, ax\n  mov ss, ax\n  mov eax, ${hex(controls.cr0)}\n  mov cr0, eax\n${start}\n  jmp 0:${LAYOUT.code}`,
    ).bytes;
  }
  const long = setup.bits === 64;
  return assemble(`
        bits 16
        org ${STUB}
        cli
        lgdt [cs:gdt]
        lidt [cs:idt]
        mov eax, ${hex(controls.cr3)}
        mov cr3, eax
        mov eax, ${hex(controls.cr4)}
        mov cr4, eax
        mov ecx, 0xc0000080
        mov eax, ${hex((controls.efer ?? 0n) & ~0x400n)}
        xor edx, edx
        wrmsr
        mov eax, ${hex(controls.cr0)}
        mov cr0, eax
        jmp dword 0x08:flat
        bits ${setup.bits}
flat:   mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov byte [${long ? "abs " : ""}${LAYOUT.tables + 0x4d}], 0x89
        ${long ? "mov ax, 0x48\n ltr ax" : ""}
${start}
        ${long ? `push ${LAYOUT.code}\n ret` : `jmp ${LAYOUT.code}`}
gdt:    dw ${tables.gdt.limit}
        dd ${hex(tables.gdt.base)}
idt:    dw ${tables.idt.limit}
        dd ${hex(tables.idt.base)}
`).bytes;
}

/** Single-steps `program` on QEMU's TCG through its GDB port, from the program's first instruction on. */
export async function traceOnQemu(qemu: string, program: Program, maxSteps: number): Promise<Trace> {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-lockstep-"));
  const path = join(folder, "gdb");
  const machine = [
    "-M",
    "pc",
    "-cpu",
    "max,vendor=GenuineIntel",
    "-accel",
    "tcg",
    "-m",
    "16",
    "-S",
    "-nodefaults",
    "-display",
    "none",
  ];
  const port = ["-chardev", `socket,id=gdb,path=${path},server=on,wait=off`, "-gdb", "chardev:gdb", "-no-reboot"];
  const child = Bun.spawn([qemu, ...machine, "-vga", "none", ...port], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  try {
    using gdb = await GdbClient.connect(path);
    return await steps(gdb, program, maxSteps);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    rmSync(folder, { recursive: true, force: true });
  }
}

async function steps(gdb: GdbClient, program: Program, maxSteps: number): Promise<Trace> {
  for (const { gpa, bytes } of program.pieces) await gdb.write(gpa, bytes);
  await gdb.write(STUB, stub(program));
  await gdb.setRegister("cs", 0n);
  await gdb.setRegister("rip", BigInt(STUB));
  const stops: Stop[] = [];
  let end: string | undefined;
  let inProgram = false;
  // With the stub's own steps: a program that resets the machine would run its firmware for ever.
  for (let step = 0; step < maxSteps + 40 && (inProgram || step < 40); step++) {
    const started = performance.now();
    if (!(await gdb.ask("s").catch(() => "")).startsWith("T")) {
      // A triple fault resets the machine, which -no-reboot ends at once; one that waits for an interrupt says nothing.
      if (performance.now() - started < 1000) end = "shutdown";
      break;
    }
    const registers = await gdb.registers();
    const linear = linearRip(registers);
    if (!inProgram && linear !== LAYOUT.code) continue;
    if (inProgram) stops.push(stopOf(registers));
    inProgram = true;
    if (byteAt(program, linear) === HLT) {
      end = "hlt";
      break;
    }
  }
  const memory = new Uint8Array(0x1000 + 0x7000);
  if (end !== "hlt") return { stops, end, memory };
  // By physical address: paging may be in any state.
  await gdb.ask("Qqemu.PhyMemMode:1");
  memory.set(await gdb.read(LAYOUT.logPointer, LAYOUT.logEnd - LAYOUT.logPointer));
  memory.set(await gdb.read(LAYOUT.data, 0x7000), 0x1000);
  return { stops, end, memory };
}

const NAMES = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r12", "r13", "r14", "r15"];
const SAME = ["rip", "cs", "ds", "es", "fs", "gs", "ss", "cr0", "cr2", "cr3", "cr4"];

function stopOf(registers: ReadonlyMap<string, bigint>): Stop {
  const stop = new Map<string, bigint>();
  // In compatibility mode QEMU shows the 32-bit view: nothing of it can be compared.
  const view32 = ((registers.get("efer") ?? 0n) & LMA) !== 0n && COMPATIBILITY.has(registers.get("cs") ?? 0n);
  for (const name of view32 ? SAME : [...NAMES, ...SAME]) stop.set(name, registers.get(name) ?? 0n);
  stop.set("cr0", (registers.get("cr0") ?? 0n) | CR0_ET);
  if (!view32) stop.set("r11", (registers.get("r11") ?? 0n) & ~TF);
  stop.set("rflags", (registers.get("eflags") ?? 0n) & ~0x10000n);
  return stop;
}

/** Code segments are flat but in real and virtual-8086 mode. */
function linearRip(registers: ReadonlyMap<string, bigint>): number {
  const value = (name: string) => registers.get(name) ?? 0n;
  const real = (value("cr0") & 1n) === 0n || (value("eflags") & 0x20000n) !== 0n;
  return Number(value("rip") + (real ? value("cs") * 16n : 0n));
}

function byteAt(program: Program, linear: number): number | undefined {
  const piece = program.pieces.find(({ gpa, bytes }) => linear >= gpa && linear < gpa + bytes.length);
  return piece?.bytes[linear - piece.gpa];
}
