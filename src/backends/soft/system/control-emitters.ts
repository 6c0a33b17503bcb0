import { Code, Mnemonic, OpKind, Register } from "../decoder/names.ts";
import { type CoreEmitter, operandBits, popOperand, pushOperand } from "../integer/operands.ts";
import { Seg, SegIndex, State, Vector } from "../state.ts";
import type { RegionEmitter } from "../translate/emitter.ts";
import { gprIndex } from "../translate/insn.ts";
import { Mem, Op, Type } from "../wasm/opcodes.ts";

const I = Type.i32;

/** #GP(0) unless CPL is 0. Known while translating. Returns false when it raised. */
function privileged(e: RegionEmitter): boolean {
  if (e.mode.cpl === 0) return true;
  e.raise(Vector.GP, 0);
  return false;
}

/** #UD in real and virtual-8086 mode. */
function protectedOnly(e: RegionEmitter): boolean {
  if (!e.mode.real) return true;
  e.raise(Vector.UD);
  return false;
}

export function moveControl(e: RegionEmitter): void {
  const { insn } = e;
  const write = insn.register(0) >= Register.CR0 && insn.register(0) <= Register.CR15;
  const number = insn.register(write ? 0 : 1) - Register.CR0;
  if (![0, 2, 3, 4, 8].includes(number)) {
    e.raise(Vector.UD);
    return;
  }
  if (!privileged(e)) return;
  e.code.i32(number);
  e.code.i32(gprIndex(insn.register(write ? 1 : 0)));
  if (write) e.endSystem("writeControl", [I, I]);
  else e.callSystem("readControl", [I, I]);
}

export function moveDebug(e: RegionEmitter): void {
  const { insn } = e;
  const write = insn.register(0) >= Register.DR0 && insn.register(0) <= Register.DR15;
  const number = insn.register(write ? 0 : 1) - Register.DR0;
  if (number > 7) {
    e.raise(Vector.UD);
    return;
  }
  if (!privileged(e)) return;
  e.code.i32(number);
  e.code.i32(gprIndex(insn.register(write ? 1 : 0)));
  e.endSystem(write ? "writeDebug" : "readDebug", [I, I]);
}

/** Offset and selector of a far target to scratch; pushes nothing. */
function farTarget(e: RegionEmitter): number {
  const c = e.code;
  const { raw } = e.insn;
  if (raw.op0Kind === OpKind.FarBranch16 || raw.op0Kind === OpKind.FarBranch32) {
    const wide = raw.op0Kind === OpKind.FarBranch32;
    e.stateAddress();
    c.i64(BigInt(wide ? raw.farBranch32 >>> 0 : raw.farBranch16));
    e.storeState(Mem.i64_store, State.scratch);
    e.stateAddress();
    c.i64(BigInt(raw.farBranchSelector));
    e.storeState(Mem.i64_store, State.scratch + 8);
    return wide ? 4 : 2;
  }
  const bytes = (operandBits(e, 0) / 8 - 2) as 2 | 4 | 8;
  const offset = e.temp(Type.i64);
  const selector = e.temp(Type.i64);
  e.load(e.address(), bytes);
  c.set(offset);
  e.load(e.address(), 2, bytes);
  c.set(selector);
  e.stateAddress();
  c.get(offset);
  e.storeState(Mem.i64_store, State.scratch);
  e.stateAddress();
  c.get(selector);
  e.storeState(Mem.i64_store, State.scratch + 8);
  return bytes;
}

export function farJump(e: RegionEmitter): void {
  e.code.i32(farTarget(e));
  e.endSystem("farJump", [I]);
}

export function farCall(e: RegionEmitter): void {
  e.code.i32(farTarget(e));
  e.endSystem("farCall", [I]);
}

export function farReturn(e: RegionEmitter): void {
  const extra = e.insn.operands === 1 ? e.insn.raw.immediate16 : 0;
  e.code.i32((e.insn.raw.stackPointerIncrement - extra) / 2);
  e.code.i32(extra);
  e.endSystem("farReturn", [I, I]);
}

/** A system instruction without operands. */
function end(name: string, needsCpl0 = false, needsProtected = false): CoreEmitter {
  return (e) => {
    if (needsProtected && !protectedOnly(e)) return;
    if (needsCpl0 && !privileged(e)) return;
    e.endSystem(name, []);
  };
}

function iret(bytes: number): CoreEmitter {
  return (e) => {
    e.code.i32(bytes);
    e.endSystem("iret", [I]);
  };
}

function int(e: RegionEmitter): void {
  e.code.i32(e.insn.imm8);
  e.endSystem("softwareInterrupt", [I]);
}

function into(e: RegionEmitter): void {
  e.endSystem("overflowInterrupt", []);
}

function inPort(e: RegionEmitter): void {
  pushPort(e, 1);
  e.code.i32(operandBits(e, 0) / 8);
  e.callSystem("portIn", [I, I]);
}

function outPort(e: RegionEmitter): void {
  pushPort(e, 0);
  e.code.i32(operandBits(e, 1) / 8);
  e.callSystem("portOut", [I, I]);
}

function pushPort(e: RegionEmitter, operand: number): void {
  if (!e.insn.isRegister(operand)) {
    e.code.i32(e.insn.imm8);
    return;
  }
  e.gpr(Register.DX);
  e.code.op(Op.i32_wrap_i64);
}

/** LGDT, LIDT: limit and base from memory. */
function loadTable(name: string): CoreEmitter {
  return (e) => {
    if (!privileged(e)) return;
    const c = e.code;
    const wide = e.mode.bits === 64;
    const limit = e.temp(Type.i64);
    const base = e.temp(Type.i64);
    e.load(e.address(), 2);
    c.set(limit);
    e.load(e.address(), wide ? 8 : 4, 2);
    if (!wide && isOperand16(e)) {
      c.i64(0xff_ffff);
      c.op(Op.i64_and);
    }
    c.set(base);
    e.stateAddress();
    c.get(base);
    e.storeState(Mem.i64_store, State.scratch);
    c.get(limit);
    c.op(Op.i32_wrap_i64);
    e.endSystem(name, [I]);
  };
}

/** LGDT and LIDT with 16-bit operands take 24 bits of base. */
function isOperand16(e: RegionEmitter): boolean {
  return WORD_TABLES.includes(e.insn.code);
}

const WORD_TABLES = [Code.Lgdt_m1632_16, Code.Lidt_m1632_16];

/** SGDT, SIDT: allowed at any CPL unless CR4.UMIP says otherwise. */
function storeTable(base: number, limit: number): CoreEmitter {
  return (e) => {
    const c = e.code;
    umip(e);
    const value = e.temp(Type.i64);
    const wide = e.mode.bits === 64;
    e.checkWrite(e.address(), wide ? 10 : 6, 2);
    e.loadState(Mem.i64_load32_u, limit);
    c.set(value);
    e.store(e.address(), 2, value);
    e.loadState(Mem.i64_load, base);
    c.set(value);
    e.store(e.address(), wide ? 8 : 4, value, 2);
  };
}

function umip(e: RegionEmitter): void {
  if (e.mode.cpl === 0) return;
  e.loadState(Mem.i32_load, State.cr4);
  e.code.i32(0x800);
  e.code.op(Op.i32_and);
  e.raiseIf(Vector.GP, 0);
}

/** LLDT, LTR, LMSW, VERR, VERW: one 16-bit operand to a helper. */
function withSelector(name: string, options: { cpl0?: boolean; protectedOnly?: boolean }): CoreEmitter {
  return (e) => {
    if (options.protectedOnly && !protectedOnly(e)) return;
    if (options.cpl0 && !privileged(e)) return;
    pushOperand(e, 0, 16);
    e.code.op(Op.i32_wrap_i64);
    e.endSystem(name, [I]);
  };
}

/** SLDT, STR. */
function storeSelector(segment: number): CoreEmitter {
  return (e) => {
    if (!protectedOnly(e)) return;
    umip(e);
    e.loadState(Mem.i64_load32_u, State.segments + segment * Seg.size + Seg.selector);
    popOperand(e, 0, e.insn.isMemory(0) ? 16 : operandBits(e, 0));
  };
}

function smsw(e: RegionEmitter): void {
  umip(e);
  e.loadState(Mem.i64_load32_u, State.cr0);
  popOperand(e, 0, e.insn.isMemory(0) ? 16 : operandBits(e, 0));
}

/** LAR, LSL: a descriptor's rights or limit; ZF says whether it may be seen. */
function descriptorQuery(name: string): CoreEmitter {
  return (e) => {
    if (!protectedOnly(e)) return;
    if (e.insn.isMemory(1)) e.load(e.address(), 2);
    else e.gpr(e.insn.register(1));
    e.code.op(Op.i32_wrap_i64);
    e.code.i32(gprIndex(e.insn.register(0)));
    e.code.i32(operandBits(e, 0));
    e.endSystem(name, [I, I, I]);
  };
}

/** INVLPG: the whole TLB goes, as is allowed. */
function invlpg(e: RegionEmitter): void {
  if (!privileged(e)) return;
  e.endSystem("flushTlb", []);
}

function invpcid(e: RegionEmitter): void {
  if (!privileged(e)) return;
  const c = e.code;
  const value = e.temp(Type.i64);
  e.load(e.address(), 8);
  c.set(value);
  e.stateAddress();
  c.get(value);
  e.storeState(Mem.i64_store, State.scratch);
  e.load(e.address(), 8, 8);
  c.set(value);
  e.stateAddress();
  c.get(value);
  e.storeState(Mem.i64_store, State.scratch + 8);
  e.gpr64(gprIndex(e.insn.register(0)));
  c.op(Op.i32_wrap_i64);
  e.endSystem("invpcid", [I]);
}

function cliSti(name: string): CoreEmitter {
  return (e) => e.endSystem(name, []);
}

/** CLD and STD change the state's DF alone. */
function direction(set: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    e.stateAddress();
    e.loadState(Mem.i32_load, State.eflags);
    c.i32(set ? 0x400 : ~0x400);
    c.op(set ? Op.i32_or : Op.i32_and);
    e.storeState(Mem.i32_store, State.eflags);
  };
}

function call(name: string): CoreEmitter {
  return (e) => e.callSystem(name, []);
}

/** RDFSBASE and kin: CR4.FSGSBASE, 64-bit mode only (iced decodes them nowhere else). */
function baseRegister(segment: number, write: boolean): CoreEmitter {
  return (e) => {
    const c = e.code;
    const slot = State.segments + segment * Seg.size + Seg.base;
    e.loadState(Mem.i32_load, State.cr4);
    c.i32(0x1_0000);
    c.op(Op.i32_and);
    c.op(Op.i32_eqz);
    e.raiseIf(Vector.UD);
    if (!write) {
      e.loadState(Mem.i64_load, slot);
      e.setGpr(e.insn.register(0));
      return;
    }
    const value = e.temp(Type.i64);
    e.gpr(e.insn.register(0));
    c.tee(value);
    c.i64(16);
    c.op(Op.i64_shl);
    c.i64(16);
    c.op(Op.i64_shr_s);
    c.get(value);
    c.op(Op.i64_ne);
    e.raiseIf(Vector.GP, 0);
    e.stateAddress();
    c.get(value);
    e.storeState(Mem.i64_store, slot);
  };
}

function random(e: RegionEmitter): void {
  e.code.i32(gprIndex(e.insn.register(0)));
  e.code.i32(operandBits(e, 0));
  e.callSystem("random", [I, I]);
}

function rdpid(e: RegionEmitter): void {
  e.code.i32(gprIndex(e.insn.register(0)));
  e.callSystem("rdpid", [I]);
}

/** AAM and AAD take an immediate base. */
function ascii(name: string): CoreEmitter {
  return (e) => {
    e.code.i32(e.insn.imm8);
    e.callSystem(name, [I]);
  };
}

function bound(e: RegionEmitter): void {
  const c = e.code;
  const bits = operandBits(e, 1) as number;
  const bytes = (bits / 8 / 2) as 2 | 4;
  const lower = e.temp(Type.i64);
  const upper = e.temp(Type.i64);
  const extend = bytes === 2 ? Op.i64_extend16_s : Op.i64_extend32_s;
  e.load(e.address(), bytes);
  c.op(extend);
  c.set(lower);
  e.load(e.address(), bytes, bytes);
  c.op(extend);
  c.set(upper);
  e.gpr(e.insn.register(0));
  c.op(extend);
  c.get(lower);
  c.op(Op.i64_lt_s);
  e.gpr(e.insn.register(0));
  c.op(extend);
  c.get(upper);
  c.op(Op.i64_gt_s);
  c.op(Op.i32_or);
  e.raiseIf(Vector.BR);
}

/** CLAC and STAC: #UD rather than #GP outside CPL 0. */
function alignmentFlag(name: string): CoreEmitter {
  return (e) => {
    if (e.mode.cpl === 0) e.endSystem(name, []);
    else e.raise(Vector.UD);
  };
}

function arpl(e: RegionEmitter): void {
  if (!protectedOnly(e)) return;
  const c = e.code;
  const target = e.temp(Type.i64);
  pushOperand(e, 0, 16);
  c.set(target);
  const source = e.temp(Type.i64);
  e.gpr(e.insn.register(1));
  c.i64(3);
  c.op(Op.i64_and);
  c.set(source);
  const below = e.temp(Type.i32);
  c.get(target);
  c.i64(3);
  c.op(Op.i64_and);
  c.get(source);
  c.op(Op.i64_lt_u);
  c.set(below);
  e.flags();
  c.i32(~0x40);
  c.op(Op.i32_and);
  c.get(below);
  c.i32(6);
  c.op(Op.i32_shl);
  c.op(Op.i32_or);
  const flags = e.temp(Type.i32);
  c.set(flags);
  // Memory is only written when its RPL is the lower one.
  c.get(below);
  c.if();
  c.get(target);
  c.i64(~3);
  c.op(Op.i64_and);
  c.get(source);
  c.op(Op.i64_or);
  popOperand(e, 0, 16);
  c.end();
  c.get(flags);
  e.setFlags();
}

export const system: readonly (readonly [Mnemonic, CoreEmitter])[] = [
  [Mnemonic.Int, int],
  [Mnemonic.Int3, end("breakpoint")],
  [Mnemonic.Int1, end("debugTrap")],
  [Mnemonic.Into, into],
  [Mnemonic.Iret, iret(2)],
  [Mnemonic.Iretd, iret(4)],
  [Mnemonic.Iretq, iret(8)],
  [Mnemonic.Hlt, end("halt", true)],
  [Mnemonic.Cli, cliSti("clearInterrupts")],
  [Mnemonic.Sti, cliSti("setInterrupts")],
  [Mnemonic.Cld, direction(false)],
  [Mnemonic.Std, direction(true)],
  [Mnemonic.In, inPort],
  [Mnemonic.Out, outPort],
  [Mnemonic.Lgdt, loadTable("loadGdt")],
  [Mnemonic.Lidt, loadTable("loadIdt")],
  [Mnemonic.Sgdt, storeTable(State.gdtBase, State.gdtLimit)],
  [Mnemonic.Sidt, storeTable(State.idtBase, State.idtLimit)],
  [Mnemonic.Lldt, withSelector("loadLdt", { cpl0: true, protectedOnly: true })],
  [Mnemonic.Ltr, withSelector("loadTask", { cpl0: true, protectedOnly: true })],
  [Mnemonic.Lmsw, withSelector("loadMachineStatus", { cpl0: true })],
  [Mnemonic.Verr, withSelector("verifyRead", { protectedOnly: true })],
  [Mnemonic.Verw, withSelector("verifyWrite", { protectedOnly: true })],
  [Mnemonic.Sldt, storeSelector(SegIndex.ldt)],
  [Mnemonic.Str, storeSelector(SegIndex.tr)],
  [Mnemonic.Smsw, smsw],
  [Mnemonic.Clts, end("clearTaskSwitched", true)],
  [Mnemonic.Lar, descriptorQuery("loadRights")],
  [Mnemonic.Lsl, descriptorQuery("loadLimit")],
  [Mnemonic.Arpl, arpl],
  [Mnemonic.Bound, bound],
  [Mnemonic.Invlpg, invlpg],
  [Mnemonic.Invpcid, invpcid],
  [Mnemonic.Wbinvd, end("nothing", true)],
  [Mnemonic.Invd, end("nothing", true)],
  [Mnemonic.Rdmsr, end("readMsr", true)],
  [Mnemonic.Wrmsr, end("writeMsr", true)],
  [Mnemonic.Rdtsc, call("readTsc")],
  [Mnemonic.Rdtscp, call("readTscp")],
  [Mnemonic.Rdpmc, (e) => e.raise(Vector.GP, 0)],
  [Mnemonic.Cpuid, call("cpuid")],
  [Mnemonic.Rdrand, random],
  [Mnemonic.Rdseed, random],
  [Mnemonic.Rdpid, rdpid],
  [Mnemonic.Swapgs, end("swapGs", true)],
  [Mnemonic.Rdfsbase, baseRegister(SegIndex.fs, false)],
  [Mnemonic.Rdgsbase, baseRegister(SegIndex.gs, false)],
  [Mnemonic.Wrfsbase, baseRegister(SegIndex.fs, true)],
  [Mnemonic.Wrgsbase, baseRegister(SegIndex.gs, true)],
  [Mnemonic.Xgetbv, call("readXcr")],
  [Mnemonic.Xsetbv, end("writeXcr", true)],
  [Mnemonic.Syscall, end("syscall")],
  [Mnemonic.Sysret, end("sysret", true)],
  [Mnemonic.Sysretq, end("sysretq", true)],
  [Mnemonic.Sysenter, end("sysenter", false, true)],
  [Mnemonic.Sysexit, end("sysexit", true, true)],
  [Mnemonic.Sysexitq, end("sysexitq", true, true)],
  [Mnemonic.Clac, alignmentFlag("clearAc")],
  [Mnemonic.Stac, alignmentFlag("setAc")],
  [Mnemonic.Vmcall, end("hypercall")],
  [Mnemonic.Vmmcall, end("hypercall")],
  [Mnemonic.Daa, call("decimalAdjustAdd")],
  [Mnemonic.Das, call("decimalAdjustSubtract")],
  [Mnemonic.Aaa, call("asciiAdjustAdd")],
  [Mnemonic.Aas, call("asciiAdjustSubtract")],
  [Mnemonic.Aam, ascii("asciiAdjustMultiply")],
  [Mnemonic.Aad, ascii("asciiAdjustDivide")],
];
