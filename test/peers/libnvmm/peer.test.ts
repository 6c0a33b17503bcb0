/** The peer itself: that what libnvmm would let pass, or punish later, makes a test fail here. */
import { afterEach, describe, expect, test } from "bun:test";
import { Mapping } from "../../../ffi/mapping.ts";
import { loadNvmm } from "../../../ffi/nvmm/library.ts";
import { reserve } from "../../../ffi/nvmm/memory.ts";
import { compiler, openPeer, PEER_SYSTEMS, peerLibrary, peerMissing } from "./build.ts";

const missing = peerMissing();
const skipped = missing === undefined ? "" : ` (skipped: ${missing})`;

/** Misuses libnvmm in a process of its own; what it prints and how it ends. */
function misuse(library: string, source: string): { status: number | null; err: string } {
  const prelude = `
    import { loadNvmm } from ${JSON.stringify(new URL("../../../ffi/nvmm/library.ts", import.meta.url).pathname)};
    import { reserve } from ${JSON.stringify(new URL("../../../ffi/nvmm/memory.ts", import.meta.url).pathname)};
    import { Mapping } from ${JSON.stringify(new URL("../../../ffi/mapping.ts", import.meta.url).pathname)};
    const { functions: nvmm } = loadNvmm([process.argv[1]]);
    const page = Mapping.anonymous(4096);
    const machine = page.address;
    const vcpu = page.address + 1024;
    nvmm.nvmm_init();
    nvmm.nvmm_machine_create(machine);
    nvmm.nvmm_vcpu_create(machine, 0, vcpu);
    const hva = reserve(0x10000);
    nvmm.nvmm_hva_map(machine, hva, 0x10000);
  `;
  const child = Bun.spawnSync([process.execPath, "-e", prelude + source, library], { stderr: "pipe", timeout: 20_000 });
  return { status: child.exitCode, err: child.stderr.toString() };
}

describe.each(PEER_SYSTEMS)(`the libnvmm for Linux, built for %s${skipped}`, (system) => {
  if (missing !== undefined) {
    test.skip("needs /dev/kvm and a C compiler", () => {});
    return;
  }
  const path = peerLibrary(system, "strict");
  const peer = openPeer(path);
  const library = loadNvmm([path]);
  const { functions: nvmm } = library;
  const page = Mapping.anonymous(4096) as Mapping;
  const machine = page.address;
  const vcpu = page.address + 1024;
  nvmm.nvmm_init();

  function machineWithMemory(): { hva: number } & Disposable {
    page.bytes.fill(0);
    expect(nvmm.nvmm_machine_create(machine)).toBe(0);
    const hva = reserve(0x10000) as number;
    expect(nvmm.nvmm_hva_map(machine, hva, 0x10000)).toBe(0);
    return { hva, [Symbol.dispose]: () => void nvmm.nvmm_machine_destroy(machine) };
  }
  afterEach(() => peer.clear());

  test.each([
    [
      "a setstate on a destroyed vCPU",
      "nvmm.nvmm_vcpu_destroy(machine, vcpu); nvmm.nvmm_vcpu_setstate(machine, vcpu, 2);",
      /nvmm_vcpu_setstate on vCPU 0, which is destroyed/,
    ],
    [
      "a run on a destroyed machine",
      "nvmm.nvmm_machine_destroy(machine); nvmm.nvmm_vcpu_run(machine, vcpu);",
      /nvmm_vcpu_run on a machine that is destroyed/,
    ],
    [
      "a struct nvmm_vcpu written over",
      "page.bytes.fill(0, 1024 + 24, 1024 + 32); nvmm.nvmm_vcpu_run(machine, vcpu);",
      /moved or overwritten/,
    ],
    [
      "a guest range whose GPA is not page-aligned",
      "nvmm.nvmm_gpa_map(machine, hva, 0x123, 0x1000, 7);",
      /the kernel refuses, libnvmm aborts/,
    ],
    [
      "a guest range outside all host mappings",
      "nvmm.nvmm_gpa_map(machine, hva + 0xf000, 0, 0x2000, 7);",
      /the kernel refuses, libnvmm aborts/,
    ],
    [
      "a guest range beyond the end of guest memory",
      "nvmm.nvmm_gpa_map(machine, hva, 0x7f0000000000, 0x1000, 7);",
      /the kernel refuses, libnvmm aborts/,
    ],
    ["unknown protection bits", "nvmm.nvmm_gpa_map(machine, hva, 0, 0x1000, 8);", /the kernel refuses, libnvmm aborts/],
    [
      "an assist without the callback it needs",
      // MOV [0x8000], AL at the reset vector; nothing backs 0x8000.
      `new Uint8Array(require("bun:ffi").toArrayBuffer(hva, 0xfff0, 16)).set([0xa2, 0, 0x80]);
       nvmm.nvmm_gpa_map(machine, hva, 0xffff0000, 0x10000, 7);
       nvmm.nvmm_vcpu_run(machine, vcpu);
       nvmm.nvmm_assist_mem(machine, vcpu);`,
      /needs a mem callback and none is registered/,
    ],
  ])("%s ends the process with a message", (_what, source, message) => {
    const { status, err } = misuse(path, source);
    expect(err).toMatch(message);
    expect(status).not.toBe(0);
  });

  test("overlapping guest ranges are EINVAL and recorded", () => {
    using it = machineWithMemory();
    expect(nvmm.nvmm_gpa_map(machine, it.hva, 0, 0x2000, 7)).toBe(0);
    expect(nvmm.nvmm_gpa_map(machine, it.hva + 0x4000, 0x1000, 0x1000, 7)).toBe(-1);
    expect(library.errno()).toBe(22);
    expect(peer.violation()).toContain("overlaps the range at 0");
  });

  test.each([
    ["not page-aligned", 0x10, 0x1000, 22],
    ["empty", 0, 0, 22],
    ["partly over another mapping", 0xf000, 0x2000, 17],
  ])("a host mapping that is %s is refused and recorded", (_what, offset, size, errno) => {
    using it = machineWithMemory();
    expect(nvmm.nvmm_hva_map(machine, it.hva + offset, size)).toBe(-1);
    expect(library.errno()).toBe(errno);
    expect(peer.counter("violations")).toBe(1);
  });

  test("an unmap that is no exact triple is refused and recorded", () => {
    using it = machineWithMemory();
    expect(nvmm.nvmm_gpa_map(machine, it.hva, 0, 0x2000, 7)).toBe(0);
    expect(nvmm.nvmm_gpa_unmap(machine, it.hva, 0, 0x1000)).toBe(-1);
    expect(nvmm.nvmm_hva_unmap(machine, it.hva, 0x1000)).toBe(-1);
    expect(peer.counter("violations")).toBe(2);
  });

  test("a group committed without having been fetched is recorded", () => {
    using it = machineWithMemory();
    expect(nvmm.nvmm_vcpu_create(machine, 0, vcpu)).toBe(0);
    expect(nvmm.nvmm_gpa_map(machine, it.hva, 0xffff0000, 0x10000, 7)).toBe(0);
    // A page of zeros: ADD [BX+SI], AL until it comes to unbacked memory at DS:0.
    expect(nvmm.nvmm_vcpu_run(machine, vcpu)).toBe(0);
    expect(nvmm.nvmm_vcpu_setstate(machine, vcpu, 0x40)).toBe(0);
    expect(peer.violation()).toContain("stale neighbours in groups 0x40");
  });

  test("calls that NVMM has and vmexit's backend does not need behave as documented", () => {
    using it = machineWithMemory();
    expect(nvmm.nvmm_root_init()).toBe(0);
    expect([nvmm.nvmm_machine_configure(machine, 100, null), library.errno()]).toEqual([-1, 22]);
    expect(nvmm.nvmm_vcpu_create(machine, 0, vcpu)).toBe(0);
    expect([nvmm.nvmm_vcpu_create(machine, 0, vcpu), library.errno()]).toEqual([-1, 16]);
    expect([nvmm.nvmm_assist_io(machine, vcpu), library.errno()]).toEqual([-1, 22]);
    expect([nvmm.nvmm_assist_mem(machine, vcpu), library.errno()]).toEqual([-1, 22]);
    expect([nvmm.nvmm_vcpu_configure(machine, vcpu, 201, new Uint32Array(1)), library.errno()]).toEqual([-1, 22]);
    const out = new BigUint64Array(2);
    expect(nvmm.nvmm_gpa_map(machine, it.hva, 0x4000, 0x1000, 5)).toBe(0);
    expect(nvmm.nvmm_gpa_to_hva(machine, 0x4010, out.subarray(0, 1), out.subarray(1))).toBe(0);
    expect([...out]).toEqual([BigInt(it.hva + 0x10), 5n]);
    expect([nvmm.nvmm_gpa_to_hva(machine, 0x5000, out.subarray(0, 1), out.subarray(1)), library.errno()]).toEqual([
      -1, 2,
    ]);
    expect(nvmm.nvmm_gva_to_gpa(machine, vcpu, 0x1234n, out.subarray(0, 1), out.subarray(1))).toBe(0);
    expect(out[0]).toBe(0x1234n);
    expect([nvmm.nvmm_ctl(1, page.bytes.subarray(2048), 32), library.errno()]).toEqual([-1, 22]);
    expect(nvmm.nvmm_vcpu_destroy(machine, vcpu)).toBe(0);
    expect(library.stop !== undefined).toBe(system === "netbsd");
  });
});

test.skipIf(compiler() === undefined)("the peer's C compiles without warnings for both systems", () => {
  for (const system of PEER_SYSTEMS) {
    const flag = system === "netbsd" ? "-DNVMM_NETBSD" : "-DNVMM_DRAGONFLY";
    const files = ["peer", "state", "cpuid", "guest", "decode", "rewind", "vcpu", "assist"].map((name) => `${name}.c`);
    const built = Bun.spawnSync(["cc", flag, "-std=gnu11", "-Wall", "-Wextra", "-fsyntax-only", ...files], {
      cwd: import.meta.dir,
      stderr: "pipe",
    });
    expect(built.stderr.toString()).toBe("");
  }
});
