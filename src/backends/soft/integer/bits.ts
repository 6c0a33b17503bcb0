import { Mnemonic, Register } from "../decoder/names.ts";
import { type Bits, Family, Flag, MASKS } from "../flags/kinds.ts";
import type { Address } from "../translate/context.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { Op, Type } from "../wasm/opcodes.ts";
import { type CoreEmitter, operandBits, operandLocal, signExtend, truncate } from "./operands.ts";

type BitOp = "bt" | "bts" | "btr" | "btc";

/** BT with a register index reaches beyond the operand in memory: the address moves by whole operands, signed. */
function bitStringAddress(e: RegionEmitter, bits: Bits): Address {
  const c = e.code;
  const at = e.address();
  const moved = e.temp(Type.i64);
  c.get(at.offset);
  e.gpr(e.insn.register(1));
  signExtend(e, bits);
  c.i64(bits === 64 ? 6 : bits === 32 ? 5 : 4);
  c.op(Op.i64_shr_s);
  c.i64(bits / 8);
  c.op(Op.i64_mul);
  c.op(Op.i64_add);
  truncate(e, e.addressBits());
  c.set(moved);
  return { offset: moved, segment: at.segment };
}

function bitTest(kind: BitOp): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const value = e.temp(Type.i64);
    const index = e.temp(Type.i64);
    const string = e.insn.isMemory(0) && e.insn.isRegister(1);
    const at = string ? bitStringAddress(e, bits) : e.insn.isMemory(0) ? e.address() : undefined;
    const bytes = (bits / 8) as 2 | 4 | 8;
    const place = kind === "bt" ? undefined : at === undefined ? e.place(0, bytes) : e.memoryPlace(at, bytes);
    if (place !== undefined) e.readPlace(place);
    else if (at !== undefined) e.load(at, bytes);
    else e.gpr(e.insn.register(0));
    c.set(value);
    if (e.insn.isRegister(1)) e.gpr(e.insn.register(1));
    else c.i64(e.insn.immediate(1));
    c.i64(bits - 1);
    c.op(Op.i64_and);
    c.set(index);
    const carry = e.temp(Type.i64);
    c.get(value);
    c.get(index);
    c.op(Op.i64_shr_u);
    c.i64(1);
    c.op(Op.i64_and);
    c.set(carry);
    if (place !== undefined) {
      c.get(value);
      c.i64(1);
      c.get(index);
      c.op(Op.i64_shl);
      if (kind === "btr") {
        c.i64(-1);
        c.op(Op.i64_xor);
      }
      c.op(kind === "bts" ? Op.i64_or : kind === "btr" ? Op.i64_and : Op.i64_xor);
      c.set(value);
      e.writePlace(place, value);
    }
    e.keepFlags([Family.bit]);
    c.get(carry);
    c.set(e.main.a);
    e.useFlags(Family.bit, bits);
  };
}

/** BSF and BSR: a zero source leaves the target alone (AMD's documented, Intel's actual behaviour) and sets ZF. */
function scan(forward: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const source = operandLocal(e, 1, bits);
    const flags = e.temp(Type.i32);
    e.flags();
    c.i32(~Flag.ZF);
    c.op(Op.i32_and);
    c.get(source);
    c.op(Op.i64_eqz);
    c.i32(6);
    c.op(Op.i32_shl);
    c.op(Op.i32_or);
    c.set(flags);
    c.get(source);
    c.op(Op.i64_eqz);
    c.if();
    c.else();
    if (forward) {
      c.get(source);
      c.op(Op.i64_ctz);
    } else {
      c.i64(63);
      c.get(source);
      c.op(Op.i64_clz);
      c.op(Op.i64_sub);
    }
    e.setGpr(e.insn.register(0));
    c.end();
    c.get(flags);
    e.setFlags();
  };
}

/** TZCNT, LZCNT: CF when the source is zero, ZF when the result is; the rest undefined and left alone, as AMD does. */
function count(trailing: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const source = operandLocal(e, 1, bits);
    const result = e.temp(Type.i64);
    c.get(source);
    if (trailing) {
      if (bits < 64) {
        c.i64(1n << BigInt(bits));
        c.op(Op.i64_or);
      }
      c.op(Op.i64_ctz);
    } else {
      c.op(Op.i64_clz);
      if (bits < 64) {
        c.i64(64 - bits);
        c.op(Op.i64_sub);
      }
    }
    c.set(result);
    e.flags();
    c.i32(~(Flag.ZF | Flag.CF));
    c.op(Op.i32_and);
    c.get(source);
    c.op(Op.i64_eqz);
    c.op(Op.i32_or);
    c.get(result);
    c.op(Op.i64_eqz);
    c.i32(6);
    c.op(Op.i32_shl);
    c.op(Op.i32_or);
    e.setFlags();
    c.get(result);
    e.setGpr(e.insn.register(0));
  };
}

function popcnt(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const source = operandLocal(e, 1, bits);
  c.get(source);
  c.op(Op.i64_popcnt);
  e.setGpr(e.insn.register(0));
  c.get(source);
  c.op(Op.i64_eqz);
  c.i32(6);
  c.op(Op.i32_shl);
  e.setFlags();
}

/** Sets r, CF (local, i64) and OF = 0 and writes the first operand. */
function finishLogic(e: RegionEmitter, bits: Bits, result: number, carry?: () => void): void {
  const c = e.code;
  c.get(result);
  e.setGpr(e.insn.register(0));
  c.get(result);
  c.set(e.main.r);
  if (carry === undefined) {
    e.useFlags(Family.logic, bits);
    return;
  }
  carry();
  c.op(Op.i64_extend_i32_u);
  c.set(e.main.a);
  c.i64(0);
  c.set(e.main.b);
  e.useFlags(Family.result, bits);
}

function andn(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const b = operandLocal(e, 2, bits);
  const r = e.temp(Type.i64);
  e.gpr(e.insn.register(1));
  c.i64(-1);
  c.op(Op.i64_xor);
  c.get(b);
  c.op(Op.i64_and);
  c.set(r);
  finishLogic(e, bits, r);
}

/** BLSI, BLSR, BLSMSK: CF by whether the source is zero (BLSI: is not). */
function lowest(kind: "blsi" | "blsr" | "blsmsk"): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const source = operandLocal(e, 1, bits);
    const r = e.temp(Type.i64);
    if (kind === "blsi") {
      c.i64(0);
      c.get(source);
      c.op(Op.i64_sub);
    } else {
      c.get(source);
      c.i64(1);
      c.op(Op.i64_sub);
    }
    c.get(source);
    c.op(kind === "blsmsk" ? Op.i64_xor : Op.i64_and);
    truncate(e, bits);
    c.set(r);
    finishLogic(e, bits, r, () => {
      c.get(source);
      c.op(Op.i64_eqz);
      if (kind === "blsi") c.op(Op.i32_eqz);
    });
  };
}

/** Pushes (1 << count) − 1 for a local count of 0 to 255; all ones from 64 on. */
function pushLowMask(e: RegionEmitter, local: number): void {
  const c = e.code;
  c.i64(-1);
  c.i64(-1);
  c.get(local);
  c.op(Op.i64_shl);
  c.i64(-1);
  c.op(Op.i64_xor);
  c.get(local);
  c.i64(63);
  c.op(Op.i64_gt_u);
  c.op(Op.select);
}

function bextr(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const source = operandLocal(e, 1, bits);
  const start = e.temp(Type.i64);
  const length = e.temp(Type.i64);
  const r = e.temp(Type.i64);
  e.gpr(e.insn.register(2));
  c.tee(start);
  c.i64(8);
  c.op(Op.i64_shr_u);
  c.i64(0xff);
  c.op(Op.i64_and);
  c.set(length);
  c.get(start);
  c.i64(0xff);
  c.op(Op.i64_and);
  c.set(start);
  c.get(source);
  c.get(start);
  c.op(Op.i64_shr_u);
  c.i64(0);
  c.get(start);
  c.i64(63);
  c.op(Op.i64_le_u);
  c.op(Op.select);
  pushLowMask(e, length);
  c.op(Op.i64_and);
  c.set(r);
  finishLogic(e, bits, r);
}

function bzhi(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 0);
  const source = operandLocal(e, 1, bits);
  const index = e.temp(Type.i64);
  const r = e.temp(Type.i64);
  e.gpr(e.insn.register(2));
  c.i64(0xff);
  c.op(Op.i64_and);
  c.set(index);
  c.get(source);
  pushLowMask(e, index);
  c.op(Op.i64_and);
  c.set(r);
  finishLogic(e, bits, r, () => {
    c.get(index);
    c.i64(bits - 1);
    c.op(Op.i64_gt_u);
  });
}

/** PDEP and PEXT, a mask bit per turn. */
function deposit(extract: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const bits = operandBits(e, 0);
    const mask = operandLocal(e, 2, bits);
    const source = operandLocal(e, 1, bits);
    const result = e.temp(Type.i64);
    const lowest = e.temp(Type.i64);
    const bit = e.temp(Type.i64);
    c.i64(0);
    c.set(result);
    c.i64(1);
    c.set(bit);
    const done = c.block();
    const again = c.loop();
    c.get(mask);
    c.op(Op.i64_eqz);
    c.brIf(done);
    c.get(mask);
    c.i64(0);
    c.get(mask);
    c.op(Op.i64_sub);
    c.op(Op.i64_and);
    c.set(lowest);
    c.get(result);
    c.get(extract ? bit : lowest);
    c.i64(0);
    c.get(source);
    c.get(extract ? lowest : bit);
    c.op(Op.i64_and);
    c.op(Op.i64_eqz);
    c.op(Op.i32_eqz);
    c.op(Op.select);
    c.op(Op.i64_or);
    c.set(result);
    c.get(bit);
    c.i64(1);
    c.op(Op.i64_shl);
    c.set(bit);
    c.get(mask);
    c.get(lowest);
    c.op(Op.i64_xor);
    c.set(mask);
    c.br(again);
    c.end();
    c.end();
    c.get(result);
    e.setGpr(e.insn.register(0));
  };
}

function bswap(e: RegionEmitter): void {
  const bits = operandBits(e, 0);
  const value = e.temp(Type.i64);
  if (bits === 16) {
    // Undefined by both manuals; processors clear the word.
    e.code.i64(0);
    e.setGpr(e.insn.register(0));
    return;
  }
  e.gpr(e.insn.register(0));
  e.code.set(value);
  pushSwapped(e, value, bits);
  e.setGpr(e.insn.register(0));
}

/** Pushes the bytes of a local in reverse order. */
export function pushSwapped(e: RegionEmitter, value: number, bits: Bits): void {
  const c = e.code;
  const swap = (mask: bigint, by: number) => {
    c.get(value);
    c.i64(by);
    c.op(Op.i64_shr_u);
    c.i64(BigInt.asIntN(64, mask));
    c.op(Op.i64_and);
    c.get(value);
    c.i64(BigInt.asIntN(64, mask));
    c.op(Op.i64_and);
    c.i64(by);
    c.op(Op.i64_shl);
    c.op(Op.i64_or);
    c.set(value);
  };
  swap(0x00ff_00ff_00ff_00ffn, 8);
  if (bits >= 32) swap(0x0000_ffff_0000_ffffn, 16);
  c.get(value);
  if (bits === 64) {
    c.i64(32);
    c.op(Op.i64_rotl);
  }
  c.i64(BigInt.asIntN(64, MASKS[bits]));
  c.op(Op.i64_and);
}

function movbe(e: RegionEmitter): void {
  const bits = operandBits(e, 0);
  const bytes = (bits / 8) as 2 | 4 | 8;
  const value = operandLocal(e, 1, bits);
  pushSwapped(e, value, bits);
  if (e.insn.isMemory(0)) {
    const swapped = e.temp(Type.i64);
    e.code.set(swapped);
    e.store(e.address(), bytes, swapped);
  } else e.setGpr(e.insn.register(0));
}

/** CRC32 (polynomial 0x11EDC6F41, reflected), a bit per turn: 8 to 64 turns. */
function crc32(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 1);
  const value = operandLocal(e, 1, bits);
  const crc = e.temp(Type.i64);
  const turns = e.temp(Type.i32);
  e.gpr(e.insn.register(0));
  c.i64(0xffff_ffffn);
  c.op(Op.i64_and);
  c.get(value);
  c.op(Op.i64_xor);
  c.set(crc);
  c.i32(bits);
  c.set(turns);
  const again = c.loop();
  c.get(crc);
  c.i64(1);
  c.op(Op.i64_shr_u);
  c.i64(0x82f6_3b78n);
  c.i64(0);
  c.get(crc);
  c.op(Op.i32_wrap_i64);
  c.i32(1);
  c.op(Op.i32_and);
  c.op(Op.select);
  c.op(Op.i64_xor);
  c.set(crc);
  c.get(turns);
  c.i32(1);
  c.op(Op.i32_sub);
  c.tee(turns);
  c.brIf(again);
  c.end();
  c.get(crc);
  e.setGpr(e.insn.register(0));
}

/** CLC, STC, CMC. */
function carry(kind: "clear" | "set" | "complement"): CoreEmitter {
  return (e) => {
    const c = e.code;
    const value = e.temp(Type.i64);
    if (kind === "complement") {
      e.carryFlag();
      c.op(Op.i32_eqz);
      c.op(Op.i64_extend_i32_u);
    } else c.i64(kind === "set" ? 1 : 0);
    c.set(value);
    e.keepFlags([Family.bit]);
    c.get(value);
    c.set(e.main.a);
    e.useFlags(Family.bit, 8);
  };
}

function lahf(e: RegionEmitter): void {
  const c = e.code;
  e.flags();
  c.i32(0xd5);
  c.op(Op.i32_and);
  c.i32(2);
  c.op(Op.i32_or);
  c.op(Op.i64_extend_i32_u);
  e.setGpr(Register.AH);
}

function sahf(e: RegionEmitter): void {
  const c = e.code;
  e.flags();
  c.i32(Flag.OF);
  c.op(Op.i32_and);
  e.gpr(Register.AH);
  c.op(Op.i32_wrap_i64);
  c.i32(0xd5);
  c.op(Op.i32_and);
  c.op(Op.i32_or);
  e.setFlags();
}

/** SALC (undocumented): AL = CF ? 0xff : 0. */
function salc(e: RegionEmitter): void {
  e.code.i64(0);
  e.carryFlag();
  e.code.op(Op.i64_extend_i32_u);
  e.code.op(Op.i64_sub);
  e.setGpr(Register.AL);
}

export const bitInstructions: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Bt, bitTest("bt")],
  [Mnemonic.Bts, bitTest("bts")],
  [Mnemonic.Btr, bitTest("btr")],
  [Mnemonic.Btc, bitTest("btc")],
  [Mnemonic.Bsf, scan(true)],
  [Mnemonic.Bsr, scan(false)],
  [Mnemonic.Tzcnt, count(true)],
  [Mnemonic.Lzcnt, count(false)],
  [Mnemonic.Popcnt, popcnt],
  [Mnemonic.Andn, andn],
  [Mnemonic.Blsi, lowest("blsi")],
  [Mnemonic.Blsr, lowest("blsr")],
  [Mnemonic.Blsmsk, lowest("blsmsk")],
  [Mnemonic.Bextr, bextr],
  [Mnemonic.Bzhi, bzhi],
  [Mnemonic.Pdep, deposit(false)],
  [Mnemonic.Pext, deposit(true)],
  [Mnemonic.Bswap, bswap],
  [Mnemonic.Movbe, movbe],
  [Mnemonic.Crc32, crc32],
  [Mnemonic.Clc, carry("clear")],
  [Mnemonic.Stc, carry("set")],
  [Mnemonic.Cmc, carry("complement")],
  [Mnemonic.Lahf, lahf],
  [Mnemonic.Sahf, sahf],
  [Mnemonic.Salc, salc],
];
