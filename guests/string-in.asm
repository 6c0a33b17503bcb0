; string-in.asm: REP INS fills memory from one port, in 1, 2 and 4 bytes.
; Proves    KVM_EXIT_IO direction in with count >= 1 (Documentation/virt/kvm/api.rst, "kvm_run"): what the host
;           puts into the data area arrives in memory, all of it
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; DS, ES = 0; no stack
; Host      answers port 0x60 with "abcdefghijklmnopqrstuvwx" in order, however engines cut it
; Expects   pioIn port=0x60 8 x 1 byte, 4 x 2 bytes, 2 x 4 bytes, then what was read at port 0xe9, hlt

        bits 16
        org 0x1000

SIZE    equ 24

        cld
        mov dx, 0x60
        mov di, buffer
        mov cx, 8
        rep insb
        mov cx, 4
        rep insw
        mov cx, 2
        rep insd

        mov si, buffer
        mov cx, SIZE
.show:
        lodsb
        out 0xe9, al
        loop .show
        hlt

        align 16
buffer: times SIZE db 0
