/** 16-bit assembly: IRQ 0 alone, at vector 0x20, from the PIT at 1193182 Hz ÷ `divisor`. Clobbers AL. */
export function tickSource(divisor: number): string {
  return `
    mov al, 0x11
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34
    out 0x43, al
    mov al, ${divisor & 255}
    out 0x40, al
    mov al, ${divisor >> 8}
    out 0x40, al`;
}
