/* Multiboot entry in 32 bits: 4 KiB identity pages over 128 MiB, long mode, SSE on, then C. */
        .section .multiboot, "a"
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .text
        .code32
        .global _start
_start: cli
        cld
        movl $stack_top, %esp
        movl $page_table, %edi
        movl $3, %eax
        movl $32768, %ecx
1:      movl %eax, (%edi)
        movl $0, 4(%edi)
        addl $4096, %eax
        addl $8, %edi
        loop 1b
        movl $page_directory, %edi
        movl $page_table + 3, %eax
        movl $64, %ecx
2:      movl %eax, (%edi)
        addl $4096, %eax
        addl $8, %edi
        loop 2b
        movl $page_directory + 3, pointers
        movl $pointers + 3, root
        movl $root, %eax
        movl %eax, %cr3
        movl $0x620, %eax
        movl %eax, %cr4
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl %cr0, %eax
        andl $~4, %eax
        orl $0x80000002, %eax
        movl %eax, %cr0
        lgdt gdt_pointer
        ljmp $8, $long_mode
        .code64
long_mode:
        movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movq $stack_top, %rsp
        fninit
        call guest_main
        .data
        .align 8
gdt:    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
        .word 23
        .long gdt, 0
        .bss
        .align 4096
root:           .skip 4096
pointers:       .skip 4096
page_directory: .skip 4096
page_table:     .skip 262144
        .skip 65536
stack_top:
        .section .note.GNU-stack, "", @progbits
