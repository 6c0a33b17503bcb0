import { asm } from "../../src/asm/index.ts";

/** Guest memory of the exit benchmarks, here and in C: the segment above it is MMIO. */
export const GUEST_MEMORY_BYTES = 0xf0000;

/** Endless guests: one exit and one jump per turn. */
export const EXIT_GUESTS = {
  out: asm.real16`again: out 0xe9, al
                  jmp again`,
  in: asm.real16`again: in al, 0x60
                 jmp again`,
  "mmio-read": asm.real16`mov ax, 0xf000
                          mov es, ax
                   again: mov al, [es:0xfff0]
                          jmp again`,
  "mmio-write": asm.real16`mov ax, 0xf000
                           mov es, ax
                    again: mov [es:0xfff0], al
                           jmp again`,
} as const;
