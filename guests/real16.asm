; real16.asm: checks that this is real mode, and says so.
; Proves    entry in real mode: CR0.PE is clear, a segment's base is its selector x 16, operands have 16 bits
; Entry     16-bit real mode, CS = 0, IP = 0x1000; DS, ES, SS = 0; SP = 0x1000
; Host      16550 UART at 0x3f8
; Expects   "real16 ok" and a newline on the UART, hlt; else "real16 bad" and the number of the check in BL

        bits 16
        org 0x1000

        mov bl, 1
        smsw ax
        test al, 1              ; PE
        jnz bad

        mov bl, 2
        mov ax, cs
        test ax, ax
        jnz bad

        mov bl, 3               ; 0x123:0x456 is 0x1686
        mov ax, 0x123
        mov es, ax
        mov byte [0x1686], 0x5a
        cmp byte [es:0x456], 0x5a
        jne bad

        mov bl, 4               ; 16 bits wrap
        mov ax, 0xffff
        inc ax
        jnz bad

        mov bl, 5               ; a far call pushes CS:IP, two bytes each
        mov cx, sp
        call 0:far_call
        cmp sp, cx
        jne bad

        mov si, ok_text
        jmp print
bad:
        mov si, bad_text
print:
        mov dx, 0x3f8
.next:
        lodsb
        test al, al
        jz .done
        out dx, al
        jmp .next
.done:
        hlt

far_call:
        mov ax, cx
        sub ax, sp
        cmp ax, 4
        jne bad
        retf

ok_text:        db "real16 ok", 10, 0
bad_text:       db "real16 bad", 10, 0
