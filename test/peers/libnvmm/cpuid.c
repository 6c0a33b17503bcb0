/*
 * libnvmm for Linux: CPUID. What NVMM shows by default, the configured masks, and answers given here once KVM's table is fixed
 * (KVM takes no new one after the first KVM_RUN) or a leaf is to exit.
 */
#include "peer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

enum { MAX_ENTRIES = 256 };

static void put(struct kvm_cpuid2 *t, struct kvm_cpuid_entry2 e) {
  for (uint32_t i = 0; i < t->nent; i++) {
    if (t->entries[i].function == e.function && t->entries[i].index == e.index) {
      t->entries[i] = e;
      return;
    }
  }
  if (t->nent < MAX_ENTRIES) t->entries[t->nent++] = e;
}

/*
 * NVMM hides MCE, MCA, MTRR, x2APIC, TSC-deadline, and AVX and all that needs state beyond x87 and SSE. A KVM that is software
 * itself (kvm_pvm) may show feature bits of its host all the same.
 */
static void hide(struct kvm_cpuid_entry2 *e, uint32_t apic_id) {
  switch (e->function) {
    case 1:
      e->edx &= ~(1u << 7 | 1u << 12 | 1u << 14);
      e->ecx &= ~(1u << 5 | 1u << 12 | 1u << 21 | 1u << 24 | 1u << 28 | 1u << 29);
      e->ecx |= 1u << 31; /* a hypervisor is present */
      e->ebx = (e->ebx & 0x00ffffff) | apic_id << 24;
      break;
    case 7:
      if (e->index != 0) *e = (struct kvm_cpuid_entry2){.function = 7, .index = e->index, .flags = e->flags};
      e->eax = 0;
      e->ebx &= 1u << 0 | 1u << 3 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 18 | 1u << 19 | 1u << 20 | 1u << 23 | 1u << 24;
      e->ecx &= 1u << 2;
      e->edx = 0;
      break;
    case 0xd:
      if (e->index == 0) {
        e->eax = 3;
        e->ebx = e->ecx = 576;
        e->edx = 0;
      } else {
        e->eax = e->index == 1 ? e->eax & 1 : 0;
        e->ebx = e->ecx = e->edx = 0;
      }
      break;
    case 0x80000001:
      e->ecx &= ~(1u << 2 | 1u << 11 | 1u << 16); /* SVM, XOP, FMA4 */
      e->edx &= ~(1u << 27);                      /* RDTSCP raises #UD in NVMM */
      break;
  }
}

static const struct nvmm_vcpu_conf_cpuid *conf_of(const struct vcpu *v, uint32_t leaf) {
  for (int i = 0; i < v->ncpuid; i++) {
    if (v->cpuid[i].leaf == leaf) return &v->cpuid[i];
  }
  return NULL;
}

static void masked(const struct vcpu *v, struct kvm_cpuid_entry2 *e) {
  const struct nvmm_vcpu_conf_cpuid *c = conf_of(v, e->function);
  if (c == NULL || !c->mask) return;
  e->eax = (e->eax & ~c->u.mask.del.eax) | c->u.mask.set.eax;
  e->ebx = (e->ebx & ~c->u.mask.del.ebx) | c->u.mask.set.ebx;
  e->ecx = (e->ecx & ~c->u.mask.del.ecx) | c->u.mask.set.ecx;
  e->edx = (e->edx & ~c->u.mask.del.edx) | c->u.mask.set.edx;
}

static int table_build(struct vcpu *v) {
  size_t bytes = sizeof(struct kvm_cpuid2) + MAX_ENTRIES * sizeof(struct kvm_cpuid_entry2);
  struct kvm_cpuid2 *t = calloc(1, bytes);
  t->nent = MAX_ENTRIES - 8;
  if (ioctl(peer_kvm, KVM_GET_SUPPORTED_CPUID, t) < 0) {
    free(t);
    return -1;
  }
  /* KVM's own range goes; NVMM's vendor leaf comes. */
  uint32_t kept = 0;
  for (uint32_t i = 0; i < t->nent; i++) {
    if (t->entries[i].function >> 8 != 0x400000) t->entries[kept++] = t->entries[i];
  }
  t->nent = kept;
  struct kvm_cpuid_entry2 vendor = {.function = 0x40000000, .eax = 0x40000000};
  memcpy(&vendor.ebx, "___ ", 4);
  memcpy(&vendor.ecx, "NVMM", 4);
  memcpy(&vendor.edx, " ___", 4);
  put(t, vendor);
  for (uint32_t i = 0; i < t->nent; i++) {
    hide(&t->entries[i], v->id);
    masked(v, &t->entries[i]);
  }
  for (int i = 0; i < v->ncpuid; i++) { /* leaves the processor lacks can be set too */
    struct kvm_cpuid_entry2 e = {.function = v->cpuid[i].leaf};
    bool there = false;
    for (uint32_t k = 0; k < t->nent; k++) there = there || t->entries[k].function == e.function;
    if (there) continue;
    masked(v, &e);
    put(t, e);
  }
  free(v->table);
  v->table = t;
  return 0;
}

/* Brings a changed configuration into force: through KVM before the first run, by answering here afterwards. */
int cpuid_refresh(struct vcpu *v) {
  if (!v->cpuid_stale) return 0;
  if (table_build(v) < 0) return -1;
  v->cpuid_stale = false;
  if (v->started) {
    v->cpuid_soft = true;
    return 0;
  }
  return ioctl(v->fd, KVM_SET_CPUID2, v->table);
}

/* Whether CPUID has to be seen before it executes. */
bool cpuid_watched(struct vcpu *v) {
  if (v->cpuid_soft) return true;
  for (int i = 0; i < v->ncpuid; i++) {
    if (v->cpuid[i].exit) return true;
  }
  return false;
}

void cpuid_answer(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
  memset(out, 0, 16);
  for (uint32_t i = 0; i < v->table->nent; i++) {
    const struct kvm_cpuid_entry2 *e = &v->table->entries[i];
    bool by_index = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    if (e->function != leaf || (by_index && e->index != subleaf)) continue;
    out[0] = e->eax;
    out[1] = e->ebx;
    out[2] = e->ecx;
    out[3] = e->edx;
    return;
  }
}

bool cpuid_exits(struct vcpu *v, uint32_t leaf) {
  const struct nvmm_vcpu_conf_cpuid *c = conf_of(v, leaf);
  return c != NULL && c->exit;
}

int cpuid_configure(struct vcpu *v, const struct nvmm_vcpu_conf_cpuid *conf) {
  if (conf->mask && conf->exit) return fail(EINVAL);
  if (conf->mask && ((conf->u.mask.set.eax & conf->u.mask.del.eax) || (conf->u.mask.set.ebx & conf->u.mask.del.ebx) ||
                     (conf->u.mask.set.ecx & conf->u.mask.del.ecx) || (conf->u.mask.set.edx & conf->u.mask.del.edx))) {
    return fail(EINVAL);
  }
  int at = 0;
  while (at < v->ncpuid && v->cpuid[at].leaf != conf->leaf) at++;
  if (!conf->mask && !conf->exit) {
    if (at < v->ncpuid) v->cpuid[at] = v->cpuid[--v->ncpuid];
  } else {
    if (at == 32) return fail(BSD_ENOBUFS);
    v->cpuid[at] = *conf;
    if (at == v->ncpuid) v->ncpuid++;
  }
  v->cpuid_stale = true;
  return 0;
}
