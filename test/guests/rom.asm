; rom.asm: puts a guest where vmexit's flat loader puts it, and starts it the same way: as firmware of a whole PC.
; Proves    (for qemu.test.ts) that a guest's expectation is not vmexit's alone
; Entry     the reset vector, 0xf000:0xfff0
; Host      QEMU's isapc, -bios; GUEST is the path of the flat binary
; Expects   real mode, everything 0 but SP = 0x1000, IP = 0x1000

        bits 16
        org 0

        cld
        mov ax, 0xf000
        mov ds, ax
        xor ax, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x1000
        mov si, guest
        mov di, 0x1000
        mov cx, guest_end - guest
        rep movsb
        mov ds, ax
        xor ecx, ecx
        jmp 0:0x1000

guest:
        incbin GUEST
guest_end:

        times 0xfff0 - ($ - $$) db 0
        jmp 0xf000:0
        times 0x10000 - ($ - $$) db 0
