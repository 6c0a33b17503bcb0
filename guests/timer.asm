; timer.asm: five ticks of the PIT, through the PIC, each ending a HLT.
; Proves    an irqchip and a PIT in the engine: neither the HLTs nor the ports of PIC and PIT exit
; Entry     16-bit real mode, CS.base = 0, IP = 0x1000; SS = 0, SP = 0x1000; the vector table is the guest's to change
; Host      in-kernel irqchip and PIT; ACPI PM1a control at 0x604
; Expects   pioOut port=0xe9 "." five times, power off

        bits 16
        org 0x1000

PIC     equ 0x20
PIT     equ 0x40
VECTOR  equ 0x20
HZ_1000 equ 1193                ; 1193182 Hz / 1000

        mov word [VECTOR * 4], on_tick
        mov word [VECTOR * 4 + 2], 0

        mov al, 0x11            ; ICW1: edge-triggered, cascaded, ICW4 follows
        out PIC, al
        mov al, VECTOR          ; ICW2: vectors 0x20 to 0x27
        out PIC + 1, al
        mov al, 0x04            ; ICW3: the other PIC is at IRQ 2
        out PIC + 1, al
        mov al, 0x01            ; ICW4: 8086 mode
        out PIC + 1, al
        mov al, 0xfe            ; OCW1: IRQ 0 alone
        out PIC + 1, al

        mov al, 0x34            ; counter 0, low byte then high byte, mode 2
        out PIT + 3, al
        mov al, HZ_1000 & 0xff
        out PIT, al
        mov al, HZ_1000 >> 8
        out PIT, al

        mov cx, 5
.wait:
        sti
        hlt
        cli
        test cx, cx
        jnz .wait

        mov dx, 0x604
        mov ax, 0x2000          ; SLP_EN, SLP_TYP of S5
        out dx, ax
        hlt

on_tick:
        test cx, cx
        jz .acknowledge         ; a sixth tick, before the power goes
        dec cx
        mov al, "."
        out 0xe9, al
.acknowledge:
        mov al, 0x20            ; OCW2: end of interrupt
        out PIC, al
        iret
