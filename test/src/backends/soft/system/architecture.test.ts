import { afterAll, describe, expect, test } from "bun:test";
import { applyMode } from "../../../../../src/boot/enter-mode.ts";
import { createVm } from "../../../../../src/index.ts";
import { EXTRA, LAYOUT, TSS2 } from "../lockstep/layout.ts";
import { build, type LockstepMode } from "../lockstep/program.ts";
import { engine, type Logged, type Outcome, play } from "./events.ts";

const backend = engine();
afterAll(() => backend[Symbol.dispose]());

/** Vector and error code of every event. */
const codes = (log: readonly Logged[]) => log.map(({ vector, code }) => [vector, code]);

function logged(mode: LockstepMode, statements: readonly string[], expected: readonly (readonly number[])[]): void {
  play(backend, mode, statements, ({ log }) => expect(codes(log)).toEqual(expected.map((one) => [...one])));
}

function data(outcome: Outcome, offset: number): number {
  return outcome.vm.memory.readU32(LAYOUT.data + offset);
}

describe("real mode", () => {
  test("offsets beyond 64 KiB raise #GP until protected mode has left a larger limit behind: unreal mode", () => {
    const probe = "mov ebx, 0x20010\n mov eax, [fs:ebx]";
    const unreal = `lgdt [cs:gdtr]
      mov eax, cr0
      or al, 1
      mov cr0, eax
      mov cx, 8
      mov fs, cx
      and al, 0xfe
      mov cr0, eax
      jmp over
      align 8
    gdt: dq 0, 0x00cf92000000ffff
    gdtr: dw 15
      dd gdt
    over: xor cx, cx
      mov fs, cx`;
    play(backend, "real16", [probe, unreal, probe], ({ log, vcpu }) => {
      expect(codes(log)).toEqual([[13, 0]]);
      expect(vcpu.registers.fs.limit).toBe(0xffffffff);
    });
  });

  test("a word at offset 0xffff raises #GP, on the stack #SS", () => {
    logged(
      "real16",
      ["mov bx, 0xffff\n mov ax, [bx]", "mov bp, 0xffff\n mov ax, [bp]"],
      [
        [13, 0],
        [12, 0],
      ],
    );
  });

  test("an SSE operand beyond the stack's limit raises #SS when it is aligned, else #GP", () => {
    const sse = "mov eax, cr4\n or ax, 0x200\n mov cr4, eax";
    logged(
      "real16",
      [sse, "mov ebp, 0x20010\n movaps xmm0, [ebp]", "mov ebp, 0x20014\n movaps xmm0, [ebp]"],
      [
        [12, 0],
        [13, 0],
      ],
    );
  });
});

/** Into virtual-8086 mode with `flags`, at 16-bit `code`; comes back by whatever that raises. */
function v8086(flags: number, code: string, name: string): string {
  return `push dword 0x2000
    push dword 0x2000
    push dword 0x2000
    push dword 0x2000
    push dword 0
    push dword USTACK
    push dword ${0x20002 | flags}
    push dword 0
    push dword ${name}
    iretd
    bits 16
  ${name}:
    ${code}
    bits 32`;
}

describe("virtual-8086 mode", () => {
  const IOPL3 = 0x3000;
  test("segments are paragraphs, and INT 3 and INT n with IOPL 3 lead through the IDT to ring 0", () => {
    play(backend, "prot32", [v8086(IOPL3, "mov eax, [0x10]\n int 0x30", "v")], (outcome) => {
      expect(codes(outcome.log)).toEqual([[0x30, 0]]);
      expect(outcome.log[0]?.flags).toBe(0x23002);
    });
    logged("prot32", [v8086(0, "int3", "v")], [[3, 0]]);
  });

  test("with IOPL below 3, CLI, STI, PUSHF, POPF, IRET and INT n raise #GP(0)", () => {
    const sensitive = ["cli", "sti", "pushf", "popf", "iret", "int 0x30"];
    const statements = sensitive.map((code, i) => v8086(0, `${code}\n int3`, `v${i}`));
    logged(
      "prot32",
      statements,
      sensitive.map(() => [13, 0]),
    );
  });

  test("with IOPL 3 they run, on the virtual machine's own stack", () => {
    const code = "pushf\n popf\n cli\n pushf\n push cs\n push word back\n iret\n nop\n back: int3";
    play(backend, "prot32", [v8086(IOPL3, code, "v")], ({ log }) => {
      expect(codes(log)).toEqual([[3, 0]]);
      expect(log[0]?.flags).toBe(0x23002);
    });
  });

  test("ports ask the permission map whatever IOPL is; HLT, MOV from CR0 and LGDT raise #GP(0), LLDT and LTR #UD", () => {
    const codes16 = ["in al, 0x60", "hlt", "mov eax, cr0", "lgdt [0]", "lldt ax", "ltr ax", "verr ax", "lar ax, bx"];
    const statements = codes16.map((code, i) => v8086(IOPL3, `${code}\n int3`, `v${i}`));
    logged("prot32", statements, [
      [13, 0],
      [13, 0],
      [13, 0],
      [13, 0],
      [6, 0],
      [6, 0],
      [6, 0],
      [6, 0],
    ]);
  });

  test("CR4.VME does not exist, as CPUID says", () => {
    logged(
      "prot32",
      ["mov eax, cr4\n or al, 1\n mov cr4, eax", "mov eax, cr4\n or al, 2\n mov cr4, eax"],
      [
        [13, 0],
        [13, 0],
      ],
    );
  });
});

describe("paging", () => {
  const directory = "mov edi, cr3\n and edi, 0xfffff000";
  test("PSE: 4 MiB pages, with bit 21 reserved; without CR4.PSE bit 7 means nothing", () => {
    const statements = [
      `${directory}\n mov eax, [edi]\n or al, 0x80\n mov [edi + 0x400], eax\n mov eax, cr4\n and al, ~0x10\n mov cr4, eax\n mov eax, [0x40000000 + DATA]\n mov [DATA + 0x800], eax`,
      `mov eax, cr4\n or al, 0x10\n mov cr4, eax\n mov dword [edi + 0x400], 0x87\n invlpg [0x40000000]\n mov eax, [0x40000000 + DATA + 4]\n mov [DATA + 0x804], eax`,
      "mov dword [edi + 0x400], 0x200087\n invlpg [0x40000000]\n mov eax, [0x40000000]",
    ];
    play(backend, "paged32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([[14, 9]]);
      expect(outcome.log[0]?.cr2).toBe(0x40000000n);
      expect([data(outcome, 0x800), data(outcome, 0x804)]).toEqual([data(outcome, 0), data(outcome, 4)]);
    });
  });

  test("accessed and dirty bits are set by what they are named for", () => {
    const clear = "and dword [edi + (DATA >> 12) * 4], ~0x60\n invlpg [DATA]";
    const table = `${directory}\n mov edi, [edi]\n and edi, 0xfffff000`;
    play(
      backend,
      "paged32",
      [
        `${table}\n ${clear}\n mov ebx, [DATA]\n mov eax, [edi + (DATA >> 12) * 4]\n mov ecx, eax\n mov [DATA], ebx\n mov edx, [edi + (DATA >> 12) * 4]`,
      ],
      ({ vcpu }) => {
        expect([vcpu.registers.rcx & 0x60n, vcpu.registers.rdx & 0x60n]).toEqual([0x20n, 0x60n]);
      },
    );
  });

  /** Takes the user bit from the pages of code, stack and tables; DATA stays the user's. */
  const supervisor = `${directory}\n mov edi, [edi]\n and edi, 0xfffff000\n xor ecx, ecx
    more: and dword [edi + ecx * 4], ~4\n inc ecx\n cmp ecx, DATA >> 12\n jb more\n mov eax, cr3\n mov cr3, eax`;
  const cr4 = (bit: number) => `mov eax, cr4\n bts eax, ${bit}\n mov cr4, eax`;

  test("SMEP: a fetch from a user page by the supervisor is #PF with P and I/D", () => {
    play(backend, "paged32", [supervisor, "mov byte [DATA], 0xc3\n call DATA", `${cr4(20)}\n call DATA`], ({ log }) => {
      expect(codes(log)).toEqual([[14, 0x11]]);
      expect(log[0]?.cr2).toBe(BigInt(LAYOUT.data));
    });
  });

  test("SMAP: data of user pages is #PF with P to the supervisor unless AC is set", () => {
    const statements = [
      supervisor,
      `${cr4(21)}\n mov eax, [DATA]`,
      "stac\n mov eax, [DATA]\n mov [DATA], eax\n clac\n mov [DATA], eax",
      "stac\n push dword [DATA]\n clac\n push dword [DATA]",
    ];
    play(backend, "paged32", statements, ({ log }) => {
      expect(codes(log)).toEqual([
        [14, 1],
        [14, 3],
        [14, 1],
      ]);
    });
  });

  test("PCID: CR4.PCIDE needs a CR3 without one, then CR3 takes one, and bit 63 is not kept", () => {
    const statements = [
      "mov rax, cr3\n or rax, 5\n mov cr3, rax\n mov rax, cr4\n bts rax, 17\n mov cr4, rax",
      "mov rax, cr3\n and rax, ~0xfff\n mov cr3, rax\n mov rax, cr4\n bts rax, 17\n mov cr4, rax",
      "mov rax, cr3\n or rax, 5\n bts rax, 63\n mov cr3, rax\n mov rbx, cr3",
    ];
    play(backend, "long64", statements, ({ log, vcpu }) => {
      expect(codes(log)).toEqual([[13, 0]]);
      expect([vcpu.registers.rbx & 0xfffn, vcpu.registers.rbx >> 63n]).toEqual([5n, 0n]);
    });
    logged("paged32", ["mov eax, cr4\n bts eax, 17\n mov cr4, eax"], [[13, 0]]);
  });

  test("INVPCID refuses types above 3, PCIDs without CR4.PCIDE and addresses that are not canonical", () => {
    const invpcid = (type: number, pcid: string, address: string) =>
      `mov rax, ${pcid}\n mov [abs DATA], rax\n mov rax, ${address}\n mov [abs DATA + 8], rax\n mov eax, ${type}\n invpcid rax, [abs DATA]`;
    const statements = [
      invpcid(4, "0", "0"),
      invpcid(0, "1", "0"),
      invpcid(0, "0", "0x800000000000"),
      invpcid(1, "0x1000", "0"),
      ...[0, 1, 2, 3].map((type) => invpcid(type, "0", "0x1000")),
    ];
    logged("long64", statements, [
      [13, 0],
      [13, 0],
      [13, 0],
      [13, 0],
    ]);
  });
});

describe("debug registers", () => {
  const dr7 = (value: number) => `mov eax, ${value}\n mov dr7, eax`;
  const dr0 = (address: string) => `mov eax, ${address}\n mov dr0, eax`;
  const L0_WRITE_4 = 0x000d0001;
  const L0_ACCESS_4 = 0x000f0001;

  test("a data breakpoint traps behind the write that overlaps it, and sets B0", () => {
    const statements = [
      `${dr0("DATA + 4")}\n ${dr7(L0_WRITE_4)}\n mov eax, [DATA + 4]\n mov [DATA], eax\n mov [DATA + 8], eax\n mov [DATA + 1], eax\n behind: nop`,
      `mov eax, dr6\n mov [DATA + 0x100], eax\n ${dr7(L0_ACCESS_4)}\n mov al, [DATA + 7]`,
      dr7(0),
    ];
    play(backend, "prot32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([
        [1, 0],
        [1, 0],
      ]);
      expect(data(outcome, 0x100) & 0xf).toBe(1);
    });
  });

  test("an execution breakpoint faults at its instruction, unless RF comes with IRET", () => {
    const statements = [
      `${dr0("here")}\n ${dr7(1)}\n inc ecx\n here: inc ecx`,
      "push dword 0x10002\n push cs\n push dword here2\n iretd\n nop\n here2: nop",
      `${dr0("here3")}\n push dword 0x10002\n push cs\n push dword here3\n iretd\n nop\n here3: inc dword [DATA]\n jmp here3`,
      dr7(0),
    ];
    play(backend, "prot32", statements, ({ log }) =>
      expect(codes(log)).toEqual([
        [1, 0],
        [1, 0],
      ]),
    );
  });

  test("an I/O breakpoint traps behind the access to its port when CR4.DE is set", () => {
    const L0_IO_1 = 0x00020001;
    const statements = [
      `${dr0("0x80")}\n mov eax, cr4\n or al, 8\n mov cr4, eax\n ${dr7(L0_IO_1)}\n nop`,
      "out 0x81, al\n out 0x80, al\n nop",
      "mov eax, dr6\n mov [DATA], eax\n mov dx, 0x7f\n out dx, ax\n nop",
      dr7(0),
    ];
    play(backend, "prot32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([
        [1, 0],
        [1, 0],
      ]);
      expect(data(outcome, 0) & 0xf).toBe(1);
    });
  });

  test("DR7.GD makes a move from a debug register #DB with BD, and is off in the handler", () => {
    const statements = [
      `${dr7(0x2000)}\n mov ebx, dr0`,
      "mov eax, dr6\n mov [DATA], eax\n mov eax, dr7\n mov [DATA + 4], eax",
    ];
    play(backend, "prot32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([[1, 0]]);
      expect([data(outcome, 0) & 0x2000, data(outcome, 4) & 0x2000]).toEqual([0x2000, 0]);
    });
  });

  test("DR4 and DR5 are DR6 and DR7 until CR4.DE", () => {
    logged("prot32", ["mov eax, dr4", "mov eax, cr4\n or al, 8\n mov cr4, eax\n mov eax, dr4"], [[6, 0]]);
  });

  test("TF traps behind the next instruction with BS; INT1 raises #DB without any", () => {
    const statements = [
      "xor eax, eax\n mov dr6, eax\n pushfd\n or dword [esp], 0x100\n popfd\n inc ecx\n behind: inc ecx",
      "mov eax, dr6\n mov [DATA], eax\n xor eax, eax\n mov dr6, eax\n db 0xf1",
      "mov eax, dr6\n mov [DATA + 4], eax",
    ];
    play(backend, "prot32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([
        [1, 0],
        [1, 0],
      ]);
      expect([data(outcome, 0) & 0x4000, data(outcome, 4) & 0x4000]).toEqual([0x4000, 0]);
    });
  });

  test("TF holds off for the instruction behind MOV SS, and traps behind each REP iteration", () => {
    const statements = [
      "mov cx, ss\n xor ebx, ebx\n pushfd\n or dword [esp], 0x100\n popfd\n mov ss, cx\n inc ebx\n inc ebx",
      "mov [DATA], ebx\n mov edi, DATA + 0x100\n mov ecx, 3\n pushfd\n or dword [esp], 0x100\n popfd\n rep stosb",
      "mov [DATA + 4], ecx",
    ];
    play(backend, "prot32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([
        [1, 0],
        [1, 0],
      ]);
      expect([data(outcome, 0), data(outcome, 4)]).toEqual([1, 2]);
    });
  });

  test("a task switch turns local breakpoints off, and traps in front of the new task where its TSS says so", () => {
    const statements = [
      `mov byte [${TSS2 + 0x64}], 1\n ${dr7(0x00000703)}\n jmp ${EXTRA.tss2}:0`,
      "mov eax, dr6\n mov [ss:DATA], eax\n mov eax, dr7\n mov [ss:DATA + 4], eax",
    ];
    play(backend, "prot32", statements, (outcome) => {
      expect(codes(outcome.log)).toEqual([[1, 0]]);
      expect(outcome.log[0]?.ip).toBe(LAYOUT.targets);
      expect([data(outcome, 0) & 0x8000, data(outcome, 4) & 0x3ff]).toEqual([0x8000, 0x202]);
    });
  });

  test("TF traps behind OUT and IN, which leave to the host", () => {
    const step = (code: string, behind: string) =>
      `pushfd\n or dword [esp], 0x100\n popfd\n ${code}\n ${behind}: nop\n nop`;
    logged(
      "prot32",
      [step("out 0x80, al", "b0"), step("in al, 0x80", "b1")],
      [
        [1, 0],
        [1, 0],
      ],
    );
  });
});

describe("exceptions", () => {
  test("#AC comes to ring 3 for misaligned data when CR0.AM and AC are set", () => {
    const user = (code: string, name: string) =>
      `push dword 0x2b\n push dword USTACK\n push dword 0x40002\n push dword 0x23\n push dword ${name}\n iretd\n ${name}: mov ax, 0x2b\n mov ds, ax\n ${code}\n int3`;
    const am = "mov eax, cr0\n or eax, 0x40000\n mov cr0, eax";
    logged(
      "prot32",
      [user("mov eax, [DATA + 1]", "u0"), am, user("mov eax, [DATA + 4]", "u1"), user("mov eax, [DATA + 1]", "u2")],
      [
        [3, 0],
        [3, 0],
        [17, 0],
      ],
    );
  });

  test("a contributory fault while one is delivered is #DF(0)", () => {
    const broken = "mov byte [0x8000 + 0x1000 + 13 * 8 + 5], 0x0e\n mov ax, 0x7ff8\n mov ds, ax";
    logged("prot32", [broken, "mov byte [0x9000 + 13 * 8 + 5], 0x8e"], [[8, 0]]);
  });

  /** The faults of a program that ends in a shutdown. */
  function chain(statements: readonly string[]): unknown {
    using vm = createVm({ backend: "soft", memoryBytes: LAYOUT.memoryBytes });
    using vcpu = vm.createVcpu();
    const program = build("prot32", statements);
    if (program === undefined) throw new RangeError("The program does not fit");
    applyMode(vcpu.access, vm.memory, program.setup);
    for (const { gpa, bytes } of program.pieces) vm.memory.write(gpa, bytes);
    expect(vcpu.run({ maxInstructions: 1000 })).toEqual({ kind: "shutdown" });
    return vcpu.faultChain.map(({ vector, errorCode }) => [vector, errorCode]);
  }

  test("an interrupt whose frame does not fit its stack raises #SS, and that one #DF, and that a shutdown", () => {
    // Ring 0 gets a stack of 12 KiB, and a pointer beyond it.
    const small = "mov byte [0x8000 + 0xa8 + 5], 0x93\n mov ax, 0xa8\n mov ss, ax\n mov esp, 0x3004\n int 0x30";
    expect(chain([small])).toEqual([
      [12, 0],
      [8, 0],
      [12, 1],
    ]);
    const inner = `mov byte [0x8000 + 0xa8 + 5], 0x93\n mov dword [0x8104], 0x3004\n mov dword [0x8108], 0xa8
      push dword 0x2b\n push dword USTACK\n push dword 2\n push dword 0x23\n push dword u\n iretd\n u: int 0x30`;
    expect(chain([inner])).toEqual([
      [12, 0xa8],
      [8, 0],
      [12, 0xa9],
    ]);
  });

  test("an interrupt's frame goes around the end of a 16-bit stack segment", () => {
    const statement = `mov ax, ${EXTRA.stack16}\n mov ss, ax\n mov sp, 4\n stc\n here: int 0x30\n there:`;
    play(backend, "prot32", [statement, "mov eax, there\n mov [DATA], eax"], (outcome) => {
      expect(outcome.log).toMatchObject([{ vector: 0x30, code: 0, cs: 8, flags: 3 }]);
      expect(outcome.log[0]?.ip).toBe(data(outcome, 0));
    });
  });

  test("LOCK where none may be, UD0, UD1 and UD2 raise #UD, more than 15 bytes #GP; hints of any kind run", () => {
    logged(
      "prot32",
      [
        "db 0xf0, 0x90",
        "db 0xf0, 0x01, 0xc0",
        "db 0x0f, 0xff, 0xc0",
        "db 0x0f, 0xb9, 0xc0",
        "ud2",
        "times 15 db 0x66\n nop",
        "db 0xf3, 0x0f, 0x1e, 0xfb\n db 0x0f, 0x1f, 0x00\n db 0x0f, 0x18, 0x00\n pause\n db 0x0f, 0x0d, 0x08",
      ],
      [
        [6, 0],
        [6, 0],
        [6, 0],
        [6, 0],
        [6, 0],
        [13, 0],
      ],
    );
  });

  test("RDPMC of a counter that does not exist, and unknown MSRs, raise #GP(0)", () => {
    logged(
      "prot32",
      ["mov ecx, 100\n rdpmc", "mov ecx, 0x12345\n rdmsr", "mov ecx, 0x12345\n wrmsr"],
      [
        [13, 0],
        [13, 0],
        [13, 0],
      ],
    );
  });

  test("SYSRET to an address that is not canonical is #GP(0) in ring 0, and #GP(0) from ring 3 anyway", () => {
    const sce = "mov ecx, 0xc0000080\n rdmsr\n or eax, 1\n wrmsr";
    const user =
      "push qword 0x2b\n push qword USTACK\n push qword 2\n push qword 0x33\n lea rax, [rel u]\n push rax\n iretq\n u: mov ecx, 0x1000\n o64 sysret";
    logged(
      "long64",
      [`${sce}\n mov rcx, 0x800000000000\n o64 sysret`, user],
      [
        [13, 0],
        [13, 0],
      ],
    );
  });
});
