/** Builds the libnvmm for Linux with the host's C compiler, once per source and system, and opens what only tests may call. */
import { type CString, dlopen } from "bun:ffi";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export type PeerSystem = "netbsd" | "dragonfly";
export const PEER_SYSTEMS: readonly PeerSystem[] = ["netbsd", "dragonfly"];

/** Where the sources are. */
export const PEER_FOLDER = import.meta.dir;
export const SYSTEM_FLAG: Readonly<Record<PeerSystem, string>> = {
  netbsd: "-DNVMM_NETBSD",
  dragonfly: "-DNVMM_DRAGONFLY",
};

/** The C compiler, or undefined where there is none. */
export function compiler(): string | undefined {
  return ["cc", "gcc", "clang"].find((name) => Bun.which(name) !== null);
}

/** Why the peer cannot run here; undefined when it can. */
export function peerMissing(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "the peer needs Linux on x86-64";
  const built = PEER_SYSTEMS.every((system) => existsSync(libraryPath(system, "shared")));
  if (!built && compiler() === undefined) return "no C compiler (cc, gcc, clang)";
  const probe = Bun.spawnSync(["sh", "-c", "exec 3<>/dev/kvm"], { stderr: "ignore" });
  return probe.exitCode === 0 ? undefined : "/dev/kvm is missing or closed to this user";
}

function sources(): string[] {
  return readdirSync(PEER_FOLDER)
    .filter((name) => name.endsWith(".c") || name.endsWith(".h"))
    .sort();
}

/** In the system's temporary folder, under a hash of the sources. */
function libraryPath(system: PeerSystem, copy: string): string {
  const hash = new Bun.CryptoHasher("sha256");
  for (const name of sources()) hash.update(name).update(readFileSync(join(PEER_FOLDER, name)));
  const folder = join(tmpdir(), `vmexit-libnvmm-peer-${process.getuid?.() ?? 0}`);
  return join(folder, `libnvmm-${system}-${hash.digest("hex").slice(0, 16)}-${copy}.so`);
}

/**
 * Path of the shared library, built once for each state of its sources.
 *
 * @param copy A name for a library of its own, with state of its own: dlopen(3) shares what is one file.
 */
export function peerLibrary(system: PeerSystem, copy = "shared"): string {
  const path = libraryPath(system, copy);
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const unfinished = `${path}.${process.pid}`;
  if (copy === "shared") compile(system, unfinished);
  else copyFileSync(peerLibrary(system), unfinished);
  renameSync(unfinished, path);
  return path;
}

function compile(system: PeerSystem, path: string): void {
  const files = sources().filter((name) => name.endsWith(".c"));
  // -z nodelete: the ticker thread outlives a dlclose(3).
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread", "-Wl,-z,nodelete"];
  const command = [compiler() ?? "cc", SYSTEM_FLAG[system], ...flags, "-o", path, ...files];
  const built = Bun.spawnSync(command, { cwd: PEER_FOLDER, stderr: "pipe" });
  if (built.exitCode !== 0) throw new Error(`Cannot build the libnvmm peer: ${built.stderr.toString()}`);
}

/** enum counter of peer.h. */
const COUNTERS = [
  "open",
  "capability",
  "machineCreate",
  "machineDestroy",
  "machineConfigure",
  "vcpuCreate",
  "vcpuDestroy",
  "vcpuConfigure",
  "getstate",
  "run",
  "hvaMap",
  "hvaUnmap",
  "gpaMap",
  "gpaUnmap",
  "ctl",
  "syscalls",
  "violations",
] as const;
export type PeerCounter = (typeof COUNTERS)[number];

/** enum option of peer.h. */
const OPTIONS = [
  "initErrno",
  "version",
  "stateSize",
  "maxMachines",
  "intel",
  "step",
  "spurious",
  "overwrite",
  "tickMs",
  "runErrno",
] as const;
export type PeerOption = (typeof OPTIONS)[number];

/** What the peer exports beside libnvmm's own functions. */
export interface Peer {
  readonly path: string;
  counter(name: PeerCounter): number;
  /** The last misuse in words; empty without one. */
  violation(): string;
  /** Zeroes counters and forgets violations. */
  clear(): void;
  option(name: PeerOption, value: number): void;
  /** As in a new process; false while a machine lives. */
  reset(): boolean;
}

export function openPeer(path: string): Peer {
  const { symbols } = dlopen(path, {
    nvmm_peer_counter: { args: ["i32"], returns: "u64" },
    nvmm_peer_violation: { args: [], returns: "cstring" },
    nvmm_peer_clear: { args: [], returns: "void" },
    nvmm_peer_option: { args: ["i32", "i64"], returns: "void" },
    nvmm_peer_reset: { args: [], returns: "i32" },
  });
  return {
    path,
    counter: (name) => Number(symbols.nvmm_peer_counter(COUNTERS.indexOf(name))),
    violation: () => (symbols.nvmm_peer_violation() as CString).toString(),
    clear: () => symbols.nvmm_peer_clear(),
    option: (name, value) => symbols.nvmm_peer_option(OPTIONS.indexOf(name), value),
    reset: () => symbols.nvmm_peer_reset() === 0,
  };
}
