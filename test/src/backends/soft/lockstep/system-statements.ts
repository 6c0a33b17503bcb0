import type { Random } from "../oracle/random.ts";
import { integer, type Width } from "./integer-statements.ts";
import { EXTRA, LAYOUT, LDT, SOFTWARE_VECTORS } from "./layout.ts";

export type Family = "real" | "protected" | "long";
/** What a statement is made for. */
export interface Setting {
  readonly family: Family;
  readonly bits: Width;
  readonly paged: boolean;
  /** Paged by entries of 8 bytes. */
  readonly wide: boolean;
  /** Hardware task switches, call gates between rings and virtual-8086 mode. */
  readonly heavy: boolean;
  /** Accesses beyond segment limits: QEMU's TCG, and so a KVM on it, does not check them. */
  readonly limits: boolean;
  /** Changes of ring: a KVM that emulates ring 0 and runs ring 3 natively does not step from one into the other. */
  readonly rings: boolean;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
const INT = SOFTWARE_VECTORS;
const SELECTORS = [
  0,
  3,
  0x08,
  0x0b,
  0x10,
  0x13,
  0x18,
  0x1b,
  0x23,
  0x20,
  0x2b,
  0x28,
  0x33,
  0x38,
  0x40,
  0x48,
  0xf8,
  0x1000,
  EXTRA.conforming,
  EXTRA.executeOnly,
  EXTRA.readOnly,
  EXTRA.expandDown,
  EXTRA.absent,
  EXTRA.callGate,
  EXTRA.ldt,
  EXTRA.small,
  EXTRA.tss2,
  LDT.code,
  LDT.data,
  LDT.end,
] as const;
const selector = (r: Random): string => hex(r.pick(SELECTORS));
const SEGMENTS = ["ds", "es", "fs", "gs", "ss"] as const;

type Statement = (r: Random, setting: Setting, label: string) => string;

/** Instructions that ring 0 and ring 3 both may try. */
function attempt(r: Random, { bits, family, paged, rings, limits }: Setting): string {
  // In error codes about gates of long mode, TCG counts the index by 16 bytes, the manuals by 8.
  const badGates = limits || family !== "long" ? [INT.absent, INT.kernelOnly, 0x80] : [];
  const a = r.pick(["eax", "ebx", "ecx", "edx"]);
  const at = bits === 64 ? "abs " : "";
  const pages = [
    LAYOUT.data,
    LAYOUT.supervisorPage,
    LAYOUT.readOnlyPage,
    LAYOUT.supervisorReadOnlyPage,
    LAYOUT.noExecutePage,
    LAYOUT.absentPage,
  ];
  const place = hex(r.pick(pages) + r.pick([0, 8, 0x7fc, 0xffd, 0xfff, 0xff8]));
  const pieces: readonly (() => string)[] = [
    () => `mov ${a}, [${at}${paged ? place : hex(LAYOUT.data)}]`,
    () => `mov [${at}${paged ? place : hex(LAYOUT.data)}], ${a}`,
    // TCG reads before it writes, and says so in the error code; a processor asks for both at once.
    () => `add dword [${at}${paged && limits ? place : hex(LAYOUT.data)}], ${r.below(100)}`,
    () =>
      `int ${r.pick([0, 1, 3, 4, 6, 13, INT.interrupt3, INT.trap3, INT.badSelector, INT.conforming, ...badGates, ...(family === "long" ? [INT.ist] : [])])}`,
    () => "int3",
    () => "ud2",
    () => r.pick(["cli", "sti", "clts", "cmc"]),
    () => `mov eax, ${r.pick(["cr0", "cr2", "cr3", "cr4"])}`.replace("eax", bits === 64 ? "rax" : "eax"),
    () => `mov ax, ${selector(r)}\n  mov ${r.pick(SEGMENTS)}, ax`,
    () => `mov ax, ${selector(r)}\n  ${r.pick(["verr", "verw"])} ax`,
    () => `mov cx, ${selector(r)}\n  ${r.pick(["lar", "lsl"])} edx, ecx`,
    () => `${r.pick(["sgdt", "sidt"])} [${at}${hex(LAYOUT.data + 0x300)}]`,
    () => `${r.pick(["str", "sldt", "smsw"])} ax`,
    () => "xor edx, edx\n  xor ecx, ecx\n  div ecx",
    () => `mov eax, 0x80000000\n  cdq\n  mov ecx, -1\n  idiv ecx`,
    () =>
      `mov ecx, ${r.pick(["0x174", "0x175", "0x176", "0xc0000081", "0xc0000082", "0xc0000084", "0x277", ...(limits ? ["0x12345678"] : [])])}\n  rdmsr`,
    () => `fninit\n  fnstcw [${at}${hex(LAYOUT.data + 0x340)}]`,
    () => "fnop\n  fwait",
    () => `movaps xmm${r.below(8)}, [${at}${hex(LAYOUT.data + 0x100 + r.below(2) * 8)}]`,
    // kvm_pvm clears AC when it delivers an event; processors do not.
    () => {
      if (!rings) return "cmc";
      return bits === 64 ? "pushfq\n  or dword [rsp], 0x40000\n  popfq" : "pushfd\n  or dword [esp], 0x40000\n  popfd";
    },
    () =>
      bits === 64
        ? `pushfq\n  xor dword [rsp], ${hex(r.pick([0x3000, 0x200, 0x4000, 0x200000, 0x400]))}\n  popfq`
        : `pushfd\n  xor dword [esp], ${hex(r.pick([0x3000, 0x200, 0x4000, 0x200000, 0x400]))}\n  popfd`,
    () => integer(r, bits),
  ];
  return `  ${r.pick(pieces)()}`;
}

/** Into ring 3 by IRET, a few attempts there, and back by INT. */
const ring3: Statement = (r, setting, label) => {
  const { bits } = setting;
  const long = bits === 64;
  const push = long ? "push qword" : "push dword";
  const compat = long && r.chance(3);
  const flags = r.pick([0x2, 0x202, 0x3202, 0x1202, 0x40002, 0x40202]);
  const inner: Setting = compat ? { ...setting, bits: 32 } : setting;
  const body = Array.from({ length: 1 + r.below(4) }, () => attempt(r, inner)).join("\n");
  return [
    `  ${push} 0x2b`,
    `  ${push} USTACK`,
    `  ${push} ${hex(flags)}`,
    `  ${push} ${compat || !long ? "0x23" : "0x33"}`,
    `  ${push} ${label}_user`,
    long ? "  iretq" : "  iretd",
    ...(compat ? ["bits 32"] : []),
    `${label}_user:`,
    // IRET leaves ring 0's data segments null; who does not check limits does not check that either.
    ...(inner.bits === 32 && !setting.limits ? ["  mov ax, 0x2b\n  mov ds, ax\n  mov es, ax"] : []),
    body,
    `  int ${hex(r.pick([INT.interrupt3, INT.trap3]))}`,
    ...(compat ? ["bits 64"] : []),
  ].join("\n");
};

/** Far transfers to selectors good and bad; what they reach is either the next statement or a target. */
const far: Statement = (r, { bits, limits }, label) => {
  const target = r.pick([
    "0x08",
    "0x18",
    "0x1b",
    "0x33",
    // What follows is read as 16-bit code then: TCG executes POP forms (8F /1 to /7) that are no instructions.
    ...(limits ? ["0x38"] : []),
    selector(r),
    hex(EXTRA.conforming),
    hex(EXTRA.executeOnly),
    hex(EXTRA.callGate),
    hex(EXTRA.kernelCallGate),
    hex(LDT.code),
  ]);
  const place = r.chance(2) ? "TARGETS" : `${label}_far`;
  const landing = `${label}_far:\n  nop`;
  if (bits === 64) {
    return r.chance(2)
      ? `  push qword ${target}\n  push qword ${place}\n  o64 retf\n${landing}`
      : `  mov dword [abs DATA + 0x380], ${place}\n  mov word [abs DATA + 0x384], ${target}\n  ${r.pick(["call", "jmp"])} far dword [abs DATA + 0x380]\n${landing}`;
  }
  return r.pick([
    `  push dword ${target}\n  push dword ${place}\n  retf\n${landing}`,
    `  push dword 2\n  push dword ${target}\n  push dword ${place}\n  iretd\n${landing}`,
    `  ${r.pick(["call", "jmp"])} ${target}:${place}\n${landing}`,
  ]);
};

const controlRegister: Statement = (r, { bits, paged, wide, family, rings, limits }) => {
  const a = bits === 64 ? "rax" : "eax";
  // TCG lets 64-bit code turn paging off; for PAE see below.
  const clearsPaging = family !== "real" && paged && rings && (limits || !wide);
  // CD, NW, PSE, PAE and PGE reload PAE's pointers: TCG marks them as accessed, and a KVM on it then refuses the reserved bit.
  const cr0 = [1, 2, 3, 5, 16, 18, ...(limits ? [29, 30] : []), ...(clearsPaging ? [31] : [])];
  const cr4 = [2, 3, 9, 10, ...(limits ? [4, 5, 7] : [])];
  const which = r.chance(2)
    ? { name: "cr0", bit: r.pick(cr0.slice(0, family === "real" ? 4 : undefined)) }
    : { name: "cr4", bit: r.pick(cr4) };
  // Bits that would end the program are changed and changed back: the statement behind it may still be reached.
  const toggle = `  btc ${a}, ${which.bit}`;
  const danger = which.name === "cr0" ? [29, 30, 31].includes(which.bit) : [4, 5, 7].includes(which.bit) && paged;
  if (danger)
    return `  mov ${a}, ${which.name}\n  mov ebx, eax\n${toggle}\n  mov ${which.name}, ${a}\n  mov ${a}, ${which.name}\n${toggle}\n  mov ${which.name}, ${a}`;
  return `  mov ${a}, ${which.name}\n${toggle}\n  mov ${which.name}, ${a}\n  mov ${a}, ${which.name}`;
};

const loadTable: Statement = (r, { bits }) => {
  const at = bits === 64 ? "abs " : "";
  return r.pick([
    `  mov ax, ${selector(r)}\n  lldt ax`,
    `  mov ax, ${hex(EXTRA.ldt)}\n  lldt ax\n  mov ax, ${hex(r.pick([LDT.code, LDT.data, LDT.end]))}\n  mov fs, ax`,
    `  mov ax, ${hex(r.pick(SELECTORS.filter((one) => one > 3 && (one & 4) === 0)))}\n  ltr ax`,
    `  sidt [${at}DATA + 0x3a0]\n  lidt [${at}DATA + 0x3a0]`,
    `  sgdt [${at}DATA + 0x3a0]\n  lgdt [${at}DATA + 0x3a0]`,
    `  mov ax, ${r.pick([0x33, 0x37, 0x13, 0x31])}\n  lmsw ax`,
  ]);
};

/** Segments with limits: through FS and GS so that the program itself goes on. */
const limits: Statement = (r, setting) => {
  const { bits } = setting;
  if (!setting.limits) return invalidate(r, setting, "");
  const pick = r.pick([EXTRA.small, EXTRA.expandDown, EXTRA.readOnly, EXTRA.executeOnly, 0, 0x40]);
  const offset = r.pick([0, 0x10, 0x2ffc, 0x2ffd, 0x3000, 0xfffe, 0xffff, 0x10000, 0x1fffc, 0x1fffe, 0x20000, 0x20100]);
  const access = r.pick(["mov eax, [SEG:OFF]", "mov [SEG:OFF], eax", "inc word [SEG:OFF]", "mov al, [SEG:OFF]"]);
  const seg = r.pick(["fs", "gs"]);
  const at = bits === 64 ? "abs " : "";
  return `  mov ax, ${hex(pick)}\n  mov ${seg}, ax\n  ${access.replace("SEG:OFF", `${seg}:${at}${hex(offset)}`)}`;
};

const msr: Statement = (r, { bits, limits }) => {
  const index = r.pick([
    "0x174",
    "0x175",
    "0x176",
    "0xc0000081",
    "0xc0000082",
    "0xc0000084",
    "0xc0000100",
    "0xc0000101",
    "0xc0000102",
    "0xc0000080",
  ]);
  if (index === "0xc0000080")
    return `  mov ecx, ${index}\n  rdmsr\n  ${r.pick(["or eax, 1", "xor eax, 0x800", ...(limits ? ["or eax, 0x80000000", "mov edx, 1"] : [])])}\n  wrmsr`;
  const value = r.pick(["0x08", "0x4ffe", "0x5000", "0", "0x20000"]);
  const high =
    index.startsWith("0x17") || index === "0xc0000084"
      ? "0"
      : bits === 64 && limits && r.chance(6)
        ? "0x8000"
        : bits === 64 && r.chance(4)
          ? "0xffffffff"
          : "0";
  return `  mov ecx, ${index}\n  mov eax, ${index === "0x174" ? "0x08" : value}\n  mov edx, ${high}\n  wrmsr\n  rdmsr`;
};

const sysenter: Statement = (r) =>
  `  mov ecx, 0x174\n  mov eax, ${r.pick(["0x08", "0", "0x0b"])}\n  xor edx, edx\n  wrmsr\n  inc ecx\n  mov eax, KSTACK\n  wrmsr\n  inc ecx\n  mov eax, TARGETS\n  wrmsr\n  ${r.pick(["sysenter", "mov ecx, USTACK\n  mov edx, TARGETS\n  sysexit"])}`;

const syscall: Statement = (r) =>
  `  mov ecx, 0xc0000080\n  rdmsr\n  or eax, 1\n  wrmsr\n  mov ecx, 0xc0000081\n  xor eax, eax\n  mov edx, 0x00230008\n  wrmsr\n  inc ecx\n  mov eax, TARGETS\n  xor edx, edx\n  wrmsr\n  mov ecx, 0xc0000084\n  mov eax, ${r.pick(["0", "0x200", "0x40600", "0xffffffff"])}\n  wrmsr\n  ${r.pick(["syscall", "mov ecx, TARGETS\n  mov r11d, 0x3202\n  o64 sysret", "mov ecx, TARGETS\n  mov r11d, 0x202\n  sysret"])}`;

/** Whether these fault where they are or where they lead is a matter of taste: TCG does the latter. */
const NEAR_BRANCHES = ["jmp rbx", "call rbx", "push rbx\n  ret"];

const canonical: Statement = (r, { limits }) =>
  `  mov rbx, 0x${r.pick(["8000000000000000", "0000800000000000", "00007ffffffffffc", "ffff7ffffffffff8"])}\n  ${r.pick(
    [
      "mov rax, [rbx]",
      "mov [rbx], rax",
      "push qword [rbx]",
      ...(limits ? NEAR_BRANCHES : []),
      // #SS on a processor, #GP on TCG.
      ...(limits ? ["xchg rsp, rbx\n  push rax", "xchg rbp, rbx\n  mov rax, [rbp]"] : []),
      "swapgs",
      "lgdt [rbx]",
    ],
  )}`;

const invalidate: Statement = (r, { bits }) => {
  const at = bits === 64 ? "abs " : "";
  const a = bits === 64 ? "rax" : "eax";
  return r.pick([`  invlpg [${at}${hex(LAYOUT.absentPage)}]`, `  mov ${a}, cr3\n  mov cr3, ${a}`, "  wbinvd"]);
};

/** Virtual-8086 mode: IRET with VM set, a few instructions, out by an interrupt or fault. */
const v8086: Statement = (r, _, label) => {
  const iopl = r.pick([0x20002, 0x23002, 0x20202, 0x23202]);
  const body = Array.from({ length: 1 + r.below(4) }, () =>
    r.pick([
      "mov ax, 0x2000\n  mov es, ax",
      "mov [es:0], ax",
      "pushf\n  pop bx\n  and bh, ~1",
      "cli",
      "sti",
      "push es\n  pop ds",
      "int 0x30",
      "int3",
      "mov eax, cr0",
      "lidt [0]",
      "lahf",
      "ud2",
      integer(r, 16).replace(/\[.*?\]/, "[0x10]"),
      "str ax",
    ]),
  )
    .map((line) => `  ${line}`)
    .join("\n");
  return `  push dword 0x2000\n  push dword 0x2000\n  push dword 0x2000\n  push dword 0x2000\n  push dword 0x200\n  push dword 0x1000\n  push dword ${hex(iopl)}\n  push dword 0x100\n  push dword ${label}_v86 - 0x1000\n  iretd\nbits 16\n${label}_v86:\n${body}\n  int 0x30\nbits 32`;
};

/** A 16-bit task gets them as zeros from KVM, as they were from TCG. */
const NO_UPPER_HALVES = ["eax", "ecx", "edx", "ebx", "ebp", "esi", "edi"].map((r) => `  xor ${r}, ${r}`).join("\n");

/** Hardware task switches: jump, call and task gate to the second TSS, which comes back by IRET or jump. */
const taskSwitch: Statement = (r) =>
  r.pick([
    `  jmp ${hex(EXTRA.tss2)}:0`,
    `  call ${hex(EXTRA.tss2)}:0`,
    `  call ${hex(EXTRA.taskGate)}:0`,
    `  int ${hex(INT.task)}`,
    `  jmp ${hex(EXTRA.taskGate)}:0`,
    `  pushfd\n  or dword [esp], 0x4000\n  popfd\n  iretd`,
    `${NO_UPPER_HALVES}\n  jmp ${hex(EXTRA.tss16)}:0`,
    `${NO_UPPER_HALVES}\n  call ${hex(EXTRA.tss16)}:0`,
  ]);

/** Gates of 16 bits: frames of words. */
const narrowGate: Statement = (r) =>
  r.pick([
    `  int ${hex(INT.interrupt16)}`,
    `  int ${hex(INT.trap16)}`,
    `  push word 3\n  push word 4\n  call ${hex(EXTRA.userCallGate16)}:0`,
    `  mov ax, ${hex(EXTRA.stack16)}\n  mov ss, ax\n  push eax\n  pop bx\n  int ${hex(INT.trap16)}`,
  ]);

const REAL: readonly Statement[] = [
  (r) => `  int ${r.pick([0, 1, 3, 4, 6, 13, 0x30, 0x31])}`,
  () => "  int3",
  () => "  ud2",
  (r) => `  stc\n  mov al, ${r.pick([0x7f, 0])}\n  add al, ${r.pick([1, 0x80])}\n  into`,
  () => "  xor dx, dx\n  xor cx, cx\n  div cx",
  () => "  mov word [0x3a00], 5\n  mov word [0x3a02], 9\n  mov bx, 12\n  bound bx, [0x3a00]",
  (r) =>
    `  mov ax, ${hex(r.below(0x3000))}\n  mov ${r.pick(["es", "fs", "gs"])}, ax\n  mov bx, [${r.pick(["es", "fs", "gs"])}:0x10]`,
  (r, _, label) =>
    `  push cs\n  push word ${label}_far\n  ${r.pick(["retf", "pushf\n  pop ax\n  and ah, ~1\n  retf"])}\n${label}_far:\n  nop`,
  (_, __, label) => `  jmp 0x100:${label}_far - 0x1000\n${label}_far:\n  jmp 0:${label}_back\n${label}_back:\n  nop`,
  (_, __, label) => `  pushf\n  push cs\n  push word ${label}_far\n  iret\n${label}_far:\n  nop`,
  (r) =>
    `  pushf\n  pop ax\n  and ah, ~1\n  xor ax, ${hex(r.pick([0x3000, 0x200, 0x4000, 0x400, 0x8000, 0xffff & ~0x100]))}\n  push ax\n  popf\n  cld\n  and ah, ~1`,
  (r) => `  ${r.pick(["sti", "cli", "clts", "smsw ax", "sgdt [0x3b00]", "sidt [0x3b00]", "fninit", "fnop", "wbinvd"])}`,
  (r) => `  ${r.pick(["str ax", "lldt ax", "verr ax", "lar ax, bx", "sldt ax", "ltr ax"])}`,
  () => "  mov eax, cr0\n  mov cr0, eax",
  (r) => `  les ${r.pick(["bx", "si"])}, [0x3a00]\n  mov ax, es`,
  () => "  lidt [0x3b80]\n  int 0x31",
];

const REAL_LIMITS: readonly Statement[] = [
  (r) => `  mov bx, 0xffff\n  mov ${r.pick(["ax, [bx]", "[bx], ax", "al, [bx]", "eax, [bx - 2]"])}`,
  (r) => `  mov ebx, 0x${r.pick(["10000", "ffff", "fffe", "12345678"])}\n  mov ax, [ebx]`,
  (r) =>
    `  mov sp, ${r.pick([2, 8, 0x10])}\n  ${r.pick(["push ax", "pop bx", "push eax", "int 0x30"])}\n  mov sp, 0x7800`,
];

const RINGS: readonly Statement[] = [ring3, ring3, far, far, sysenter];

const PROTECTED: readonly Statement[] = [
  loadTable,
  limits,
  limits,
  msr,
  controlRegister,
  invalidate,
  (r, setting) => attempt(r, setting),
  (r, setting) => attempt(r, setting),
];

/** A random statement about the system, in the given setting. */
export function system(r: Random, setting: Setting, label: string): string {
  const { family } = setting;
  if (family === "real") return r.pick(setting.limits ? [...REAL, ...REAL_LIMITS] : REAL)(r, setting, label);
  const catalogue = [
    ...PROTECTED,
    ...(setting.rings ? RINGS : []),
    ...(family === "long" ? [canonical] : []),
    ...(family === "long" && setting.rings ? [syscall] : []),
    ...(family === "protected" && setting.heavy ? [v8086, taskSwitch, v8086, taskSwitch, narrowGate] : []),
  ];
  return r.pick(catalogue)(r, setting, label);
}
