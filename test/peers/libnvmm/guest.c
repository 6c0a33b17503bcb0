/* libnvmm for Linux: guest memory as the guest sees it. Page walks through the library's own list of ranges. */
#include "peer.h"
#include <errno.h>
#include <string.h>

#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define EFER_LMA (1ull << 10)
#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_PS 0x80ull
#define PTE_NX (1ull << 63)
#define ADDRESS 0x000ffffffffff000ull

static int entry_at(struct machine *m, uint64_t gpa, int bytes, uint64_t *entry) {
  struct area *a = area_at(m, gpa);
  if (a == NULL) return fail(EFAULT);
  *entry = 0;
  memcpy(entry, (void *)(a->hva + (gpa - a->gpa)), (size_t)bytes);
  return 0;
}

static void narrow(uint64_t *prot, uint64_t entry) {
  if (!(entry & PTE_W)) *prot &= ~(uint64_t)NVMM_PROT_WRITE;
  if (!(entry & PTE_U)) *prot &= ~(uint64_t)NVMM_PROT_USER;
  if (entry & PTE_NX) *prot &= ~(uint64_t)NVMM_PROT_EXEC;
}

static int walk32(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, uint64_t *gpa, uint64_t *prot) {
  uint64_t entry = 0, table = s->crs[NVMM_X64_CR_CR3] & 0xfffff000;
  if (entry_at(m, table + (gva >> 22 & 1023) * 4, 4, &entry) < 0 || !(entry & PTE_P)) return fail(EFAULT);
  narrow(prot, entry);
  if ((entry & PTE_PS) && (s->crs[NVMM_X64_CR_CR4] & CR4_PSE)) {
    *gpa = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32 | (gva & 0x3fffff);
    return 0;
  }
  if (entry_at(m, (entry & 0xfffff000) + (gva >> 12 & 1023) * 4, 4, &entry) < 0 || !(entry & PTE_P)) return fail(EFAULT);
  narrow(prot, entry);
  *gpa = (entry & 0xfffff000) | (gva & 0xfff);
  return 0;
}

static int walk64(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, uint64_t *gpa, uint64_t *prot) {
  bool lma = s->msrs[NVMM_X64_MSR_EFER] & EFER_LMA;
  if (lma && (int64_t)(gva << 16) >> 16 != (int64_t)gva) return fail(EFAULT);
  uint64_t entry = 0, table = s->crs[NVMM_X64_CR_CR3] & (lma ? ADDRESS : 0xffffffe0);
  for (int shift = lma ? 39 : 30;; shift -= 9) {
    uint64_t index = gva >> shift & (!lma && shift == 30 ? 3 : 511);
    if (entry_at(m, table + index * 8, 8, &entry) < 0 || !(entry & PTE_P)) return fail(EFAULT);
    if (lma || shift != 30) narrow(prot, entry); /* a PAE PDPTE has no permission bits */
    bool page = shift == 12 || ((entry & PTE_PS) && (shift == 21 || (lma && shift == 30)));
    if (page) {
      uint64_t low = (1ull << shift) - 1;
      *gpa = (entry & ADDRESS & ~low) | (gva & low);
      return 0;
    }
    table = entry & ADDRESS;
  }
}

int walk(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, uint64_t *gpa, uint64_t *prot) {
  *prot = NVMM_PROT_ALL;
  if (!(s->crs[NVMM_X64_CR_CR0] & CR0_PG)) {
    *gpa = gva;
    return 0;
  }
  if (s->crs[NVMM_X64_CR_CR4] & CR4_PAE) return walk64(m, s, gva, gpa, prot);
  return walk32(m, s, gva & 0xffffffff, gpa, prot);
}

int code_bits(const struct nvmm_x64_state *s) {
  const struct nvmm_x64_state_seg *cs = &s->segs[NVMM_X64_SEG_CS];
  if ((s->msrs[NVMM_X64_MSR_EFER] & EFER_LMA) && cs->attrib.l) return 64;
  return cs->attrib.def ? 32 : 16;
}

uint64_t linear(const struct nvmm_x64_state *s, int seg, uint64_t offset, int adsize) {
  offset &= size_mask(adsize);
  if (code_bits(s) == 64) {
    return seg == NVMM_X64_SEG_FS || seg == NVMM_X64_SEG_GS ? s->segs[seg].base + offset : offset;
  }
  return (s->segs[seg].base + offset) & 0xffffffff;
}

/* Where a linear address lies in this process, and how far that page goes on; NULL where nothing backs it. */
uint8_t *guest_at(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, uint64_t *gpa, size_t *room) {
  uint64_t prot;
  if (walk(m, s, gva, gpa, &prot) < 0) return NULL;
  struct area *a = area_at(m, *gpa);
  *room = 4096 - (gva & 4095);
  return a == NULL ? NULL : (uint8_t *)(a->hva + (*gpa - a->gpa));
}

int guest_read(struct machine *m, const struct nvmm_x64_state *s, uint64_t gva, void *data, size_t n) {
  for (size_t done = 0; done < n;) {
    uint64_t gpa;
    size_t room;
    uint8_t *at = guest_at(m, s, gva + done, &gpa, &room);
    if (at == NULL) return -1;
    size_t part = n - done < room ? n - done : room;
    memcpy((uint8_t *)data + done, at, part);
    done += part;
  }
  return 0;
}

/* Code bytes at CS:rip, as many of n as there are. */
int fetch_code(struct machine *m, const struct nvmm_x64_state *s, uint64_t rip, uint8_t *bytes, int n) {
  uint64_t gva = linear(s, NVMM_X64_SEG_CS, rip, code_bits(s) == 64 ? 8 : 4);
  int done = 0;
  while (done < n && guest_read(m, s, gva + (uint64_t)done, bytes + done, 1) == 0) done++;
  return done;
}
