; triple-fault.asm: a fault without a handler, without a handler for that, and once more.
; Proves    KVM_EXIT_SHUTDOWN
; Entry     32-bit protected mode, EIP = 0x1000, flat segments; no stack
; Host      nothing
; Expects   shutdown. KVM as software (kvm_pvm) may instead spin until the run's deadline

        bits 32
        org 0x1000

        lidt [empty]
        ud2

        align 8
empty:  dw 0                    ; limit
        dd 0                    ; base
