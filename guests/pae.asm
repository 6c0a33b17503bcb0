; pae.asm: checks that PAE paging is on, by mapping a page anew, and says so.
; Proves    entry with PAE paging: CR0.PG and CR4.PAE set, long mode off, CR3 leads to four pointers of 8 bytes
; Entry     32-bit protected mode with PAE paging, ring 0, EIP = 0x1000, the first 2 MiB mapped to themselves
; Host      16550 UART at 0x3f8
; Expects   "pae ok" and a newline on the UART, hlt; else "pae bad" and the number of the check in BL

        bits 32
        org 0x1000

PG      equ 1 << 31
PAE     equ 1 << 5
EFER    equ 0xc0000080
LMA     equ 1 << 10
ALIAS   equ 0x20000000          ; entry 0x100 of the first directory

        mov bl, 1
        mov eax, cr0
        test eax, PG
        jz bad

        mov bl, 2
        mov eax, cr4
        test eax, PAE
        jz bad

        mov bl, 3
        mov ecx, EFER
        rdmsr
        test eax, LMA
        jnz bad

        mov bl, 4               ; the entry that maps this code: present, and accessed by fetching from it
        mov edi, cr3
        and edi, 0xffffffe0
        mov edi, [edi]          ; first of the four pointers
        and edi, 0xfffff000
        mov eax, [edi]
        and eax, 0x21
        cmp eax, 0x21
        jne bad

        mov bl, 5               ; what is mapped twice is the same memory
        mov eax, [edi]
        mov edx, [edi + 4]
        mov [edi + (ALIAS >> 21) * 8], eax
        mov [edi + (ALIAS >> 21) * 8 + 4], edx
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

ok_text:        db "pae ok", 10, 0
bad_text:       db "pae bad", 10, 0
        align 4
mark:   dd 0
