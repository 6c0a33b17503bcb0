; paged32.asm: checks that 32-bit paging is on, by mapping a page anew, and says so.
; Proves    entry with paging: CR0.PG set, CR4.PAE clear, CR3 leads to a directory of 1024 entries of 4 bytes
; Entry     32-bit protected mode with 32-bit paging, ring 0, EIP = 0x1000, the first 4 MiB mapped to themselves
; Host      16550 UART at 0x3f8
; Expects   "paged32 ok" and a newline on the UART, hlt; else "paged32 bad" and the number of the check in BL

        bits 32
        org 0x1000

PG      equ 1 << 31
PAE     equ 1 << 5
ALIAS   equ 0x40000000          ; entry 0x100 of the directory

        mov bl, 1
        mov eax, cr0
        test eax, PG
        jz bad

        mov bl, 2
        mov eax, cr4
        test eax, PAE
        jnz bad

        mov bl, 3               ; the entry that maps this code: present, and accessed by fetching from it
        mov edi, cr3
        and edi, 0xfffff000
        mov eax, [edi]
        and eax, 0x21
        cmp eax, 0x21
        jne bad

        mov bl, 4               ; what is mapped twice is the same memory
        mov eax, [edi]
        mov [edi + (ALIAS >> 22) * 4], eax
        invlpg [ALIAS]
        mov dword [mark], 0x600df00d
        cmp dword [ALIAS + mark], 0x600df00d
        jne bad
        mov dword [ALIAS + mark], 0xfeedface
        cmp dword [mark], 0xfeedface
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

ok_text:        db "paged32 ok", 10, 0
bad_text:       db "paged32 bad", 10, 0
        align 4
mark:   dd 0
