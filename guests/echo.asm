; echo.asm: what comes in through the serial port goes out through it, until Ctrl-D.
; Proves    serial input: LSR's data ready and transmitter empty bits, RBR, THR
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; no data, no stack
; Host      16550 UART at 0x3f8 with input that ends with 0x04 (Ctrl-D)
; Expects   the input without its last byte on the UART, hlt

        bits 16
        org 0x1000

COM1    equ 0x3f8
LSR     equ COM1 + 5
EOT     equ 4

receive:
        mov dx, LSR
.wait:
        in al, dx
        test al, 0x01           ; data ready
        jz .wait
        mov dx, COM1
        in al, dx
        cmp al, EOT
        je done
        mov bl, al

        mov dx, LSR
.busy:
        in al, dx
        test al, 0x20           ; transmitter holding register empty
        jz .busy
        mov al, bl
        mov dx, COM1
        out dx, al
        jmp receive

done:
        hlt
