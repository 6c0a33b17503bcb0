/** Bits of the code segment: what prefixes mean depends on it. */
export type CodeBits = 16 | 32 | 64;

const OPERAND_SIZE = 0x66;
/** Legacy prefixes that do not change what a plain load reads (Intel SDM Vol. 2A, "Instruction Prefixes"). */
const IGNORED: ReadonlySet<number> = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67, 0xf0, 0xf2, 0xf3]);
const TWO_BYTE = 0x0f;

/**
 * Bytes that the instruction loads from memory, for those that do nothing else: MOV, MOVZX and MOVSX into a register. Undefined
 * for all others, and where ModRM names no memory.
 */
export function plainLoadBytes(code: Uint8Array, bits: CodeBits): 1 | 2 | 4 | 8 | undefined {
  let at = 0;
  let short = bits === 16;
  while (IGNORED.has(code[at] ?? 0) || code[at] === OPERAND_SIZE) {
    if (code[at] === OPERAND_SIZE) short = bits !== 16;
    at++;
  }
  let wide = false;
  if (bits === 64 && ((code[at] ?? 0) & 0xf0) === 0x40) wide = ((code[at++] as number) & 8) !== 0;
  const whole = wide ? 8 : short ? 2 : 4;
  const opcode = code[at];
  switch (opcode) {
    case 0xa0:
      return 1;
    case 0xa1:
      return whole;
    case 0x8a:
      return fromMemory(code[at + 1]) ? 1 : undefined;
    case 0x8b:
      return fromMemory(code[at + 1]) ? whole : undefined;
    case TWO_BYTE:
      return fromMemory(code[at + 2]) ? extended(code[at + 1]) : undefined;
    default:
      return undefined;
  }
}

/** MOVZX (B6, B7) and MOVSX (BE, BF) read 1 or 2 bytes. */
function extended(opcode: number | undefined): 1 | 2 | undefined {
  if (opcode === 0xb6 || opcode === 0xbe) return 1;
  return opcode === 0xb7 || opcode === 0xbf ? 2 : undefined;
}

function fromMemory(modrm: number | undefined): boolean {
  return modrm !== undefined && modrm < 0xc0;
}
