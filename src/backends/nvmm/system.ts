import {
  NVMM_CAP_ARCH_VCPU_CONF_CPUID,
  NVMM_CAP_ARCH_VCPU_CONF_TPR,
  NvmmCapabilityHead,
} from "../../../ffi/nvmm/config.ts";
import { libraryNames, loadNvmm, type NvmmFunctions, type NvmmLibrary } from "../../../ffi/nvmm/library.ts";
import { DRAGONFLY, layoutFor, NETBSD, type NvmmCapability, type NvmmSystemLayout } from "../../../ffi/nvmm/systems.ts";
import type { Capabilities } from "../../backend.ts";
import { BackendError } from "../../errors.ts";
import { failed, type Remedies } from "./call.ts";

export const NVMM_DEVICE = "/dev/nvmm";
/** Names another libnvmm than the system's own. */
export const LIBRARY_VARIABLE = "VMEXIT_LIBNVMM";

/** Bytes for a capability of either system, with slack for versions that are then refused. */
const CAPABILITY_ROOM = 512;
/** NVMM itself sets no limit; this bounds what a script can ask for. */
const MAX_SLOTS = 512;

const INIT_REMEDIES: Remedies = {
  ENOENT: "load the module (modload nvmm on NetBSD, kldload nvmm on DragonFly); it makes /dev/nvmm",
  ENXIO:
    "load the module (modload nvmm on NetBSD, kldload nvmm on DragonFly), after enabling AMD-V or VT-x in the firmware",
  ENODEV: "the processor must have AMD SVM with nested paging or Intel VMX with EPT, enabled in the firmware",
  EACCES: 'add your user to the "nvmm" group and log in again',
  EPERM: 'add your user to the "nvmm" group and log in again',
  EPROGMISMATCH: "libnvmm and the kernel's nvmm module come from different releases: update both to one",
  ENOSYS: "libnvmm and the kernel's nvmm module come from different releases: update both to one",
  EBUSY: "another hypervisor holds the processor's virtualization: stop it",
  other: "run 'vmexit doctor' to see what this host lacks",
};

/** libnvmm, initialised: what is asked of the whole host. Nothing can close it: libnvmm keeps its device until the process ends. */
export class NvmmSystem {
  readonly library: NvmmLibrary;
  readonly functions: NvmmFunctions;
  readonly layout: NvmmSystemLayout;
  readonly capability: NvmmCapability;
  readonly capabilities: Capabilities;

  /** @param paths Names or paths of libnvmm, tried in this order. */
  constructor(paths: readonly string[]) {
    this.library = load(paths);
    this.functions = this.library.functions;
    // Until the version is known, what the library exports tells whose error numbers they are.
    const guess = this.library.stop === undefined ? DRAGONFLY : NETBSD;
    const before = { library: this.library, layout: guess };
    if (this.functions.nvmm_init() !== 0) throw failed(before, "nvmm_init()", INIT_REMEDIES);
    const room = new Uint8Array(CAPABILITY_ROOM);
    if (this.functions.nvmm_capability(room) !== 0) throw failed(before, "nvmm_capability()");
    this.layout = checkVersion(NvmmCapabilityHead.view(room), this.library);
    this.capability = this.layout.capability.view(room);
    this.capabilities = capabilitiesOf(this.capability);
  }

  get hasTprExits(): boolean {
    return (this.capability.arch.vcpu_conf_support & NVMM_CAP_ARCH_VCPU_CONF_TPR) !== 0;
  }

  get hasCpuidMasks(): boolean {
    return (this.capability.arch.vcpu_conf_support & NVMM_CAP_ARCH_VCPU_CONF_CPUID) !== 0;
  }
}

/** Where libnvmm is looked for: the caller's choice, the environment's, the system's names. */
export function libraryPaths(library: string | undefined): readonly string[] {
  const named = library ?? process.env[LIBRARY_VARIABLE];
  if (named !== undefined && named !== "") return [named];
  const { platform, arch } = process;
  if ((platform as string) !== "netbsd" && (platform as string) !== "dragonfly") {
    throw new BackendError("nvmm", `Cannot use NVMM on ${platform} ${arch}`, {
      remedy: `NVMM is part of NetBSD and DragonFly on x86-64; elsewhere name a libnvmm with ${LIBRARY_VARIABLE}`,
    });
  }
  return libraryNames();
}

function load(paths: readonly string[]): NvmmLibrary {
  try {
    return loadNvmm(paths);
  } catch (cause) {
    throw new BackendError("nvmm", `Cannot load libnvmm from ${paths.map((path) => `"${path}"`).join(" or ")}`, {
      remedy: "install the system's own libnvmm (it comes with the base system on x86-64)",
      cause,
    });
  }
}

/** @throws {BackendError} for a pair of version and state size whose layout is not known here. */
export function checkVersion(
  head: { version: number; state_size: number },
  library: { path: string; stop: unknown },
): NvmmSystemLayout {
  const { version, state_size } = head;
  const layout = layoutFor(head);
  if (layout !== undefined && layout.hasStop === (library.stop !== undefined)) return layout;
  const found = `version ${version}, state of ${state_size} bytes${library.stop === undefined ? ", no nvmm_vcpu_stop" : ""}`;
  throw new BackendError(
    "nvmm",
    `Cannot use "${library.path}" as its NVMM is one that vmexit does not know (${found})`,
    {
      remedy: "vmexit knows version 2 (NetBSD 10 and 11) and version 3 (DragonFly), both with a state of 1008 bytes",
    },
  );
}

function capabilitiesOf(capability: NvmmCapability): Capabilities {
  const { version, state_size, max_machines, max_vcpus, max_ram, arch } = capability;
  const { vcpu_conf_support, xcr0_mask, mxcsr_mask, conf_cpuid_maxops } = arch;
  return {
    maxVcpus: max_vcpus,
    maxSlots: MAX_SLOTS,
    irqchip: false,
    pit: false,
    readOnlyMemory: true,
    dirtyLog: false,
    msrExits: true,
    msrFilter: false,
    singleStep: false,
    hardwareBreakpoints: false,
    translate: true,
    instructionCount: false,
    raw: {
      version,
      state_size,
      max_machines,
      max_vcpus,
      max_ram,
      vcpu_conf_support,
      xcr0_mask: Number(xcr0_mask),
      mxcsr_mask,
      conf_cpuid_maxops,
    },
  };
}
