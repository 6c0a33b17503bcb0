/*
 * libnvmm for Linux: running a vCPU. One nvmm_vcpu_run() is one or more KVM_RUN, with KVM's exits turned into NVMM's. NVMM
 * leaves RIP at the instruction and has done nothing of it; KVM waits for an answer or has done it already. So every IO,
 * MEMORY and MSR exit is settled at once: KVM finishes the instruction with made-up data (KVM_RUN with immediate_exit),
 * and the registers and memory it changed are put back.
 */
#define _GNU_SOURCE
#include "peer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* AMD's VMEXIT_NPF. */
enum { NESTED_PAGE_FAULT = 0x400 };
enum { FLAG_IF = 0x200, FLAG_DF = 0x400, SYNCED = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS };
#define MEMORY_STATE (NVMM_X64_STATE_GPRS | NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS)

static int run_bytes;

/* ---- creation ---------------------------------------------------------------------------------------------------- */

static void reset_segment(struct nvmm_x64_state_seg *seg, int type) {
  memset(seg, 0, sizeof *seg);
  seg->limit = 0xffff;
  seg->attrib.type = (uint16_t)type;
  seg->attrib.p = 1;
}

/* What NVMM gives a new vCPU (abi/nvmm.md, "State details"). */
void reset_state(struct nvmm_x64_state *s) {
  memset(s, 0, sizeof *s);
  for (int i = 0; i < NVMM_X64_NSEG; i++) {
    reset_segment(&s->segs[i], 3);
    s->segs[i].attrib.s = i < NVMM_X64_SEG_GDT;
  }
  s->segs[NVMM_X64_SEG_CS].attrib.type = 11;
  s->segs[NVMM_X64_SEG_CS].selector = 0xf000;
  s->segs[NVMM_X64_SEG_CS].base = 0xffff0000;
  s->segs[NVMM_X64_SEG_GDT].attrib.p = s->segs[NVMM_X64_SEG_IDT].attrib.p = 0;
  s->segs[NVMM_X64_SEG_GDT].attrib.type = s->segs[NVMM_X64_SEG_IDT].attrib.type = 0;
  s->segs[NVMM_X64_SEG_LDT].attrib.type = 2;
  s->segs[NVMM_X64_SEG_TR].attrib.type = 11;
  s->gprs[NVMM_X64_GPR_RDX] = 0x600;
  s->gprs[NVMM_X64_GPR_RIP] = 0xfff0;
  s->gprs[NVMM_X64_GPR_RFLAGS] = 2;
  s->crs[NVMM_X64_CR_CR0] = 0x60000010;
  s->crs[NVMM_X64_CR_XCR0] = 1;
  s->drs[NVMM_X64_DR_DR6] = 0xffff0ff0;
  s->drs[NVMM_X64_DR_DR7] = 0x400;
  s->msrs[NVMM_X64_MSR_PAT] = 0x0007040600070406;
  s->fpu.fx_cw = 0x40;
  s->fpu.fx_mxcsr = 0x1f80;
  s->fpu.fx_mxcsr_mask = 0xffbf;
}

/* MSRs that NVMM's kernel part serves itself; all others exit. */
static const uint32_t served[] = {0x10,       0x174,      0x175,      0x176,      0x277,      0xC0000080, 0xC0000081,
                                  0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102};
/* Read as 0, writes ignored (AMD). */
static const uint32_t ignored[] = {0x8b, 0xC001001F, 0xC0010055, 0xC0011021, 0xC0011029};

static bool is_ignored(uint32_t msr) {
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
    if (ignored[i] == msr) return true;
  }
  return false;
}

static void filter_msrs(int vmfd) {
  struct kvm_enable_cap cap = {
      .cap = KVM_CAP_X86_USER_SPACE_MSR,
      .args = {KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER},
  };
  if (ioctl(vmfd, KVM_ENABLE_CAP, &cap) < 0) die("KVM has no user-space MSR exits: %s", strerror(errno));
  uint8_t bits[sizeof served / sizeof *served];
  memset(bits, 1, sizeof bits);
  struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
  for (size_t i = 0; i < sizeof served / sizeof *served; i++) {
    filter.ranges[i] = (struct kvm_msr_filter_range){
        .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = served[i], .bitmap = &bits[i]};
  }
  if (ioctl(vmfd, KVM_X86_SET_MSR_FILTER, &filter) < 0) die("KVM refused the MSR filter: %s", strerror(errno));
}

int kvm_vcpu_open(struct vcpu *v) {
  bool fresh = v->mach->vmfd < 0;
  int vmfd = machine_vm(v->mach);
  if (fresh) filter_msrs(vmfd);
  if (run_bytes == 0) run_bytes = ioctl(peer_kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  v->fd = ioctl(vmfd, KVM_CREATE_VCPU, v->id);
  if (v->fd < 0) return -1;
  v->run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
  v->run->kvm_valid_regs = SYNCED;
  /* A started vCPU, whatever its number: NVMM has no INIT or SIPI. */
  struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
  ioctl(v->fd, KVM_SET_MP_STATE, &runnable);
  if (ioctl(v->fd, KVM_GET_REGS, &v->run->s.regs.regs) < 0) return -1;
  if (ioctl(v->fd, KVM_GET_SREGS, &v->run->s.regs.sregs) < 0) return -1;
  if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &v->run->s.regs.events) < 0) return -1;
  v->cpuid_stale = true;
  if (cpuid_refresh(v) < 0) return -1;
  return state_apply(v, &v->comm->state, NVMM_X64_STATE_ALL);
}

void kvm_vcpu_close(struct vcpu *v) {
  if (v->fd < 0) return;
  munmap(v->run, (size_t)run_bytes);
  close(v->fd);
  v->fd = -1;
}

/* ---- settling what KVM has begun ---------------------------------------------------------------------------------- */

enum { WINDOW = 1024 }; /* what KVM reads ahead for INS at most */
struct saved {
  uint8_t *at;
  size_t n;
  uint8_t bytes[WINDOW];
};

/* Guest memory that finishing an instruction with made-up data could overwrite. */
static void save_window(struct vcpu *v, const struct nvmm_x64_state *s, uint64_t gva, size_t n, struct saved *w) {
  uint64_t gpa;
  size_t room;
  w->n = 0;
  w->at = guest_at(v->mach, s, gva, &gpa, &room);
  if (w->at == NULL || !(area_at(v->mach, gpa)->prot & NVMM_PROT_WRITE)) return;
  w->n = n < room ? n : room;
  if (w->n > WINDOW) w->n = WINDOW;
  memcpy(w->bytes, w->at, w->n);
}

static void restore_window(const struct saved *w) {
  if (w->n) memcpy(w->at, w->bytes, w->n);
}

static void answer_with_zeros(struct kvm_run *run) {
  if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN) {
    memset((char *)run + run->io.data_offset, 0, (size_t)run->io.size * run->io.count);
  } else if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write) {
    memset(run->mmio.data, 0, sizeof run->mmio.data);
  } else if (run->exit_reason == KVM_EXIT_X86_RDMSR || run->exit_reason == KVM_EXIT_X86_WRMSR) {
    run->msr.error = 0;
    run->msr.data = 0;
  }
}

/*
 * Lets KVM finish the instruction without entering the guest. `insn` is that instruction, where it reads from a port or from
 * MMIO: then it may write to ES:RDI or to the stack. What KVM has read must be consumed, or the next instruction gets it.
 */
static void settle(struct vcpu *v, const struct nvmm_x64_state *s, const struct insn *insn) {
  static __thread struct saved windows[2];
  windows[0].n = windows[1].n = 0;
  if (insn != NULL) {
    bool port = v->run->exit_reason == KVM_EXIT_IO;
    uint64_t n = port ? (uint64_t)v->run->io.size * v->run->io.count : 8;
    uint64_t rdi = s->gprs[NVMM_X64_GPR_RDI], down = s->gprs[NVMM_X64_GPR_RFLAGS] & FLAG_DF;
    if (port && down) rdi -= n - v->run->io.size;
    save_window(v, s, linear(s, NVMM_X64_SEG_ES, rdi, insn->adsize), n, &windows[0]);
    save_window(v, s, linear(s, NVMM_X64_SEG_SS, s->gprs[NVMM_X64_GPR_RSP] - 8, 8), 8, &windows[1]);
    if (insn->rep && !port) { /* this element only */
      v->run->s.regs.regs.rcx = 1;
      v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    }
  }
  for (int i = 0; i < 64; i++) {
    answer_with_zeros(v->run);
    v->run->immediate_exit = 1;
    int r = ioctl(v->fd, KVM_RUN, 0);
    v->run->immediate_exit = 0;
    if (r < 0 && errno == EINTR) break;
    if (r < 0) die("KVM did not finish an instruction: %s", strerror(errno));
  }
  restore_window(&windows[0]);
  restore_window(&windows[1]);
}

/* Puts the registers of *s back into KVM, and the interrupt shadow as it was at the exit. */
static void put_back(struct vcpu *v, const struct nvmm_x64_state *s, const struct kvm_vcpu_events *events) {
  state_apply(v, s, NVMM_X64_STATE_GPRS);
  if (v->run->s.regs.events.interrupt.shadow != events->interrupt.shadow) {
    v->run->s.regs.events.interrupt.shadow = events->interrupt.shadow;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
  }
}

/* ---- exits ------------------------------------------------------------------------------------------------------- */

static uint64_t next_pc(const struct nvmm_x64_state *s, uint64_t rip, int len) {
  uint64_t next = rip + (uint64_t)len;
  return code_bits(s) == 64 ? next : next & 0xffffffff;
}

static int decode_at_rip(struct vcpu *v, const struct nvmm_x64_state *s, uint8_t bytes[15], int *n, struct insn *i) {
  *n = fetch_code(v->mach, s, s->gprs[NVMM_X64_GPR_RIP], bytes, 15);
  return decode(bytes, *n, s, s->gprs[NVMM_X64_GPR_RIP], i);
}

static void describe_io(struct nvmm_x86_exit_io *io, const struct nvmm_x64_state *s, const struct insn *i) {
  io->str = is_string(i);
  io->rep = io->str && i->rep;
  io->seg = (int8_t)(io->str && peer_options[O_INTEL] ? i->seg : -1);
  io->address_size = (uint8_t)i->adsize;
  io->npc = next_pc(s, s->gprs[NVMM_X64_GPR_RIP], i->len);
}

static uint64_t exit_io(struct vcpu *v, struct nvmm_x64_state *s) {
  struct kvm_run *run = v->run;
  struct kvm_vcpu_events events = run->s.regs.events;
  struct insn i = {.segover = -1};
  uint8_t bytes[15];
  int n;
  bool in = run->io.direction == KVM_EXIT_IO_IN;
  struct nvmm_x86_exit_io *io = &v->exit->u.io;
  io->in = in;
  io->port = run->io.port;
  io->operand_size = run->io.size;
  uint64_t rip = s->gprs[NVMM_X64_GPR_RIP];
  bool known;
  if (in) {
    known = decode_at_rip(v, s, bytes, &n, &i) > 0;
    settle(v, s, known ? &i : NULL);
  } else {
    /* The data must be looked at before settling, so both readings are tried and the move of RIP chooses. */
    struct nvmm_x64_state behind = *s;
    struct insn done;
    bool executed = rewind_out(v, &behind, false, &done);
    settle(v, s, NULL);
    bool advanced = run->s.regs.regs.rip != rip;
    known = advanced ? rewind_out(v, s, true, &i) : executed;
    if (!advanced && executed) {
      *s = behind;
      i = done;
    }
  }
  if (!known) {
    n = fetch_code(v->mach, s, rip - 8, bytes, 15);
    die("cannot find the instruction of an I/O exit (port %#x, %u bytes) around RIP %#lx: %02x %02x %02x %02x %02x %02x %02x %02x | %02x %02x %02x %02x",
        run->io.port, run->io.size, rip, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]);
  }
  describe_io(io, s, &i);
  put_back(v, s, &events);
  return NVMM_VCPU_EXIT_IO;
}

static uint64_t exit_memory(struct vcpu *v, struct nvmm_x64_state *s) {
  struct kvm_run *run = v->run;
  struct kvm_vcpu_events events = run->s.regs.events;
  struct nvmm_x86_exit_memory *mem = &v->exit->u.mem;
  uint64_t gpa = run->mmio.phys_addr;
  struct insn i;
  uint8_t bytes[15];
  int n;
  bool store = run->mmio.is_write;
  bool known = store ? rewind_store(v, s, gpa, &i) : true;
  if (known) known = decode_at_rip(v, s, bytes, &n, &i) > 0;
  struct nvmm_x64_state kept = *s;
  settle(v, s, !store && known ? &i : NULL);
  put_back(v, &kept, &events);
  if (!known) { /* a CALL, an exception or the like, to a stack that nothing backs: no assist could go on from there either */
    v->exit->u.inv.hwcode = NESTED_PAGE_FAULT;
    return NVMM_VCPU_EXIT_INVALID;
  }
  if (i.opcode == 0x6E || i.opcode == 0x6F) { /* a processor exits for the port before OUTS loads */
    struct nvmm_x86_exit_io io = {.port = (uint16_t)kept.gprs[NVMM_X64_GPR_RDX], .operand_size = (uint8_t)i.opsize};
    describe_io(&io, &kept, &i);
    v->exit->u.io = io;
    return NVMM_VCPU_EXIT_IO;
  }
  mem->gpa = gpa;
  mem->prot = store || (writes_memory(&i) && !is_string(&i)) ? NVMM_PROT_WRITE : NVMM_PROT_READ;
  if (!peer_options[O_INTEL]) {
    mem->inst_len = (uint8_t)n;
    memcpy(mem->inst_bytes, bytes, (size_t)n);
  }
  return NVMM_VCPU_EXIT_MEMORY;
}

/* Returns false where the kernel part serves the MSR itself and the guest goes on. */
static bool exit_msr(struct vcpu *v, struct nvmm_x64_state *s, uint64_t *reason) {
  struct kvm_run *run = v->run;
  bool write = run->exit_reason == KVM_EXIT_X86_WRMSR;
  if (run->msr.reason != KVM_MSR_EXIT_REASON_FILTER) { /* an invalid value of an MSR the kernel part serves */
    run->msr.error = 1;
    return false;
  }
  if (is_ignored(run->msr.index)) {
    run->msr.error = 0;
    run->msr.data = 0;
    return false;
  }
  struct kvm_vcpu_events events = run->s.regs.events;
  uint8_t bytes[15];
  int n;
  struct insn i;
  if (decode_at_rip(v, s, bytes, &n, &i) < 0) die("cannot decode an MSR access at RIP %#lx", s->gprs[NVMM_X64_GPR_RIP]);
  uint64_t npc = next_pc(s, s->gprs[NVMM_X64_GPR_RIP], i.len);
  if (write) {
    v->exit->u.wrmsr = (struct nvmm_x86_exit_wrmsr){run->msr.index, run->msr.data, npc};
  } else {
    v->exit->u.rdmsr = (struct nvmm_x86_exit_rdmsr){run->msr.index, npc};
  }
  settle(v, s, NULL);
  put_back(v, s, &events);
  *reason = write ? NVMM_VCPU_EXIT_WRMSR : NVMM_VCPU_EXIT_RDMSR;
  return true;
}

/*
 * KVM could not emulate. NVMM emulates nothing, so code where no memory is makes it report a fetch, and an operand where none is
 * an access; all else is INVALID.
 */
static uint64_t exit_error(struct vcpu *v, struct nvmm_x64_state *s) {
  struct nvmm_x86_exit_memory *mem = &v->exit->u.mem;
  uint64_t gpa, prot;
  uint64_t rip = linear(s, NVMM_X64_SEG_CS, s->gprs[NVMM_X64_GPR_RIP], code_bits(s) == 64 ? 8 : 4);
  if (walk(v->mach, s, rip, &gpa, &prot) == 0 && area_at(v->mach, gpa) == NULL) {
    *mem = (struct nvmm_x86_exit_memory){.gpa = gpa, .prot = NVMM_PROT_EXEC};
    return NVMM_VCPU_EXIT_MEMORY;
  }
  uint8_t bytes[15];
  int n;
  struct insn i;
  bool operand = decode_at_rip(v, s, bytes, &n, &i) > 0 && i.mem &&
                 walk(v->mach, s, linear(s, i.seg, i.offset, i.adsize), &gpa, &prot) == 0;
  if (operand && area_at(v->mach, gpa) == NULL) {
    *mem = (struct nvmm_x86_exit_memory){.gpa = gpa, .prot = writes_memory(&i) ? NVMM_PROT_WRITE : NVMM_PROT_READ};
    if (!peer_options[O_INTEL]) {
      mem->inst_len = (uint8_t)n;
      memcpy(mem->inst_bytes, bytes, (size_t)n);
    }
    return NVMM_VCPU_EXIT_MEMORY;
  }
  v->exit->u.inv.hwcode = v->run->exit_reason == KVM_EXIT_FAIL_ENTRY ? ~0ull : v->run->internal.suberror;
  return NVMM_VCPU_EXIT_INVALID;
}

/* ---- stepping: for what KVM does not report -------------------------------------------------------------------------- */

static bool wants_steps(struct vcpu *v) { return peer_options[O_STEP] || v->nmi_window || cpuid_watched(v); }

/*
 * KVM arms the trap flag for the RIP it holds when KVM_SET_GUEST_DEBUG comes, and drops it when registers are set to another
 * RIP; so registers that wait in the sync area go first, and arming is repeated after each of them.
 */
static void set_stepping(struct vcpu *v, bool on) {
  if (!on && !v->stepping) return;
  struct kvm_run *run = v->run;
  bool moved = run->kvm_dirty_regs & (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
  if (v->stepping && on && !moved) return;
  if (run->kvm_dirty_regs & KVM_SYNC_X86_SREGS && ioctl(v->fd, KVM_SET_SREGS, &run->s.regs.sregs) < 0) return;
  if (run->kvm_dirty_regs & KVM_SYNC_X86_REGS && ioctl(v->fd, KVM_SET_REGS, &run->s.regs.regs) < 0) return;
  run->kvm_dirty_regs &= ~(__u64)(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
  struct kvm_guest_debug debug = {.control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};
  if (ioctl(v->fd, KVM_SET_GUEST_DEBUG, &debug) < 0) die("KVM refused single steps: %s", strerror(errno));
  v->stepping = on;
}

/* An event that waits for delivery comes before the instruction at RIP. */
static bool event_waits(struct vcpu *v) {
  const struct kvm_vcpu_events *e = &v->run->s.regs.events;
  return e->exception.injected || e->interrupt.injected || e->nmi.injected || e->nmi.pending;
}

/* Looks at the instruction that comes next. Returns 0 to execute it, 1 for an exit in *reason, 2 when it was done here. */
static int watch(struct vcpu *v, uint64_t *reason) {
  struct nvmm_x64_state s;
  state_fetch(v, &s, MEMORY_STATE);
  struct insn i;
  uint8_t bytes[15];
  int n;
  if (decode_at_rip(v, &s, bytes, &n, &i) < 0) return 0;
  uint64_t npc = next_pc(&s, s.gprs[NVMM_X64_GPR_RIP], i.len);
  bool monitor = i.opcode == 0xF01 && i.mod == 3 && i.reg == 1 && (i.rm == 0 || i.rm == 1);
  if (monitor && peer_options[O_STEP]) {
    v->exit->u.insn.npc = npc;
    *reason = i.rm == 0 ? NVMM_VCPU_EXIT_MONITOR : NVMM_VCPU_EXIT_MWAIT;
    return 1;
  }
  if (i.opcode == 0xF4 && s.segs[NVMM_X64_SEG_SS].attrib.dpl == 0) { /* KVM would report the step, not the HLT */
    s.gprs[NVMM_X64_GPR_RIP] = npc;
    state_apply(v, &s, NVMM_X64_STATE_GPRS);
    v->run->s.regs.events.interrupt.shadow = 0;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    if (s.gprs[NVMM_X64_GPR_RFLAGS] & FLAG_IF) v->int_window = false;
    *reason = NVMM_VCPU_EXIT_HALTED;
    return 1;
  }
  if (i.opcode != 0xFA2 || !cpuid_watched(v)) return 0;
  uint32_t leaf = (uint32_t)s.gprs[NVMM_X64_GPR_RAX], out[4];
  cpuid_answer(v, leaf, (uint32_t)s.gprs[NVMM_X64_GPR_RCX], out);
  s.gprs[NVMM_X64_GPR_RAX] = out[0];
  s.gprs[NVMM_X64_GPR_RBX] = out[1];
  s.gprs[NVMM_X64_GPR_RCX] = out[2];
  s.gprs[NVMM_X64_GPR_RDX] = out[3];
  bool exits = cpuid_exits(v, leaf);
  if (!exits) s.gprs[NVMM_X64_GPR_RIP] = npc;
  state_apply(v, &s, NVMM_X64_STATE_GPRS);
  v->exit->u.insn.npc = npc;
  *reason = NVMM_VCPU_EXIT_CPUID;
  return exits ? 1 : 2;
}

/* ---- run --------------------------------------------------------------------------------------------------------- */

static bool has_error_code(int vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 30 ||
         (vector == 21 && peer_options[O_INTEL]);
}

static int inject(struct vcpu *v) {
  const struct nvmm_x86_event *e = &v->comm->event;
  struct kvm_vcpu_events *events = &v->run->s.regs.events;
  v->comm->event_commit = false;
  bool pending = events->interrupt.injected || events->nmi.injected || events->exception.injected;
  if (pending) violation("an event is injected over one that is still being delivered");
  if (e->type == NVMM_VCPU_EVENT_INTR && e->vector == 2) {
    events->nmi.pending = 1;
    events->flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
    v->nmi_window = true;
  } else if (e->type == NVMM_VCPU_EVENT_INTR) {
    if (!(v->run->s.regs.regs.rflags & FLAG_IF)) violation("interrupt %u injected while RFLAGS.IF is 0", e->vector);
    if (events->interrupt.shadow) violation("interrupt %u injected in an interrupt shadow", e->vector);
    events->interrupt.injected = 1;
    events->interrupt.nr = e->vector;
    events->interrupt.soft = 0;
  } else if (e->type == NVMM_VCPU_EVENT_EXCP) {
    if (e->vector == 0 || e->vector == 2 || e->vector == 3 || e->vector >= 32) return fail(EINVAL);
    events->exception.injected = 1;
    events->exception.nr = e->vector;
    events->exception.has_error_code = has_error_code(e->vector);
    events->exception.error_code = events->exception.has_error_code ? (uint32_t)e->u.excp.error : 0;
  } else {
    return fail(EINVAL);
  }
  v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
  return 0;
}

static bool interruptible(struct vcpu *v) {
  return (v->run->s.regs.regs.rflags & FLAG_IF) && !v->run->s.regs.events.interrupt.shadow && !event_waits(v);
}

/* Reads and clears the stop word. */
static bool stop_seen(struct vcpu *v) {
#ifdef NVMM_NETBSD
  return __atomic_exchange_n(&v->comm->stop, 0, __ATOMIC_SEQ_CST) != 0;
#else
  (void)v;
  return false;
#endif
}

static bool every(enum option which, uint64_t *counter) {
  int64_t n = peer_options[which];
  return n > 0 && ++*counter % (uint64_t)n == 0;
}

static uint64_t stopped_reason(void) {
#ifdef NVMM_NETBSD
  return NVMM_VCPU_EXIT_STOPPED;
#else
  return NVMM_VCPU_EXIT_NONE;
#endif
}

/* One KVM exit. Returns false when the guest simply goes on. */
static bool translate_exit(struct vcpu *v, struct nvmm_x64_state *s, uint64_t *reason) {
  struct kvm_run *run = v->run;
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      state_fetch(v, s, MEMORY_STATE);
      *reason = exit_io(v, s);
      return true;
    case KVM_EXIT_MMIO:
      state_fetch(v, s, MEMORY_STATE);
      *reason = exit_memory(v, s);
      return true;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
      state_fetch(v, s, MEMORY_STATE);
      return exit_msr(v, s, reason);
    case KVM_EXIT_HLT:
      if (run->s.regs.regs.rflags & FLAG_IF) v->int_window = false;
      *reason = NVMM_VCPU_EXIT_HALTED;
      return true;
    case KVM_EXIT_SHUTDOWN:
      *reason = NVMM_VCPU_EXIT_SHUTDOWN;
      return true;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      if (!v->int_window) return false;
      v->int_window = false;
      *reason = NVMM_VCPU_EXIT_INT_READY;
      return true;
    case KVM_EXIT_SET_TPR:
      *reason = NVMM_VCPU_EXIT_TPR_CHANGED;
      return v->tpr_exit;
    case KVM_EXIT_DEBUG:
      if (v->tpr_exit && run->cr8 != v->stepped_cr8) { /* KVM tells only of hardware's exits for CR8 */
        *reason = NVMM_VCPU_EXIT_TPR_CHANGED;
        return true;
      }
      if (!v->nmi_window || run->s.regs.events.nmi.masked || run->s.regs.events.nmi.pending) return false;
      v->nmi_window = false;
      *reason = NVMM_VCPU_EXIT_NMI_READY;
      return true;
    case KVM_EXIT_INTERNAL_ERROR:
    case KVM_EXIT_FAIL_ENTRY:
      state_fetch(v, s, MEMORY_STATE);
      *reason = exit_error(v, s);
      return true;
    default:
      die("KVM exit %u has no counterpart in NVMM", run->exit_reason);
  }
}

/* NetBSD asks again after an exit whether to return, and then the answer replaces the reason. */
static uint64_t reason_or_wish(struct vcpu *v, uint64_t reason) {
#ifdef NVMM_NETBSD
  static uint64_t exits;
  if (stop_seen(v)) return NVMM_VCPU_EXIT_STOPPED;
  if (every(O_OVERWRITE, &exits)) return NVMM_VCPU_EXIT_NONE;
#endif
  (void)v;
  return reason;
}

/* Enters the guest until something needs user space. */
static uint64_t enter(struct vcpu *v, bool *entered) {
  struct nvmm_x64_state s;
  for (;;) {
    uint64_t reason;
    if (stop_seen(v)) return stopped_reason();
    if (wants_steps(v) && !event_waits(v)) {
      int seen = watch(v, &reason);
      if (seen != 0) *entered = true;
      if (seen == 1) return reason_or_wish(v, reason);
      if (seen == 2) continue;
    }
    /* A step that delivers an event also executes the first instruction behind it, unseen; an NMI's end must be seen, though. */
    set_stepping(v, wants_steps(v) && (v->nmi_window || !event_waits(v)));
    /* An open window exits before the next instruction; a KVM that emulates would look only now and then. */
    if (v->int_window && interruptible(v)) {
      v->int_window = false;
      *entered = true;
      return NVMM_VCPU_EXIT_INT_READY;
    }
    v->run->request_interrupt_window = v->int_window;
    remember_entry(v, v->run->s.regs.regs.rip);
    v->stepped_cr8 = v->run->cr8;
    v->started = true;
    int r = ioctl(v->fd, KVM_RUN, 0);
    if (r < 0 && errno == EINTR) {
      bool tick = v->run->immediate_exit;
      v->run->immediate_exit = 0;
      *entered = *entered || v->run->s.regs.regs.rip != v->entry_rip;
      if (tick) {
        *entered = true;
        continue;
      }
      return NVMM_VCPU_EXIT_NONE;
    }
    if (r < 0) {
      v->exit->u.inv.hwcode = ~0ull;
      return NVMM_VCPU_EXIT_INVALID;
    }
    *entered = true;
    if (!translate_exit(v, &s, &reason)) continue;
    return reason_or_wish(v, reason);
  }
}

static uint64_t prefetched(uint64_t reason) {
  switch (reason) {
    case NVMM_VCPU_EXIT_IO:
    case NVMM_VCPU_EXIT_MEMORY:
      return MEMORY_STATE;
    case NVMM_VCPU_EXIT_RDMSR:
    case NVMM_VCPU_EXIT_WRMSR:
      return NVMM_X64_STATE_GPRS;
    default:
      return 0;
  }
}

static void fill_exitstate(struct vcpu *v) {
  struct nvmm_x64_state s;
  state_fetch(v, &s, NVMM_X64_STATE_INTR);
  v->exit->exitstate.rflags = v->run->s.regs.regs.rflags | 2;
  v->exit->exitstate.cr8 = v->run->cr8;
  v->exit->exitstate.int_shadow = s.intr.int_shadow;
  v->exit->exitstate.int_window_exiting = s.intr.int_window_exiting;
  v->exit->exitstate.nmi_window_exiting = s.intr.nmi_window_exiting;
  v->exit->exitstate.evt_pending = s.intr.evt_pending;
}

int nvmm_vcpu_run(struct nvmm_machine *mach, struct nvmm_vcpu *user) {
  static uint64_t runs;
  struct vcpu *v = find_vcpu(mach, user, "nvmm_vcpu_run");
  if (v->in_assist) violation("nvmm_vcpu_run from an assist callback");
  count_syscall(C_RUN);
  start_ticker();
  if (peer_options[O_RUN_ERRNO]) {
    int code = (int)peer_options[O_RUN_ERRNO];
    peer_options[O_RUN_ERRNO] = 0;
    return fail(code);
  }
  if (cpuid_refresh(v) < 0) die("KVM refused CPUID: %s", strerror(errno));
  uint64_t commit = v->comm->state_commit;
  v->comm->state_commit = 0;
  v->comm->state_cached = 0;
  if (commit && state_apply(v, &v->comm->state, commit) < 0) die("KVM refused state of groups %#lx: %s", commit, strerror(errno));
  state_poison(&v->comm->state, NVMM_X64_STATE_ALL);
  if (v->comm->event_commit && inject(v) < 0) return -1;
  memset(v->exit, 0, sizeof *v->exit);
  bool entered = false;
  uint64_t reason = NVMM_VCPU_EXIT_NONE;
  if (!every(O_SPURIOUS, &runs)) {
    v->thread = pthread_self();
    v->running = true;
    reason = enter(v, &entered);
    v->running = false;
  }
  v->exit->reason = reason;
  if (entered) fill_exitstate(v);
  uint64_t cached = prefetched(reason);
  if (cached && state_fetch(v, &v->comm->state, cached) < 0) die("KVM refused to give state: %s", strerror(errno));
  v->comm->state_cached = cached;
  stop_seen(v);
  return 0;
}
