; storm.asm: nothing but exits, one OUT after the other.
; Proves    every OUT is an exit of its own, in order; the guest of the benchmarks
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; ECX = how many, 0 for 1000; no data, no stack
; Host      counts
; Expects   pioOut port=0x80 size=1 with 0, 1, 2, ... modulo 256, ECX times, hlt

        bits 16
        org 0x1000

        xor al, al
        test ecx, ecx
        jnz .next
        mov ecx, 1000
.next:
        out 0x80, al
        inc al
        dec ecx
        jnz .next
        hlt
