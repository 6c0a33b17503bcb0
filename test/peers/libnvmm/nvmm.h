/*
 * The user ABI of libnvmm, as NetBSD 10/11 (-DNVMM_NETBSD: kernel version 2) and DragonFly (-DNVMM_DRAGONFLY: kernel version 3,
 * user version 1) lay it out. Written from the measured facts in test/ffi/nvmm/abi.json, which a test compares with this
 * file field by field.
 */
#ifndef PEER_NVMM_H
#define PEER_NVMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(NVMM_NETBSD) == defined(NVMM_DRAGONFLY)
#error "define exactly one of NVMM_NETBSD and NVMM_DRAGONFLY"
#endif

enum { NVMM_PROT_READ = 1, NVMM_PROT_WRITE = 2, NVMM_PROT_EXEC = 4, NVMM_PROT_USER = 8, NVMM_PROT_ALL = 15 };

#ifdef NVMM_NETBSD
enum { NVMM_KERN_VERSION = 2, NVMM_USER_VERSION = 2, NVMM_MAX_VCPUS = 256 };
#define NVMM_MAX_RAM 0x2000000000ull
#else
enum { NVMM_KERN_VERSION = 3, NVMM_USER_VERSION = 1, NVMM_MAX_VCPUS = 128 };
#define NVMM_MAX_RAM 0x7F0000000000ull
#endif
enum { NVMM_MAX_MACHINES = 128, NVMM_MAX_HMAPPINGS = 32 };

/* ---- state ---------------------------------------------------------------------------------------------------- */

enum {
  NVMM_X64_SEG_ES, NVMM_X64_SEG_CS, NVMM_X64_SEG_SS, NVMM_X64_SEG_DS, NVMM_X64_SEG_FS, NVMM_X64_SEG_GS,
  NVMM_X64_SEG_GDT, NVMM_X64_SEG_IDT, NVMM_X64_SEG_LDT, NVMM_X64_SEG_TR, NVMM_X64_NSEG,
};
enum {
  NVMM_X64_GPR_RAX, NVMM_X64_GPR_RCX, NVMM_X64_GPR_RDX, NVMM_X64_GPR_RBX, NVMM_X64_GPR_RSP, NVMM_X64_GPR_RBP,
  NVMM_X64_GPR_RSI, NVMM_X64_GPR_RDI, NVMM_X64_GPR_R8, NVMM_X64_GPR_R9, NVMM_X64_GPR_R10, NVMM_X64_GPR_R11,
  NVMM_X64_GPR_R12, NVMM_X64_GPR_R13, NVMM_X64_GPR_R14, NVMM_X64_GPR_R15, NVMM_X64_GPR_RIP, NVMM_X64_GPR_RFLAGS,
  NVMM_X64_NGPR,
};
enum {
  NVMM_X64_CR_CR0, NVMM_X64_CR_CR2, NVMM_X64_CR_CR3, NVMM_X64_CR_CR4, NVMM_X64_CR_CR8, NVMM_X64_CR_XCR0, NVMM_X64_NCR,
};
enum {
  NVMM_X64_DR_DR0, NVMM_X64_DR_DR1, NVMM_X64_DR_DR2, NVMM_X64_DR_DR3, NVMM_X64_DR_DR6, NVMM_X64_DR_DR7, NVMM_X64_NDR,
};
enum {
  NVMM_X64_MSR_EFER, NVMM_X64_MSR_STAR, NVMM_X64_MSR_LSTAR, NVMM_X64_MSR_CSTAR, NVMM_X64_MSR_SFMASK,
  NVMM_X64_MSR_KERNELGSBASE, NVMM_X64_MSR_SYSENTER_CS, NVMM_X64_MSR_SYSENTER_ESP, NVMM_X64_MSR_SYSENTER_EIP,
  NVMM_X64_MSR_PAT, NVMM_X64_MSR_TSC, NVMM_X64_NMSR,
};
enum {
  NVMM_X64_STATE_SEGS = 0x01, NVMM_X64_STATE_GPRS = 0x02, NVMM_X64_STATE_CRS = 0x04, NVMM_X64_STATE_DRS = 0x08,
  NVMM_X64_STATE_MSRS = 0x10, NVMM_X64_STATE_INTR = 0x20, NVMM_X64_STATE_FPU = 0x40, NVMM_X64_STATE_ALL = 0x7f,
};

struct nvmm_x64_state_seg {
  uint16_t selector;
  struct {
    uint16_t type : 4;
    uint16_t s : 1;
    uint16_t dpl : 2;
    uint16_t p : 1;
    uint16_t avl : 1;
    uint16_t l : 1;
    uint16_t def : 1;
    uint16_t g : 1;
    uint16_t rsvd : 4;
  } attrib;
  uint32_t limit;
  uint64_t base;
};

struct nvmm_x64_state_intr {
  uint64_t int_shadow : 1;
  uint64_t int_window_exiting : 1;
  uint64_t nmi_window_exiting : 1;
  uint64_t evt_pending : 1;
  uint64_t rsvd : 60;
};

#ifdef NVMM_NETBSD
union fp_addr {
  uint64_t fa_64;
  struct {
    uint32_t fa_off;
    uint16_t fa_seg;
    uint16_t fa_opcode;
  } fa_32;
} __attribute__((packed, aligned(4)));
struct fpaccfx {
  struct {
    uint64_t f87_mantissa;
    uint16_t f87_exp_sign;
  } __attribute__((packed)) r;
} __attribute__((aligned(16)));
struct xmmreg {
  uint8_t xmm_bytes[16];
};
struct fxsave {
  uint16_t fx_cw;
  uint16_t fx_sw;
  uint8_t fx_tw;
  uint8_t fx_zero;
  uint16_t fx_opcode;
  union fp_addr fx_ip;
  union fp_addr fx_dp;
  uint32_t fx_mxcsr;
  uint32_t fx_mxcsr_mask;
  struct fpaccfx fx_87_ac[8];
  struct xmmreg fx_xmm[16];
  uint8_t fx_rsvd[48];
  uint8_t fx_kernel[48];
} __attribute__((aligned(16)));
typedef struct fxsave nvmm_fpu_image;
#else
union nvmm_x64_state_fpu_addr {
  uint64_t fa_64;
  struct {
    uint32_t fa_off;
    uint16_t fa_seg;
    uint16_t fa_opcode;
  } fa_32;
};
struct nvmm_x64_state_fpu_mmreg {
  uint64_t mm_significand;
  uint16_t mm_exp_sign;
  uint8_t mm_rsvd[6];
};
struct nvmm_x64_state_fpu_xmmreg {
  uint8_t xmm_bytes[16];
};
struct nvmm_x64_state_fpu {
  uint16_t fx_cw;
  uint16_t fx_sw;
  uint8_t fx_tw;
  uint8_t fx_zero;
  uint16_t fx_opcode;
  union nvmm_x64_state_fpu_addr fx_ip;
  union nvmm_x64_state_fpu_addr fx_dp;
  uint32_t fx_mxcsr;
  uint32_t fx_mxcsr_mask;
  struct nvmm_x64_state_fpu_mmreg fx_87_ac[8];
  struct nvmm_x64_state_fpu_xmmreg fx_xmm[16];
  uint8_t fx_rsvd[96];
} __attribute__((aligned(16)));
typedef struct nvmm_x64_state_fpu nvmm_fpu_image;
#endif

struct nvmm_x64_state {
  struct nvmm_x64_state_seg segs[NVMM_X64_NSEG];
  uint64_t gprs[NVMM_X64_NGPR];
  uint64_t crs[NVMM_X64_NCR];
  uint64_t drs[NVMM_X64_NDR];
  uint64_t msrs[NVMM_X64_NMSR];
  struct nvmm_x64_state_intr intr;
  nvmm_fpu_image fpu;
};

/* ---- exits and events ----------------------------------------------------------------------------------------- */

#define NVMM_VCPU_EXIT_NONE 0x0ull
#define NVMM_VCPU_EXIT_MEMORY 0x1ull
#define NVMM_VCPU_EXIT_IO 0x2ull
#define NVMM_VCPU_EXIT_SHUTDOWN 0x1000ull
#define NVMM_VCPU_EXIT_INT_READY 0x1001ull
#define NVMM_VCPU_EXIT_NMI_READY 0x1002ull
#define NVMM_VCPU_EXIT_HALTED 0x1003ull
#define NVMM_VCPU_EXIT_TPR_CHANGED 0x1004ull
#define NVMM_VCPU_EXIT_RDMSR 0x2000ull
#define NVMM_VCPU_EXIT_WRMSR 0x2001ull
#define NVMM_VCPU_EXIT_MONITOR 0x2002ull
#define NVMM_VCPU_EXIT_MWAIT 0x2003ull
#define NVMM_VCPU_EXIT_CPUID 0x2004ull
#ifdef NVMM_NETBSD
#define NVMM_VCPU_EXIT_STOPPED 0xFFFFFFFFFFFFFFFEull
#endif
#define NVMM_VCPU_EXIT_INVALID 0xFFFFFFFFFFFFFFFFull

struct nvmm_x86_exit_memory {
  int prot;
  uint64_t gpa;
  uint8_t inst_len;
  uint8_t inst_bytes[15];
};
struct nvmm_x86_exit_io {
  bool in;
  uint16_t port;
  int8_t seg;
  uint8_t address_size;
  uint8_t operand_size;
  bool rep;
  bool str;
  uint64_t npc;
};
struct nvmm_x86_exit_rdmsr {
  uint32_t msr;
  uint64_t npc;
};
struct nvmm_x86_exit_wrmsr {
  uint32_t msr;
  uint64_t val;
  uint64_t npc;
};
struct nvmm_x86_exit_insn {
  uint64_t npc;
};
struct nvmm_x86_exit_invalid {
  uint64_t hwcode;
};
struct nvmm_x86_exit {
  uint64_t reason;
  union {
    struct nvmm_x86_exit_memory mem;
    struct nvmm_x86_exit_io io;
    struct nvmm_x86_exit_rdmsr rdmsr;
    struct nvmm_x86_exit_wrmsr wrmsr;
    struct nvmm_x86_exit_insn insn;
    struct nvmm_x86_exit_invalid inv;
  } u;
  struct {
    uint64_t rflags;
    uint64_t cr8;
    uint64_t int_shadow : 1;
    uint64_t int_window_exiting : 1;
    uint64_t nmi_window_exiting : 1;
    uint64_t evt_pending : 1;
    uint64_t rsvd : 60;
  } exitstate;
};

enum { NVMM_VCPU_EVENT_EXCP, NVMM_VCPU_EVENT_INTR };
struct nvmm_x86_event {
  unsigned type;
  uint8_t vector;
  union {
    struct {
      uint64_t error;
    } excp;
  } u;
};

/* ---- configuration, capability -------------------------------------------------------------------------------- */

enum {
  NVMM_VCPU_CONF_CALLBACKS = 0, NVMM_VCPU_CONF_CPUID = 200, NVMM_VCPU_CONF_TPR = 201,
  NVMM_CAP_ARCH_VCPU_CONF_CPUID = 1, NVMM_CAP_ARCH_VCPU_CONF_TPR = 2,
};

struct nvmm_vcpu_conf_cpuid {
  uint32_t mask : 1;
  uint32_t exit : 1;
  uint32_t rsvd : 30;
  uint32_t leaf;
  union {
    struct {
      struct {
        uint32_t eax, ebx, ecx, edx;
      } set;
      struct {
        uint32_t eax, ebx, ecx, edx;
      } del;
    } mask;
  } u;
};
struct nvmm_vcpu_conf_tpr {
  uint32_t exit_changed : 1;
  uint32_t rsvd : 31;
};

struct nvmm_cap_md {
  uint64_t mach_conf_support;
  uint64_t vcpu_conf_support;
  uint64_t xcr0_mask;
  uint32_t mxcsr_mask;
  uint32_t conf_cpuid_maxops;
  uint64_t rsvd[6];
};
struct nvmm_capability {
  uint32_t version;
  uint32_t state_size;
#ifdef NVMM_DRAGONFLY
  uint32_t comm_size;
#endif
  uint32_t max_machines;
  uint32_t max_vcpus;
  uint64_t max_ram;
  struct nvmm_cap_md arch;
};

enum { NVMM_CTL_MACH_INFO = 0 };
struct nvmm_ctl_mach_info {
  uint32_t machid;
  uint32_t nvcpus;
  uint64_t nram;
  int32_t pid;
  int64_t time;
};

/* ---- objects -------------------------------------------------------------------------------------------------- */

struct nvmm_comm_page {
  uint64_t state_wanted;
  uint64_t state_cached;
  uint64_t state_commit;
  struct nvmm_x64_state state __attribute__((aligned(16)));
  bool event_commit;
  struct nvmm_x86_event event;
#ifdef NVMM_NETBSD
  int stop;
#endif
};

struct nvmm_vcpu;
struct nvmm_machine {
  uint32_t machid;
  struct nvmm_comm_page **pages;
  void *areas;
};
struct nvmm_io {
  struct nvmm_machine *mach;
  struct nvmm_vcpu *vcpu;
  uint16_t port;
  bool in;
  size_t size;
  uint8_t *data;
};
struct nvmm_mem {
  struct nvmm_machine *mach;
  struct nvmm_vcpu *vcpu;
  uint64_t gpa;
  bool write;
  size_t size;
  uint8_t *data;
};
struct nvmm_assist_callbacks {
  void (*io)(struct nvmm_io *);
  void (*mem)(struct nvmm_mem *);
};
struct nvmm_vcpu {
  uint32_t cpuid;
  struct nvmm_assist_callbacks cbs;
  struct nvmm_x64_state *state;
  struct nvmm_x86_event *event;
  struct nvmm_x86_exit *exit;
#ifdef NVMM_NETBSD
  int *stop;
#endif
};

int nvmm_init(void);
int nvmm_root_init(void);
int nvmm_capability(struct nvmm_capability *);
int nvmm_machine_create(struct nvmm_machine *);
int nvmm_machine_destroy(struct nvmm_machine *);
int nvmm_machine_configure(struct nvmm_machine *, uint64_t, void *);
int nvmm_vcpu_create(struct nvmm_machine *, uint32_t, struct nvmm_vcpu *);
int nvmm_vcpu_destroy(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_configure(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t, void *);
int nvmm_vcpu_setstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_getstate(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
int nvmm_vcpu_inject(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_vcpu_run(struct nvmm_machine *, struct nvmm_vcpu *);
#ifdef NVMM_NETBSD
int nvmm_vcpu_stop(struct nvmm_vcpu *);
#endif
int nvmm_gpa_map(struct nvmm_machine *, uintptr_t, uint64_t, size_t, int);
int nvmm_gpa_unmap(struct nvmm_machine *, uintptr_t, uint64_t, size_t);
int nvmm_hva_map(struct nvmm_machine *, uintptr_t, size_t);
int nvmm_hva_unmap(struct nvmm_machine *, uintptr_t, size_t);
int nvmm_gva_to_gpa(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t, uint64_t *, uint64_t *);
int nvmm_gpa_to_hva(struct nvmm_machine *, uint64_t, uintptr_t *, uint64_t *);
int nvmm_assist_io(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_assist_mem(struct nvmm_machine *, struct nvmm_vcpu *);
int nvmm_ctl(int, void *, size_t);
int nvmm_vcpu_dump(struct nvmm_machine *, struct nvmm_vcpu *);

#endif
