import { Mapping } from "../../../ffi/mapping.ts";
import { NVMM_VCPU_CONF_TPR, NvmmVcpuConfTpr, TPR_CONF_EXIT_CHANGED } from "../../../ffi/nvmm/config.ts";
import { NvmmX86Event, NvmmX86Exit } from "../../../ffi/nvmm/exit.ts";
import { bytesAt, detach } from "../../../ffi/nvmm/memory.ts";
import type { NvmmVcpu as NvmmVcpuStruct } from "../../../ffi/nvmm/objects.ts";
import { NvmmX64State } from "../../../ffi/nvmm/state.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import type { BackendVcpu, CpuidEntry, DebugRequest, MsrExitPolicy, VcpuState } from "../../backend.ts";
import { CapabilityError, DisposedError } from "../../errors.ts";
import type { Exit, ExitOf, InterruptedBy } from "../../exit.ts";
import { type DirectHandler, NvmmAssist } from "./assist.ts";
import { failed, type Remedies } from "./call.ts";
import { Completion } from "./completion.ts";
import { type CpuidPlan, configureCpuid } from "./cpuid.ts";
import { type NvmmDeadline, threadDeadline } from "./deadline.ts";
import { NvmmEvents } from "./events.ts";
import { NvmmMsrs, type NvmmPolicy } from "./policy.ts";
import { NvmmRegisters } from "./registers.ts";
import { NvmmState } from "./state.ts";
import type { NvmmSystem } from "./system.ts";

/** The struct nvmm_vcpu with slack for forks that made it longer. */
const STRUCT_PAGE = 4096;
/** Where two words for outputs of nvmm_gva_to_gpa() lie in that page. */
const OUTPUTS = 2048;

/** 32-bit words of struct nvmm_x86_exit that are read at every exit. */
const wordOf = (path: string): number => (NvmmX86Exit.offsets[path] as { offset: number }).offset / 4;
const AT_RFLAGS = wordOf("exitstate.rflags");
const AT_CR8 = wordOf("exitstate.cr8");
const AT_FLAGS = wordOf("exitstate.flags");

const CREATE_REMEDIES: Remedies = {
  EBUSY: "a vCPU with this id exists already: choose another id",
  EEXIST: "a vCPU with this id exists already: choose another id",
  EINVAL: "the id is beyond capabilities.maxVcpus",
};
const RUN_REMEDIES: Remedies = {
  EINVAL: "the event injected before this run is none that NVMM delivers: exceptions 0, 2 and 3, or a vector above 31",
};

/** What a vCPU needs to know of its VM. */
export interface NvmmVcpuHost {
  readonly system: NvmmSystem;
  /** Address of the struct nvmm_machine. */
  readonly machine: number;
  readonly policy: NvmmPolicy;
  readonly msrExits: MsrExitPolicy | undefined;
  readonly cpuid: CpuidPlan;
  /** Told when the vCPU is gone. */
  disposed(vcpu: NvmmVcpu): void;
}

/** One vCPU of NVMM. */
export class NvmmVcpu implements BackendVcpu {
  readonly id: number;
  readonly registers: NvmmRegisters;
  readonly #host: NvmmVcpuHost;
  readonly #page: Mapping;
  readonly #struct: NvmmVcpuStruct;
  readonly #state: NvmmState;
  readonly #events: NvmmEvents;
  readonly #msrs: NvmmMsrs;
  readonly #assist: NvmmAssist;
  readonly #completion: Completion;
  readonly #eventBytes: Uint8Array<ArrayBuffer>;
  readonly #exitBytes: Uint8Array<ArrayBuffer>;
  readonly #exitWords: Uint32Array;
  readonly #run: (machine: number, vcpu: number) => number;
  #deadlineMs: number | undefined;
  #deadline: NvmmDeadline | undefined;
  /** The guest has not been entered since a deadline in the future was set: it is due one, however slow the host. */
  #owed = false;
  #kicked = false;
  #live = true;

  /** @throws {SyscallError} when NVMM refuses the vCPU. */
  constructor(id: number, host: NvmmVcpuHost) {
    this.id = id;
    this.#host = host;
    const { system, machine } = host;
    const page = Mapping.anonymous(STRUCT_PAGE);
    if (page === null) throw new RangeError("Cannot create a vCPU as the host has no page of memory left");
    this.#page = page;
    this.#struct = system.layout.vcpu.view(page.bytes);
    if (system.functions.nvmm_vcpu_create(machine, id, page.address) !== 0) {
      const error = failed(system, "nvmm_vcpu_create()", CREATE_REMEDIES);
      page[Symbol.dispose]();
      throw error;
    }
    this.#run = system.functions.nvmm_vcpu_run;
    this.#eventBytes = bytesAt(this.#struct.event, NvmmX86Event.size);
    this.#exitBytes = bytesAt(this.#struct.exit, NvmmX86Exit.size);
    this.#exitWords = new Uint32Array(this.#exitBytes.buffer);
    const addresses = { machine, vcpu: page.address, state: this.#struct.state };
    this.#state = new NvmmState(system, addresses);
    this.#events = new NvmmEvents(this.#state, NvmmX86Event.view(this.#eventBytes), () => this.#post());
    this.#msrs = new NvmmMsrs(id, host.policy, host.msrExits);
    this.#assist = new NvmmAssist(system, addresses);
    this.#completion = new Completion(
      {
        state: this.#state,
        events: this.#events,
        msrs: this.#msrs,
        assist: this.#assist,
        policy: host.policy,
        system,
        machine,
        vcpu: page.address,
        outputs: page.bytes.subarray(OUTPUTS, OUTPUTS + 16),
        cpuid: host.cpuid,
      },
      this.#exitBytes,
    );
    this.registers = new NvmmRegisters(this.#owner());
    try {
      this.#configure();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  run(): Exit {
    this.#check();
    const stashed = this.#completion.next();
    if (stashed !== undefined) return stashed;
    const words = this.#exitWords;
    const { machine } = this.#host;
    const vcpu = this.#page.address;
    for (;;) {
      if (this.#kicked) return this.#interrupted("kick");
      if (this.#deadlineMs !== undefined) {
        // A stop that NVMM cleared at the end of another exit is made good here.
        if (!this.#owed && performance.now() >= this.#deadlineMs) return this.#interrupted("timeout");
        this.#owed = false;
        this.#deadline?.arm(vcpu, this.#deadlineMs);
      }
      this.#events.prepare();
      this.#state.flush();
      if (this.#run(machine, vcpu) !== 0) {
        this.#notRun();
        continue;
      }
      this.#state.exited();
      this.#events.refresh(words[AT_RFLAGS] as number, words[AT_CR8] as number, words[AT_FLAGS] as number);
      const exit = this.#completion.begin(words[0] as number, words[1] as number);
      if (exit !== undefined) return exit;
    }
  }

  setDeadline(deadlineMs: number | undefined): void {
    this.#check();
    this.#deadlineMs = deadlineMs;
    this.#owed = deadlineMs !== undefined && deadlineMs > performance.now();
    if (deadlineMs === undefined) this.#deadline?.release(this.#page.address);
    else this.#deadline ??= threadDeadline(this.#host.system.library);
  }

  kick(): void {
    this.#check();
    this.#kicked = true;
  }

  get interruptReady(): boolean {
    this.#check();
    return this.#events.interruptReady;
  }

  injectInterrupt(vector: number): void {
    this.#check();
    this.#events.queueInterrupt(vector);
  }

  injectNmi(): void {
    this.#check();
    this.#events.queueNmi();
  }

  /** @throws {CapabilityError} for #DE, NMI and #BP, which NVMM does not deliver. */
  injectException(vector: number, errorCode?: number): void {
    this.#check();
    if (vector === 0 || vector === 2 || vector === 3) {
      throw new CapabilityError("nvmm", `injection of exception ${vector}`, {
        remedy:
          vector === 2 ? "use vcpu.nmi()" : "NVMM delivers exceptions 1 and 4 to 31: let the guest raise this one",
      });
    }
    this.settleForWrite();
    this.#events.queueException(vector, errorCode ?? 0);
  }

  requestInterruptWindow(wanted: boolean): void {
    this.#check();
    this.#events.requestWindow(wanted);
  }

  /** @throws {CapabilityError} for anything but an empty request: NVMM reports no debug events. */
  debug(request: DebugRequest): void {
    this.#check();
    if (!request.singleStep && (request.breakpoints?.length ?? 0) === 0) return;
    throw new CapabilityError("nvmm", "debug exits", { remedy: "use the kvm or soft backend to step through a guest" });
  }

  translate(gva: bigint): number | undefined {
    this.#check();
    return this.#completion.guest.translate(gva);
  }

  cpuid(): readonly CpuidEntry[] {
    this.#check();
    return this.#host.cpuid.table(this.id);
  }

  /** Answers accesses to unbacked memory inside libnvmm's callback, without an exit. `undefined` ends it. */
  answerDirectly(handler: DirectHandler | undefined): void {
    this.#check();
    this.#assist.direct = handler;
  }

  /** Prints the registers to the standard output of C, as libnvmm does it. */
  dump(): void {
    this.#check();
    this.#state.flush();
    const { system, machine } = this.#host;
    if (system.functions.nvmm_vcpu_dump(machine, this.#page.address) !== 0) throw failed(system, "nvmm_vcpu_dump()");
  }

  saveState(): VcpuState {
    this.settleForWrite();
    const msrs = this.#msrs.entries().flatMap(([index, value]) => [BigInt(index), value]);
    return {
      backend: "nvmm",
      parts: { state: this.#state.save(), msrs: new Uint8Array(BigUint64Array.from(msrs).buffer) },
    };
  }

  /** @throws {TypeError} for parts that are not this backend's. */
  restoreState(state: VcpuState): void {
    const { state: saved, msrs } = state.parts;
    if (saved?.length !== NvmmX64State.size || msrs === undefined || msrs.length % 16 !== 0) {
      throw new TypeError(
        `Cannot restore a vCPU whose state has ${saved?.length ?? 0} bytes, not ${NvmmX64State.size}`,
      );
    }
    this.settleForWrite();
    this.#completion.forget();
    this.#events.clear();
    this.#state.restore(saved);
    const words = new BigUint64Array(msrs.slice().buffer);
    for (let i = 0; i < words.length; i += 2) this.#msrs.set(Number(words[i]), words[i + 1] as bigint);
  }

  settleForWrite(): void {
    this.#check();
    this.#completion.settle();
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    this.#deadline?.release(this.#page.address);
    const { system, machine } = this.#host;
    this.#state.release();
    detach(this.#eventBytes);
    detach(this.#exitBytes);
    system.functions.nvmm_vcpu_destroy(machine, this.#page.address);
    this.#assist[Symbol.dispose]();
    this.#page[Symbol.dispose]();
    this.#host.disposed(this);
  }

  #check(): void {
    if (!this.#live) throw new DisposedError("vCPU");
  }

  #owner() {
    const self = this;
    return {
      get state() {
        self.#check();
        return self.#state;
      },
      events: this.#events,
      msrs: this.#msrs,
      settleForWrite: () => this.settleForWrite(),
      ripWritten: () => this.#completion.ripWritten(),
    };
  }

  #configure(): void {
    const { system, machine, policy, cpuid } = this.#host;
    configureCpuid(system, { machine, vcpu: this.#page.address }, cpuid);
    if (!policy.tprExits) return;
    if (!system.hasTprExits) {
      throw new CapabilityError("nvmm", "TPR exits", {
        remedy: "NVMM has them on Intel only: read registers.cr8 instead",
      });
    }
    const conf = NvmmVcpuConfTpr.alloc();
    conf.flags = TPR_CONF_EXIT_CHANGED;
    const { nvmm_vcpu_configure: configure } = system.functions;
    if (configure(machine, this.#page.address, NVMM_VCPU_CONF_TPR, bytesOf(conf)) !== 0) {
      throw failed(system, "nvmm_vcpu_configure(NVMM_VCPU_CONF_TPR)");
    }
  }

  #post(): void {
    this.#host.system.functions.nvmm_vcpu_inject(this.#host.machine, this.#page.address);
  }

  #interrupted(by: InterruptedBy): ExitOf<"interrupted"> {
    if (by === "kick") this.#kicked = false;
    return { kind: "interrupted", by };
  }

  /** nvmm_vcpu_run() returned -1. Around a suspend of the host it does so without a reason of the guest's. */
  #notRun(): void {
    const error = failed(this.#host.system, "nvmm_vcpu_run()", RUN_REMEDIES);
    this.#state.exited();
    this.#events.refresh(0, 0, 0); // it carried no state
    if (error.code !== "EINTR" && error.code !== "EAGAIN") throw error;
  }
}
