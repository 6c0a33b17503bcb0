/*
 * libnvmm for Linux: libnvmm's exact ABI with guests run by /dev/kvm. A peer to test the nvmm backend with, never
 * shipped. It keeps the refusals, the laziness and the traps of the original (abi/nvmm.md), and it is strict: what the original
 * would let pass to go wrong later is recorded as a violation, or ends the process with a message.
 *
 * This file: the device, machines, memory, and the calls that need no guest.
 */
#define _GNU_SOURCE
#include "peer.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

uint64_t peer_counters[C_COUNT];
int64_t peer_options[O_COUNT];
int peer_kvm = -1;
pthread_mutex_t peer_lock = PTHREAD_MUTEX_INITIALIZER;

static bool opened, root_handle;
static char last_violation[512];
static struct machine machines[NVMM_MAX_MACHINES];

enum { PAGE = 4096 };
#define TICK_SIGNAL (SIGRTMIN + 9)

int fail(int code) {
  errno = code;
  return -1;
}

void count_syscall(enum counter which) {
  peer_counters[which]++;
  peer_counters[C_SYSCALLS]++;
}

void violation(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last_violation, sizeof last_violation, format, args);
  va_end(args);
  peer_counters[C_VIOLATIONS]++;
}

void die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "libnvmm peer: ");
  vfprintf(stderr, format, args);
  fprintf(stderr, "\n");
  va_end(args);
  fflush(stderr);
  abort();
}

/* ---- for tests only --------------------------------------------------------------------------------------------- */

/* Counter by its place in enum counter. */
uint64_t nvmm_peer_counter(int which) { return which >= 0 && which < C_COUNT ? peer_counters[which] : 0; }

/* The last violation in words, or an empty string. */
const char *nvmm_peer_violation(void) { return last_violation; }

void nvmm_peer_clear(void) {
  memset(peer_counters, 0, sizeof peer_counters);
  last_violation[0] = 0;
}

void nvmm_peer_option(int which, int64_t value) {
  if (which >= 0 && which < O_COUNT) peer_options[which] = value;
}

/* Forgets that the device was opened, as a new process would; refused while a machine lives. */
int nvmm_peer_reset(void) {
  for (int i = 0; i < NVMM_MAX_MACHINES; i++) {
    if (machines[i].live) return -1;
  }
  if (peer_kvm >= 0) close(peer_kvm);
  peer_kvm = -1;
  opened = root_handle = false;
  return 0;
}

#ifdef NVMM_NETBSD
/* NetBSD's libc accessor of errno. */
int *__errno(void) { return __errno_location(); }
#endif

/* ---- device ------------------------------------------------------------------------------------------------------ */

static uint32_t reported_version(void) {
  return peer_options[O_VERSION] ? (uint32_t)peer_options[O_VERSION] : NVMM_KERN_VERSION;
}

static int open_device(bool root) {
  if (opened) return 0;
  count_syscall(C_OPEN);
  if (peer_options[O_INIT_ERRNO]) return fail((int)peer_options[O_INIT_ERRNO]);
  peer_kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (peer_kvm < 0) return -1;
  count_syscall(C_CAPABILITY);
  opened = true;
  root_handle = root;
  return 0;
}

int nvmm_init(void) { return open_device(false); }
int nvmm_root_init(void) { return open_device(true); }

/* 0xFFBF is the mask of every processor with DAZ (Intel SDM Vol. 1, "Checking for the DAZ Flag in the MXCSR Register"). */
int nvmm_capability(struct nvmm_capability *cap) {
  if (!opened) return fail(EBADF);
  count_syscall(C_CAPABILITY);
  memset(cap, 0, sizeof *cap);
  cap->version = reported_version();
  cap->state_size = peer_options[O_STATE_SIZE] ? (uint32_t)peer_options[O_STATE_SIZE] : sizeof(struct nvmm_x64_state);
#ifdef NVMM_DRAGONFLY
  cap->comm_size = PAGE;
#endif
  cap->max_machines = peer_options[O_MAX_MACHINES] ? (uint32_t)peer_options[O_MAX_MACHINES] : NVMM_MAX_MACHINES;
  cap->max_vcpus = NVMM_MAX_VCPUS;
  cap->max_ram = NVMM_MAX_RAM;
  cap->arch.vcpu_conf_support =
      NVMM_CAP_ARCH_VCPU_CONF_CPUID | (peer_options[O_INTEL] ? NVMM_CAP_ARCH_VCPU_CONF_TPR : 0);
  cap->arch.xcr0_mask = 3;
  cap->arch.mxcsr_mask = 0xFFBF;
  cap->arch.conf_cpuid_maxops = 32;
  return 0;
}

/* ---- machines ---------------------------------------------------------------------------------------------------- */

struct machine *find_machine(struct nvmm_machine *mach) {
  if (!opened) {
    errno = EBADF;
    return NULL;
  }
  if (mach->machid >= NVMM_MAX_MACHINES) {
    errno = EINVAL;
    return NULL;
  }
  struct machine *m = &machines[mach->machid];
  if (!m->live) {
    violation("machine %u is not there: used after destroy, or never created", mach->machid);
    errno = ENOENT;
    return NULL;
  }
  if (m->user != mach || mach->pages != m->pages || mach->areas != m) {
    die("struct nvmm_machine %u was moved or overwritten", mach->machid);
  }
  return m;
}

struct vcpu *find_vcpu(struct nvmm_machine *mach, struct nvmm_vcpu *user, const char *call) {
  struct machine *m = find_machine(mach);
  if (m == NULL) die("%s on a machine that is destroyed", call);
  struct vcpu *v = user->cpuid < NVMM_MAX_VCPUS ? m->vcpus[user->cpuid] : NULL;
  if (v == NULL) die("%s on vCPU %u, which is destroyed or was never created", call, user->cpuid);
  bool same = v->user == user && user->state == &v->comm->state && user->event == &v->comm->event && user->exit == v->exit;
#ifdef NVMM_NETBSD
  same = same && user->stop == &v->comm->stop;
#endif
  if (!same) die("%s on a struct nvmm_vcpu %u that was moved or overwritten", call, user->cpuid);
  if (v->running && !pthread_equal(v->thread, pthread_self())) violation("%s while the vCPU runs on another thread", call);
  return v;
}

int nvmm_machine_create(struct nvmm_machine *mach) {
  if (!opened) return fail(EBADF);
  count_syscall(C_MACHINE_CREATE);
  uint32_t limit = peer_options[O_MAX_MACHINES] ? (uint32_t)peer_options[O_MAX_MACHINES] : NVMM_MAX_MACHINES;
  for (uint32_t id = 0; id < limit; id++) {
    struct machine *m = &machines[id];
    if (m->live) continue;
    memset(m, 0, sizeof *m);
    m->live = true;
    m->user = mach;
    m->vmfd = -1;
    m->created = time(NULL);
    memset(mach, 0, sizeof *mach);
    mach->machid = id;
    mach->pages = m->pages;
    mach->areas = m;
    return 0;
  }
  return fail(BSD_ENOBUFS);
}

static void vcpu_free(struct vcpu *v) {
  kvm_vcpu_close(v);
  pthread_mutex_lock(&peer_lock);
  v->mach->vcpus[v->id] = NULL;
  pthread_mutex_unlock(&peer_lock);
  v->mach->pages[v->id] = NULL;
  munmap(v->comm, PAGE);
  free(v->exit);
  free(v->table);
  free(v);
}

int nvmm_machine_destroy(struct nvmm_machine *mach) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  count_syscall(C_MACHINE_DESTROY);
  for (int i = 0; i < NVMM_MAX_VCPUS; i++) {
    if (m->vcpus[i] != NULL) vcpu_free(m->vcpus[i]);
  }
  if (m->vmfd >= 0) close(m->vmfd);
  while (m->areas != NULL) {
    struct area *next = m->areas->next;
    free(m->areas);
    m->areas = next;
  }
  m->live = false;
  return 0;
}

int nvmm_machine_configure(struct nvmm_machine *mach, uint64_t op, void *conf) {
  (void)op, (void)conf;
  if (find_machine(mach) == NULL) return -1;
  count_syscall(C_MACHINE_CONFIGURE);
  return fail(EINVAL);
}

int nvmm_ctl(int op, void *data, size_t size) {
  if (!opened) return fail(EBADF);
  count_syscall(C_CTL);
  struct nvmm_ctl_mach_info *info = data;
  if (op != NVMM_CTL_MACH_INFO || size != sizeof *info || info->machid >= NVMM_MAX_MACHINES) return fail(EINVAL);
  struct machine *m = &machines[info->machid];
  if (!m->live) return fail(ENOENT);
  info->nvcpus = 0;
  for (int i = 0; i < NVMM_MAX_VCPUS; i++) info->nvcpus += m->vcpus[i] != NULL;
  info->nram = 0;
  for (int i = 0; i < NVMM_MAX_HMAPPINGS; i++) info->nram += m->hosts[i].size;
  info->pid = getpid();
  info->time = m->created;
  return 0;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void slot_set(struct machine *m, struct area *a, bool present) {
  struct kvm_userspace_memory_region region = {
      .slot = (uint32_t)a->slot,
      .flags = a->prot & NVMM_PROT_WRITE ? 0 : KVM_MEM_READONLY,
      .guest_phys_addr = a->gpa,
      .memory_size = present ? a->size : 0,
      .userspace_addr = a->hva,
  };
  if (ioctl(m->vmfd, KVM_SET_USER_MEMORY_REGION, &region) < 0) die("KVM refused a memory slot: %s", strerror(errno));
}

/* KVM cannot forbid fetches from a slot; a range without READ gets no slot, so that accesses exit. */
static void area_show(struct machine *m, struct area *a) {
  if (m->vmfd < 0 || !(a->prot & NVMM_PROT_READ)) return;
  for (int slot = 0; slot < 512; slot++) {
    if (m->slots[slot / 64] >> (slot % 64) & 1) continue;
    m->slots[slot / 64] |= 1ull << (slot % 64);
    a->slot = slot;
    slot_set(m, a, true);
    return;
  }
  die("more than 512 guest ranges");
}

static void area_hide(struct machine *m, struct area *a) {
  if (a->slot < 0) return;
  slot_set(m, a, false);
  m->slots[a->slot / 64] &= ~(1ull << (a->slot % 64));
  a->slot = -1;
}

/* The KVM VM of a machine, made when first needed: 128 idle machines cost nothing. */
int machine_vm(struct machine *m) {
  if (m->vmfd >= 0) return m->vmfd;
  m->vmfd = ioctl(peer_kvm, KVM_CREATE_VM, 0);
  if (m->vmfd < 0) die("KVM refused a VM: %s", strerror(errno));
  /* Intel hosts without unrestricted guest need both; above any RAM a test maps. */
  ioctl(m->vmfd, KVM_SET_TSS_ADDR, 0xfffbd000);
  for (struct area *a = m->areas; a != NULL; a = a->next) area_show(m, a);
  return m->vmfd;
}

static bool misaligned(uint64_t value) { return value % PAGE != 0; }

int nvmm_hva_map(struct nvmm_machine *mach, uintptr_t hva, size_t size) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  count_syscall(C_HVA_MAP);
  if (hva == 0 || size == 0 || misaligned(hva) || misaligned(size) || hva + size < hva) {
    violation("nvmm_hva_map of %#zx bytes at %#zx: not page-aligned, empty or wrapping", size, (size_t)hva);
    return fail(EINVAL);
  }
  struct host_range *free_one = NULL;
  for (int i = 0; i < NVMM_MAX_HMAPPINGS; i++) {
    struct host_range *h = &m->hosts[i];
    if (h->size == 0) {
      if (free_one == NULL) free_one = h;
      continue;
    }
    if (hva >= h->hva + h->size || h->hva >= hva + size) continue;
    violation("nvmm_hva_map of %#zx bytes at %#zx overlaps a mapping that is there", size, (size_t)hva);
    if (hva >= h->hva && hva + size <= h->hva + h->size) break; /* accepted: silently replaces that part's backing */
    return fail(EEXIST);
  }
  if (free_one == NULL) return fail(BSD_ENOBUFS);
  void *at = mmap((void *)hva, size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return fail(ENOMEM);
  *free_one = (struct host_range){hva, size};
  return 0;
}

int nvmm_hva_unmap(struct nvmm_machine *mach, uintptr_t hva, size_t size) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  count_syscall(C_HVA_UNMAP);
  for (int i = 0; i < NVMM_MAX_HMAPPINGS; i++) {
    struct host_range *h = &m->hosts[i];
    if (h->size == 0 || h->hva != hva || h->size != size) continue;
    for (struct area *a = m->areas; a != NULL; a = a->next) {
      if (a->hva >= hva && a->hva < hva + size) violation("nvmm_hva_unmap while GPA %#lx still shows it", a->gpa);
    }
    *h = (struct host_range){0, 0};
    munmap((void *)hva, size);
    return 0;
  }
  violation("nvmm_hva_unmap of %#zx bytes at %#zx: no such mapping", size, (size_t)hva);
  return fail(ENOENT);
}

struct area *area_at(struct machine *m, uint64_t gpa) {
  for (struct area *a = m->areas; a != NULL; a = a->next) {
    if (gpa >= a->gpa && gpa - a->gpa < a->size) return a;
  }
  return NULL;
}

static bool inside_host_mapping(struct machine *m, uintptr_t hva, size_t size) {
  for (int i = 0; i < NVMM_MAX_HMAPPINGS; i++) {
    struct host_range *h = &m->hosts[i];
    if (h->size != 0 && hva >= h->hva && hva + size <= h->hva + h->size) return true;
  }
  return false;
}

int nvmm_gpa_map(struct nvmm_machine *mach, uintptr_t hva, uint64_t gpa, size_t size, int prot) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  /* The library's own list first: EINVAL before any system call. */
  for (struct area *a = m->areas; a != NULL; a = a->next) {
    if (gpa >= a->gpa + a->size || a->gpa >= gpa + size) continue;
    violation("nvmm_gpa_map of %#zx bytes at GPA %#lx overlaps the range at %#lx", size, gpa, a->gpa);
    return fail(EINVAL);
  }
  count_syscall(C_GPA_MAP);
  bool refused = size == 0 || misaligned(gpa) || misaligned(size) || misaligned(hva) || gpa + size > NVMM_MAX_RAM ||
                 (prot & ~(NVMM_PROT_READ | NVMM_PROT_WRITE | NVMM_PROT_EXEC)) != 0 || !inside_host_mapping(m, hva, size);
  if (refused) die("nvmm_gpa_map(hva %#zx, gpa %#lx, size %#zx, prot %d): the kernel refuses, libnvmm aborts", (size_t)hva, gpa, size, prot);
  struct area *a = malloc(sizeof *a);
  *a = (struct area){gpa, hva, size, prot, -1, m->areas};
  m->areas = a;
  area_show(m, a);
  return 0;
}

int nvmm_gpa_unmap(struct nvmm_machine *mach, uintptr_t hva, uint64_t gpa, size_t size) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  for (struct area **link = &m->areas; *link != NULL; link = &(*link)->next) {
    struct area *a = *link;
    if (a->gpa != gpa || a->hva != hva || a->size != size) continue;
    count_syscall(C_GPA_UNMAP);
#ifdef NVMM_NETBSD
    if (gpa + size >= NVMM_MAX_RAM) die("nvmm_gpa_unmap up to max_ram: NetBSD's kernel refuses, libnvmm aborts");
#endif
    area_hide(m, a);
    *link = a->next;
    free(a);
    return 0;
  }
  violation("nvmm_gpa_unmap of GPA %#lx: not an exact triple of an earlier map", gpa);
  return fail(ESRCH);
}

int nvmm_gpa_to_hva(struct nvmm_machine *mach, uint64_t gpa, uintptr_t *hva, uint64_t *prot) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  struct area *a = area_at(m, gpa);
  if (a == NULL) return fail(ENOENT);
  *hva = a->hva + (gpa - a->gpa);
  *prot = (uint64_t)a->prot;
  return 0;
}

/* ---- vCPUs, as far as no guest runs ------------------------------------------------------------------------------- */

int nvmm_vcpu_create(struct nvmm_machine *mach, uint32_t cpuid, struct nvmm_vcpu *user) {
  struct machine *m = find_machine(mach);
  if (m == NULL) return -1;
  count_syscall(C_VCPU_CREATE);
  if (cpuid >= NVMM_MAX_VCPUS) return fail(EINVAL);
  if (m->vcpus[cpuid] != NULL) return fail(EBUSY);
  struct vcpu *v = calloc(1, sizeof *v);
  *v = (struct vcpu){.mach = m, .user = user, .id = cpuid, .fd = -1};
  v->comm = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  v->exit = calloc(1, sizeof *v->exit);
  reset_state(&v->comm->state);
  v->comm->state_cached = NVMM_X64_STATE_ALL;
  user->cpuid = cpuid;
  user->state = &v->comm->state;
  user->event = &v->comm->event;
  user->exit = v->exit;
#ifdef NVMM_NETBSD
  user->stop = &v->comm->stop;
#endif
  m->pages[cpuid] = v->comm;
  if (kvm_vcpu_open(v) < 0) die("KVM refused a vCPU: %s", strerror(errno));
  pthread_mutex_lock(&peer_lock);
  m->vcpus[cpuid] = v;
  pthread_mutex_unlock(&peer_lock);
  return 0;
}

int nvmm_vcpu_destroy(struct nvmm_machine *mach, struct nvmm_vcpu *user) {
  struct vcpu *v = find_vcpu(mach, user, "nvmm_vcpu_destroy");
  count_syscall(C_VCPU_DESTROY);
  vcpu_free(v);
  return 0;
}

int nvmm_vcpu_configure(struct nvmm_machine *mach, struct nvmm_vcpu *user, uint64_t op, void *conf) {
  struct vcpu *v = find_vcpu(mach, user, "nvmm_vcpu_configure");
  if (op == NVMM_VCPU_CONF_CALLBACKS) {
    memcpy(&user->cbs, conf, sizeof user->cbs);
    return 0;
  }
  count_syscall(C_VCPU_CONFIGURE);
  if (op == NVMM_VCPU_CONF_CPUID) return cpuid_configure(v, conf);
  if (op == NVMM_VCPU_CONF_TPR && peer_options[O_INTEL]) {
    v->tpr_exit = ((struct nvmm_vcpu_conf_tpr *)conf)->exit_changed;
    return 0;
  }
  return fail(EINVAL);
}

int nvmm_vcpu_setstate(struct nvmm_machine *mach, struct nvmm_vcpu *user, uint64_t flags) {
  struct vcpu *v = find_vcpu(mach, user, "nvmm_vcpu_setstate");
  if (v->in_assist) violation("nvmm_vcpu_setstate from an assist callback");
  if (flags & ~(uint64_t)NVMM_X64_STATE_ALL) violation("nvmm_vcpu_setstate with unknown flags %#lx", flags);
  uint64_t stale = state_poisoned(&v->comm->state, flags & ~v->comm->state_cached);
  if (stale) violation("nvmm_vcpu_setstate commits stale neighbours in groups %#lx: getstate them first", stale);
  v->comm->state_commit |= flags;
  v->comm->state_cached |= flags;
  return 0;
}

int nvmm_vcpu_getstate(struct nvmm_machine *mach, struct nvmm_vcpu *user, uint64_t flags) {
  struct vcpu *v = find_vcpu(mach, user, "nvmm_vcpu_getstate");
  if (v->in_assist) violation("nvmm_vcpu_getstate from an assist callback");
  if (flags & ~(uint64_t)NVMM_X64_STATE_ALL) violation("nvmm_vcpu_getstate with unknown flags %#lx", flags);
  uint64_t wanted = flags & NVMM_X64_STATE_ALL & ~v->comm->state_cached;
  if (wanted == 0) return 0;
  count_syscall(C_GETSTATE);
  v->comm->state_wanted = wanted;
  if (state_fetch(v, &v->comm->state, wanted) < 0) die("KVM refused to give state: %s", strerror(errno));
  v->comm->state_cached |= wanted;
  return 0;
}

int nvmm_vcpu_inject(struct nvmm_machine *mach, struct nvmm_vcpu *user) {
  struct vcpu *v = find_vcpu(mach, user, "nvmm_vcpu_inject");
  const struct nvmm_x86_event *e = &v->comm->event;
  bool external = e->type == NVMM_VCPU_EVENT_INTR && e->vector != 2;
  if (v->comm->event_commit) violation("nvmm_vcpu_inject over an event that waits");
  if (external && v->int_window) violation("interrupt %u injected while the window is armed", e->vector);
  v->comm->event_commit = true;
  return 0;
}

#ifdef NVMM_NETBSD
/* Any thread may call it, so it looks nothing up but the comm page. */
int nvmm_vcpu_stop(struct nvmm_vcpu *user) {
  __atomic_store_n(user->stop, 1, __ATOMIC_SEQ_CST);
  return 0;
}
#endif

int nvmm_vcpu_dump(struct nvmm_machine *mach, struct nvmm_vcpu *user) {
  static const char *names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9",
                                "R10", "R11", "R12", "R13", "R14", "R15", "RIP", "RFLAGS"};
  if (nvmm_vcpu_getstate(mach, user, NVMM_X64_STATE_ALL) < 0) return -1;
  printf("+ VCPU id=%u\n", user->cpuid);
  for (int i = 0; i < NVMM_X64_NGPR; i++) printf("| -> %s=%016lx\n", names[i], user->state->gprs[i]);
  for (int i = 0; i < NVMM_X64_NCR; i++) printf("| -> CR[%d]=%016lx\n", i, user->state->crs[i]);
  fflush(stdout);
  return 0;
}

#ifdef NVMM_NETBSD
static void ignore_tick(int signal) { (void)signal; }

/* A stop is noticed at the next hardware exit; a guest that makes none meets the host's timer tick. */
static void *ticker(void *unused) {
  (void)unused;
  for (;;) {
    int64_t ms = peer_options[O_TICK_MS] ? peer_options[O_TICK_MS] : 10;
    usleep((useconds_t)(ms * 1000));
    pthread_mutex_lock(&peer_lock);
    for (int i = 0; i < NVMM_MAX_MACHINES; i++) {
      for (int j = 0; machines[i].live && j < NVMM_MAX_VCPUS; j++) {
        struct vcpu *v = machines[i].vcpus[j];
        if (v == NULL || !v->running || !__atomic_load_n(&v->comm->stop, __ATOMIC_SEQ_CST)) continue;
        v->run->immediate_exit = 1;
        pthread_kill(v->thread, TICK_SIGNAL);
      }
    }
    pthread_mutex_unlock(&peer_lock);
  }
  return NULL;
}
#endif

void start_ticker(void) {
#ifdef NVMM_NETBSD
  static bool started;
  if (started) return;
  started = true;
  /* Without SA_RESTART: KVM_RUN shall come back. */
  struct sigaction action = {.sa_handler = ignore_tick};
  sigaction(TICK_SIGNAL, &action, NULL);
  pthread_t thread;
  pthread_create(&thread, NULL, ticker, NULL);
  pthread_detach(thread);
#endif
}
