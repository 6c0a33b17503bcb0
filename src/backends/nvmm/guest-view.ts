import { NVMM_PROT_WRITE } from "../../../ffi/nvmm/config.ts";
import type { NvmmX86Exit } from "../../../ffi/nvmm/exit.ts";
import { bytesAt } from "../../../ffi/nvmm/memory.ts";
import {
  NVMM_X64_MSR_EFER,
  NVMM_X64_SEG_CS,
  NVMM_X64_SEG_ES,
  NVMM_X64_STATE_MSRS,
  NVMM_X64_STATE_SEGS,
  type NvmmX64StateSeg,
  SEG_ATTRIB,
} from "../../../ffi/nvmm/state.ts";
import { RIP } from "../../registers.ts";
import { failed } from "./call.ts";
import type { CodeBits } from "./load-size.ts";
import type { NvmmState } from "./state.ts";
import type { NvmmSystem } from "./system.ts";

const RDI = 7;
const EFER_LMA = 1n << 10n;
const PAGE_BYTES = 4096;
/** Longest instruction. */
const INSTRUCTION_BYTES = 15;
/** MOVS. */
const MOVSB = 0xa4;
const MOVS = 0xa5;
const ADDRESS_SIZE = 0x67;

/** Legacy prefixes (Intel SDM Vol. 2A, "Instruction Prefixes"). */
export const PREFIXES: ReadonlySet<number> = new Set([
  0x26,
  0x2e,
  0x36,
  0x3e,
  0x64,
  0x65,
  0x66,
  ADDRESS_SIZE,
  0xf0,
  0xf2,
  0xf3,
]);

export interface GuestViewParts {
  readonly state: NvmmState;
  readonly system: NvmmSystem;
  /** Addresses of the structs. */
  readonly machine: number;
  readonly vcpu: number;
  /** Two u64 for outputs of library calls. */
  readonly outputs: Uint8Array;
}

/** Guest memory and code as one vCPU sees them, by libnvmm's own walk. */
export class GuestView {
  readonly #parts: GuestViewParts;
  readonly #exit: NvmmX86Exit;

  constructor(parts: GuestViewParts, exit: NvmmX86Exit) {
    this.#parts = parts;
    this.#exit = exit;
  }

  /** GVA to GPA; undefined where it is not mapped. */
  translate(gva: bigint): number | undefined {
    const { system, machine, vcpu, outputs, state } = this.#parts;
    state.flush();
    const { nvmm_gva_to_gpa: walk } = system.functions;
    if (walk(machine, vcpu, gva, outputs.subarray(0, 8), outputs.subarray(8)) !== 0) {
      const error = failed(system, "nvmm_gva_to_gpa()");
      if (error.code === "EFAULT") return undefined;
      throw error;
    }
    return Number(new BigUint64Array(outputs.buffer, outputs.byteOffset, 1)[0]);
  }

  /** Memory from a linear address to the end of its page; undefined where nothing backs it, or only for reading. */
  hostMemory(gva: bigint, isWrite = false): Uint8Array | undefined {
    const gpa = this.translate(gva);
    if (gpa === undefined) return undefined;
    const { system, machine, outputs } = this.#parts;
    const { nvmm_gpa_to_hva: lookUp } = system.functions;
    if (lookUp(machine, gpa, outputs.subarray(0, 8), outputs.subarray(8)) !== 0) return undefined;
    const [hva = 0n, prot = 0n] = new BigUint64Array(outputs.buffer, outputs.byteOffset, 2);
    if (isWrite && (prot & BigInt(NVMM_PROT_WRITE)) === 0n) return undefined;
    return bytesAt(Number(hva), PAGE_BYTES - Number(gva & 0xfffn));
  }

  codeBits(): CodeBits {
    const { segs, msrs } = this.#parts.state.fetch(NVMM_X64_STATE_SEGS | NVMM_X64_STATE_MSRS);
    const { attrib } = segs[NVMM_X64_SEG_CS] as NvmmX64StateSeg;
    const flag = ([low]: readonly [number, number]) => ((attrib >> low) & 1) === 1;
    if (flag(SEG_ATTRIB.l) && ((msrs[NVMM_X64_MSR_EFER] as bigint) & EFER_LMA) !== 0n) return 64;
    return flag(SEG_ATTRIB.def) ? 32 : 16;
  }

  /** Bytes of the instruction behind a MEMORY exit: as the processor gave them (AMD), else as memory holds them. */
  instruction(): Uint8Array {
    const { mem } = this.#exit.u;
    return mem.inst_len > 0 ? mem.inst_bytes.subarray(0, mem.inst_len) : this.codeAtRip();
  }

  codeAtRip(): Uint8Array {
    return this.codeAt(this.#parts.state.readGpr(RIP));
  }

  /** Code bytes at CS:rip, up to 15, as many as are backed. */
  codeAt(rip: bigint): Uint8Array {
    const cs = this.#parts.state.fetch(NVMM_X64_STATE_SEGS).segs[NVMM_X64_SEG_CS] as NvmmX64StateSeg;
    const gva = this.codeBits() === 64 ? rip : (cs.base + rip) & 0xffffffffn;
    const first = this.hostMemory(gva)?.slice(0, INSTRUCTION_BYTES) ?? new Uint8Array(0);
    if (first.length === INSTRUCTION_BYTES || first.length === 0) return first;
    const rest = this.hostMemory(gva + BigInt(first.length)) ?? new Uint8Array(0);
    return Uint8Array.of(...first, ...rest.subarray(0, INSTRUCTION_BYTES - first.length));
  }

  /**
   * What the instruction of a MEMORY exit may overwrite before its load is answered: ES:RDI, up to 8 bytes, for a MOVS and where
   * the bytes are not known. Undefined where it does not, or nothing backs it.
   */
  moveTarget(): Uint8Array | undefined {
    const code = this.instruction();
    if (!mayMove(code)) return undefined;
    const { state } = this.#parts;
    const es = state.fetch(NVMM_X64_STATE_SEGS).segs[NVMM_X64_SEG_ES] as NvmmX64StateSeg;
    const rdi = state.readGpr(RDI);
    const bits = this.codeBits();
    const mask = bits !== 16 || code.includes(ADDRESS_SIZE) ? 0xffffffffn : 0xffffn;
    const gva = bits === 64 ? rdi : (es.base + (rdi & mask)) & 0xffffffffn;
    return this.hostMemory(gva)?.subarray(0, 8);
  }
}

function mayMove(code: Uint8Array): boolean {
  for (let i = 0; i < code.length; i++) {
    const byte = code[i] as number;
    if (byte === MOVSB || byte === MOVS) return true;
    if ((byte & 0xf0) !== 0x40 && !PREFIXES.has(byte)) return false;
  }
  return true;
}
