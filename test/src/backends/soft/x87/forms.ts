import { operand87 } from "../../../../../src/backends/soft/x87/unit.ts";

/** One encoding to test: bytes with [R14] as memory operand, and the bytes of memory it uses. */
export interface X87Form {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly memory: number;
}

/** Register forms that are #UD, reserved, or whose meaning only a coprocessor had. */
function reserved(opcode: number, modrm: number): boolean {
  if (opcode === 0xd9) return (modrm > 0xd0 && modrm < 0xd8) || [0xe2, 0xe3, 0xe6, 0xe7, 0xef].includes(modrm);
  if (opcode === 0xda) return modrm >= 0xe0 && modrm !== 0xe9;
  if (opcode === 0xdb) return (modrm >= 0xe0 && modrm < 0xe8 && modrm !== 0xe2 && modrm !== 0xe3) || modrm >= 0xf8;
  if (opcode === 0xdd) return modrm >= 0xf0;
  if (opcode === 0xde) return modrm >= 0xd8 && modrm < 0xe0 && modrm !== 0xd9;
  if (opcode === 0xdf) return (modrm > 0xe0 && modrm < 0xe8) || modrm >= 0xf8;
  return false;
}

/** F2XM1, FYL2X, FPTAN, FPATAN, FYL2XP1, FSINCOS, FSIN, FCOS: within an ulp, not bit for bit. */
export const TRANSCENDENTAL: ReadonlySet<number> = new Set([0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff]);

export function x87Forms(): X87Form[] {
  const forms: X87Form[] = [];
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    for (let reg = 0; reg < 8; reg++) {
      const operand = operand87(opcode, reg);
      if (!operand) continue;
      forms.push({
        name: `${opcode.toString(16)} /${reg}`,
        bytes: new Uint8Array([0x41, opcode, (reg << 3) | 6]),
        memory: operand.bytes,
      });
    }
    for (let modrm = 0xc0; modrm <= 0xff; modrm++) {
      if (reserved(opcode, modrm)) continue;
      if (opcode === 0xd9 && TRANSCENDENTAL.has(modrm)) continue;
      forms.push({
        name: `${opcode.toString(16)} ${modrm.toString(16)}`,
        bytes: new Uint8Array([opcode, modrm]),
        memory: 0,
      });
    }
  }
  return forms;
}
