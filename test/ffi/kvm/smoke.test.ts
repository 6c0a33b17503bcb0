import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_USER_MEMORY } from "../../../ffi/kvm/caps.ts";
import { KvmCpuid2 } from "../../../ffi/kvm/cpuid.ts";
import { KvmMpState, KvmSignalMask, KvmVcpuEvents } from "../../../ffi/kvm/events.ts";
import * as io from "../../../ffi/kvm/ioctls.ts";
import { KvmUserspaceMemoryRegion } from "../../../ffi/kvm/memory.ts";
import { KvmMsrList, KvmMsrs } from "../../../ffi/kvm/msrs.ts";
import { KvmRegs, KvmSregs } from "../../../ffi/kvm/regs.ts";
import {
  KVM_EXIT_HLT,
  KVM_EXIT_IO,
  KVM_EXIT_IO_OUT,
  KVM_PIO_PAGE_OFFSET,
  KVM_SYNC_X86_REGS,
  KvmRun,
} from "../../../ffi/kvm/run.ts";
import { cString, errno, errnoName, libc, O_CLOEXEC, O_RDWR, pageSize } from "../../../ffi/libc.ts";
import { Mapping } from "../../../ffi/mapping.ts";
import { bytesOf } from "../../../ffi/struct.ts";

const kvmFd = process.platform === "linux" ? libc().open(cString("/dev/kvm"), O_RDWR | O_CLOEXEC, 0) : -1;
const missing = whyMissing();
const skip = missing !== undefined;
const why = skip ? ` (skipped: ${missing})` : "";

function whyMissing(): string | undefined {
  if (process.platform !== "linux") return "no Linux";
  if (kvmFd < 0) return `/dev/kvm: ${errnoName(errno())}`;
  return libc().ioctl(kvmFd, io.KVM_GET_API_VERSION, 0) < 0 ? `KVM_GET_API_VERSION: ${errnoName(errno())}` : undefined;
}

/** OUT 0x10, AL; HLT */
const GUEST = [0xe6, 0x10, 0xf4];
const LOAD_ADDRESS = 0x1000;

function mapped(mapping: Mapping | null): Mapping {
  if (mapping === null) throw new Error(`mmap: ${errnoName(errno())}`);
  return mapping;
}

function succeed(result: number): number {
  if (result < 0) throw new Error(`ioctl: ${errnoName(errno())}`);
  return result;
}

describe(`/dev/kvm${why}`, () => {
  const { ioctl, ioctlPtr } = libc();
  let vm = -1;
  let vcpu = -1;
  let memory: Mapping;
  let runMapping: Mapping;
  let run: KvmRun;

  beforeAll(() => {
    if (skip) return;
    vm = succeed(ioctl(kvmFd, io.KVM_CREATE_VM, 0));
    memory = mapped(Mapping.anonymous(64 * pageSize()));
    memory.bytes.set(GUEST, LOAD_ADDRESS);
    const region = KvmUserspaceMemoryRegion.alloc();
    region.memory_size = memory.length;
    region.userspace_addr = memory.address;
    succeed(ioctlPtr(vm, io.KVM_SET_USER_MEMORY_REGION, bytesOf(region)));
    vcpu = succeed(ioctl(vm, io.KVM_CREATE_VCPU, 0));
    runMapping = mapped(Mapping.ofFd(vcpu, succeed(ioctl(kvmFd, io.KVM_GET_VCPU_MMAP_SIZE, 0))));
    run = KvmRun.view(runMapping.bytes);
  });

  afterAll(() => {
    if (skip) return;
    runMapping[Symbol.dispose]();
    for (const fd of [vcpu, vm, kvmFd]) libc().close(fd);
    memory[Symbol.dispose]();
  });

  test.skipIf(skip)("KVM_GET_API_VERSION returns 12", () => {
    expect(ioctl(kvmFd, io.KVM_GET_API_VERSION, 0)).toBe(io.KVM_API_VERSION);
  });

  test.skipIf(skip)("KVM_CHECK_EXTENSION answers 1 for what every kernel has, 0 for a number nobody uses", () => {
    expect(ioctl(kvmFd, io.KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY)).toBe(1);
    expect(ioctl(kvmFd, io.KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT)).toBe(1);
    expect(ioctl(kvmFd, io.KVM_CHECK_EXTENSION, 0x7fff_ff00)).toBe(0);
  });

  test.skipIf(skip)("KVM_GET_SUPPORTED_CPUID fills the flexible array and its count", () => {
    const cpuid = KvmCpuid2.alloc(256);
    cpuid.nent = 256;
    expect(ioctlPtr(kvmFd, io.KVM_GET_SUPPORTED_CPUID, bytesOf(cpuid))).toBe(0);
    expect(cpuid.nent).toBeGreaterThan(4);
    expect(cpuid.entries[0]).toMatchObject({ function: 0 });
    expect(cpuid.entries[0]?.eax).toBeGreaterThan(0);
  });

  test.skipIf(skip)("KVM_GET_MSR_INDEX_LIST says E2BIG and the count when there is no room", () => {
    const none = KvmMsrList.alloc(0);
    expect(ioctlPtr(kvmFd, io.KVM_GET_MSR_INDEX_LIST, bytesOf(none))).toBe(-1);
    expect(errno()).toBe(constants.errno.E2BIG);
    const all = KvmMsrList.alloc(none.nmsrs);
    all.nmsrs = none.nmsrs;
    expect(ioctlPtr(kvmFd, io.KVM_GET_MSR_INDEX_LIST, bytesOf(all))).toBe(0);
    const IA32_SYSENTER_CS = 0x174;
    expect([...all.indices]).toContain(IA32_SYSENTER_CS);
  });

  test.skipIf(skip)("KVM_SET_MSRS then KVM_GET_MSRS return what was written", () => {
    const msrs = KvmMsrs.alloc(1);
    const IA32_LSTAR = 0xc0000082; // 64 bits wide on every vendor; SYSENTER_EIP has 32 on AMD
    msrs.nmsrs = 1;
    Object.assign(msrs.entries[0] ?? {}, { index: IA32_LSTAR, data: 0x1234_5678_9abcn });
    expect(ioctlPtr(vcpu, io.KVM_SET_MSRS, bytesOf(msrs))).toBe(1);
    Object.assign(msrs.entries[0] ?? {}, { data: 0n });
    expect(ioctlPtr(vcpu, io.KVM_GET_MSRS, bytesOf(msrs))).toBe(1);
    expect(msrs.entries[0]?.data).toBe(0x1234_5678_9abcn);
  });

  test.skipIf(skip)("KVM_RUN runs OUT then HLT in real mode, and kvm_run says so", () => {
    const sregs = KvmSregs.alloc();
    succeed(ioctlPtr(vcpu, io.KVM_GET_SREGS, bytesOf(sregs)));
    expect(sregs.cs.selector).toBe(0xf000);
    sregs.cs.base = 0n;
    sregs.cs.selector = 0;
    succeed(ioctlPtr(vcpu, io.KVM_SET_SREGS, bytesOf(sregs)));
    const regs = KvmRegs.alloc();
    Object.assign(regs, { rip: BigInt(LOAD_ADDRESS), rflags: 2n, rax: 0x5an });
    succeed(ioctlPtr(vcpu, io.KVM_SET_REGS, bytesOf(regs)));
    run.kvm_valid_regs = KVM_SYNC_X86_REGS;

    expect(ioctl(vcpu, io.KVM_RUN, 0)).toBe(0);
    expect(run.exit_reason).toBe(KVM_EXIT_IO);
    expect(run.io).toMatchObject({ direction: KVM_EXIT_IO_OUT, size: 1, port: 0x10, count: 1 });
    expect(run.io.data_offset).toBe(KVM_PIO_PAGE_OFFSET * pageSize());
    expect(runMapping.bytes[run.io.data_offset]).toBe(0x5a);

    expect(ioctl(vcpu, io.KVM_RUN, 0)).toBe(0);
    expect(run.exit_reason).toBe(KVM_EXIT_HLT);
    expect(run.s.regs.regs.rip).toBe(BigInt(LOAD_ADDRESS + GUEST.length));
    expect(run.s.regs.regs.rax).toBe(0x5an);
  });

  test.skipIf(skip)("immediate_exit makes KVM_RUN return EINTR", () => {
    run.immediate_exit = 1;
    expect(ioctl(vcpu, io.KVM_RUN, 0)).toBe(-1);
    expect(errno()).toBe(constants.errno.EINTR);
    run.immediate_exit = 0;
  });

  test.skipIf(skip)("KVM_GET_VCPU_EVENTS, KVM_GET_MP_STATE and KVM_SET_SIGNAL_MASK accept their structs", () => {
    const events = KvmVcpuEvents.alloc();
    expect(ioctlPtr(vcpu, io.KVM_GET_VCPU_EVENTS, bytesOf(events))).toBe(0);
    expect(events.exception.injected).toBe(0);
    expect(ioctlPtr(vcpu, io.KVM_GET_MP_STATE, bytesOf(KvmMpState.alloc()))).toBe(0);
    const mask = KvmSignalMask.alloc(8);
    mask.len = 8;
    expect(ioctlPtr(vcpu, io.KVM_SET_SIGNAL_MASK, bytesOf(mask))).toBe(0);
    expect(ioctlPtr(vcpu, io.KVM_SET_SIGNAL_MASK, null)).toBe(0);
  });
});
