import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { VmmError } from "../../errors.ts";
import { machineInfo, type NvmmMachineInfo, openNvmm } from "./backend.ts";
import { LIBRARY_VARIABLE, libraryPaths, NVMM_DEVICE, type NvmmSystem } from "./system.ts";

/** One thing that was looked at; the tool prints it. */
export interface NvmmCheck {
  readonly name: string;
  /** `skip`: does not apply here, or another check failed first. */
  readonly result: "ok" | "warn" | "fail" | "skip";
  readonly found: string;
  readonly remedy?: string;
}

/** What the checks look at: the host, or in a test whatever it says. */
export interface NvmmHostView {
  readonly platform: string;
  readonly device: {
    readonly exists: boolean;
    readonly isDevice: boolean;
    readonly isReadable: boolean;
    /** Name of its group, or the number where /etc/group has none. */
    readonly group: string;
    /** Permission bits. */
    readonly mode: number;
  };
  /** Whether the kernel module is loaded; undefined where nothing tells. */
  readonly module: boolean | undefined;
  /** Names or paths libnvmm would be loaded from; undefined where there is none to look for. */
  readonly library: readonly string[] | undefined;
}

/** Everything `vmexit doctor` can say about NVMM on this host. Plain data. */
export interface NvmmReport {
  readonly checks: readonly NvmmCheck[];
  /** Version, limits and capabilities by libnvmm's names; absent when it cannot be opened. */
  readonly capability?: Readonly<Record<string, number>>;
  /** Machines this process may see. */
  readonly machines?: readonly NvmmMachineInfo[];
}

/** Looks at this host. */
export function inspectNvmm(view: NvmmHostView = lookAtHost()): NvmmReport {
  const early = [libraryCheck(view), moduleCheck(view), deviceCheck(view)];
  if (view.library === undefined) return { checks: early };
  let system: NvmmSystem;
  try {
    using backend = openNvmm();
    system = backend.system;
  } catch (error) {
    return { checks: [...early, failure("libnvmm", error)] };
  }
  const { layout, capabilities } = system;
  const { raw, maxVcpus } = capabilities;
  const gib = ((raw.max_ram ?? 0) / 2 ** 30).toFixed(0);
  const machines = listMachines(system, raw.max_machines ?? 0);
  return {
    checks: [
      ...early,
      {
        name: "NVMM version",
        result: "ok",
        found: `${layout.name}, kernel version ${raw.version}, state of ${raw.state_size} bytes`,
      },
      {
        name: "NVMM limits",
        result: "ok",
        found: `${raw.max_machines} machines, ${maxVcpus} vCPUs each, ${gib} GiB, ${raw.conf_cpuid_maxops} CPUID leaves; TPR exits ${system.hasTprExits ? "yes" : "no"}`,
      },
      { name: "NVMM machines", result: "ok", found: `${machines.length} of ${raw.max_machines} visible to this user` },
    ],
    capability: raw,
    machines,
  };
}

function libraryCheck({ platform, library }: NvmmHostView): NvmmCheck {
  const name = "libnvmm";
  if (library !== undefined) return { name, result: "ok", found: `looked for as ${library.join(" or ")}` };
  return { name, result: "skip", found: `NVMM is part of NetBSD and DragonFly, not of ${platform}` };
}

function moduleCheck({ platform, module }: NvmmHostView): NvmmCheck {
  const name = "nvmm module";
  if (module === undefined) return { name, result: "skip", found: "this system does not list it" };
  if (module) return { name, result: "ok", found: "loaded" };
  const command = platform === "netbsd" ? "modload nvmm" : "kldload nvmm";
  return {
    name,
    result: "fail",
    found: "not loaded",
    remedy: `as root: ${command}; it refuses where AMD-V or VT-x is off in the firmware`,
  };
}

function deviceCheck({ platform, device }: NvmmHostView): NvmmCheck {
  const name = NVMM_DEVICE;
  if (platform !== "netbsd" && platform !== "dragonfly") {
    return { name, result: "skip", found: `no device of ${platform}` };
  }
  const { exists, isDevice, isReadable, group, mode } = device;
  if (!exists)
    return {
      name,
      result: "fail",
      found: "does not exist",
      remedy: "load the nvmm module; on NetBSD also: cd /dev && sh MAKEDEV nvmm",
    };
  if (!isDevice) return { name, result: "fail", found: "is no character device", remedy: "remove it and make it anew" };
  const permissions = `group ${group}, mode ${(mode & 0o777).toString(8).padStart(4, "0")}`;
  if (isReadable) return { name, result: "ok", found: `may be opened (${permissions})` };
  return {
    name,
    result: "fail",
    found: `closed to this user (${permissions})`,
    remedy: `add your user to the group "${group}" and log in again`,
  };
}

function failure(name: string, error: unknown): NvmmCheck {
  const found = error instanceof Error ? error.message : String(error);
  return { name, result: "fail", found, ...(error instanceof VmmError ? { remedy: error.remedy } : {}) };
}

function listMachines(system: NvmmSystem, most: number): NvmmMachineInfo[] {
  const machines: NvmmMachineInfo[] = [];
  for (let id = 0; id < most; id++) {
    try {
      const info = machineInfo(system, id);
      if (info !== undefined) machines.push(info);
    } catch (error) {
      // EPERM: somebody else's.
      if (!(error instanceof VmmError)) throw error;
    }
  }
  return machines;
}

function lookAtHost(): NvmmHostView {
  const platform: string = process.platform;
  return { platform, device: lookAtDevice(), module: moduleLoaded(platform), library: libraryOf() };
}

function libraryOf(): readonly string[] | undefined {
  try {
    return libraryPaths(process.env[LIBRARY_VARIABLE]);
  } catch {
    return undefined;
  }
}

function lookAtDevice(): NvmmHostView["device"] {
  if (!existsSync(NVMM_DEVICE)) return { exists: false, isDevice: false, isReadable: false, group: "", mode: 0 };
  const stat = statSync(NVMM_DEVICE);
  const { gid, mode } = stat;
  return { exists: true, isDevice: stat.isCharacterDevice(), isReadable: readable(), group: groupName(gid), mode };
}

function readable(): boolean {
  try {
    accessSync(NVMM_DEVICE, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function groupName(gid: number): string {
  const line = readFileSync("/etc/group", "utf8")
    .split("\n")
    .find((entry) => entry.split(":")[2] === String(gid));
  return line?.split(":")[0] ?? String(gid);
}

/** modstat(8) and kldstat(8) list loaded modules without privileges; NetBSD kernels may also have nvmm built in. */
function moduleLoaded(platform: string): boolean | undefined {
  const command =
    platform === "netbsd"
      ? ["modstat", "-n", "nvmm"]
      : platform === "dragonfly"
        ? ["kldstat", "-n", "nvmm"]
        : undefined;
  if (command === undefined || Bun.which(command[0] as string) === null) return undefined;
  const { exitCode, stdout } = Bun.spawnSync(command, { stdout: "pipe", stderr: "ignore" });
  return exitCode === 0 && /\bnvmm\b/.test(stdout.toString());
}
