import { bytesAt, detach } from "../../../ffi/nvmm/memory.ts";
import { NVMM_X64_STATE_ALL, NVMM_X64_STATE_FPU, NVMM_X64_STATE_GPRS, NvmmX64State } from "../../../ffi/nvmm/state.ts";
import { failed } from "./call.ts";
import type { NvmmSystem } from "./system.ts";

const GPRS = NvmmX64State.fields.gprs;
const GPR_WORD32 = GPRS.offset / 4;
const RIP = 16;
const RFLAGS = 17;
/** RFLAGS.RF: cleared when an instruction completes. */
const RESUME_FLAG = 1 << 16;

/**
 * The registers of a vCPU in the page that NVMM shares with this process. Groups are fetched when first asked for (free
 * where the kernel cached them at the exit) and handed over with the next run where they changed.
 *
 * @see nvmm_vcpu_getstate, nvmm_vcpu_setstate, libnvmm(3)
 */
export class NvmmState {
  readonly view: NvmmX64State;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #words: BigUint64Array;
  /** 32-bit halves of all words: what moves without a BigInt. */
  readonly #halves: Uint32Array;
  readonly #gprBytes: Uint8Array;
  readonly #kept = new Uint8Array(GPRS.size);
  readonly #system: NvmmSystem;
  readonly #machine: number;
  readonly #vcpu: number;
  /** Groups that `view` shows as they are. A new vCPU has its reset state there. */
  #valid = NVMM_X64_STATE_ALL;
  #dirty = 0;

  constructor(system: NvmmSystem, addresses: { machine: number; vcpu: number; state: number }) {
    this.#system = system;
    this.#machine = addresses.machine;
    this.#vcpu = addresses.vcpu;
    this.#bytes = bytesAt(addresses.state, NvmmX64State.size);
    this.#words = new BigUint64Array(this.#bytes.buffer);
    this.#halves = new Uint32Array(this.#bytes.buffer);
    this.#gprBytes = this.#bytes.subarray(GPRS.offset, GPRS.offset + GPRS.size);
    this.view = NvmmX64State.view(this.#bytes);
  }

  /** Groups that can be read without a call. */
  get valid(): number {
    return this.#valid;
  }

  /** Makes groups readable. */
  fetch(groups: number): NvmmX64State {
    const missing = groups & ~this.#valid;
    if (missing !== 0) {
      if (this.#system.functions.nvmm_vcpu_getstate(this.#machine, this.#vcpu, missing) !== 0) {
        throw failed(this.#system, "nvmm_vcpu_getstate()");
      }
      this.#valid |= missing;
    }
    return this.view;
  }

  /** Makes groups readable and hands them over with the next run. A group goes as a whole, hence the fetch. */
  change(groups: number): NvmmX64State {
    this.fetch(groups);
    this.#dirty |= groups;
    // With a mask of 0 the kernel would zero MXCSR.
    if ((groups & NVMM_X64_STATE_FPU) !== 0 && this.view.fpu.fx_mxcsr_mask === 0) {
      this.view.fpu.fx_mxcsr_mask = this.#system.capability.arch.mxcsr_mask;
    }
    return this.view;
  }

  /** Before a run or an assist: announces what changed. No system call. */
  flush(): void {
    if (this.#dirty === 0) return;
    this.#system.functions.nvmm_vcpu_setstate(this.#machine, this.#vcpu, this.#dirty);
    this.#dirty = 0;
  }

  /** After a run: the page holds what the kernel cached; asking is free for that. */
  exited(): void {
    this.#valid = 0;
    this.#dirty = 0;
  }

  readGpr(index: number): bigint {
    this.fetch(NVMM_X64_STATE_GPRS);
    return this.#words[GPRS.offset / 8 + index] as bigint;
  }

  writeGpr(index: number, value: bigint): void {
    this.change(NVMM_X64_STATE_GPRS);
    this.#words[GPRS.offset / 8 + index] = value;
  }

  /** Bits 0 to 31 of a general-purpose register. */
  gprLow(index: number): number {
    if ((this.#valid & NVMM_X64_STATE_GPRS) === 0) this.fetch(NVMM_X64_STATE_GPRS);
    return this.#halves[GPR_WORD32 + 2 * index] as number;
  }

  /** Bits 32 to 63. */
  gprHigh(index: number): number {
    if ((this.#valid & NVMM_X64_STATE_GPRS) === 0) this.fetch(NVMM_X64_STATE_GPRS);
    return this.#halves[GPR_WORD32 + 2 * index + 1] as number;
  }

  setGpr(index: number, low: number, high: number): void {
    this.change(NVMM_X64_STATE_GPRS);
    this.#halves[GPR_WORD32 + 2 * index] = low;
    this.#halves[GPR_WORD32 + 2 * index + 1] = high;
  }

  /** Ends the instruction of the last exit: RIP behind it, RF off. */
  advance(npcLow: number, npcHigh: number): void {
    if ((this.#valid & NVMM_X64_STATE_GPRS) === 0) this.fetch(NVMM_X64_STATE_GPRS);
    this.#dirty |= NVMM_X64_STATE_GPRS;
    const halves = this.#halves;
    halves[GPR_WORD32 + 2 * RIP] = npcLow;
    halves[GPR_WORD32 + 2 * RIP + 1] = npcHigh;
    halves[GPR_WORD32 + 2 * RFLAGS] = (halves[GPR_WORD32 + 2 * RFLAGS] as number) & ~RESUME_FLAG;
  }

  /** Keeps the general-purpose registers for `restoreGprs()`. */
  keepGprs(): void {
    this.fetch(NVMM_X64_STATE_GPRS);
    this.#kept.set(this.#gprBytes);
  }

  restoreGprs(): void {
    this.#gprBytes.set(this.#kept);
    this.#dirty |= NVMM_X64_STATE_GPRS;
  }

  /** All groups, a copy. */
  save(): Uint8Array {
    this.fetch(NVMM_X64_STATE_ALL);
    return this.#bytes.slice();
  }

  restore(saved: Uint8Array): void {
    this.#bytes.set(saved);
    this.#valid = NVMM_X64_STATE_ALL;
    this.#dirty = NVMM_X64_STATE_ALL;
  }

  /** Before the vCPU goes: no view may outlive the page. */
  release(): void {
    detach(this.#bytes);
  }
}
