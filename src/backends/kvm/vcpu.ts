import {
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
  KvmGuestDebug,
  KvmInterrupt,
  KvmSignalMask,
} from "../../../ffi/kvm/events.ts";
import * as ioctls from "../../../ffi/kvm/ioctls.ts";
import { KvmTranslation } from "../../../ffi/kvm/regs.ts";
import { KvmRun } from "../../../ffi/kvm/run.ts";
import { errno, libc } from "../../../ffi/libc.ts";
import { Mapping } from "../../../ffi/mapping.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { BackendVcpu, CpuidEntry, DebugRequest, VcpuState } from "../../backend.ts";
import { DisposedError } from "../../errors.ts";
import type { Exit, ExitKind } from "../../exit.ts";
import { RFLAGS, RFLAGS_IF } from "../../registers.ts";
import { failed, ioctl, ioctlPtr, type Remedies } from "./call.ts";
import { getCpuid } from "./cpuid.ts";
import { releaseThreadDeadline, type ThreadDeadline, threadDeadline } from "./deadline.ts";
import { answerWords, ExitDecoder } from "./decode.ts";
import { KvmRegisters } from "./registers.ts";

const EINTR = 4;
const EAGAIN = 11;
const EFAULT = 14;

const RUN_REMEDIES: Remedies = {
  EFAULT: "the guest touched a slot whose host memory is gone: keep it mapped while the VM runs",
  EINVAL: "the state written before this run breaks a rule of the processor: validateState() names it",
  EIO: "the VM belongs to another process, or KVM marked it as dead: create a new VM",
};

/** Exits besides port and memory accesses that the next run takes an answer of. */
const ANSWERED: ReadonlySet<ExitKind> = new Set(["rdmsr", "wrmsr", "hypercall", "hyperv", "xen"]);

/** What a vCPU needs to know of its VM and host. */
export interface VcpuHost {
  /** Bytes of the kvm_run mapping. */
  readonly runBytes: number;
  /** KVM_CAP_SYNC_REGS. */
  readonly syncRegs: number;
  /** KVM_CAP_XSAVE2 of the VM, or 4096. */
  readonly xsaveBytes: number;
  /** Whether the local APIC is in the kernel. */
  readonly irqchip: boolean;
}

/** One KVM vCPU: its fd and its kvm_run mapping. */
export class KvmVcpu implements BackendVcpu {
  readonly id: number;
  readonly registers: KvmRegisters;
  readonly #host: VcpuHost;
  readonly #mapping: Mapping;
  readonly #run: KvmRun;
  readonly #decoder: ExitDecoder;
  readonly #ioctl = libc().ioctl;
  #fd: number;
  /** The last exit, while its answer or its completion is outstanding. */
  #pending: Exit | undefined;
  /** The pending exit takes an answer: data read, or the value or error of an MSR access. */
  #isAnswerDue = false;
  /** Where the answer to a pending read belongs; the caller may have put another array into the exit. */
  #target: Uint8Array | undefined;
  /** An exit that completing the one before it produced; the next run returns it without entering. */
  #stashed = false;
  #kicked = false;
  #deadlineMs: number | undefined;
  #deadline: ThreadDeadline | undefined;
  #entered = false;
  /** What was asked of KVM_SET_GUEST_DEBUG, while it asks for anything. */
  #debug: KvmGuestDebug | undefined;

  /** Takes `fd` over, also when it throws. */
  constructor(fd: number, id: number, host: VcpuHost) {
    this.id = id;
    this.#fd = fd;
    this.#host = host;
    const mapping = Mapping.ofFd(fd, host.runBytes);
    if (mapping === null) {
      const error = failed("mmap(kvm_run)");
      libc().close(fd);
      throw error;
    }
    this.#mapping = mapping;
    this.#run = KvmRun.view(mapping.bytes);
    this.#decoder = new ExitDecoder(this.#run, mapping.bytes);
    this.registers = new KvmRegisters(this, this.#run, host);
  }

  get fd(): number {
    if (this.#fd < 0) throw new DisposedError("vCPU");
    return this.#fd;
  }

  /** The shared page, for what only KVM has. */
  get kvmRun(): KvmRun {
    void this.fd;
    return this.#run;
  }

  run(): Exit {
    const fd = this.#fd;
    if (fd < 0) throw new DisposedError("vCPU");
    if (this.#stashed) return this.#unstash();
    if (this.#isAnswerDue) this.#answer(this.#pending as Exit);
    if (this.#deadline !== undefined && this.#deadline.armed !== this.#deadlineMs) this.#deadline.arm(this.#deadlineMs);
    if (this.#debug !== undefined && (this.#stepping || this.registers.dirty)) this.#setGuestDebug(this.#debug);
    this.registers.flush();
    if (this.#ioctl(fd, ioctls.KVM_RUN, 0) < 0) return this.#notRun(errno());
    this.#entered = true;
    this.registers.exited();
    return this.#remember(this.#decoder.decode());
  }

  setDeadline(deadlineMs: number | undefined): void {
    this.#deadlineMs = deadlineMs;
    if (deadlineMs === undefined) this.#deadline?.arm(undefined);
    if (this.#deadline !== undefined || deadlineMs === undefined) return;
    const deadline = threadDeadline();
    const { runMask } = deadline;
    const mask = KvmSignalMask.alloc(runMask.length);
    mask.len = runMask.length;
    mask.sigset.set(runMask);
    try {
      ioctlPtr(this.fd, ioctls.KVM_SET_SIGNAL_MASK, bytesOf(mask), "KVM_SET_SIGNAL_MASK");
    } catch (error) {
      releaseThreadDeadline();
      throw error;
    }
    // Only now: without the mask the deadline's signal would end no run.
    this.#deadline = deadline;
  }

  kick(): void {
    void this.fd;
    this.#kicked = true;
    this.#run.immediate_exit = 1;
  }

  get interruptReady(): boolean {
    void this.fd;
    const run = this.#run;
    if (this.#entered && !this.registers.dirty) return run.ready_for_interrupt_injection !== 0 && run.if_flag !== 0;
    // kvm_run tells the state of the last exit; what was written since decides instead.
    if ((this.registers.readGpr(RFLAGS) & RFLAGS_IF) === 0n) return false;
    const { interrupt } = this.registers.readEvents();
    return !interrupt.injected && interrupt.shadow === 0;
  }

  injectInterrupt(vector: number): void {
    const interrupt = KvmInterrupt.alloc();
    interrupt.irq = vector;
    ioctlPtr(this.fd, ioctls.KVM_INTERRUPT, bytesOf(interrupt), "KVM_INTERRUPT", {
      ENXIO: 'the interrupt controllers are in the kernel: use vm.irqLine() or vm.signalMsi(), or irqchip: "none"',
      EEXIST: "an interrupt waits already: run until irqWindow",
    });
    this.#run.ready_for_interrupt_injection = 0;
  }

  injectNmi(): void {
    ioctl(this.fd, ioctls.KVM_NMI, 0, "KVM_NMI");
  }

  injectException(vector: number, errorCode?: number): void {
    const events = this.registers.readEvents();
    events.exception = {
      injected: true,
      pending: false,
      vector,
      hasErrorCode: errorCode !== undefined,
      errorCode: errorCode ?? 0,
    };
    this.registers.writeEvents(events);
  }

  requestInterruptWindow(wanted: boolean): void {
    void this.fd;
    this.#run.request_interrupt_window = wanted ? 1 : 0;
  }

  debug(request: DebugRequest): void {
    const { singleStep = false, breakpoints = [] } = request;
    const debug = KvmGuestDebug.alloc();
    if (singleStep || breakpoints.length > 0) debug.control = KVM_GUESTDBG_ENABLE;
    if (singleStep) debug.control |= KVM_GUESTDBG_SINGLESTEP;
    if (breakpoints.length > 0) debug.control |= KVM_GUESTDBG_USE_HW_BP;
    for (const [i, { address }] of breakpoints.entries()) debug.arch.debugreg[i] = address;
    debug.arch.debugreg[7] = dr7Of(breakpoints);
    this.settleForWrite();
    this.#setGuestDebug(debug);
    this.#debug = debug.control === 0 ? undefined : debug;
  }

  translate(gva: bigint): number | undefined {
    this.settleForRead();
    this.registers.flushNow();
    const translation = KvmTranslation.alloc();
    translation.linear_address = gva;
    ioctlPtr(this.fd, ioctls.KVM_TRANSLATE, bytesOf(translation), "KVM_TRANSLATE");
    return translation.valid === 0 ? undefined : translation.physical_address;
  }

  cpuid(): readonly CpuidEntry[] {
    return getCpuid(this.fd);
  }

  saveState(): VcpuState {
    this.settleForWrite();
    this.registers.flushNow();
    const { saveVcpu } = require("./state.ts") as typeof import("./state.ts");
    return saveVcpu(this.fd, this.#host);
  }

  restoreState(state: VcpuState): void {
    this.settleForWrite();
    const { restoreVcpu } = require("./state.ts") as typeof import("./state.ts");
    restoreVcpu(this.fd, state, this.#host);
    this.registers.forget();
    this.#entered = false;
  }

  /**
   * Whether an OUT or an MMIO store has retired when its exit is seen depends on the host, and on how the processor and
   * KVM shared the work that time. So it is never assumed: a run that does not enter the guest completes it.
   */
  settleForRead(): void {
    void this.fd;
    if (this.#stashed) return;
    const kind = this.#pending?.kind;
    if (kind === "pioOut" || kind === "mmioWrite") this.#complete();
  }

  settleForWrite(): void {
    void this.fd;
    if (this.#pending === undefined || this.#stashed) return;
    if (this.#isAnswerDue) this.#answer(this.#pending);
    this.#complete();
  }

  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    this.#deadline?.arm(undefined);
    libc().close(this.#fd);
    this.#fd = -1;
    if (this.#deadline !== undefined) releaseThreadDeadline();
    this.#mapping[Symbol.dispose]();
  }

  get #stepping(): boolean {
    return ((this.#debug?.control ?? 0) & KVM_GUESTDBG_SINGLESTEP) !== 0;
  }

  /**
   * KVM arms a single step for the RIP it has at this call: registers go first, a RIP written later asks anew, and so
   * does every step, since on AMD an instruction that loads RFLAGS (POPF, IRET) takes the armed trap flag away.
   */
  #setGuestDebug(debug: KvmGuestDebug): void {
    this.registers.flushNow();
    ioctlPtr(this.fd, ioctls.KVM_SET_GUEST_DEBUG, bytesOf(debug), "KVM_SET_GUEST_DEBUG");
    this.registers.forget();
  }

  /** Keeps exits that the next run completes: with an answer, or by stepping over the instruction. */
  #remember(exit: Exit): Exit {
    const { kind } = exit;
    // Comparisons, no switch: on strings a switch reads their characters, and this is on the path of every exit.
    if (kind === "pioOut" || kind === "mmioWrite") {
      this.#pending = exit;
      this.#isAnswerDue = false;
    } else if (kind === "pioIn" || kind === "mmioRead") {
      this.#pending = exit;
      this.#isAnswerDue = true;
      this.#target = exit.data;
    } else {
      this.#isAnswerDue = ANSWERED.has(kind);
      this.#pending = this.#isAnswerDue ? exit : undefined;
    }
    return exit;
  }

  /** Writes what only the exit value holds into kvm_run; PIO and MMIO data are usually there already. */
  #answer(exit: Exit): void {
    const run = this.#run;
    if (exit.kind === "pioIn" || exit.kind === "mmioRead") {
      const target = this.#target as Uint8Array;
      if (exit.data !== target) target.set(exit.data.subarray(0, target.length));
    } else if (exit.kind === "rdmsr") {
      run.msr.data = exit.value;
      run.msr.error = exit.error ? 1 : 0;
    } else if (exit.kind === "wrmsr") {
      run.msr.error = exit.error ? 1 : 0;
    } else if (exit.kind === "hypercall") {
      run.hypercall.ret = exit.result;
    } else if (exit.kind === "hyperv" || exit.kind === "xen") {
      answerWords(run, exit.data);
    }
  }

  /**
   * Lets KVM finish the pending exit without entering the guest. A string instruction or a wide access may produce its
   * next exit right here: it is kept for the next run.
   */
  #complete(): void {
    const pending = this.#pending;
    // The page is written over: what the caller still holds keeps its bytes.
    if (pending !== undefined && "data" in pending) Object.assign(pending, { data: pending.data.slice() });
    this.#pending = undefined;
    this.#isAnswerDue = false;
    this.#run.immediate_exit = 1;
    this.registers.flush();
    const result = this.#ioctl(this.fd, ioctls.KVM_RUN, 0);
    const failure = result < 0 ? errno() : 0;
    if (!this.#kicked) this.#run.immediate_exit = 0;
    this.registers.exited();
    if (result === 0) this.#stashed = true;
    else if (failure !== EINTR && failure !== EAGAIN) throw failed("ioctl(KVM_RUN)", RUN_REMEDIES, failure);
  }

  #unstash(): Exit {
    this.#stashed = false;
    return this.#remember(this.#decoder.decode());
  }

  /** KVM_RUN returned -1: a signal, a kick, or a failure. */
  #notRun(failure: number): Exit {
    if (failure === EINTR || failure === EAGAIN) {
      this.#entered = true;
      this.#pending = undefined;
      this.#isAnswerDue = false;
      this.registers.exited();
      if (this.#kicked) {
        this.#kicked = false;
        this.#run.immediate_exit = 0;
        return { kind: "interrupted", by: "kick" };
      }
      if (this.#deadline?.take()) {
        this.#deadline.spent();
        return { kind: "interrupted", by: "timeout" };
      }
      return { kind: "interrupted", by: "signal" };
    }
    this.registers.refused();
    const fault = failure === EFAULT ? this.#decoder.decodeMemoryFault() : undefined;
    if (fault === undefined) throw failed("ioctl(KVM_RUN)", RUN_REMEDIES, failure);
    this.#entered = true;
    return this.#remember(fault);
  }
}

/** DR7 for breakpoints 0 to n (Intel SDM Vol. 3B, "Debug Control Register"). */
function dr7Of(breakpoints: NonNullable<DebugRequest["breakpoints"]>): bigint {
  const LENGTH = { 1: 0, 2: 1, 4: 3, 8: 2 } as const;
  const CONDITION = { execute: 0, write: 1, readWrite: 3 } as const;
  let dr7 = breakpoints.length > 0 ? 0x400 : 0;
  for (const [i, { on, bytes = 1 }] of breakpoints.entries()) {
    const length = on === "execute" ? 0 : LENGTH[bytes];
    dr7 |= (2 << (i * 2)) | ((CONDITION[on] | (length << 2)) << (16 + i * 4));
  }
  return BigInt(dr7 >>> 0);
}
