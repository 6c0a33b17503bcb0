import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AsmError, assemble, type Diagnostic } from "../../../src/asm/index.ts";
import { VmmError } from "../../../src/errors.ts";

function diagnosticsOf(source: string, options: Parameters<typeof assemble>[1] = {}): readonly Diagnostic[] {
  try {
    assemble(source, options);
  } catch (error) {
    if (error instanceof AsmError) return error.diagnostics;
    throw error;
  }
  throw new Error("the source assembled");
}

function only(source: string, options: Parameters<typeof assemble>[1] = {}): Diagnostic {
  const found = diagnosticsOf(source, options);
  expect(found).toHaveLength(1);
  return found[0]!;
}

describe("AsmError", () => {
  test("AsmError is a VmmError whose message shows place, caret and remedy of each error", () => {
    try {
      assemble("nop\n  mov eax, [bx+cx]\n", { file: "boot.asm" });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(VmmError);
      expect((error as AsmError).message).toContain(
        "boot.asm:2:12: error: These registers do not make a 16-bit address\n    2 |   mov eax, [bx+cx]\n      |            ^",
      );
      expect((error as AsmError).remedy).toContain("one of bx, bp and one of si, di");
    }
  });

  test("assemble() reports several errors at once, in the order of the source", () => {
    const found = diagnosticsOf("moov ax, 1\nin bl, 5\njmp nowhere\nmov al, [\nadd [bx], 5\ndb 'open");
    expect(found.map(({ line }) => line)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test.each([
    ["moov ax, 1", '"moov" is not an instruction', 'did you mean "mov"'],
    ["in bl, 5", '"in" does not take bl, number in 16-bit code', '"in" takes al, dx | ax, dx | al, imm8 | ax, imm8'],
    ["start: nop\njmp strat", 'Symbol "strat" is not defined', 'did you mean "start"?'],
    [
      "add [bx], 5",
      'Size of the memory operand of "add" is not known',
      "write byte or word or dword before the bracket",
    ],
    ["mov rax, 5", 'Register "rax" exists only in 64-bit code', "see the bits directive"],
    ["bits 64\npush eax", '"push" does not take eax in 64-bit code', "r64"],
    ["bits 64\npusha", 'Instruction "pusha" does not exist in 64-bit code', "it exists in 16- and 32-bit code"],
    ["bits 64\nmov ah, r8b", 'Cannot encode "mov"', "REX prefix"],
    ["mov eax, dword ptr [bx]", '"ptr" is MASM syntax', "dword [address]"],
    ["mov ax, es:[bx]", "A segment override stands inside the brackets", "[es:address]"],
    ["mov eax, [eax+ebx+ecx]", "An address has at most two registers", "base + index*scale"],
    ["mov eax, [eax+ebx*3]", "An index cannot be scaled by 3", "1, 2, 4 or 8"],
    ["mov eax, [esp*2]", 'Register "esp" cannot be an index', ""],
    ["mov ax, [eip]", 'Symbol "eip" is not defined', "[rel address]"],
    ["db 'abc", "String is not closed", "closing '"],
    ["dd 0xfg", 'Cannot read "0xfg" as a number', "write 0x1f, 1fh"],
    ["dd 1.5 + 1", 'Unexpected "+" after the value', ""],
    ["mov eax, 1.5", 'Floating-point number "1.5" cannot be part of an integer expression', "__?float32?__"],
    ["dt 5", "dt takes floating-point numbers", "5.0"],
    ["dw 5/0", "Division by zero", ""],
    ["a: nop\na: hlt", 'Label "a" is defined twice', "<source>:1"],
    ["times 5-10 nop", "Count is negative: -5", "already used up"],
    ["align 3", "Boundary 3 is not a power of two", ""],
    ["bits 17", '"bits 17" is not a mode', "16, 32 and 64"],
    ["global start", '"global" has no meaning in a flat binary', "the result's symbols"],
    ["extern printf", '"extern" has no meaning in a flat binary', "not linked"],
    ["a: jmp short b\ntimes 200 nop\nb:", 'Target of "jmp" is out of reach', "drop the word short"],
    ["a: times 200 nop\nloop a", 'Target of "loop" is out of reach', "jump over a near jump"],
    ["%if 1\nnop", "%if is not closed", "add %endif"],
    ["%macro m 0\nnop", "%macro is not closed", "add %endmacro"],
    ["%endif", "%endif has no %if before it", ""],
    ["%defin a 1", 'Unknown directive "%defin"', 'did you mean "%define"'],
    ['%error out of "space"', "out of space", "raised by %error"],
    ["%include 'missing.inc'", 'File "missing.inc" is not found', "include paths"],
    ["incbin 'missing.bin'", 'File "missing.bin" is not found', "include paths"],
    ["%assign n later\nlater equ 5", 'Symbol "later" has no value here yet', "defined above"],
    ["vaddps zmm0, zmm1, zmm2 {k8}", 'Unknown decorator "{k8}"', "{k1}..{k7}"],
    ["struc a\nstruc b\nendstruc", "A struc cannot be inside another", "endstruc"],
    ["org 5\norg 6", "The origin is set twice", "vstart="],
    ["section .text start=5\nnop\nsection .b start=3\nnop", 'Section ".b" starts below the origin', ""],
    ["db 1, (2", 'Expected ")" to close the parenthesis', ""],
    ["mov ax,", "Expected an operand", ""],
    ["mov ax bx", 'Unexpected "bx" after the operand', "separated by commas"],
    ["eax: nop", '"eax" is a register and cannot be a label', ""],
  ])("assemble() explains %j", (source, message, hint) => {
    const found = diagnosticsOf(source, /section .text start=5/.test(source) ? { origin: 4 } : {});
    const match = found.find((diagnostic) => diagnostic.message.includes(message));
    expect(found.map((diagnostic) => diagnostic.message).join("\n")).toContain(message);
    expect(match!.hint).toContain(hint);
  });

  test("assemble() says which macro a wrong line came out of", () => {
    const found = only("%macro put 1\n  mov %1, [cx]\n%endmacro\nnop\nput al\n", { file: "m.asm" });
    expect(found.line).toBe(2);
    expect(found.trail).toEqual(['in macro "put" used at m.asm:5']);
  });

  test("assemble() shows the line of a macro's body with its caret", () => {
    const { excerpt, column } = only("%macro m 0\n  moov ax, 1\n%endmacro\nm");
    expect(column).toBe(3);
    expect(excerpt).toBe("    2 |   moov ax, 1\n      |   ^^^^");
  });

  test("assemble() stops after limits.errors errors", () => {
    expect(diagnosticsOf("bad\tline\n".repeat(50), { limits: { errors: 10 } }).length).toBeLessThanOrEqual(11);
  });

  test("assemble() warns about numbers it cuts and assembles them all the same", () => {
    const { bytes, warnings } = assemble("mov al, 300\ndb 256");
    expect(bytes).toEqual(new Uint8Array([0xb0, 44, 0]));
    expect(warnings.map(({ line, message }) => `${line} ${message}`)).toEqual([
      "1 Number 300 does not fit 8 bits and is cut",
      "2 Number 256 does not fit 8 bits and is cut",
    ]);
  });

  test("assemble() keeps what %warning says however many passes follow", () => {
    const { warnings } = assemble("jmp later\n%warning 'old'\nlater: hlt");
    expect(warnings.map(({ line, message, severity }) => `${line} ${severity} ${message}`)).toEqual(["2 warning old"]);
  });

  test("assemble() refuses an origin that is no address", () => {
    expect(() => assemble("nop", { origin: -1 })).toThrow(RangeError);
    expect(() => assemble("nop", { origin: 1.5 })).toThrow(RangeError);
  });
});

describe("Program", () => {
  const program = assemble(
    "org 0x7c00\nstart: mov ax, 5\n.loop: jmp .loop\n%macro two 0\nnop\nhlt\n%endmacro\ntwo\nk equ -1\nsection .bss\nbuffer: resb 16\n",
    { file: "p.asm" },
  );

  test("Program.symbols has every label and equ as unsigned bigints", () => {
    expect([...program.symbols]).toEqual([
      ["start", 0x7c00n],
      ["start.loop", 0x7c03n],
      ["k", 0xffffffffffffffffn],
      ["buffer", 0x7c08n],
    ]);
  });

  test("Program.sourceMap finds the line of an address, that of the use for a macro's bytes", () => {
    expect(program.sourceMap.at(0x7c01)).toMatchObject({ file: "p.asm", line: 2, address: 0x7c00, size: 3 });
    expect(program.sourceMap.at(0x7c04n)).toMatchObject({ line: 3 });
    expect(program.sourceMap.at(0x7c06)).toMatchObject({ line: 8, text: "two" });
    expect(program.sourceMap.at(0x7bff)).toBeUndefined();
    expect(program.sourceMap.addressesOf("p.asm", 8)).toEqual([0x7c05, 0x7c06]);
  });

  test("Program.memoryBytes counts the uninitialised sections, bytes do not", () => {
    expect(program.bytes.length).toBe(7);
    expect(program.memoryBytes).toBe(24);
    expect(program.origin).toBe(0x7c00);
  });

  test("Program places code in the upper half of the 64-bit space", () => {
    const high = assemble("bits 64\norg 0xffffffff80100000\nx: mov rax, x\ny: jmp x\n");
    expect(high.symbols.get("y")).toBe(0xffffffff8010000an);
    expect(high.sourceMap.at(0xffffffff8010000an)).toMatchObject({ line: 4 });
    expect(high.listing()).toContain("     4 FFFFFFFF8010000A EBF4 ");
    expect(high.bytes.toHex()).toBe("48b8000010 80ffffffffebf4".replace(" ", ""));
  });

  test("Program.listing() shows line, address, bytes and source", () => {
    const rows = program.listing().split("\n");
    expect(rows[1]).toBe("     2 00007C00 B80500            start: mov ax, 5");
    expect(rows[7]).toBe("     8 00007C05 90                two");
    expect(rows[8]).toBe("       00007C06 F4");
  });
});

describe("assemble() with files", () => {
  test("assemble() finds %include and incbin beside the file that names them, then on the include paths", () => {
    const directory = mkdtempSync(join(tmpdir(), "vmexit-asm-"));
    try {
      writeFileSync(join(directory, "a.inc"), "%define A 5\n%include 'b.inc'\n");
      writeFileSync(join(directory, "b.inc"), "db 'b'\n");
      writeFileSync(join(directory, "c.bin"), new Uint8Array([1, 2, 3, 4, 5]));
      const source = "%include 'a.inc'\ndb A\nincbin 'c.bin'\nincbin 'c.bin', 1\nincbin 'c.bin', 1, 2\n";
      const expected = new Uint8Array([0x62, 5, 1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3]);
      expect(assemble(source, { file: join(directory, "main.asm") }).bytes).toEqual(expected);
      expect(assemble(source, { includePaths: [directory] }).bytes).toEqual(expected);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("assemble() takes macros defined from outside", () => {
    expect(assemble("db PORT, 'x' TAIL", { defines: { PORT: 0xe9, TAIL: ", 1" } }).bytes).toEqual(
      new Uint8Array([0xe9, 0x78, 1]),
    );
  });
});

describe("assemble() where NASM refuses", () => {
  test("assemble() computes with addresses, as the layout of a flat binary is known", () => {
    expect(assemble("org 0x12345\nx: dw x >> 16, x & 0xffff, -x & 0xff").bytes.toHex()).toBe("01004523bb00");
  });

  test("assemble() yields -1, 0 and 1 for <=>", () => {
    expect(assemble("db 3<=>5, 5<=>5, 5<=>3").bytes.toHex()).toBe("ff0001");
  });

  test("assemble() lets a macro be used in its own argument", () => {
    expect(assemble("%define inc(x) x+1\ndb inc(inc(1))").bytes.toHex()).toBe("03");
  });
});
