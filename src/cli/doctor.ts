import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { release, type as systemName, version as systemVersion } from "node:os";
import { STATUS } from "../exit-status.ts";
import { BACKEND_NAMES, type Backend, inspectNvmm, openBackend, Vm, VmmError } from "../index.ts";
import { type OptionSpec, parseArguments } from "./arguments.ts";
import { isOfThisSystem, PLATFORMS } from "./platforms.ts";
import { UsageError } from "./usage-error.ts";

/** One thing that was looked at. */
export interface Check {
  readonly name: string;
  /** `skip`: does not apply here, or another check failed first. */
  readonly result: "ok" | "warn" | "fail" | "skip";
  /** What was found. */
  readonly found: string;
  /** What to do about it. */
  readonly remedy?: string;
}

/** What the checks look at: the host, or in a test whatever it says. */
export interface HostView {
  readonly bunVersion: string;
  readonly platform: string;
  readonly arch: string;
  readonly system: string;
  /** /proc/cpuinfo, empty where there is none. */
  readonly cpuinfo: string;
  readonly isContainer: boolean;
  readonly user: string;
  readonly kvm: { readonly exists: boolean; readonly isDevice: boolean; readonly isAccessible: boolean };
}

const OPTIONS: readonly OptionSpec[] = [
  { name: "json", help: "the checks as one JSON object" },
  { name: "help", short: "h", help: "this text" },
];

/** `vmexit doctor`. @returns 0 when a backend works, else 69. */
export function doctor(args: readonly string[]): number {
  const { options, positionals } = parseArguments(args, OPTIONS);
  if (options.has("help")) return (require("./help.ts") as typeof import("./help.ts")).help(["doctor"]);
  if (positionals.length > 0)
    throw new UsageError(`Cannot take "${positionals[0]}"`, "vmexit doctor takes options only");
  const host = lookAtHost();
  const backends = BACKEND_NAMES.map(checkBackend);
  const working = BACKEND_NAMES.filter((_, index) => backends[index]?.every(({ result }) => result === "ok"));
  // Elsewhere only where somebody named a libnvmm.
  const nvmm = isOfThisSystem("nvmm") || process.env.VMEXIT_LIBNVMM !== undefined ? inspectNvmm() : undefined;
  const onHost = [...hostChecks(host).map((check) => excuse(check, working)), ...(nvmm?.checks ?? [])];
  const checks = [...onHost, ...backends.flat()];
  const status = working.length > 0 ? STATUS.ok : STATUS.noBackend;
  if (options.has("json")) console.log(JSON.stringify({ status, working, checks, nvmm }, undefined, 2));
  else console.log([...checks.flatMap(checkLines), "", verdict(working)].join("\n"));
  return status;
}

/** Without the processor's flags a KVM can work all the same, in software (PVM): then there is nothing to do. */
function excuse(check: Check, working: readonly string[]): Check {
  if (check.name !== "Processor" || check.result !== "warn" || !working.includes("kvm")) return check;
  return { name: check.name, result: "ok", found: `${check.found}, but KVM works` };
}

function lookAtHost(): HostView {
  const path = "/dev/kvm";
  const exists = existsSync(path);
  return {
    bunVersion: Bun.version,
    platform: process.platform,
    arch: process.arch,
    system: `${systemName()} ${release()}, ${systemVersion()}`,
    cpuinfo: existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "",
    isContainer: existsSync("/.dockerenv") || existsSync("/run/.containerenv"),
    user: process.env.USER ?? `uid ${process.getuid?.() ?? "?"}`,
    kvm: { exists, isDevice: exists && statSync(path).isCharacterDevice(), isAccessible: canUse(path) },
  };
}

function canUse(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** What can be said before any backend opens. */
export function hostChecks(host: HostView): Check[] {
  return [
    checkBun(host),
    checkSystem(host),
    checkProcessor(host),
    ...(host.platform === "linux" ? kvmDevice(host) : []),
  ];
}

function checkBun({ bunVersion }: HostView): Check {
  const { engines } = require("../../package.json") as { engines: { bun: string } };
  if (Bun.semver.satisfies(bunVersion, engines.bun)) return { name: "Bun", result: "ok", found: bunVersion };
  return { name: "Bun", result: "fail", found: `${bunVersion}, not ${engines.bun}`, remedy: "run: bun upgrade" };
}

function checkSystem({ platform, arch, system }: HostView): Check {
  const found = `${system}, ${arch}`;
  if (["linux", "netbsd", "freebsd", "dragonfly"].includes(platform) && arch === "x64") {
    return { name: "System", result: "ok", found };
  }
  const remedy =
    "hypervisor backends are for Linux, NetBSD, DragonFly and FreeBSD on x86-64; elsewhere use --backend soft";
  return { name: "System", result: "warn", found, remedy };
}

/** The flags that the kernel shows: vmx on Intel, svm on AMD; `hypervisor` inside a VM. */
function checkProcessor({ cpuinfo }: HostView): Check {
  const name = "Processor";
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(" ") ?? [];
  if (flags.length === 0) return { name, result: "skip", found: "this system does not list the processor's flags" };
  const model = /^model name\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? "unknown model";
  const extension = flags.includes("vmx") ? "VT-x (vmx)" : flags.includes("svm") ? "AMD-V (svm)" : undefined;
  if (extension !== undefined) return { name, result: "ok", found: `${model} with ${extension}` };
  const found = `${model} without VT-x (vmx) or AMD-V (svm)`;
  const remedy = flags.includes("hypervisor")
    ? "this host is itself a VM: ask for nested virtualization (kvm_intel nested=1, cloud instance type); a KVM without these flags (PVM) may work all the same"
    : 'enable "Intel Virtualization Technology" or "SVM Mode" in the firmware (BIOS/UEFI) setup';
  return { name, result: "warn", found, remedy };
}

function kvmDevice({ kvm, isContainer, user, cpuinfo }: HostView): Check[] {
  const name = "/dev/kvm";
  if (!kvm.exists) {
    const module = /^flags.*\bsvm\b/m.test(cpuinfo) ? "kvm_amd" : "kvm_intel";
    const remedy = isContainer
      ? "start the container with --device /dev/kvm (Docker, Podman); the host must have it"
      : `load the module: sudo modprobe ${module}; if that fails, dmesg tells why, most often the firmware setup`;
    return [{ name, result: "fail", found: "does not exist", remedy }];
  }
  if (!kvm.isDevice) {
    return [
      {
        name,
        result: "fail",
        found: "is no character device",
        remedy: "remove it and reload the kvm module, so that udev makes it",
      },
    ];
  }
  if (kvm.isAccessible) return [{ name, result: "ok", found: `${user} may read and write it` }];
  const remedy = isContainer
    ? "start the container with --device /dev/kvm and --group-add keep-groups, or with the kvm group's number in --group-add"
    : `sudo usermod -aG kvm ${user}, then log in again; where no kvm group exists, put KERNEL=="kvm", GROUP="kvm", MODE="0660" into /etc/udev/rules.d/65-kvm.rules`;
  return [{ name, result: "fail", found: `${user} may not read and write it`, remedy }];
}

/** Opens a backend, asks what it can do, and runs a guest of one HLT in it. */
function checkBackend(name: Backend["name"]): Check[] {
  try {
    using host = openBackend(name);
    const checks: Check[] = [{ name: `Backend ${name}`, result: "ok", found: host.description }];
    checks.push({ name: "  trial guest", ...trial(host.engine) });
    checks.push({ name: "  capabilities", result: "ok", found: capabilityList(host.engine) });
    return checks;
  } catch (error) {
    if (isOfThisSystem(name)) return [{ name: `Backend ${name}`, ...failure(error) }];
    return [{ name: `Backend ${name}`, result: "skip", found: `for ${[PLATFORMS[name]].flat().join(" and ")}` }];
  }
}

/** mov al, 0x2a; out 0x80, al; hlt */
const TRIAL_GUEST = Uint8Array.of(0xb0, 0x2a, 0xe6, 0x80, 0xf4);
const TRIAL_MS = 2000;

function trial(engine: Backend): Omit<Check, "name"> {
  try {
    using vm = new Vm(engine, { memoryBytes: 0x10000 });
    const vcpu = vm.createVcpu();
    vm.memory.write(0x1000, TRIAL_GUEST);
    vcpu.enterMode("real16");
    const started = performance.now();
    const out = vcpu.run({ timeoutMs: TRIAL_MS });
    const written = out.kind === "pioOut" ? out.data[0] : undefined;
    const end = vcpu.run({ timeoutMs: TRIAL_MS });
    const ms = (performance.now() - started).toFixed(2);
    if (written === 0x2a && end.kind === "hlt") return { result: "ok", found: `ran to its HLT, two exits in ${ms} ms` };
    return {
      result: "fail",
      found: `exits were ${out.kind} and ${end.kind}, not pioOut and hlt`,
      remedy: "read dmesg for what the kernel says; another hypervisor may hold the processor",
    };
  } catch (error) {
    return failure(error);
  }
}

function failure(error: unknown): Omit<Check, "name"> {
  if (!(error instanceof VmmError)) return { result: "fail", found: String(error), remedy: "please report this" };
  return { result: "fail", found: error.message.slice(0, -(error.remedy.length + 2)), remedy: error.remedy };
}

function capabilityList({ capabilities }: Backend): string {
  const { raw: _, maxVcpus, maxSlots, ...flags } = capabilities;
  const has = Object.entries(flags).map(([name, value]) => (value ? name : `no ${name}`));
  return [`${maxVcpus} vCPUs`, `${maxSlots} slots`, ...has].join(", ");
}

function checkLines({ name, result, found, remedy }: Check): string[] {
  const mark = { ok: "ok  ", warn: "warn", fail: "FAIL", skip: "-   " }[result];
  return [`${mark} ${name}: ${found}`, ...(remedy === undefined ? [] : [`     -> ${remedy}`])];
}

function verdict(working: readonly string[]): string {
  if (working.length === 0) return "No backend works: do what the first FAIL says, then run vmexit doctor again.";
  const names = working.length < 2 ? working[0] : `${working.slice(0, -1).join(", ")} and ${working.at(-1)}`;
  return `Guests run on ${names}.`;
}
