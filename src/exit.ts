/** Bytes of one access. */
export type PioSize = 1 | 2 | 4;

/** Why an MSR access reached user space. `invalid`: the engine refused it with #GP; `filter`: a filter denied it. */
export type MsrExitReason = "unknown" | "invalid" | "filter";

/**
 * Why a run ended before the guest made an exit. `signal`: one came to this thread: Ctrl-C, or the JavaScript engine's
 * own (SIGPWR, when Workers start and end). Run again; `vm.run()` and `vm.exits()` do so by themselves.
 */
export type InterruptedBy = "timeout" | "abort" | "signal" | "kick" | "maxExits" | "maxInstructions";

/**
 * Why the guest stopped running: a plain value, the same on every backend.
 *
 * `data` of a PIO or MMIO exit is a view of memory shared with the engine: it is valid until the next `run()` of that
 * vCPU, and what an answering exit (`pioIn`, `mmioRead`, `rdmsr`, `hypercall`) holds at that moment is what the guest
 * gets. To keep an exit longer, `copyExit()` it.
 */
export type Exit =
  /** IN or INS. Fill `data` (size × count bytes, preset to all ones) before the next run. */
  | { kind: "pioIn"; port: number; size: PioSize; count: number; data: Uint8Array }
  /** OUT or OUTS, with every element. */
  | { kind: "pioOut"; port: number; size: PioSize; count: number; data: Uint8Array }
  /** A load from memory that no slot backs. Fill `data` (1 to 8 bytes, preset to all ones) before the next run. */
  | { kind: "mmioRead"; gpa: number; data: Uint8Array }
  /** A store to memory that no slot backs, or to a read-only slot. */
  | { kind: "mmioWrite"; gpa: number; data: Uint8Array }
  /** RDMSR left to user space. Set `value`, or `error` to raise #GP(0), before the next run. */
  | { kind: "rdmsr"; msr: number; reason: MsrExitReason; value: bigint; error: boolean }
  /** WRMSR left to user space. Set `error` to raise #GP(0). */
  | { kind: "wrmsr"; msr: number; reason: MsrExitReason; value: bigint; error: boolean }
  /** HLT, with RIP behind it. */
  | { kind: "hlt" }
  /** Shutdown: a triple fault, or an engine's own reset condition. */
  | { kind: "shutdown" }
  /** The processor or engine refused the guest's state. `hardwareReason` is the engine's own code. */
  | { kind: "failEntry"; hardwareReason: bigint; cpu: number; explanation: string }
  /** The engine gave up. `instruction` holds the bytes it could not emulate, when it told. */
  | { kind: "internalError"; suberror: number; name: string; data: bigint[]; instruction: Uint8Array }
  /** A debug event asked for by `vcpu.debug()`: a single step, a breakpoint, a watchpoint. */
  | { kind: "debug"; exception: number; pc: bigint; dr6: bigint; dr7: bigint }
  /** The guest can take an external interrupt now (asked for by `requestInterruptWindow`). */
  | { kind: "irqWindow" }
  /** The guest can take an NMI now (NVMM's NMI_READY). */
  | { kind: "nmiWindow" }
  /** CR8 was written and user space asked to know. */
  | { kind: "setTpr"; cr8: bigint }
  | { kind: "tprAccess"; rip: bigint; isWrite: boolean }
  | { kind: "exception"; exception: number; errorCode: number }
  /** VMCALL/VMMCALL left to user space. Set `result` (to RAX) before the next run. */
  | { kind: "hypercall"; number: bigint; args: bigint[]; longMode: boolean; result: bigint }
  | { kind: "systemEvent"; type: number; name: string; data: bigint[] }
  | { kind: "ioapicEoi"; vector: number }
  | { kind: "notify"; contextInvalid: boolean }
  | { kind: "busLock" }
  | { kind: "dirtyRingFull" }
  /** An access the memory attributes or the backing of guest memory do not allow. */
  | { kind: "memoryFault"; flags: bigint; gpa: number; bytes: number }
  /** CPUID left to user space (NVMM). Registers hold the engine's default answer; change them before the next run. */
  | { kind: "cpuid"; leaf: number; subleaf: number }
  /** MONITOR or MWAIT left to user space (NVMM). */
  | { kind: "monitor" }
  | { kind: "mwait" }
  /**
   * A Hyper-V interface left to user space: type 1 SynIC, 2 hypercall, 3 debugger, and the words of kvm_hyperv_exit.u.
   * What is changed in them before the next run is the answer: a hypercall's result is `data[1]`.
   */
  | { kind: "hyperv"; type: number; data: bigint[] }
  /** A Xen interface: type 1 hypercall, and the words of kvm_xen_exit.u. Set the result, `data[2]`, before the next run. */
  | { kind: "xen"; type: number; data: bigint[] }
  /** The run was cut short; nothing the guest did is lost and the next run goes on. */
  | { kind: "interrupted"; by: InterruptedBy }
  /** An exit this version does not know, handed on with the engine's number. */
  | { kind: "unknown"; reason: number };

export type ExitKind = Exit["kind"];
/** The members of `Exit` of one kind. */
export type ExitOf<K extends ExitKind> = Extract<Exit, { kind: K }>;

/** A copy of `exit` that stays as it is when the vCPU runs on. */
export function copyExit<E extends Exit>(exit: E): E {
  const copy = { ...exit };
  if ("data" in copy) {
    const held = copy as { data: Uint8Array | bigint[] };
    held.data = held.data.slice();
  }
  if ("instruction" in copy) copy.instruction = copy.instruction.slice();
  if ("args" in copy) copy.args = copy.args.slice();
  return copy;
}
