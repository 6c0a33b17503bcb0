import { assemble } from "../../../../../src/asm/index.ts";
import { ERROR_CODE_VECTORS, LAYOUT, SOFTWARE_VECTORS, VECTORS } from "./layout.ts";

type Bits = 16 | 32 | 64;

/** Logs vector, error code, return address, CS, flags and CR2, and goes on at RECOVER with a fresh stack. */
const COMMON: Readonly<Record<Bits, string>> = {
  16: `
common: mov ax, 0
        mov ds, ax
        mov es, ax
        cld
        mov di, [LOGPTR]
        pop ax
        stosw                   ; vector
        pop ax
        stosw                   ; error code, 0 in real mode
        pop ax
        stosw                   ; IP
        pop ax
        stosw                   ; CS
        pop ax
        and ah, ~1              ; TF: some engines step with it
        stosw                   ; FLAGS
        cmp di, LOGEND
        ja done
        mov [LOGPTR], di
        xor ax, ax
        mov ss, ax
        mov esp, KSTACK - 0x800
        mov ax, 2
        push ax
        popf
        jmp word [RECOVER]
done:   hlt
        jmp done
`,
  32: `
narrow: pop ax                  ; a frame of words
        pop dx
        pop cx
        movzx eax, ax
        movzx edx, dx
        movzx ecx, cx
        movzx ebx, bl
        push ecx
        push edx
        push eax
        push dword 0
        push ebx
common: mov ax, 0x10
        mov ds, ax
        mov es, ax
        cld
        mov edi, [LOGPTR]
        pop eax
        stosd
        pop eax
        stosd
        pop eax
        stosd
        pop eax
        and eax, 0xffff
        stosd
        pop eax
        and eax, ~0x10100       ; RF, and TF, with which some engines step
        stosd
        mov eax, cr2
        stosd
        cmp edi, LOGEND
        ja done
        mov [LOGPTR], edi
        mov ax, 0x10
        mov ss, ax
        mov esp, KSTACK
        push dword 2
        popfd
        jmp dword [RECOVER]
done:   hlt
        jmp done
`,
  64: `
common: mov ax, 0x10
        mov ds, ax
        mov es, ax
        cld
        mov edi, [abs LOGPTR]
        pop rax
        stosd
        pop rax
        stosd
        pop rax
        stosd
        pop rax
        stosd
        pop rax
        and eax, ~0x10100
        stosd
        mov rax, cr2
        stosq
        cmp edi, LOGEND
        ja done
        mov [abs LOGPTR], edi
        mov ax, 0x10            ; not null, for compatibility code that a statement may end in
        mov ss, ax
        mov esp, KSTACK
        push qword 2
        popfq
        jmp qword [abs RECOVER]
done:   hlt
        jmp done
`,
};

/** The stubs of all vectors, 16 bytes each from `LAYOUT.handlers`, then what they share. */
export function handlerBytes(bits: Bits): Uint8Array {
  const push = bits === 16 ? "push word" : bits === 32 ? "push dword" : "push qword";
  const lines = [`bits ${bits}`, `org ${LAYOUT.handlers}`];
  for (let vector = 0; vector < VECTORS; vector++) {
    lines.push(`align 16`);
    if (bits === 32 && (vector === SOFTWARE_VECTORS.interrupt16 || vector === SOFTWARE_VECTORS.trap16)) {
      lines.push(`mov bl, ${vector}`, "jmp narrow");
      continue;
    }
    if (bits === 16 || !ERROR_CODE_VECTORS.has(vector)) lines.push(`${push} 0`);
    lines.push(`${push} ${vector}`, "jmp common");
  }
  lines.push("align 16", COMMON[bits]);
  return assemble(lines.join("\n"), { defines: ADDRESSES }).bytes;
}

/** Names for programs and handlers. */
export const ADDRESSES = {
  LOGPTR: LAYOUT.logPointer,
  LOGEND: LAYOUT.logEnd - 0x40,
  RECOVER: LAYOUT.recover,
  KSTACK: LAYOUT.kernelStack,
  USTACK: LAYOUT.userStack,
  GATESTACK: LAYOUT.gateStack,
  DATA: LAYOUT.data,
  TARGETS: LAYOUT.targets,
} as const;
