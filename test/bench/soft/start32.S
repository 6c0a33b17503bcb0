/* Multiboot entry: 4 KiB identity pages over 128 MiB, SSE on, then C. */
        .section .multiboot, "a"
        .align 4
        .long 0x1badb002, 0, -0x1badb002
        .text
        .global _start
_start: cli
        cld
        movl $stack_top, %esp
        movl $page_table, %edi
        movl $3, %eax
        movl $32768, %ecx
1:      movl %eax, (%edi)
        addl $4096, %eax
        addl $4, %edi
        loop 1b
        movl $page_directory, %edi
        movl $page_table + 3, %eax
        movl $32, %ecx
2:      movl %eax, (%edi)
        addl $4096, %eax
        addl $4, %edi
        loop 2b
        movl $page_directory, %eax
        movl %eax, %cr3
        movl %cr4, %eax
        orl $0x600, %eax
        movl %eax, %cr4
        movl %cr0, %eax
        andl $~4, %eax
        orl $0x80000002, %eax
        movl %eax, %cr0
        fninit
        call guest_main
        .bss
        .align 4096
page_directory: .skip 4096
page_table:     .skip 131072
        .skip 65536
stack_top:
        .section .note.GNU-stack, "", @progbits
