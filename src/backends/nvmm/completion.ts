import { NVMM_PROT_EXEC, NVMM_PROT_READ } from "../../../ffi/nvmm/config.ts";
import * as exits from "../../../ffi/nvmm/exit.ts";
import { NvmmX86Exit } from "../../../ffi/nvmm/exit.ts";
import {
  INT_SHADOW,
  NVMM_X64_SEG_SS,
  NVMM_X64_STATE_GPRS,
  NVMM_X64_STATE_SEGS,
  type NvmmX64StateSeg,
  SEG_ATTRIB,
} from "../../../ffi/nvmm/state.ts";
import type { Exit, ExitOf, PioSize } from "../../exit.ts";
import type { NvmmAssist, Store } from "./assist.ts";
import type { CpuidPlan } from "./cpuid.ts";
import { emulate } from "./emulator.ts";
import type { NvmmEvents } from "./events.ts";
import { GuestView, type GuestViewParts, PREFIXES } from "./guest-view.ts";
import { plainLoadBytes } from "./load-size.ts";
import type { MsrVerdict, NvmmMsrs, NvmmPolicy } from "./policy.ts";

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RIP = 16;
const OPCODE_HLT = 0xf4;
const VECTOR_UD = 6;
const VECTOR_GP = 13;

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
const PAGE_BYTES = 4096;

/** KVM's number and name for what no emulator could execute. */
const EMULATION_FAILURE = { suberror: 1, name: "emulation failure" } as const;

export interface CompletionParts extends GuestViewParts {
  readonly events: NvmmEvents;
  readonly msrs: NvmmMsrs;
  readonly assist: NvmmAssist;
  readonly policy: NvmmPolicy;
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
  readonly #guest: GuestView;
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
    this.#guest = new GuestView(parts, this.#view);
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

  /** Guest memory and code as this vCPU sees them. */
  get guest(): GuestView {
    return this.#guest;
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
    const [before, ...next] = this.#guest.codeAt(rip - 1n);
    if (before !== OPCODE_HLT || exitsByItself(next)) return undefined;
    return this.#halted();
  }

  #replacedCpuid(): Exit | undefined {
    const { state, policy, cpuid } = this.#parts;
    if (policy.cpuidExits.length === 0) return undefined;
    const rip = state.readGpr(RIP);
    const [first, second] = this.#guest.codeAt(rip);
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
    const bytes = prot === NVMM_PROT_READ ? this.#plainLoad(gpa) : undefined;
    if (bytes === undefined) return this.#execute([]);
    return this.#askLoad({ gpa, bytes }, (answer) => this.#execute([answer]));
  }

  /**
   * Bytes of a load that needs no trial to be known: the most frequent kind, at half the cost. One that may come from a
   * page before, or go on in the next, is tried.
   */
  #plainLoad(gpa: number): number | undefined {
    const { assist, policy } = this.#parts;
    if (policy.mmio !== "assist" || assist.direct !== undefined) return undefined;
    const bytes = plainLoadBytes(this.#guest.instruction(), this.#guest.codeBits());
    const offset = gpa % PAGE_BYTES;
    return bytes !== undefined && offset !== 0 && offset + bytes <= PAGE_BYTES ? bytes : undefined;
  }

  /** Executes the instruction with what is known of its loads; asks for the first that is not. */
  #execute(answers: readonly Uint8Array[]): Exit | undefined {
    const { state, assist, policy } = this.#parts;
    state.flush();
    state.keepGprs();
    const target = answers.length === 0 ? this.#guest.moveTarget() : undefined;
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
      code: this.#guest.instruction(),
      answers,
      hostMemory: (gva, isWrite) => this.#guest.hostMemory(gva, isWrite),
      translate: (gva) => this.#guest.translate(gva),
    });
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
      instruction: this.#guest.codeAtRip(),
    };
  }

  #failure(data: bigint[]): Exit {
    return { kind: "internalError", ...EMULATION_FAILURE, data, instruction: this.#guest.codeAtRip() };
  }
}

/** Whether the instruction is a port or MSR access, MONITOR or MWAIT. */
function exitsByItself(code: readonly number[]): boolean {
  const at = code.findIndex((byte) => !PREFIXES.has(byte));
  const [opcode = 0, second] = code.slice(at);
  if (opcode === 0x0f) return second === 0x30 || second === 0x32 || second === 0x01;
  return (opcode >= 0x6c && opcode <= 0x6f) || (opcode & 0xf4) === 0xe4;
}
