import * as kvm from "../../../ffi/kvm/run.ts";
import type { Exit, MsrExitReason, PioSize } from "../../exit.ts";

const SYSTEM_EVENTS: Readonly<Record<number, string>> = {
  [kvm.KVM_SYSTEM_EVENT_SHUTDOWN]: "shutdown",
  [kvm.KVM_SYSTEM_EVENT_RESET]: "reset",
  [kvm.KVM_SYSTEM_EVENT_CRASH]: "crash",
  [kvm.KVM_SYSTEM_EVENT_WAKEUP]: "wakeup",
  [kvm.KVM_SYSTEM_EVENT_SUSPEND]: "suspend",
  [kvm.KVM_SYSTEM_EVENT_SEV_TERM]: "sevTermination",
  [kvm.KVM_SYSTEM_EVENT_TDX_FATAL]: "tdxFatal",
};

const SUBERRORS: Readonly<Record<number, string>> = {
  [kvm.KVM_INTERNAL_ERROR_EMULATION]: "emulation failure",
  [kvm.KVM_INTERNAL_ERROR_SIMUL_EX]: "simultaneous exceptions",
  [kvm.KVM_INTERNAL_ERROR_DELIVERY_EV]: "exit during event delivery",
  [kvm.KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON]: "unexpected exit reason of the processor",
};

/** Where the members that every exit needs are, in 32-bit words. */
const EXIT_REASON = kvm.KvmRun.fields.exit_reason.offset / 4;
/** kvm_run.io: direction, size and port in one word; count; data_offset. */
const IO = kvm.KvmRun.fields.io.offset / 4;
/** kvm_run.mmio: phys_addr in two words, data in two, len, is_write. */
const MMIO = kvm.KvmRun.fields.mmio.offset / 4;

/** 64-bit words of kvm_hyperv_exit.u and kvm_xen_exit.u, which follow an 8-byte head. */
const HYPERV_WORDS = 6;
const XEN_WORDS = 9;

function unionWords(run: kvm.KvmRun, count: number): BigUint64Array {
  const bytes = run.padding;
  return new BigUint64Array(bytes.buffer, bytes.byteOffset + 8, count);
}

/** Hands the words of a `hyperv` or `xen` exit back to KVM, with what the caller changed in them. */
export function answerWords(run: kvm.KvmRun, words: readonly bigint[]): void {
  unionWords(run, words.length).set(words);
}

/**
 * Turns the kvm_run of a vCPU that just exited into an `Exit`. One decoder per vCPU: it keeps views of the shared page,
 * so that an exit costs one small object. Port and memory accesses, nearly all exits there are, are read from one array
 * of words: KVM_RUN leaves the processor's caches cold, and each view more is another miss.
 *
 * @see "5. The kvm_run structure", Documentation/virt/kvm/api.rst, Linux v6.1
 */
export class ExitDecoder {
  readonly #run: kvm.KvmRun;
  readonly #words: Uint32Array;
  readonly #page: Uint8Array;
  /** Views of the PIO data by length: nearly always 1, 2 or 4 bytes at one place. */
  readonly #pioViews: (Uint8Array | undefined)[] = [];
  #pioViewsAt = -1;
  readonly #mmioViews: readonly Uint8Array[];

  /** @param page The whole mapping that `run` is a view of. */
  constructor(run: kvm.KvmRun, page: Uint8Array) {
    this.#run = run;
    this.#page = page;
    this.#words = new Uint32Array(page.buffer, page.byteOffset, page.length / 4);
    const data = (MMIO + 2) * 4;
    this.#mmioViews = Array.from({ length: 9 }, (_, bytes) => page.subarray(data, data + bytes));
  }

  decode(): Exit {
    const run = this.#run;
    const reason = this.#words[EXIT_REASON] as number;
    switch (reason) {
      case kvm.KVM_EXIT_IO:
        return this.#pio();
      case kvm.KVM_EXIT_MMIO:
        return this.#mmioAccess();
      case kvm.KVM_EXIT_HLT:
        return { kind: "hlt" };
      case kvm.KVM_EXIT_X86_RDMSR: {
        const { index, reason: why } = run.msr;
        return { kind: "rdmsr", msr: index, reason: msrReason(why), value: 0n, error: false };
      }
      case kvm.KVM_EXIT_X86_WRMSR: {
        const { index, reason: why, data } = run.msr;
        return { kind: "wrmsr", msr: index, reason: msrReason(why), value: data, error: false };
      }
      case kvm.KVM_EXIT_IRQ_WINDOW_OPEN:
        return { kind: "irqWindow" };
      case kvm.KVM_EXIT_SHUTDOWN:
        return { kind: "shutdown" };
      case kvm.KVM_EXIT_DEBUG: {
        const { exception, pc, dr6, dr7 } = run.debug.arch;
        return { kind: "debug", exception, pc, dr6, dr7 };
      }
      case kvm.KVM_EXIT_FAIL_ENTRY: {
        const { hardware_entry_failure_reason: hardwareReason, cpu } = run.fail_entry;
        return { kind: "failEntry", hardwareReason, cpu, explanation: explain(hardwareReason) };
      }
      case kvm.KVM_EXIT_INTERNAL_ERROR:
        return this.#internalError();
      default:
        return this.#rare(reason);
    }
  }

  /** KVM_RUN failing with EFAULT, where the kernel tells which access it was (KVM_CAP_MEMORY_FAULT_INFO). */
  decodeMemoryFault(): Exit | undefined {
    return this.#run.exit_reason === kvm.KVM_EXIT_MEMORY_FAULT ? this.#rare(kvm.KVM_EXIT_MEMORY_FAULT) : undefined;
  }

  #pio(): Exit {
    const head = this.#words[IO] as number;
    const port = head >>> 16;
    const size = ((head >>> 8) & 0xff) as PioSize;
    const count = this.#words[IO + 1] as number;
    const data = this.#pioData(this.#words[IO + 2] as number, size * count);
    if ((head & 0xff) === kvm.KVM_EXIT_IO_OUT) return { kind: "pioOut", port, size, count, data };
    for (let i = 0; i < data.length; i++) data[i] = 0xff;
    return { kind: "pioIn", port, size, count, data };
  }

  #pioData(offset: number, bytes: number): Uint8Array {
    if (offset !== this.#pioViewsAt) {
      this.#pioViews.length = 0;
      this.#pioViewsAt = offset;
    }
    const known = this.#pioViews[bytes];
    if (known !== undefined) return known;
    const view = this.#page.subarray(offset, offset + bytes);
    this.#pioViews[bytes] = view;
    return view;
  }

  #mmioAccess(): Exit {
    const words = this.#words;
    const gpa = (words[MMIO + 1] as number) * 2 ** 32 + (words[MMIO] as number);
    const data = this.#mmioViews[words[MMIO + 4] as number] as Uint8Array;
    if (((words[MMIO + 5] as number) & 0xff) !== 0) return { kind: "mmioWrite", gpa, data };
    for (let i = 0; i < data.length; i++) data[i] = 0xff;
    return { kind: "mmioRead", gpa, data };
  }

  #internalError(): Exit {
    const { suberror, ndata, data } = this.#run.internal;
    const failure = this.#run.emulation_failure;
    const hasBytes =
      suberror === kvm.KVM_INTERNAL_ERROR_EMULATION &&
      ndata > 0 &&
      (failure.flags & kvm.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) !== 0;
    return {
      kind: "internalError",
      suberror,
      name: SUBERRORS[suberror] ?? `sub-error ${suberror}`,
      data: Array.from(data.subarray(0, Math.min(ndata, data.length))),
      instruction: hasBytes ? failure.insn_bytes.slice(0, Math.min(failure.insn_size, 15)) : new Uint8Array(0),
    };
  }

  #rare(reason: number): Exit {
    const run = this.#run;
    switch (reason) {
      case kvm.KVM_EXIT_EXCEPTION:
        return { kind: "exception", exception: run.ex.exception, errorCode: run.ex.error_code };
      case kvm.KVM_EXIT_HYPERCALL: {
        const { nr, args, longmode } = run.hypercall;
        return { kind: "hypercall", number: nr, args: Array.from(args), longMode: (longmode & 1) !== 0, result: 0n };
      }
      case kvm.KVM_EXIT_SET_TPR:
        return { kind: "setTpr", cr8: run.cr8 };
      case kvm.KVM_EXIT_TPR_ACCESS:
        return { kind: "tprAccess", rip: run.tpr_access.rip, isWrite: run.tpr_access.is_write !== 0 };
      case kvm.KVM_EXIT_SYSTEM_EVENT: {
        const { type, ndata, data } = run.system_event;
        const words = Array.from(data.subarray(0, Math.min(ndata, data.length)));
        return { kind: "systemEvent", type, name: SYSTEM_EVENTS[type] ?? `event ${type}`, data: words };
      }
      case kvm.KVM_EXIT_IOAPIC_EOI:
        return { kind: "ioapicEoi", vector: run.eoi.vector };
      case kvm.KVM_EXIT_NOTIFY:
        return { kind: "notify", contextInvalid: (run.notify.flags & kvm.KVM_NOTIFY_CONTEXT_INVALID) !== 0 };
      case kvm.KVM_EXIT_X86_BUS_LOCK:
        return { kind: "busLock" };
      case kvm.KVM_EXIT_DIRTY_RING_FULL:
        return { kind: "dirtyRingFull" };
      case kvm.KVM_EXIT_MEMORY_FAULT: {
        const { flags, gpa, size } = run.memory_fault;
        return { kind: "memoryFault", flags: BigInt(flags), gpa, bytes: size };
      }
      case kvm.KVM_EXIT_HYPERV:
        return { kind: "hyperv", type: run.hyperv.type, data: Array.from(unionWords(run, HYPERV_WORDS)) };
      case kvm.KVM_EXIT_XEN:
        return { kind: "xen", type: run.xen.type, data: Array.from(unionWords(run, XEN_WORDS)) };
      case kvm.KVM_EXIT_INTR:
        return { kind: "interrupted", by: "signal" };
      case kvm.KVM_EXIT_UNKNOWN:
        return { kind: "unknown", reason: Number(run.hw.hardware_exit_reason) };
      default:
        return { kind: "unknown", reason };
    }
  }
}

function msrReason(reason: number): MsrExitReason {
  if (reason === kvm.KVM_MSR_EXIT_REASON_FILTER) return "filter";
  return reason === kvm.KVM_MSR_EXIT_REASON_INVAL ? "invalid" : "unknown";
}

/** Loaded when an entry fails: the table is of no use to the rest. */
function explain(hardwareReason: bigint): string {
  const table = require("../../inspect/hardware-reason.ts") as typeof import("../../inspect/hardware-reason.ts");
  return table.explainHardwareReason(undefined, hardwareReason);
}
