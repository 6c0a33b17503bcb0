/* Inside the peer: what its files share. */
#ifndef PEER_H
#define PEER_H

#include "nvmm.h"
#include <linux/kvm.h>
#include <pthread.h>

/* errno values of the BSDs, where they differ from Linux (abi.json, "errno"). */
enum { BSD_ENOBUFS = 55, BSD_EPROGMISMATCH = 75, BSD_ENOSYS = 78 };

struct host_range {
  uintptr_t hva;
  size_t size;
};

/* A guest-physical range, as nvmm_gpa_map() was told; `slot` is its number in KVM, -1 while KVM does not know it. */
struct area {
  uint64_t gpa;
  uintptr_t hva;
  size_t size;
  int prot;
  int slot;
  struct area *next;
};

struct insn {
  int len;
  int opsize;  /* bytes: 1, 2, 4, 8 */
  int adsize;  /* bytes: 2, 4, 8 */
  int rep;     /* 0, 0xF2, 0xF3 */
  int seg;     /* segment of the memory operand */
  int segover; /* segment prefix, or -1 */
  int rex;
  int opcode; /* 0x0F00 | second byte for two-byte opcodes */
  bool modrm, mem;
  int mod, reg, rm;
  uint64_t offset; /* of the memory operand in its segment */
  uint64_t imm;    /* sign-extended */
};

struct machine;

enum { ENTRIES = 32 };
struct vcpu {
  struct machine *mach;
  struct nvmm_vcpu *user; /* address of the caller's struct: it may not move */
  struct nvmm_comm_page *comm;
  struct nvmm_x86_exit *exit;
  uint32_t id;
  int fd; /* -1 until first needed */
  struct kvm_run *run;
  bool started;     /* a KVM_RUN was made: CPUID is fixed */
  bool cpuid_stale; /* configured, not yet in force */
  bool cpuid_soft;  /* configured after the first run: CPUID is answered here */
  bool tpr_exit;
  bool int_window, nmi_window;
  bool stepping; /* KVM_GUESTDBG_SINGLESTEP is on */
  bool in_assist;
  uint64_t stepped_cr8; /* CR8 before the step */
  volatile bool running;
  pthread_t thread;
  uint64_t entry_rip; /* where the last run began */
  uint64_t entries[ENTRIES]; /* where the last runs began, no place twice */
  unsigned next_entry;
  struct nvmm_vcpu_conf_cpuid cpuid[32];
  int ncpuid;
  struct kvm_cpuid2 *table;
};

struct machine {
  bool live;
  struct nvmm_machine *user;
  struct nvmm_comm_page *pages[NVMM_MAX_VCPUS];
  struct host_range hosts[NVMM_MAX_HMAPPINGS];
  struct area *areas;
  uint64_t slots[8]; /* bitmap of KVM slots in use */
  int vmfd;          /* -1 until first needed */
  int64_t created;
  struct vcpu *vcpus[NVMM_MAX_VCPUS];
};

/* Counters, in the order of nvmm_peer_counter(). All but the last two are system calls to /dev/nvmm. */
enum counter {
  C_OPEN, C_CAPABILITY, C_MACHINE_CREATE, C_MACHINE_DESTROY, C_MACHINE_CONFIGURE, C_VCPU_CREATE, C_VCPU_DESTROY,
  C_VCPU_CONFIGURE, C_GETSTATE, C_RUN, C_HVA_MAP, C_HVA_UNMAP, C_GPA_MAP, C_GPA_UNMAP, C_CTL, C_SYSCALLS, C_VIOLATIONS,
  C_COUNT,
};

/* Options, in the order of nvmm_peer_option(). */
enum option {
  O_INIT_ERRNO,   /* nvmm_init fails with this errno */
  O_VERSION,      /* kernel version reported by the capability; 0: the real one */
  O_STATE_SIZE,   /* state size reported; 0: the real one */
  O_MAX_MACHINES, /* 0: the documented limit */
  O_INTEL,        /* 1: behave as the VMX half: no instruction bytes, TPR exits */
  O_STEP,         /* 1: single-step, so that MONITOR and MWAIT are seen */
  O_SPURIOUS,     /* n: every n-th run returns NONE before it enters */
  O_OVERWRITE,    /* n: every n-th hardware exit is replaced by NONE (NetBSD only) */
  O_TICK_MS,      /* host timer tick at which a stop is noticed; default 10 (HZ=100) */
  O_RUN_ERRNO,    /* the next run fails with this errno, once */
  O_COUNT,
};

extern uint64_t peer_counters[C_COUNT];
extern int64_t peer_options[O_COUNT];
extern int peer_kvm;
extern pthread_mutex_t peer_lock;

int fail(int code);
void count_syscall(enum counter which);
void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* peer.c */
struct machine *find_machine(struct nvmm_machine *mach);
struct vcpu *find_vcpu(struct nvmm_machine *mach, struct nvmm_vcpu *user, const char *call);
struct machine *machine_of(struct nvmm_machine *mach);
int machine_vm(struct machine *m);
struct area *area_at(struct machine *m, uint64_t gpa);

/* vcpu.c */
int kvm_vcpu_open(struct vcpu *v);
void kvm_vcpu_close(struct vcpu *v);
void start_ticker(void);
void reset_state(struct nvmm_x64_state *s);

/* state.c */
int state_fetch(struct vcpu *v, struct nvmm_x64_state *s, uint64_t flags);
int state_apply(struct vcpu *v, const struct nvmm_x64_state *s, uint64_t flags);
void state_poison(struct nvmm_x64_state *s, uint64_t flags);
uint64_t state_poisoned(const struct nvmm_x64_state *s, uint64_t flags);

/* cpuid.c */
int cpuid_refresh(struct vcpu *v);
bool cpuid_watched(struct vcpu *v);
void cpuid_answer(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
bool cpuid_exits(struct vcpu *v, uint32_t leaf);
int cpuid_configure(struct vcpu *v, const struct nvmm_vcpu_conf_cpuid *conf);

/* guest.c */
int walk(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, uint64_t *gpa, uint64_t *prot);
int code_bits(const struct nvmm_x64_state *s);
uint64_t linear(const struct nvmm_x64_state *s, int seg, uint64_t offset, int adsize);
int fetch_code(struct machine *m, const struct nvmm_x64_state *s, uint64_t rip, uint8_t *bytes, int n);
uint8_t *guest_at(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, uint64_t *gpa, size_t *room);
int guest_read(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, void *data, size_t n);

/* decode.c */
int decode(const uint8_t *bytes, int n, const struct nvmm_x64_state *s, uint64_t rip, struct insn *out);
bool is_string(const struct insn *i);
bool writes_memory(const struct insn *i);
uint64_t gpr_read(const struct nvmm_x64_state *s, int index, int size, bool rex);
void gpr_write(struct nvmm_x64_state *s, int index, int size, bool rex, uint64_t value);
uint64_t size_mask(int bytes);

/* rewind.c */
void remember_entry(struct vcpu *v, uint64_t rip);
bool rewind_store(struct vcpu *v, struct nvmm_x64_state *s, uint64_t gpa, struct insn *out);
bool rewind_out(struct vcpu *v, struct nvmm_x64_state *s, bool advanced, struct insn *out);

#endif
