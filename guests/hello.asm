; hello.asm: a guest greets through the serial port, and signs off through the debug console.
; Proves    OUT exits reach the devices behind two ports
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; DS = 0; SP = 0x1000
; Host      16550 UART at 0x3f8, debug console at 0xe9
; Expects   "Hello from vmexit!" and a newline on the UART, "That was all." and a newline on the console, hlt

        bits 16
        org 0x1000

        mov si, greeting
        mov dx, 0x3f8           ; the transmitter; vmexit's UART is always ready for the next byte
        call print
        mov si, farewell
        mov dx, 0xe9
        call print
        hlt

; Writes the bytes at SI, up to a zero, to port DX.
print:
        lodsb
        test al, al
        jz .done
        out dx, al
        jmp print
.done:
        ret

greeting:       db "Hello from vmexit!", 10, 0
farewell:       db "That was all.", 10, 0
