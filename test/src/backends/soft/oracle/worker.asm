; worker.asm: runs single instructions on the host processor, each with a whole machine state of its own.
; A program of its own, without libc, so that no address but the ones below is mapped and nothing else can be hit.
; Every case is entered by rt_sigreturn, which loads all registers, flags and the FPU from a signal frame, in whatever
; mode CS says; it ends in an exception, at the latest that of the HLT behind it, and the frame of the signal that Linux
; makes of it holds the whole outcome.
; Standard input is the file that the test shares; the constants are those of layout.ts.

bits 64
default abs
org 0x10000000

  db 0x7f, "ELF", 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
  dw 2, 62
  dd 1
  dq start, program - $$, 0
  dd 0
  dw 64, 56, 1, 0, 0, 0
program:
  dd 1, 7
  dq 0, $$, $$, end - $$, end - $$, 0x1000

%define SYS_mmap 9
%define SYS_mprotect 10
%define SYS_rt_sigaction 13
%define SYS_rt_sigreturn 15
%define SYS_exit 60
%define SYS_sigaltstack 131
%define SYS_modify_ldt 154
%define SYS_arch_prctl 158
%define SYS_ftruncate 77
%define SYS_memfd_create 319
%define ARCH_SET_GS 0x1001
%define ARCH_SET_FS 0x1002
%define ARCH_GET_FS 0x1003
%define ARCH_GET_GS 0x1004

; Where no random address or stack pointer of a case is likely to lie: what it wrote there would be another case's.
%define SHARED 0x610000000000
%define STACK 0x600000000000
; The page of code again, where it may be written.
%define CODE_ALIAS 0x12000000
%define STACK_BYTES 0x10000

; address, bytes, protection, flags (MAP_FIXED and MAP_ANONYMOUS or MAP_SHARED), descriptor
%macro map 5
  mov eax, SYS_mmap
  mov rdi, %1
  mov esi, %2
  mov edx, %3
  mov r10d, %4
  mov r8, %5
  xor r9d, r9d
  syscall
  mov rdi, %1
  cmp rax, rdi
  jne fail
%endmacro

start:
  map SHARED, SHARED_BYTES, 3, 0x11, 0
  map STACK, STACK_BYTES, 3, 0x32, -1
  mov eax, SYS_memfd_create
  mov edi, name
  xor esi, esi
  syscall
  mov ebx, eax
  mov edi, eax
  mov esi, 0x1000
  mov eax, SYS_ftruncate
  syscall
  map CODE, 0x1000, 5, 0x11, rbx
  map CODE_ALIAS, 0x1000, 3, 0x11, rbx
  map DATA, DATA_BYTES, 3, 0x32, -1
  map READ_ONLY, 0x1000, 3, 0x32, -1
  mov edi, CODE_ALIAS
  mov ecx, 0x1000
  mov al, HLT
  rep stosb
  mov edi, READ_ONLY
  mov rsi, SHARED + Shared.pool
  mov ecx, 0x1000
  rep movsb
  mov eax, SYS_mprotect
  mov edi, READ_ONLY
  mov esi, 0x1000
  mov edx, 1
  syscall
  mov eax, SYS_sigaltstack
  mov edi, alternate
  xor esi, esi
  syscall
  ; SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV
  mov ebx, signals
.action:
  movzx edi, byte [rbx]
  mov eax, SYS_rt_sigaction
  mov esi, action
  xor edx, edx
  mov r10d, 8
  syscall
  inc ebx
  cmp ebx, signals.end
  jb .action
  mov eax, 0x40000000
  cpuid
  mov r8, SHARED
  mov [r8 + Shared.hypervisor], ebx
  mov [r8 + Shared.hypervisor + 4], ecx
  mov [r8 + Shared.hypervisor + 8], edx
  xor ebx, ebx
.ldt:
  cmp ebx, [r8 + Shared.ldtCount]
  jae next
  mov eax, SYS_modify_ldt
  mov edi, 0x11
  mov esi, ebx
  shl esi, 4
  lea rsi, [r8 + rsi + Shared.ldt]
  mov edx, 16
  syscall
  or [r8 + Shared.ldtResult], rax
  inc ebx
  jmp .ldt

next:
  ; rt_sigreturn leaves NT and ID as they are: what POPF did to them must not last.
  mov rsp, STACK + STACK_BYTES
  push 0x202
  popfq
  mov r8, SHARED
  mov eax, [r8 + Shared.done]
  cmp eax, [r8 + Shared.count]
  jae finished
  imul ebx, eax, Record.size
  lea rbx, [r8 + rbx + Shared.inputs]
  mov [input], rbx
  lea rsi, [rbx + Record.code]
  mov edi, CODE_ALIAS + SLOT - CODE
  mov ecx, SLOT_BYTES / 8
  rep movsq
  mov esi, [rbx + Record.pool]
  lea rsi, [r8 + rsi + Shared.pool]
  mov edi, DATA
  mov ecx, DATA_BYTES / 8
  rep movsq
  mov ecx, [rbx + Record.patchBytes]
  mov edi, [rbx + Record.patchAt]
  add edi, DATA
  lea rsi, [rbx + Record.patch]
  rep movsb
  mov eax, SYS_arch_prctl
  mov edi, ARCH_SET_FS
  mov rsi, [rbx + Record.fsBase]
  syscall
  mov eax, SYS_arch_prctl
  mov edi, ARCH_SET_GS
  mov rsi, [rbx + Record.gsBase]
  syscall
  mov ax, [rbx + Record.selectors]
  mov es, ax
  mov ax, [rbx + Record.selectors + 6]
  mov ds, ax
  mov ax, [rbx + Record.selectors + 8]
  test ax, ax
  jz .nofs
  mov fs, ax
.nofs:
  mov ax, [rbx + Record.selectors + 10]
  test ax, ax
  jz .nogs
  mov gs, ax
.nogs:
  ; struct sigcontext: R8 to R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, RFLAGS, CS GS FS SS, …
  lea rsi, [rbx + Record.gpr + 64]
  mov edi, context + 40
  mov ecx, 8
  rep movsq
%assign i 0
%rep 8
  movzx eax, byte [order + i]
  mov rax, [rbx + Record.gpr + rax * 8]
  mov [context + 104 + i * 8], rax
%assign i i + 1
%endrep
  mov rax, [rbx + Record.rip]
  mov [context + 168], rax
  mov rax, [rbx + Record.rflags]
  mov [context + 176], rax
  mov ax, [rbx + Record.selectors + 2]
  mov [context + 184], ax
  mov ax, [rbx + Record.selectors + 4]
  mov [context + 190], ax
  xor eax, eax
  lea rcx, [rbx + Record.image]
  cmp dword [rbx + Record.fpu], 0
  cmovne rax, rcx
  mov [context + 224], rax
  mov rsp, context
  mov eax, SYS_rt_sigreturn
  syscall

; void handler(int, siginfo_t *, ucontext_t *), on the alternate stack. It does not return.
handler:
  mov r12, rdx
  mov r8, SHARED
  mov eax, [r8 + Shared.done]
  imul r13d, eax, Record.size
  lea r13, [r8 + r13 + OUTPUTS]
  imul r14d, eax, DATA_BYTES
  lea r14, [r8 + r14 + OUTPUT_DATA]
  lea rsi, [r12 + 40]
  lea rdi, [r13 + Record.gpr + 64]
  mov ecx, 8
  rep movsq
%assign i 0
%rep 8
  movzx eax, byte [order + i]
  mov rcx, [r12 + 104 + i * 8]
  mov [r13 + Record.gpr + rax * 8], rcx
%assign i i + 1
%endrep
  mov rax, [r12 + 168]
  mov [r13 + Record.rip], rax
  mov rax, [r12 + 176]
  mov [r13 + Record.rflags], rax
  mov eax, [r12 + 200]
  mov [r13 + Record.vector], eax
  mov eax, [r12 + 192]
  mov [r13 + Record.error], eax
  mov rax, [r12 + 216]
  mov [r13 + Record.cr2], rax
  mov [r13 + Record.selectors], es
  mov ax, [r12 + 184]
  mov [r13 + Record.selectors + 2], ax
  mov ax, [r12 + 190]
  mov [r13 + Record.selectors + 4], ax
  mov [r13 + Record.selectors + 6], ds
  mov [r13 + Record.selectors + 8], fs
  mov [r13 + Record.selectors + 10], gs
  mov eax, SYS_arch_prctl
  mov edi, ARCH_GET_FS
  lea rsi, [r13 + Record.fsBase]
  syscall
  mov eax, SYS_arch_prctl
  mov edi, ARCH_GET_GS
  lea rsi, [r13 + Record.gsBase]
  syscall
  mov rbx, [input]
  cmp dword [rbx + Record.fpu], 0
  je .data
  mov rsi, [r12 + 224]
  lea rdi, [r13 + Record.image]
  mov ecx, Record.imageBytes / 8
  rep movsq
.data:
  mov esi, DATA
  mov rdi, r14
  mov ecx, DATA_BYTES / 8
  rep movsq
  mov r8, SHARED
  inc dword [r8 + Shared.done]
  jmp next

finished:
  xor edi, edi
  mov eax, SYS_exit
  syscall
fail:
  mov edi, 1
  mov eax, SYS_exit
  syscall

order: db 7, 6, 5, 3, 2, 0, 1, 4 ; RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP
signals: db 4, 5, 7, 8, 11
.end:
name: db "code", 0
align 8
input: dq 0
; stack_t
alternate:
  dq STACK
  dd 0, 0
  dq STACK_BYTES
; struct kernel_sigaction; SA_SIGINFO | SA_RESTORER | SA_NODEFER | SA_ONSTACK. Nobody returns to the restorer.
action:
  dq handler, 0x4c000004, fail, 0
align 64
; struct ucontext: flags (FP_XSTATE, SIGCONTEXT_SS, STRICT_RESTORE_SS), link, stack_t, sigcontext, mask.
context:
  dq 7, 0
  dq STACK
  dd 0, 0
  dq STACK_BYTES
  times 256 db 0
  dq 0
end:
