/**
 * libnvmm itself: every function it exports, bound by bun:ffi. All return 0, or -1 with errno. Pointers are addresses
 * of memory that stays where it is.
 *
 * @see libnvmm(3) of NetBSD and DragonFly
 */
import { dlopen, type FFIFunction } from "bun:ffi";
import { bytesAt } from "./memory.ts";
import { type NvmmSystemLayout, SYSTEMS } from "./systems.ts";

/** What a pointer parameter takes: an address, or memory that is meant. */
type Memory = number | NodeJS.TypedArray | null;

export interface NvmmFunctions {
  nvmm_init(): number;
  /** As nvmm_init(), with rights over the machines of every owner. */
  nvmm_root_init(): number;
  nvmm_capability(capability: Memory): number;
  nvmm_machine_create(machine: Memory): number;
  nvmm_machine_destroy(machine: Memory): number;
  nvmm_machine_configure(machine: Memory, operation: number, configuration: Memory): number;
  nvmm_vcpu_create(machine: Memory, id: number, vcpu: Memory): number;
  nvmm_vcpu_destroy(machine: Memory, vcpu: Memory): number;
  nvmm_vcpu_configure(machine: Memory, vcpu: Memory, operation: number, configuration: Memory): number;
  nvmm_vcpu_setstate(machine: Memory, vcpu: Memory, flags: number): number;
  nvmm_vcpu_getstate(machine: Memory, vcpu: Memory, flags: number): number;
  nvmm_vcpu_inject(machine: Memory, vcpu: Memory): number;
  nvmm_vcpu_run(machine: Memory, vcpu: Memory): number;
  /** Prints to C's stdout. */
  nvmm_vcpu_dump(machine: Memory, vcpu: Memory): number;
  nvmm_gpa_map(machine: Memory, hva: number, gpa: number, size: number, prot: number): number;
  nvmm_gpa_unmap(machine: Memory, hva: number, gpa: number, size: number): number;
  nvmm_hva_map(machine: Memory, hva: number, size: number): number;
  nvmm_hva_unmap(machine: Memory, hva: number, size: number): number;
  nvmm_gva_to_gpa(machine: Memory, vcpu: Memory, gva: bigint, gpa: Memory, prot: Memory): number;
  nvmm_gpa_to_hva(machine: Memory, gpa: number, hva: Memory, prot: Memory): number;
  nvmm_assist_io(machine: Memory, vcpu: Memory): number;
  nvmm_assist_mem(machine: Memory, vcpu: Memory): number;
  nvmm_ctl(operation: number, data: Memory, size: number): number;
}

export interface NvmmStopFunctions {
  nvmm_vcpu_stop(vcpu: Memory): number;
}

type Signatures = Record<string, FFIFunction>;

/** C: int name(args). struct pointers are `ptr`, size_t and uintptr_t `usize`. */
export const NVMM_SIGNATURES = {
  // int nvmm_init(void)
  nvmm_init: { args: [], returns: "i32" },
  // int nvmm_root_init(void)
  nvmm_root_init: { args: [], returns: "i32" },
  // int nvmm_capability(struct nvmm_capability *cap)
  nvmm_capability: { args: ["ptr"], returns: "i32" },
  // int nvmm_machine_create(struct nvmm_machine *mach)
  nvmm_machine_create: { args: ["ptr"], returns: "i32" },
  // int nvmm_machine_destroy(struct nvmm_machine *mach)
  nvmm_machine_destroy: { args: ["ptr"], returns: "i32" },
  // int nvmm_machine_configure(struct nvmm_machine *mach, uint64_t op, void *conf)
  nvmm_machine_configure: { args: ["ptr", "u64", "ptr"], returns: "i32" },
  // int nvmm_vcpu_create(struct nvmm_machine *mach, nvmm_cpuid_t cpuid, struct nvmm_vcpu *vcpu)
  nvmm_vcpu_create: { args: ["ptr", "u32", "ptr"], returns: "i32" },
  // int nvmm_vcpu_destroy(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
  nvmm_vcpu_destroy: { args: ["ptr", "ptr"], returns: "i32" },
  // int nvmm_vcpu_configure(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, uint64_t op, void *conf)
  nvmm_vcpu_configure: { args: ["ptr", "ptr", "u64", "ptr"], returns: "i32" },
  // int nvmm_vcpu_setstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, uint64_t flags)
  nvmm_vcpu_setstate: { args: ["ptr", "ptr", "u64"], returns: "i32" },
  // int nvmm_vcpu_getstate(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, uint64_t flags)
  nvmm_vcpu_getstate: { args: ["ptr", "ptr", "u64"], returns: "i32" },
  // int nvmm_vcpu_inject(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
  nvmm_vcpu_inject: { args: ["ptr", "ptr"], returns: "i32" },
  // int nvmm_vcpu_run(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
  nvmm_vcpu_run: { args: ["ptr", "ptr"], returns: "i32" },
  // int nvmm_vcpu_dump(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
  nvmm_vcpu_dump: { args: ["ptr", "ptr"], returns: "i32" },
  // int nvmm_gpa_map(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa, size_t size, int prot)
  nvmm_gpa_map: { args: ["ptr", "usize", "u64", "usize", "i32"], returns: "i32" },
  // int nvmm_gpa_unmap(struct nvmm_machine *mach, uintptr_t hva, gpaddr_t gpa, size_t size)
  nvmm_gpa_unmap: { args: ["ptr", "usize", "u64", "usize"], returns: "i32" },
  // int nvmm_hva_map(struct nvmm_machine *mach, uintptr_t hva, size_t size)
  nvmm_hva_map: { args: ["ptr", "usize", "usize"], returns: "i32" },
  // int nvmm_hva_unmap(struct nvmm_machine *mach, uintptr_t hva, size_t size)
  nvmm_hva_unmap: { args: ["ptr", "usize", "usize"], returns: "i32" },
  // int nvmm_gva_to_gpa(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu, gvaddr_t gva, gpaddr_t *gpa, nvmm_prot_t *prot)
  nvmm_gva_to_gpa: { args: ["ptr", "ptr", "u64", "ptr", "ptr"], returns: "i32" },
  // int nvmm_gpa_to_hva(struct nvmm_machine *mach, gpaddr_t gpa, uintptr_t *hva, nvmm_prot_t *prot)
  nvmm_gpa_to_hva: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" },
  // int nvmm_assist_io(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
  nvmm_assist_io: { args: ["ptr", "ptr"], returns: "i32" },
  // int nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *vcpu)
  nvmm_assist_mem: { args: ["ptr", "ptr"], returns: "i32" },
  // int nvmm_ctl(int op, void *data, size_t size)
  nvmm_ctl: { args: ["i32", "ptr", "usize"], returns: "i32" },
} as const satisfies Signatures;

/** NetBSD only. */
export const NVMM_STOP_SIGNATURES = {
  // int nvmm_vcpu_stop(struct nvmm_vcpu *vcpu)
  nvmm_vcpu_stop: { args: ["ptr"], returns: "i32" },
} as const satisfies Signatures;

/** The library, loaded. */
export interface NvmmLibrary {
  /** What was loaded, as dlopen(3) was told. */
  readonly path: string;
  readonly functions: NvmmFunctions;
  /** Present where the library has it: NetBSD. */
  readonly stop: NvmmStopFunctions | undefined;
  /** errno of this thread. Read it straight after the call that failed: the runtime may change it. */
  errno(): number;
}

/**
 * Loads libnvmm. Which system it is for shows in what it exports: nvmm_vcpu_stop and NetBSD's errno accessor, or neither.
 *
 * @param paths Names or paths, tried in this order.
 * @throws {AggregateError} with one error per path when none can be loaded.
 */
export function loadNvmm(paths: readonly string[]): NvmmLibrary {
  const failures: unknown[] = [];
  for (const path of paths) {
    try {
      return loadOne(path);
    } catch (error) {
      failures.push(error);
    }
  }
  throw new AggregateError(failures, `Cannot load libnvmm from ${paths.join(" or ")}`);
}

function loadOne(path: string): NvmmLibrary {
  const functions = dlopen(path, NVMM_SIGNATURES).symbols as unknown as NvmmFunctions;
  const stop = optional(path, NVMM_STOP_SIGNATURES) as NvmmStopFunctions | undefined;
  return { path, functions, stop, errno: errnoReader(path) };
}

function optional(path: string, signatures: Signatures): unknown {
  try {
    return dlopen(path, signatures).symbols;
  } catch {
    return undefined;
  }
}

/** dlsym(3) also searches what the library depends on, which is where its C library is. */
function errnoReader(path: string): () => number {
  for (const { errnoSymbol } of SYSTEMS) {
    const symbols = optional(path, { [errnoSymbol]: { args: [], returns: "ptr" } }) as
      | Record<string, () => number | null>
      | undefined;
    const location = symbols?.[errnoSymbol]?.();
    if (typeof location !== "number") continue;
    // Thread-local storage lives as long as this thread, hence as long as anything that can ask.
    const cell = new Int32Array(bytesAt(location, 4).buffer);
    return () => cell[0] ?? 0;
  }
  throw new Error(`Cannot find errno: "${path}" and its C library export none of its accessors`);
}

/** Names of libnvmm on the system at hand: both systems' where that says nothing. */
export function libraryNames(platform: string = process.platform): readonly string[] {
  const own = SYSTEMS.filter((system: NvmmSystemLayout) => system.name.toLowerCase() === platform);
  return [...new Set((own.length > 0 ? own : SYSTEMS).flatMap((system) => system.libraries))];
}
