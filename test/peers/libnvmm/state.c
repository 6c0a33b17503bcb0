/*
 * libnvmm for Linux: vCPU state between the comm page and KVM. GPRs, segments, control registers and events live in the
 * sync area of kvm_run (KVM_CAP_SYNC_REGS), so that they cost no ioctl, as they cost none inside NVMM's kernel part.
 */
#include "peer.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* KVM's order of the sixteen GPRs in struct kvm_regs differs from the encoding order that NVMM uses. */
static const uint8_t kvm_gpr[16] = {0, 2, 3, 1, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15};

static const uint32_t msr_index[NVMM_X64_NMSR] = {
    0, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0x174, 0x175, 0x176, 0x277, 0x10,
};

static struct kvm_segment *kvm_seg(struct kvm_sregs *s, int seg) {
  struct kvm_segment *by[] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs, NULL, NULL, &s->ldt, &s->tr};
  return by[seg];
}

static void gprs_out(const struct kvm_regs *k, uint64_t *gprs) {
  const uint64_t *from = (const uint64_t *)k; /* rax to r15, rip, rflags: 18 words without padding */
  for (int i = 0; i < 16; i++) gprs[i] = from[kvm_gpr[i]];
  gprs[NVMM_X64_GPR_RIP] = k->rip;
  gprs[NVMM_X64_GPR_RFLAGS] = k->rflags;
}

static void gprs_in(const uint64_t *gprs, struct kvm_regs *k) {
  uint64_t *to = (uint64_t *)k;
  for (int i = 0; i < 16; i++) to[kvm_gpr[i]] = gprs[i];
  k->rip = gprs[NVMM_X64_GPR_RIP];
  k->rflags = gprs[NVMM_X64_GPR_RFLAGS] | 2;
}

static void segs_out(struct kvm_sregs *k, struct nvmm_x64_state_seg *segs) {
  for (int i = 0; i < NVMM_X64_NSEG; i++) {
    struct kvm_segment *from = kvm_seg(k, i);
    if (from == NULL) {
      struct kvm_dtable *table = i == NVMM_X64_SEG_GDT ? &k->gdt : &k->idt;
      segs[i] = (struct nvmm_x64_state_seg){.limit = table->limit, .base = table->base};
      continue;
    }
    segs[i] = (struct nvmm_x64_state_seg){
        .selector = from->selector,
        .attrib = {.type = from->type, .s = from->s, .dpl = from->dpl, .p = from->present && !from->unusable,
                   .avl = from->avl, .l = from->l, .def = from->db, .g = from->g},
        .limit = from->limit,
        .base = from->base,
    };
  }
}

static void segs_in(const struct nvmm_x64_state_seg *segs, struct kvm_sregs *k) {
  for (int i = 0; i < NVMM_X64_NSEG; i++) {
    struct kvm_segment *to = kvm_seg(k, i);
    if (to == NULL) {
      struct kvm_dtable *table = i == NVMM_X64_SEG_GDT ? &k->gdt : &k->idt;
      table->limit = (uint16_t)segs[i].limit;
      table->base = segs[i].base;
      continue;
    }
    *to = (struct kvm_segment){
        .base = segs[i].base, .limit = segs[i].limit, .selector = segs[i].selector, .type = segs[i].attrib.type,
        .present = segs[i].attrib.p, .dpl = segs[i].attrib.dpl, .db = segs[i].attrib.def, .s = segs[i].attrib.s,
        .l = segs[i].attrib.l, .g = segs[i].attrib.g, .avl = segs[i].attrib.avl, .unusable = !segs[i].attrib.p,
    };
  }
}

static int msrs_get(struct vcpu *v, uint64_t *msrs) {
  struct {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[NVMM_X64_NMSR];
  } list = {.head = {.nmsrs = NVMM_X64_NMSR - 1}};
  for (int i = 1; i < NVMM_X64_NMSR; i++) list.entries[i - 1].index = msr_index[i];
  if (ioctl(v->fd, KVM_GET_MSRS, &list) != NVMM_X64_NMSR - 1) return -1;
  for (int i = 1; i < NVMM_X64_NMSR; i++) msrs[i] = list.entries[i - 1].data;
  msrs[NVMM_X64_MSR_EFER] = v->run->s.regs.sregs.efer;
  return 0;
}

static int msrs_set(struct vcpu *v, const uint64_t *msrs) {
  struct {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[NVMM_X64_NMSR];
  } list = {.head = {.nmsrs = NVMM_X64_NMSR - 1}};
  for (int i = 1; i < NVMM_X64_NMSR; i++) {
    list.entries[i - 1] = (struct kvm_msr_entry){.index = msr_index[i], .data = msrs[i]};
  }
  v->run->s.regs.sregs.efer = msrs[NVMM_X64_MSR_EFER];
  v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
  return ioctl(v->fd, KVM_SET_MSRS, &list) == NVMM_X64_NMSR - 1 ? 0 : -1;
}

static int fpu_get(struct vcpu *v, nvmm_fpu_image *fpu) {
  struct kvm_xsave image;
  if (ioctl(v->fd, KVM_GET_XSAVE, &image) < 0) return -1;
  memcpy(fpu, &image, sizeof *fpu);
  return 0;
}

/* A zero mxcsr_mask zeroes MXCSR, as NVMM's kernel part does it. */
static int fpu_set(struct vcpu *v, const nvmm_fpu_image *fpu) {
  struct kvm_xsave image;
  if (ioctl(v->fd, KVM_GET_XSAVE, &image) < 0) return -1;
  nvmm_fpu_image masked = *fpu;
  masked.fx_mxcsr_mask &= 0xFFBF;
  masked.fx_mxcsr &= masked.fx_mxcsr_mask;
  memcpy(&image, &masked, sizeof masked);
  image.region[128] |= 3; /* XSTATE_BV: x87 and SSE are in use */
  return ioctl(v->fd, KVM_SET_XSAVE, &image);
}

static int crs_out(struct vcpu *v, uint64_t *crs) {
  const struct kvm_sregs *k = &v->run->s.regs.sregs;
  struct kvm_xcrs xcrs;
  if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) < 0) return -1;
  crs[NVMM_X64_CR_CR0] = k->cr0;
  crs[NVMM_X64_CR_CR2] = k->cr2;
  crs[NVMM_X64_CR_CR3] = k->cr3;
  crs[NVMM_X64_CR_CR4] = k->cr4;
  crs[NVMM_X64_CR_CR8] = v->run->cr8; /* without a local APIC in KVM it lives there */
  crs[NVMM_X64_CR_XCR0] = xcrs.xcrs[0].value;
  return 0;
}

static int crs_in(struct vcpu *v, const uint64_t *crs) {
  struct kvm_sregs *k = &v->run->s.regs.sregs;
  k->cr0 = crs[NVMM_X64_CR_CR0];
  k->cr2 = crs[NVMM_X64_CR_CR2];
  k->cr3 = crs[NVMM_X64_CR_CR3];
  k->cr4 = crs[NVMM_X64_CR_CR4] & ~0x2000ull; /* VMXE is hidden */
  k->cr8 = v->run->cr8 = crs[NVMM_X64_CR_CR8] & 15;
  v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
  struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = (crs[NVMM_X64_CR_XCR0] & 3) | 1}}};
  return ioctl(v->fd, KVM_SET_XCRS, &xcrs);
}

static int drs_out(struct vcpu *v, uint64_t *drs) {
  struct kvm_debugregs k;
  if (ioctl(v->fd, KVM_GET_DEBUGREGS, &k) < 0) return -1;
  memcpy(drs, k.db, sizeof k.db);
  drs[NVMM_X64_DR_DR6] = k.dr6;
  drs[NVMM_X64_DR_DR7] = k.dr7;
  return 0;
}

static int drs_in(struct vcpu *v, const uint64_t *drs) {
  struct kvm_debugregs k = {.dr6 = drs[NVMM_X64_DR_DR6] & 0xffffffff, .dr7 = drs[NVMM_X64_DR_DR7] & 0xffffffff};
  memcpy(k.db, drs, sizeof k.db);
  return ioctl(v->fd, KVM_SET_DEBUGREGS, &k);
}

static void intr_out(struct vcpu *v, struct nvmm_x64_state_intr *intr) {
  const struct kvm_vcpu_events *e = &v->run->s.regs.events;
  *intr = (struct nvmm_x64_state_intr){
      .int_shadow = e->interrupt.shadow != 0,
      .int_window_exiting = v->int_window,
      .nmi_window_exiting = v->nmi_window,
      .evt_pending = e->interrupt.injected || e->nmi.injected || e->exception.injected,
  };
}

static void intr_in(struct vcpu *v, const struct nvmm_x64_state_intr *intr) {
  struct kvm_vcpu_events *e = &v->run->s.regs.events;
  if (intr->int_shadow != (e->interrupt.shadow != 0)) {
    e->interrupt.shadow = intr->int_shadow ? KVM_X86_SHADOW_INT_STI : 0;
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
  }
  v->int_window = intr->int_window_exiting;
  v->nmi_window = intr->nmi_window_exiting;
}

int state_fetch(struct vcpu *v, struct nvmm_x64_state *s, uint64_t flags) {
  int r = 0;
  if (flags & NVMM_X64_STATE_SEGS) segs_out(&v->run->s.regs.sregs, s->segs);
  if (flags & NVMM_X64_STATE_GPRS) gprs_out(&v->run->s.regs.regs, s->gprs);
  if (flags & NVMM_X64_STATE_CRS) r |= crs_out(v, s->crs);
  if (flags & NVMM_X64_STATE_DRS) r |= drs_out(v, s->drs);
  if (flags & NVMM_X64_STATE_MSRS) r |= msrs_get(v, s->msrs);
  if (flags & NVMM_X64_STATE_INTR) intr_out(v, &s->intr);
  if (flags & NVMM_X64_STATE_FPU) r |= fpu_get(v, &s->fpu);
  return r;
}

int state_apply(struct vcpu *v, const struct nvmm_x64_state *s, uint64_t flags) {
  int r = 0;
  if (flags & NVMM_X64_STATE_SEGS) {
    segs_in(s->segs, &v->run->s.regs.sregs);
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
  }
  if (flags & NVMM_X64_STATE_GPRS) {
    gprs_in(s->gprs, &v->run->s.regs.regs);
    v->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  }
  if (flags & NVMM_X64_STATE_CRS) r |= crs_in(v, s->crs);
  if (flags & NVMM_X64_STATE_DRS) r |= drs_in(v, s->drs);
  if (flags & NVMM_X64_STATE_MSRS) r |= msrs_set(v, s->msrs);
  if (flags & NVMM_X64_STATE_INTR) intr_in(v, &s->intr);
  if (flags & NVMM_X64_STATE_FPU) r |= fpu_set(v, &s->fpu);
  return r;
}

/* ---- strictness: groups that are not cached hold a pattern, and committing the pattern is noticed ------------------ */

#define POISON 0xDEADBEEFCAFED00Dull

struct group {
  uint64_t flag;
  size_t offset, size;
};
static const struct group groups[] = {
    {NVMM_X64_STATE_SEGS, offsetof(struct nvmm_x64_state, segs), sizeof(((struct nvmm_x64_state *)0)->segs)},
    {NVMM_X64_STATE_GPRS, offsetof(struct nvmm_x64_state, gprs), sizeof(((struct nvmm_x64_state *)0)->gprs)},
    {NVMM_X64_STATE_CRS, offsetof(struct nvmm_x64_state, crs), sizeof(((struct nvmm_x64_state *)0)->crs)},
    {NVMM_X64_STATE_DRS, offsetof(struct nvmm_x64_state, drs), sizeof(((struct nvmm_x64_state *)0)->drs)},
    {NVMM_X64_STATE_MSRS, offsetof(struct nvmm_x64_state, msrs), sizeof(((struct nvmm_x64_state *)0)->msrs)},
    {NVMM_X64_STATE_INTR, offsetof(struct nvmm_x64_state, intr), sizeof(((struct nvmm_x64_state *)0)->intr)},
    {NVMM_X64_STATE_FPU, offsetof(struct nvmm_x64_state, fpu), sizeof(((struct nvmm_x64_state *)0)->fpu)},
};

void state_poison(struct nvmm_x64_state *s, uint64_t flags) {
  for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
    if (!(flags & groups[g].flag)) continue;
    uint64_t *words = (uint64_t *)((char *)s + groups[g].offset);
    for (size_t i = 0; i < groups[g].size / 8; i++) words[i] = POISON;
  }
}

uint64_t state_poisoned(const struct nvmm_x64_state *s, uint64_t flags) {
  uint64_t found = 0;
  for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
    if (!(flags & groups[g].flag)) continue;
    const uint64_t *words = (const uint64_t *)((const char *)s + groups[g].offset);
    for (size_t i = 0; i < groups[g].size / 8; i++) {
      if (words[i] == POISON) found |= groups[g].flag;
    }
  }
  return found;
}
