/*
 * kvm-peer.c: what vmexit is measured against. The same guests on the same /dev/kvm, driven from C the plain way.
 *
 * Reads commands from standard input and answers each with one line, the elapsed nanoseconds:
 *   out|in|mmio-read|mmio-write N FILE   enter the endless guest in FILE until N exits were answered by a switch
 *   device N FILE                        the same, each exit through a function pointer found by port
 *   lifecycle N FILE                     N times: create VM and vCPU, run FILE to its first exit, tear down
 *   boot 1 FILE                          open /dev/kvm, create, run FILE to HLT writing port 0x3f8 out, close all
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY 0xf0000 /* as the benchmark gives its guest: the segment above is MMIO */
#define LOAD 0x1000

static int kvm = -1;
static size_t run_bytes;
static struct kvm_cpuid2 *cpuid;
static uint8_t guest[65536];
static size_t guest_bytes;
static volatile uint8_t sink;

struct vm {
  int fd, vcpu;
  uint8_t *memory;
  struct kvm_run *run;
};

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void open_kvm(void) {
  kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) die("/dev/kvm");
  if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) die("KVM_GET_API_VERSION");
  run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (!cpuid) cpuid = calloc(1, sizeof *cpuid + 256 * sizeof(struct kvm_cpuid_entry2));
  cpuid->nent = 256;
  if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid)) die("KVM_GET_SUPPORTED_CPUID");
}

static struct vm create(void) {
  struct vm vm;
  vm.fd = ioctl(kvm, KVM_CREATE_VM, 0);
  if (vm.fd < 0) die("KVM_CREATE_VM");
  uint64_t identity = 0xfffbc000;
  if (ioctl(vm.fd, KVM_SET_IDENTITY_MAP_ADDR, &identity)) die("KVM_SET_IDENTITY_MAP_ADDR");
  if (ioctl(vm.fd, KVM_SET_TSS_ADDR, 0xfffbd000)) die("KVM_SET_TSS_ADDR");
  vm.memory = mmap(0, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct kvm_userspace_memory_region region = {0, 0, 0, MEMORY, (uint64_t)vm.memory};
  if (ioctl(vm.fd, KVM_SET_USER_MEMORY_REGION, &region)) die("KVM_SET_USER_MEMORY_REGION");
  memcpy(vm.memory + LOAD, guest, guest_bytes);
  vm.vcpu = ioctl(vm.fd, KVM_CREATE_VCPU, 0);
  if (vm.vcpu < 0) die("KVM_CREATE_VCPU");
  vm.run = mmap(0, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm.vcpu, 0);
  if (vm.run == MAP_FAILED) die("mmap(kvm_run)");
  if (ioctl(vm.vcpu, KVM_SET_CPUID2, cpuid)) die("KVM_SET_CPUID2");
  struct kvm_sregs sregs;
  if (ioctl(vm.vcpu, KVM_GET_SREGS, &sregs)) die("KVM_GET_SREGS");
  sregs.cs.base = sregs.cs.selector = 0;
  if (ioctl(vm.vcpu, KVM_SET_SREGS, &sregs)) die("KVM_SET_SREGS");
  struct kvm_regs regs = {.rip = LOAD, .rflags = 2, .rsp = LOAD};
  if (ioctl(vm.vcpu, KVM_SET_REGS, &regs)) die("KVM_SET_REGS");
  return vm;
}

static void destroy(struct vm *vm) {
  munmap(vm->run, run_bytes);
  close(vm->vcpu);
  close(vm->fd);
  munmap(vm->memory, MEMORY);
}

static void enter(struct vm *vm) {
  if (ioctl(vm->vcpu, KVM_RUN, 0)) die("KVM_RUN");
}

static void answer(struct kvm_run *run) {
  uint8_t *data;
  switch (run->exit_reason) {
  case KVM_EXIT_IO:
    data = (uint8_t *)run + run->io.data_offset;
    if (run->io.direction == KVM_EXIT_IO_OUT) sink = *data;
    else memset(data, 0x5a, run->io.size * run->io.count);
    break;
  case KVM_EXIT_MMIO:
    if (run->mmio.is_write) sink = run->mmio.data[0];
    else memset(run->mmio.data, 0x5a, run->mmio.len);
    break;
  default:
    fprintf(stderr, "unexpected exit %u\n", run->exit_reason);
    exit(1);
  }
}

static void device_write(uint64_t offset, const uint8_t *data, unsigned size) {
  (void)offset;
  (void)size;
  sink = *data;
}
static struct {
  uint16_t start, end;
  void (*write)(uint64_t, const uint8_t *, unsigned);
} devices[] = {{0x80, 0x81, device_write}, {0xe9, 0xea, device_write}, {0x3f8, 0x400, device_write}};

static void dispatch(struct kvm_run *run) {
  if (run->exit_reason != KVM_EXIT_IO) answer(run);
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    if (run->io.port < devices[i].start || run->io.port >= devices[i].end) continue;
    devices[i].write(run->io.port - devices[i].start, (uint8_t *)run + run->io.data_offset, run->io.size);
    return;
  }
}

static uint64_t exits(long count, void (*each)(struct kvm_run *)) {
  struct vm vm = create();
  for (int i = 0; i < 100; i++) enter(&vm), each(vm.run);
  uint64_t start = now();
  for (long i = 0; i < count; i++) enter(&vm), each(vm.run);
  uint64_t elapsed = now() - start;
  destroy(&vm);
  return elapsed;
}

static uint64_t lifecycle(long count) {
  uint64_t start = now();
  for (long i = 0; i < count; i++) {
    struct vm vm = create();
    enter(&vm);
    sink = vm.run->exit_reason;
    destroy(&vm);
  }
  return now() - start;
}

static uint64_t boot(void) {
  uint64_t start = now();
  int before = kvm;
  open_kvm();
  struct vm vm = create();
  for (enter(&vm); vm.run->exit_reason != KVM_EXIT_HLT; enter(&vm)) answer(vm.run);
  destroy(&vm);
  close(kvm);
  kvm = before;
  return now() - start;
}

/* Also for a process that loads this file as a library. */
uint64_t ask(const char *command, long count, const char *file) {
  if (kvm < 0) open_kvm();
  FILE *f = fopen(file, "rb");
  if (!f) die(file);
  guest_bytes = fread(guest, 1, sizeof guest, f);
  fclose(f);
  return !strcmp(command, "lifecycle") ? lifecycle(count)
         : !strcmp(command, "boot")    ? boot()
         : !strcmp(command, "device")  ? exits(count, dispatch)
                                       : exits(count, answer);
}

int main(void) {
  char command[32], file[4096];
  long count;
  while (scanf("%31s %ld %4095s", command, &count, file) == 3) {
    printf("%lu\n", (unsigned long)ask(command, count, file));
    fflush(stdout);
  }
  return 0;
}
