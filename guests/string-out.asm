; string-out.asm: REP OUTS writes every element to one port, in 1, 2 and 4 bytes.
; Proves    KVM_EXIT_IO direction out with count >= 1 (Documentation/virt/kvm/api.rst, "kvm_run")
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; DS = 0; no stack
; Host      joins what arrives: engines cut a string into exits as they like
; Expects   pioOut port=0x10 "abcdefgh" in bytes, "ijklmnop" in words, "qrstuvwx" in doublewords, then
;           "ba" in bytes with DF set, hlt

        bits 16
        org 0x1000

        cld
        mov dx, 0x10
        mov si, text
        mov cx, 8
        rep outsb
        mov cx, 4
        rep outsw
        mov cx, 2
        rep outsd

        std
        mov si, text + 1
        mov cx, 2
        rep outsb
        hlt

text:   db "abcdefghijklmnopqrstuvwx"
