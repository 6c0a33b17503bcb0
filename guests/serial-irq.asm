; serial-irq.asm: what comes in through the serial port goes out through it, driven by interrupts, until Ctrl-D.
; Proves    the UART's IRQ line through the PIC: received data interrupts, FIFO, OUT2 as the gate
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; SS = 0, SP = 0x1000; the vector table is the guest's to change
; Host      in-kernel irqchip; 16550 UART at 0x3f8 on IRQ 4, input ends with 0x04 (Ctrl-D); ACPI PM1a control at 0x604
; Expects   the input without its last byte on the UART, pioOut port=0xe9 "h", power off

        bits 16
        org 0x1000

COM1    equ 0x3f8
IER     equ COM1 + 1
IIR     equ COM1 + 2
FCR     equ COM1 + 2
MCR     equ COM1 + 4
LSR     equ COM1 + 5
PIC     equ 0x20
VECTOR  equ 0x20
IRQ     equ 4
EOT     equ 4

        mov word [(VECTOR + IRQ) * 4], on_interrupt
        mov word [(VECTOR + IRQ) * 4 + 2], 0

        mov al, 0x11            ; ICW1: edge-triggered, cascaded, ICW4 follows
        out PIC, al
        mov al, VECTOR          ; ICW2: vectors 0x20 to 0x27
        out PIC + 1, al
        mov al, 0x04            ; ICW3: the other PIC is at IRQ 2
        out PIC + 1, al
        mov al, 0x01            ; ICW4: 8086 mode
        out PIC + 1, al
        mov al, 0xff & ~(1 << IRQ)
        out PIC + 1, al         ; OCW1: IRQ 4 alone

        mov dx, FCR
        mov al, 0x01            ; FIFOs on, trigger level 1
        out dx, al
        mov dx, MCR
        mov al, 0x0b            ; DTR, RTS, OUT2
        out dx, al
        mov dx, IER
        mov al, 0x01            ; received data
        out dx, al

        xor bl, bl
.wait:
        sti
        hlt
        cli
        test bl, bl
        jz .wait

        mov al, "h"
        out 0xe9, al
        mov dx, 0x604
        mov ax, 0x2000          ; SLP_EN, SLP_TYP of S5
        out dx, ax
        hlt

; Takes all that is there, as an edge-triggered line demands. BL becomes 1 at Ctrl-D.
on_interrupt:
        mov dx, IIR
        in al, dx
        test al, 1              ; nothing pending any more
        jnz .done
        mov dx, COM1
        in al, dx
        cmp al, EOT
        je .end
        out dx, al
        jmp on_interrupt
.end:
        mov bl, 1
.done:
        mov al, 0x20            ; OCW2: end of interrupt
        out PIC, al
        iret
