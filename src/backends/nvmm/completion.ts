import { NVMM_PROT_EXEC, NVMM_PROT_WRITE } from "../../../ffi/nvmm/config.ts";
import * as exits from "../../../ffi/nvmm/exit.ts";
import { NvmmX86Exit } from "../../../ffi/nvmm/exit.ts";
import { bytesAt } from "../../../ffi/nvmm/memory.ts";
import {
  INT_SHADOW,
  NVMM_X64_SEG_CS,
  NVMM_X64_SEG_ES,
  NVMM_X64_SEG_SS,
  NVMM_X64_STATE_CRS,
  NVMM_X64_STATE_GPRS,
  NVMM_X64_STATE_MSRS,
  NVMM_X64_STATE_SEGS,
  type NvmmX64StateSeg,
  SEG_ATTRIB,
} from "../../../ffi/nvmm/state.ts";
import type { Exit, ExitOf, PioSize } from "../../exit.ts";
import type { NvmmAssist, Store } from "./assist.ts";
import { failed } from "./call.ts";
import type { CpuidPlan } from "./cpuid.ts";
import { emulate } from "./emulator.ts";
import type { NvmmEvents } from "./events.ts";
import type { MsrVerdict, NvmmMsrs, NvmmPolicy } from "./policy.ts";
import type { NvmmState } from "./state.ts";
import type { NvmmSystem } from "./system.ts";

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RDI = 7;
const RIP = 16;
const OPCODE_HLT = 0xf4;
const VECTOR_UD = 6;
const VECTOR_GP = 13;
const EFER_LMA = 1n << 10n;

/** Reasons that fit into 32 bits, as numbers: a BigInt for each exit would cost an allocation. */
const NONE = Number(exits.NVMM_VCPU_EXIT_NONE);
const MEMORY = Number(exits.NVMM_VCPU_EXIT_MEMORY);
const IO = Number(exits.NVMM_VCPU_EXIT_IO);
const SHUTDOWN = Number(exits.NVMM_VCPU_EXIT_SHUTDOWN);
const INT_READY = Number(exits.NVMM_VCPU_EXIT_INT_READY);
const NMI_READY = Number(exits.NVMM_VCPU_EXIT_NMI_READY);
const HALTED = Number(exits.NVMM_VCPU_EXIT_HALTED);
const TPR_CHANGED = Number(exits.NVMM_VCPU_EXIT_TPR_CHANGED);
const RDMSR = Number(exits.NVMM_VCPU_EXIT_RDMSR);
const WRMSR = Number(exits.NVMM_VCPU_EXIT_WRMSR);
const MONITOR = Number(exits.NVMM_VCPU_EXIT_MONITOR);
const MWAIT = Number(exits.NVMM_VCPU_EXIT_MWAIT);
const CPUID = Number(exits.NVMM_VCPU_EXIT_CPUID);
/** Of the others (STOPPED, INVALID) the lower half. */
const INVALID_LOW = Number(BigInt.asUintN(32, exits.NVMM_VCPU_EXIT_INVALID));

/** Offsets of struct nvmm_x86_exit, by member. */
const AT = (path: string): number => (NvmmX86Exit.offsets[path] as { offset: number }).offset;
const IO_IN = AT("u.io.in");
const IO_PORT = AT("u.io.port") / 2;
const IO_ADDRESS_SIZE = AT("u.io.address_size");
const IO_OPERAND_SIZE = AT("u.io.operand_size");
const IO_REP = AT("u.io.rep");
const IO_STR = AT("u.io.str");
const IO_NPC = AT("u.io.npc") / 4;
const MSR_INDEX = AT("u.rdmsr.msr") / 4;
const RDMSR_NPC = AT("u.rdmsr.npc") / 4;
const WRMSR_NPC = AT("u.wrmsr.npc") / 4;
const INSN_NPC = AT("u.insn.npc") / 4;
const FLAGS = AT("exitstate.flags") / 4;

/** Most bytes of a string instruction in one exit: as KVM reads ahead. */
const STRING_BYTES = 1024;
/** hwcode of a VM entry that the processor refused. */
const FAILED_ENTRY = 0xffff_ffff_ffff_ffffn;
/** Longest instruction. */
const INSTRUCTION_BYTES = 15;

/** KVM's number and name for what no emulator could execute. */
const EMULATION_FAILURE = { suberror: 1, name: "emulation failure" } as const;

export interface CompletionParts {
  readonly state: NvmmState;
  readonly events: NvmmEvents;
  readonly msrs: NvmmMsrs;
  readonly assist: NvmmAssist;
  readonly policy: NvmmPolicy;
  readonly system: NvmmSystem;
  /** Addresses of the structs. */
  readonly machine: number;
  readonly vcpu: number;
  /** Two u64 for outputs of library calls. */
  readonly outputs: Uint8Array;
  readonly cpuid: CpuidPlan;
}

/** Where an instruction ends: RIP behind it, in halves. */
interface NextPc {
  readonly low: number;
  readonly high: number;
}

/** An exit that waits for its answer, and how to use it. */
interface Pending {
  readonly exit: Exit;
  /** Takes the answer; gives the exit that follows from it, if one does. */
  complete(): Exit | undefined;
}

/**
 * Turns NVMM's exits into `Exit` values and the caller's answers into registers. NVMM leaves every instruction undone, with RIP at it:
 * what asks for nothing is done here at once, so that registers are read behind it; what waits for an answer is done when the
 * answer is taken.
 */
export class Completion {
  readonly #parts: CompletionParts;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  readonly #view: NvmmX86Exit;
  /** Data of a plain port access, by size; valid until the next run. */
  readonly #portWord = new Uint32Array(1);
  readonly #portData: readonly Uint8Array[];
  #pending: Pending | undefined;
  #stashed: Exit[] = [];
  /** RIP of the last HLT reported, while the guest made no other exit. */
  #haltedAt: bigint | undefined;

  constructor(parts: CompletionParts, exitBytes: Uint8Array<ArrayBuffer>) {
    this.#parts = parts;
    this.#bytes = exitBytes;
    this.#halves = new Uint16Array(exitBytes.buffer);
    this.#words = new Uint32Array(exitBytes.buffer);
    this.#view = NvmmX86Exit.view(exitBytes);
    const port = new Uint8Array(this.#portWord.buffer);
    this.#portData = [0, 1, 2, 3, 4].map((size) => port.subarray(0, size));
  }

  /** Takes the answer of the last exit; returns an exit that follows without entering the guest. */
  next(): Exit | undefined {
    this.settle();
    return this.#stashed.shift();
  }

  /** Takes the answer of the last exit, unless one that followed from it has not been seen yet: then that is what waits. */
  settle(): void {
    const pending = this.#pending;
    if (pending === undefined || this.#stashed.length > 0) return;
    this.#pending = undefined;
    const exit = pending.complete();
    if (exit !== undefined) this.#stashed.unshift(exit);
  }

  /** Drops whatever waits: the state was replaced. */
  forget(): void {
    this.#haltedAt = undefined;
    this.#pending = undefined;
    this.#stashed = [];
  }

  /** The caller moved the guest: a HLT there is a new one. */
  ripWritten(): void {
    this.#haltedAt = undefined;
  }

  /** GVA to GPA by libnvmm's walk. */
  translate(gva: bigint): number | undefined {
    const { system, machine, vcpu, outputs, state } = this.#parts;
    state.flush();
    const { functions } = system;
    if (functions.nvmm_gva_to_gpa(machine, vcpu, gva, outputs.subarray(0, 8), outputs.subarray(8)) !== 0) {
      if (failed(system, "nvmm_gva_to_gpa()").code === "EFAULT") return undefined;
      throw failed(system, "nvmm_gva_to_gpa()");
    }
    return Number(new BigUint64Array(outputs.buffer, outputs.byteOffset, 1)[0]);
  }

  /** The exit of the run that just ended, by its reason in halves; undefined when the guest just goes on. */
  begin(reasonLow: number, reasonHigh: number): Exit | undefined {
    if (reasonHigh === 0 && reasonLow !== NONE && reasonLow !== HALTED) this.#haltedAt = undefined;
    if (reasonHigh !== 0) return reasonLow === INVALID_LOW ? this.#invalid() : this.#replaced(); // STOPPED
    switch (reasonLow) {
      case NONE:
        return this.#replaced();
      case MEMORY:
        return this.#memory();
      case IO:
        return this.#bytes[IO_STR] === 0 ? this.#port() : this.#string();
      case SHUTDOWN:
        return { kind: "shutdown" };
      case INT_READY:
        return this.#parts.events.windowWanted ? { kind: "irqWindow" } : undefined;
      case NMI_READY:
        return this.#parts.policy.nmiWindows ? { kind: "nmiWindow" } : undefined;
      case HALTED:
        return this.#halted();
      case TPR_CHANGED:
        return { kind: "setTpr", cr8: this.#view.exitstate.cr8 };
      case RDMSR:
        return this.#rdmsr();
      case WRMSR:
        return this.#wrmsr();
      case MONITOR:
        return this.#monitor({ kind: "monitor" });
      case MWAIT:
        return this.#monitor({ kind: "mwait" });
      case CPUID:
        return this.#cpuid(this.#view.u.insn.npc);
      default:
        return { kind: "unknown", reason: reasonLow };
    }
  }

  /**
   * NONE or STOPPED. On NetBSD they may stand in the place of another reason: IO, MEMORY and the MSR exits just happen again, but
   * INT_READY, HALTED (with RIP behind the HLT already) and CPUID (with the answer in place of leaf and sub-leaf) do not.
   * What the guest's state shows of them is made good here.
   */
  #replaced(): Exit | undefined {
    const { events, system } = this.#parts;
    if (events.windowOpened) return { kind: "irqWindow" };
    if (!system.layout.replacesReasons || events.exitRflags === undefined) return undefined;
    return this.#replacedCpuid() ?? this.#replacedHalt();
  }

  /**
   * RIP behind a HLT at which the guest was not reported to halt. An instruction there that exits by itself, a handler's first OUT,
   * say, may be what was replaced: it will exit again, and a HLT before it then counts as a wake-up for no reason.
   */
  #replacedHalt(): Exit | undefined {
    const { state } = this.#parts;
    const { segs } = state.fetch(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS);
    const privileged = ((segs[NVMM_X64_SEG_SS] as NvmmX64StateSeg).attrib >> SEG_ATTRIB.dpl[0]) & 3;
    const rip = state.readGpr(RIP);
    if (privileged !== 0 || rip === this.#haltedAt) return undefined;
    const [before, ...next] = this.#codeAt(rip - 1n);
    if (before !== OPCODE_HLT || exitsByItself(next)) return undefined;
    return this.#halted();
  }

  #replacedCpuid(): Exit | undefined {
    const { state, policy, cpuid } = this.#parts;
    if (policy.cpuidExits.length === 0) return undefined;
    const rip = state.readGpr(RIP);
    const [first, second] = this.#codeAt(rip);
    const answer = [RAX, RBX, RCX, RDX].map((index) => state.gprLow(index) >>> 0);
    if (first !== 0x0f || second !== 0xa2 || !cpuid.isAnswer(policy.cpuidExits, answer)) return undefined;
    return this.#cpuid(rip + 2n);
  }

  #halted(): Exit {
    // Only where it is needed later: reading RIP costs a call.
    if (this.#parts.system.layout.replacesReasons) this.#haltedAt = this.#parts.state.readGpr(RIP);
    return { kind: "hlt" };
  }

  #wait<E extends Exit>(exit: E, complete: () => Exit | undefined): E {
    this.#pending = { exit, complete };
    return exit;
  }

  /** The instruction is done: RIP behind it, RF and the interrupt shadow off. */
  #advance(low: number, high: number): void {
    const { state, events } = this.#parts;
    state.advance(low, high);
    if (((this.#words[FLAGS] as number) & INT_SHADOW) !== 0) events.endShadow();
  }

  #endShadow(): void {
    if (((this.#words[FLAGS] as number) & INT_SHADOW) !== 0) this.#parts.events.endShadow();
  }

  #npc(word: number): NextPc {
    return { low: this.#words[word] as number, high: this.#words[word + 1] as number };
  }

  // ---- ports

  #port(): Exit {
    const bytes = this.#bytes;
    const port = this.#halves[IO_PORT] as number;
    const size = bytes[IO_OPERAND_SIZE] as PioSize;
    const data = this.#portData[size] as Uint8Array;
    const words = this.#words;
    if (bytes[IO_IN] === 0) {
      this.#portWord[0] = this.#parts.state.gprLow(RAX);
      this.#advance(words[IO_NPC] as number, words[IO_NPC + 1] as number);
      return { kind: "pioOut", port, size, count: 1, data };
    }
    this.#portWord[0] = 0xffffffff;
    const exit: ExitOf<"pioIn"> = { kind: "pioIn", port, size, count: 1, data };
    const { low, high } = this.#npc(IO_NPC);
    return this.#wait(exit, () => {
      this.#completeIn(exit.data, size);
      this.#advance(low, high);
      return undefined;
    });
  }

  /** IN of 4 bytes clears the upper half of RAX; of fewer, the rest of RAX stays. */
  #completeIn(data: Uint8Array, size: PioSize): void {
    const { state } = this.#parts;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | (data[i] ?? 0xff);
    if (size === 4) {
      state.setGpr(RAX, value >>> 0, 0);
      return;
    }
    const mask = size === 1 ? 0xff : 0xffff;
    state.setGpr(RAX, (state.gprLow(RAX) & ~mask) | (value & mask), state.gprHigh(RAX));
  }

  #string(): Exit | undefined {
    const port = this.#halves[IO_PORT] as number;
    const size = this.#bytes[IO_OPERAND_SIZE] as PioSize;
    const count = this.#stringCount(size);
    if (this.#bytes[IO_IN] === 0) return this.#outs(new Uint8Array(count * size), 0, []);
    const data = new Uint8Array(count * size).fill(0xff);
    const exit: ExitOf<"pioIn"> = { kind: "pioIn", port, size, count, data };
    return this.#wait(exit, () => {
      if (exit.data !== data) data.set(exit.data.subarray(0, data.length));
      return this.#ins(data);
    });
  }

  /** Gathers what OUTS sends, `at` bytes of which are there already. A load that nothing backs asks the script first. */
  #outs(room: Uint8Array, at: number, answers: readonly Uint8Array[]): Exit | undefined {
    const { state, assist } = this.#parts;
    const elementBytes = this.#bytes[IO_OPERAND_SIZE] as PioSize;
    const port = this.#halves[IO_PORT] as number;
    let moved = at;
    while (moved < room.length) {
      state.flush();
      state.keepGprs();
      const result = assist.string({ elements: room, at: moved, elementBytes }, answers);
      if (result.done === false) {
        state.restoreGprs();
        const start = moved;
        return this.#askLoad(result, (answer) => this.#outs(room, start, [...answers, answer]));
      }
      if (result.done === undefined && moved === 0) return this.#failure([BigInt(result.errno)]);
      if (result.done === undefined || result.moved === 0) break;
      moved += result.moved;
      answers = [];
    }
    this.#endShadow();
    return { kind: "pioOut", port, size: elementBytes, count: moved / elementBytes, data: room.subarray(0, moved) };
  }

  /** Hands out what INS reads. Stores that nothing backs become exits. */
  #ins(elements: Uint8Array): Exit | undefined {
    const { state, assist } = this.#parts;
    const elementBytes = this.#bytes[IO_OPERAND_SIZE] as PioSize;
    const stores: Store[] = [];
    for (let moved = 0; moved < elements.length; ) {
      state.flush();
      const result = assist.string({ elements, at: moved, elementBytes }, []);
      if (result.done !== true) return moved === 0 ? this.#failure([]) : this.#stores(stores);
      if (result.moved === 0) break;
      moved += result.moved;
      stores.push(...result.stores);
    }
    return this.#stores(stores);
  }

  /** Elements to move in one exit. */
  #stringCount(size: number): number {
    if (this.#bytes[IO_REP] === 0) return 1;
    const { state } = this.#parts;
    const addressSize = this.#bytes[IO_ADDRESS_SIZE] as number;
    const low = addressSize === 2 ? state.gprLow(RCX) & 0xffff : state.gprLow(RCX);
    const high = addressSize === 8 ? state.gprHigh(RCX) : 0;
    const most = STRING_BYTES / size;
    return high !== 0 ? most : Math.max(1, Math.min(low, most));
  }

  // ---- memory

  #memory(): Exit | undefined {
    const { prot, gpa } = this.#view.u.mem;
    if ((prot & NVMM_PROT_EXEC) !== 0) return this.#failure([BigInt(gpa), BigInt(prot)]);
    return this.#execute([]);
  }

  /** Executes the instruction with what is known of its loads; asks for the first that is not. */
  #execute(answers: readonly Uint8Array[]): Exit | undefined {
    const { state, assist, policy } = this.#parts;
    state.flush();
    state.keepGprs();
    const target = answers.length === 0 && this.#mayMove() ? this.#moveTarget() : undefined;
    const before = target?.slice();
    let result: ReturnType<NvmmAssist["memory"]>;
    try {
      result = policy.mmio === "emulator" ? this.#emulate(answers) : assist.memory(answers);
      if (result.done === undefined && policy.mmio === "assist") result = this.#emulate(answers) ?? result;
    } catch (error) {
      state.restoreGprs();
      throw error;
    }
    if (result.done === true) return this.#stores(result.stores);
    state.restoreGprs();
    if (target !== undefined && before !== undefined) target.set(before);
    const { gpa, prot } = this.#view.u.mem;
    if (result.done === undefined) return this.#failure([BigInt(gpa), BigInt(prot), BigInt(result.errno)]);
    return this.#askLoad(result, (answer) => this.#execute([...answers, answer]));
  }

  #askLoad({ gpa, bytes }: { gpa: number; bytes: number }, answered: (answer: Uint8Array) => Exit | undefined): Exit {
    const exit: ExitOf<"mmioRead"> = { kind: "mmioRead", gpa, data: new Uint8Array(bytes).fill(0xff) };
    return this.#wait(exit, () => answered(exit.data.slice()));
  }

  /** Executed: its stores become exits, one after the other. */
  #stores(stores: readonly Store[]): Exit | undefined {
    this.#endShadow();
    const exits = stores.map(({ gpa, data }): Exit => ({ kind: "mmioWrite", gpa, data }));
    const [first, ...rest] = exits;
    this.#stashed.push(...rest);
    return first;
  }

  #emulate(answers: readonly Uint8Array[]): ReturnType<NvmmAssist["memory"]> {
    return emulate({
      state: this.#parts.state,
      code: this.#instruction(),
      answers,
      hostMemory: (gva, isWrite) => this.#hostMemory(gva, isWrite),
      translate: (gva) => this.translate(gva),
    });
  }

  /** Whether the instruction may store to memory before its load is answered: MOVS, or one whose bytes are not known. */
  #mayMove(): boolean {
    const code = this.#instruction();
    for (let i = 0; i < code.length; i++) {
      const byte = code[i] as number;
      if (byte === 0xa4 || byte === 0xa5) return true;
      if ((byte & 0xf0) !== 0x40 && !PREFIXES.has(byte)) return false;
    }
    return true;
  }

  /** The guest's memory at ES:RDI, up to 8 bytes, where it is backed. */
  #moveTarget(): Uint8Array | undefined {
    const { state } = this.#parts;
    const { segs, msrs } = state.fetch(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_MSRS | NVMM_X64_STATE_GPRS);
    const cs = segs[NVMM_X64_SEG_CS] as NvmmX64StateSeg;
    const rdi = state.readGpr(RDI);
    const long = ((msrs[0] as bigint) & EFER_LMA) !== 0n && ((cs.attrib >> SEG_ATTRIB.l[0]) & 1) === 1;
    const wide = long || ((cs.attrib >> SEG_ATTRIB.def[0]) & 1) === 1 || this.#instruction().includes(0x67);
    const base = long ? 0n : (segs[NVMM_X64_SEG_ES] as NvmmX64StateSeg).base;
    const gva = long ? rdi : (base + (rdi & (wide ? 0xffffffffn : 0xffffn))) & 0xffffffffn;
    return this.#hostMemory(gva)?.subarray(0, 8);
  }

  /** The guest's memory from a linear address to the end of its page; undefined where nothing backs it, or only for reading. */
  #hostMemory(gva: bigint, isWrite = false): Uint8Array | undefined {
    const gpa = this.translate(gva);
    if (gpa === undefined) return undefined;
    const { system, machine, outputs } = this.#parts;
    if (system.functions.nvmm_gpa_to_hva(machine, gpa, outputs.subarray(0, 8), outputs.subarray(8)) !== 0)
      return undefined;
    const [hva = 0n, prot = 0n] = new BigUint64Array(outputs.buffer, outputs.byteOffset, 2);
    if (isWrite && (prot & BigInt(NVMM_PROT_WRITE)) === 0n) return undefined;
    return bytesAt(Number(hva), 4096 - Number(gva & 0xfffn));
  }

  /** Bytes of the instruction behind a MEMORY exit: as the processor gave them (AMD), else as memory holds them. */
  #instruction(): Uint8Array {
    const { mem } = this.#view.u;
    if (mem.inst_len > 0) return mem.inst_bytes.subarray(0, mem.inst_len);
    return this.#codeAtRip();
  }

  #codeAtRip(): Uint8Array {
    return this.#codeAt(this.#parts.state.readGpr(RIP));
  }

  /** Code bytes at CS:rip, as many as are backed. */
  #codeAt(rip: bigint): Uint8Array {
    const { state } = this.#parts;
    const { segs, msrs } = state.fetch(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_MSRS | NVMM_X64_STATE_CRS);
    const cs = segs[NVMM_X64_SEG_CS] as NvmmX64StateSeg;
    const long = ((msrs[0] as bigint) & EFER_LMA) !== 0n && ((cs.attrib >> SEG_ATTRIB.l[0]) & 1) === 1;
    const gva = long ? rip : (cs.base + rip) & 0xffffffffn;
    const first = this.#hostMemory(gva)?.slice(0, INSTRUCTION_BYTES) ?? new Uint8Array(0);
    if (first.length === INSTRUCTION_BYTES || first.length === 0) return first;
    const rest = this.#hostMemory(gva + BigInt(first.length)) ?? new Uint8Array(0);
    return Uint8Array.of(...first, ...rest.subarray(0, INSTRUCTION_BYTES - first.length));
  }

  // ---- the rest

  #rdmsr(): Exit | undefined {
    const { msrs } = this.#parts;
    const msr = this.#words[MSR_INDEX] as number;
    const npc = this.#npc(RDMSR_NPC);
    const verdict = msrs.onRead(msr);
    if (verdict.do !== "exit") return this.#completeRdmsr(verdict, npc);
    const exit: ExitOf<"rdmsr"> = { kind: "rdmsr", msr, reason: verdict.reason, value: 0n, error: false };
    return this.#wait(exit, () =>
      this.#completeRdmsr(exit.error ? { do: "fault" } : { do: "answer", value: exit.value }, npc),
    );
  }

  #completeRdmsr(verdict: Exclude<MsrVerdict, { do: "exit" }>, npc: NextPc): undefined {
    const { state, events } = this.#parts;
    if (verdict.do === "fault") {
      events.queueException(VECTOR_GP, 0);
      return;
    }
    state.setGpr(RAX, Number(verdict.value & 0xffffffffn), 0);
    state.setGpr(RDX, Number((verdict.value >> 32n) & 0xffffffffn), 0);
    this.#advance(npc.low, npc.high);
  }

  #wrmsr(): Exit | undefined {
    const { msrs } = this.#parts;
    const { msr, val } = this.#view.u.wrmsr;
    const npc = this.#npc(WRMSR_NPC);
    const verdict = msrs.onWrite(msr, val);
    if (verdict.do !== "exit") return this.#completeWrmsr(verdict.do === "fault", npc);
    const exit: ExitOf<"wrmsr"> = { kind: "wrmsr", msr, reason: verdict.reason, value: val, error: false };
    return this.#wait(exit, () => this.#completeWrmsr(exit.error, npc));
  }

  #completeWrmsr(fault: boolean, npc: NextPc): undefined {
    if (fault) this.#parts.events.queueException(VECTOR_GP, 0);
    else this.#advance(npc.low, npc.high);
  }

  #monitor(exit: Exit): Exit | undefined {
    const { policy, events } = this.#parts;
    if (policy.monitor === "fault") {
      events.queueException(VECTOR_UD, 0);
      return undefined;
    }
    const { low, high } = this.#npc(INSN_NPC);
    return this.#wait(exit, () => {
      this.#advance(low, high);
      return undefined;
    });
  }

  /** NVMM tells neither leaf nor sub-leaf: its own answer in the registers has replaced them. */
  #cpuid(npc: bigint): Exit {
    const { state, policy, cpuid } = this.#parts;
    const answer = [RAX, RBX, RCX, RDX].map((index) => state.gprLow(index) >>> 0);
    const { leaf, subleaf } = cpuid.identify(policy.cpuidExits, answer);
    return this.#wait({ kind: "cpuid", leaf, subleaf }, () => {
      this.#advance(Number(npc & 0xffffffffn), Number(npc >> 32n));
      return undefined;
    });
  }

  #invalid(): Exit {
    const { hwcode } = this.#view.u.inv;
    if (hwcode === FAILED_ENTRY) {
      return {
        kind: "failEntry",
        hardwareReason: hwcode,
        cpu: 0,
        explanation: "NVMM: the processor refused the guest's state",
      };
    }
    return {
      kind: "internalError",
      suberror: Number(BigInt.asUintN(32, hwcode)),
      name: "exit of the processor that NVMM does not handle",
      data: [hwcode],
      instruction: this.#codeAtRip(),
    };
  }

  #failure(data: bigint[]): Exit {
    return { kind: "internalError", ...EMULATION_FAILURE, data, instruction: this.#codeAtRip() };
  }
}

/** Whether the instruction is a port or MSR access, MONITOR or MWAIT. */
function exitsByItself(code: readonly number[]): boolean {
  const at = code.findIndex((byte) => !PREFIXES.has(byte));
  const [opcode = 0, second] = code.slice(at);
  if (opcode === 0x0f) return second === 0x30 || second === 0x32 || second === 0x01;
  return (opcode >= 0x6c && opcode <= 0x6f) || (opcode & 0xf4) === 0xe4;
}

/** Legacy prefixes (Intel SDM Vol. 2A, "Instruction Prefixes"). */
const PREFIXES: ReadonlySet<number> = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
