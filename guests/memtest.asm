; memtest.asm: writes patterns to memory and finds them again.
; Proves    guest memory keeps what is stored, byte for byte, and no two addresses are the same place
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; DS, ES = 0; SP = 0x1000
; Host      memory from 0 to 0x8000 at least; debug console at 0xe9
; Expects   "memory ok" and a newline on the console (or "memory bad", with BX at the doubleword), hlt

        bits 16
        org 0x1000

START   equ 0x2000
END     equ 0x4000

        cld
        mov edx, 0x55555555
        call constant
        mov edx, 0xaaaaaaaa
        call constant

        ; Each doubleword holds its own address, and the complement in the upper half.
        mov bx, START
.store:
        call address_pattern
        mov [bx], eax
        add bx, 4
        cmp bx, END
        jb .store
        mov bx, START
.check:
        call address_pattern
        cmp [bx], eax
        jne bad
        add bx, 4
        cmp bx, END
        jb .check

        ; Bytes and unaligned doublewords, across the end of a page.
        mov dword [0x2ffe], 0x04030201
        mov bx, 0x2fff
        cmp byte [bx], 0x02
        jne bad
        inc bx
        cmp word [bx], 0x0403
        jne bad

        mov si, ok_text
        jmp print
bad:
        mov si, bad_text
print:
        lodsb
        test al, al
        jz .done
        out 0xe9, al
        jmp print
.done:
        hlt

; Fills the range with EDX and looks for anything else.
constant:
        mov eax, edx
        mov di, START
        mov cx, (END - START) / 4
        rep stosd
        mov bx, START
.check:
        cmp [bx], edx
        jne bad
        add bx, 4
        cmp bx, END
        jb .check
        ret

; EAX = the doubleword that belongs at BX.
address_pattern:
        mov ax, bx
        not ax
        shl eax, 16
        mov ax, bx
        ret

ok_text:        db "memory ok", 10, 0
bad_text:       db "memory bad", 10, 0
