; prot32.asm: checks that this is 32-bit protected mode without paging, and says so.
; Proves    entry in protected mode: CR0.PE set, PG clear, flat segments that the GDT also holds
; Entry     32-bit protected mode, ring 0, EIP = 0x1000, flat segments; ESP set; GDT with data at 0x10
; Host      16550 UART at 0x3f8; memory at 0x18000
; Expects   "prot32 ok" and a newline on the UART, hlt; else "prot32 bad" and the number of the check in BL

        bits 32
        org 0x1000

PE      equ 1 << 0
PG      equ 1 << 31

        mov bl, 1
        mov eax, cr0
        and eax, PE | PG
        cmp eax, PE
        jne bad

        mov bl, 2               ; ring 0
        mov eax, cs
        test al, 3
        jnz bad

        mov bl, 3               ; 32-bit addresses: beyond what 16 bits reach
        mov dword [0x18000], 0x12345678
        mov ecx, 0x10000
        cmp dword [ecx + 0x8000], 0x12345678
        jne bad

        mov bl, 4               ; pushes are 4 bytes wide
        mov eax, esp
        push eax
        sub eax, esp
        cmp eax, 4
        jne bad
        pop eax

        mov bl, 5               ; the GDT is there: reload a segment and use it
        mov eax, 0x10
        mov es, eax
        cmp dword [es:0x18000], 0x12345678
        jne bad

        mov esi, ok_text
        jmp print
bad:
        mov esi, bad_text
print:
        mov edx, 0x3f8
.next:
        lodsb
        test al, al
        jz .done
        out dx, al
        jmp .next
.done:
        hlt

ok_text:        db "prot32 ok", 10, 0
bad_text:       db "prot32 bad", 10, 0
