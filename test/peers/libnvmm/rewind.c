/*
 * libnvmm for Linux: from KVM's state after a store to NVMM's state at it. KVM's emulator has already moved RIP (and
 * RSI, RDI, RCX of string instructions) when a store or an OUT exits; NVMM presents the instruction as not yet executed. The
 * start is found by decoding every suffix that could end here and keeping one that explains address and data; where several do,
 * the one that a sweep from the last known instruction meets.
 */
#include "peer.h"
#include <string.h>

enum { FLAG_DF = 0x400, LONGEST = 15, SWEEP = 512 };

static void add(struct nvmm_x64_state *s, int gpr, int adsize, int64_t by) {
  uint64_t mask = size_mask(adsize);
  s->gprs[gpr] = (s->gprs[gpr] & ~mask) | ((s->gprs[gpr] + (uint64_t)by) & mask);
}

/* Takes back one element of a string instruction. */
static void undo_element(struct nvmm_x64_state *s, const struct insn *i) {
  int64_t step = s->gprs[NVMM_X64_GPR_RFLAGS] & FLAG_DF ? i->opsize : -i->opsize;
  bool source = i->opcode == 0xA4 || i->opcode == 0xA5 || i->opcode == 0x6E || i->opcode == 0x6F;
  bool target = i->opcode == 0xA4 || i->opcode == 0xA5 || i->opcode == 0xAA || i->opcode == 0xAB;
  if (source) add(s, NVMM_X64_GPR_RSI, i->adsize, step);
  if (target) add(s, NVMM_X64_GPR_RDI, i->adsize, step);
  if (i->rep) add(s, NVMM_X64_GPR_RCX, i->adsize, 1);
}

static bool lands_at(struct vcpu *v, const struct nvmm_x64_state *s, int seg, uint64_t offset, int adsize, uint64_t gpa) {
  uint64_t at, prot;
  return walk(v->mach, s, linear(s, seg, offset, adsize), &at, &prot) == 0 && at == gpa;
}

/* The data in kvm_run of the exit at hand, as a number. */
static uint64_t mmio_data(const struct vcpu *v) {
  uint64_t data = 0;
  memcpy(&data, v->run->mmio.data, v->run->mmio.len <= 8 ? v->run->mmio.len : 8);
  return data;
}

/* Whether this instruction, not yet executed in state s, makes the store at hand. */
static bool explains_store(struct vcpu *v, struct nvmm_x64_state *s, uint64_t gpa, const struct insn *i) {
  int c = i->opcode;
  bool push = (c >= 0x50 && c <= 0x57) || c == 0x68 || c == 0x6A || c == 0x9C;
  if (push) {
    int size = code_bits(s) == 64 ? 8 : i->opsize;
    int width = code_bits(s) == 64 ? 8 : s->segs[NVMM_X64_SEG_SS].attrib.def ? 4 : 2;
    if (!lands_at(v, s, NVMM_X64_SEG_SS, s->gprs[NVMM_X64_GPR_RSP], width, gpa)) return false;
    add(s, NVMM_X64_GPR_RSP, width, size);
    return true;
  }
  if (!i->mem || !writes_memory(i)) return false;
  if (c == 0xA4 || c == 0xA5 || c == 0xAA || c == 0xAB) {
    undo_element(s, i);
    return lands_at(v, s, NVMM_X64_SEG_ES, s->gprs[NVMM_X64_GPR_RDI], i->adsize, gpa);
  }
  if (!lands_at(v, s, i->seg, i->offset, i->adsize, gpa)) return false;
  if (c == 0x8F) { /* POP moved the stack pointer before it computed the address, too */
    int size = code_bits(s) == 64 ? 8 : i->opsize;
    add(s, NVMM_X64_GPR_RSP, code_bits(s) == 64 ? 8 : s->segs[NVMM_X64_SEG_SS].attrib.def ? 4 : 2, -size);
    return true;
  }
  uint64_t mask = size_mask(i->opsize), data = mmio_data(v);
  bool plain = v->run->mmio.len == (uint32_t)i->opsize;
  switch (c) {
    case 0x88: case 0x89: return plain && gpr_read(s, i->reg, i->opsize, i->rex) == data;
    case 0xC6: case 0xC7: return plain && (i->imm & mask) == data;
    case 0xA2: case 0xA3: return plain && (s->gprs[NVMM_X64_GPR_RAX] & mask) == data;
    default: return true;
  }
}

/* Whether decoding forward from `at` meets an instruction that starts at `target`. */
static bool sweep(struct vcpu *v, const struct nvmm_x64_state *s, uint64_t at, uint64_t target) {
  if (target < at || target - at > SWEEP) return false;
  uint8_t bytes[LONGEST];
  while (at < target) {
    struct insn i;
    int n = fetch_code(v->mach, s, at, bytes, LONGEST);
    if (decode(bytes, n, s, at, &i) < 0) return false;
    at += (uint64_t)i.len;
  }
  return at == target;
}

/* From any place where a run began: instructions start there. */
static bool swept(struct vcpu *v, const struct nvmm_x64_state *s, uint64_t target) {
  for (int i = 0; i < ENTRIES; i++) {
    if (v->entries[i] != 0 && sweep(v, s, v->entries[i], target)) return true;
  }
  return false;
}

void remember_entry(struct vcpu *v, uint64_t rip) {
  v->entry_rip = rip;
  for (int i = 0; i < ENTRIES; i++) {
    if (v->entries[i] == rip) return;
  }
  v->entries[v->next_entry++ % ENTRIES] = rip;
}

typedef bool (*explains)(struct vcpu *v, struct nvmm_x64_state *s, uint64_t key, const struct insn *i);

/* Finds the instruction that ends at RIP and explains the exit; makes *s the state at it. */
static bool rewind_by(struct vcpu *v, struct nvmm_x64_state *s, explains test, uint64_t key, struct insn *out) {
  uint64_t end = s->gprs[NVMM_X64_GPR_RIP];
  struct nvmm_x64_state found;
  bool any = false;
  for (int len = 1; len <= LONGEST; len++) {
    uint8_t bytes[LONGEST];
    struct insn i;
    struct nvmm_x64_state before = *s;
    before.gprs[NVMM_X64_GPR_RIP] = end - (uint64_t)len;
    if (fetch_code(v->mach, s, end - (uint64_t)len, bytes, len) != len) continue;
    if (decode(bytes, len, s, end - (uint64_t)len, &i) != len || !test(v, &before, key, &i)) continue;
    bool met = swept(v, s, before.gprs[NVMM_X64_GPR_RIP]);
    if (any && !met) continue;
    found = before;
    *out = i;
    any = true;
    if (met) break;
  }
  if (any) *s = found;
  return any;
}

/* A REP string instruction leaves RIP where it is until its count is used up. */
static bool repeated(struct vcpu *v, struct nvmm_x64_state *s, struct insn *i) {
  uint8_t bytes[LONGEST];
  uint64_t rip = s->gprs[NVMM_X64_GPR_RIP];
  int n = fetch_code(v->mach, s, rip, bytes, LONGEST);
  return decode(bytes, n, s, rip, i) > 0 && is_string(i) && i->rep;
}

bool rewind_store(struct vcpu *v, struct nvmm_x64_state *s, uint64_t gpa, struct insn *out) {
  struct nvmm_x64_state before = *s;
  if (repeated(v, s, out) && explains_store(v, &before, gpa, out)) {
    *s = before;
    return true;
  }
  return rewind_by(v, s, explains_store, gpa, out);
}

static uint64_t pio_data(const struct vcpu *v) {
  uint64_t data = 0;
  memcpy(&data, (const char *)v->run + v->run->io.data_offset, v->run->io.size);
  return data;
}

static bool explains_out(struct vcpu *v, struct nvmm_x64_state *s, uint64_t unused, const struct insn *i) {
  (void)unused;
  int size = i->opsize;
  if (v->run->io.size != size) return false;
  bool immediate = i->opcode == 0xE6 || i->opcode == 0xE7, by_dx = i->opcode == 0xEE || i->opcode == 0xEF;
  bool string = i->opcode == 0x6E || i->opcode == 0x6F;
  uint16_t port = immediate ? i->imm & 0xff : (uint16_t)s->gprs[NVMM_X64_GPR_RDX];
  if (!(immediate || by_dx || string) || port != v->run->io.port) return false;
  if (!string) return (s->gprs[NVMM_X64_GPR_RAX] & size_mask(size)) == pio_data(v);
  undo_element(s, i);
  uint64_t data = 0, gva = linear(s, i->seg, s->gprs[NVMM_X64_GPR_RSI], i->adsize);
  return guest_read(v->mach, s, gva, &data, (size_t)size) == 0 && data == pio_data(v);
}

/*
 * Makes *s the state at an OUT or OUTS. `advanced`: RIP moved when KVM completed the exit, so that it stood at the
 * instruction (a processor that exits on OUT); otherwise KVM's emulator had executed it already.
 */
bool rewind_out(struct vcpu *v, struct nvmm_x64_state *s, bool advanced, struct insn *out) {
  uint64_t rip = s->gprs[NVMM_X64_GPR_RIP];
  uint8_t bytes[LONGEST];
  if (advanced) return decode(bytes, fetch_code(v->mach, s, rip, bytes, LONGEST), s, rip, out) > 0;
  struct nvmm_x64_state rep_before = *s, plain_before = *s;
  struct insn rep, plain;
  bool may_rep = repeated(v, s, &rep) && explains_out(v, &rep_before, 0, &rep);
  bool goes_on = v->entry_rip == rip; /* the run began at it, so the exit is its */
  bool may_plain = !(may_rep && goes_on) && rewind_by(v, &plain_before, explains_out, 0, &plain);
  if (may_plain) {
    *s = plain_before;
    *out = plain;
  } else if (may_rep) {
    *s = rep_before;
    *out = rep;
  }
  return may_plain || may_rep;
}
