import { expect, test } from "bun:test";
import { bootGuest, type LoadOptions, loadGuest } from "../../../src/boot/index.ts";
import { GuestMemory } from "../../../src/memory.ts";
import { noKvm, withKvm } from "./host-kvm.ts";
import { buildMultibootKernel } from "./multiboot-kernel.ts";
import { buildFile, lacking } from "./tools.ts";

const MIB = 0x100000;

/** Boots a file in 2 MiB until it halts; returns what it wrote to port 0xe9 and how it ended. */
function run(bytes: Uint8Array, change: Partial<LoadOptions> = {}): { text: string; end: string } {
  return withKvm((kvm) => {
    using vm = kvm.createVm();
    using memory = new GuestMemory(vm, kvm);
    memory.add({ gpa: 0, bytes: 2 * MIB });
    using vcpu = vm.createVcpu(0);
    bootGuest(vcpu.registers, memory, loadGuest(bytes, { file: "guest", memoryBytes: 2 * MIB, ...change }));
    vcpu.setDeadline(performance.now() + 5000);
    let text = "";
    for (;;) {
      const exit = vcpu.run();
      if (exit.kind !== "pioOut") return { text, end: exit.kind };
      text += String.fromCharCode(...exit.data);
    }
  });
}

const nasm = (source: string) => buildFile({ "g.asm": source }, [["nasm", "-f", "bin", "g.asm", "-o", "g"]], "g");
const without = (...tools: string[]) => noKvm || lacking(...tools);

const noNasm = without("nasm");
test.skipIf(noNasm !== "")(`bootGuest() starts a boot sector at 0:0x7c00 with the drive in DL${noNasm}`, () => {
  const bytes = nasm(`
        org 0x7c00
        call here
here:   pop ax                  ; 0x7c03, through a stack that works
        out 0xe9, al
        mov al, ah
        out 0xe9, al
        mov al, dl
        out 0xe9, al
        hlt
        times 510-($-$$) db 0
        dw 0xaa55`);
  expect(run(bytes)).toEqual({ text: "\x03\x7c\x80", end: "hlt" });
});

test.skipIf(noNasm !== "")(`bootGuest() starts a .com program, and its RET halts${noNasm}`, () => {
  const bytes = nasm(`
        org 0x100
        mov si, message
next:   lodsb
        test al, al
        jz done
        out 0xe9, al
        jmp next
done:   mov si, 0x82
        lodsb
        out 0xe9, al
        ret
message: db "com", 0`);
  expect(run(bytes, { file: "hello.com", commandLine: "!" })).toEqual({ text: "com!", end: "hlt" });
});

const noLd = without("nasm", "ld");
test.skipIf(noLd !== "")(`bootGuest() hands a Multiboot kernel its magic, command line and module${noLd}`, () => {
  const bytes = buildMultibootKernel();
  const modules = [{ file: "initrd", bytes: new TextEncoder().encode("module\0") }];
  expect(run(bytes, { commandLine: "quiet ", modules })).toEqual({ text: "<quiet ><module>map", end: "hlt" });
});

const HIGH_SOURCE = `
static const char text[] = "high";
static volatile int cleared;
static void put(char c) { __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((unsigned short)0xe9)); }
__attribute__((noinline)) static void print(const char *s) { while (*s) put(*s++); }
void _start(void) {
  print(cleared == 0 && (unsigned long)text > 0xffffffff80000000ul ? text : "bad");
  for (;;) __asm__ volatile("hlt");
}
`;
const HIGH_SCRIPT = `SECTIONS {
  . = 0xffffffff80100000;
  .text : AT(ADDR(.text) - 0xffffffff80000000) { *(.text) *(.rodata*) }
  .bss : AT(ADDR(.bss) - 0xffffffff80000000) { *(.bss) *(.data) }
  /DISCARD/ : { *(.eh_frame) *(.note*) *(.comment) }
}`;

const noGcc = without("gcc", "ld");
test.skipIf(noGcc !== "")(`bootGuest() runs a C kernel linked into the top 2 GiB of 64-bit space${noGcc}`, () => {
  const compile =
    "gcc -m64 -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -O1 -c k.c -o k.o";
  const link = "ld -m elf_x86_64 -no-pie -z noexecstack -z max-page-size=4096 -T k.ld -e _start k.o -o k";
  const bytes = buildFile({ "k.c": HIGH_SOURCE, "k.ld": HIGH_SCRIPT }, [compile.split(" "), link.split(" ")], "k");
  expect(run(bytes)).toEqual({ text: "high", end: "hlt" });
});

const LOW_SOURCE = HIGH_SOURCE.replace("(unsigned long)text > 0xffffffff80000000ul", "1").replace('"high"', '"low"');
test.skipIf(noGcc !== "")(`bootGuest() runs a 32-bit C kernel at 1 MiB${noGcc}`, () => {
  const compile = "gcc -m32 -ffreestanding -fno-pic -fno-pie -mgeneral-regs-only -O1 -c k.c -o k.o";
  const link = "ld -m elf_i386 -no-pie -z noexecstack -Ttext=0x100000 -e _start k.o -o k";
  const bytes = buildFile({ "k.c": LOW_SOURCE }, [compile.split(" "), link.split(" ")], "k");
  expect(run(bytes)).toEqual({ text: "low", end: "hlt" });
});
