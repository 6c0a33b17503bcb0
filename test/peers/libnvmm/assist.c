/*
 * libnvmm for Linux: the assists. They emulate the access behind the last IO or MEMORY exit through the caller's callbacks
 * and know the instructions libnvmm knows, no others: ENODEV for the rest.
 */
#include "peer.h"
#include <errno.h>
#include <string.h>

enum { FLAG_CF = 1, FLAG_PF = 4, FLAG_AF = 0x10, FLAG_ZF = 0x40, FLAG_SF = 0x80, FLAG_DF = 0x400, FLAG_OF = 0x800, BATCH = 32 };
#define ASSIST_STATE (NVMM_X64_STATE_GPRS | NVMM_X64_STATE_SEGS | NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS)

struct assist {
  struct nvmm_machine *mach;
  struct nvmm_vcpu *user;
  struct vcpu *v;
  struct nvmm_x64_state *s;
};

int nvmm_gva_to_gpa(struct nvmm_machine *mach, struct nvmm_vcpu *user, uint64_t gva, uint64_t *gpa, uint64_t *prot) {
  struct vcpu *v = find_vcpu(mach, user, "nvmm_gva_to_gpa");
  if (nvmm_vcpu_getstate(mach, user, NVMM_X64_STATE_CRS | NVMM_X64_STATE_MSRS) < 0) return -1;
  return walk(v->mach, user->state, gva, gpa, prot);
}

/* ---- callbacks ---------------------------------------------------------------------------------------------------- */

static void call_io(struct assist *a, struct nvmm_io *io) {
  if (a->user->cbs.io == NULL) die("nvmm_assist_io needs an io callback and none is registered");
  a->v->in_assist = true;
  a->user->cbs.io(io);
  a->v->in_assist = false;
}

static void call_mem(struct assist *a, uint64_t gpa, bool write, uint8_t *data, size_t size) {
  if (a->user->cbs.mem == NULL) die("an assist needs a mem callback and none is registered");
  struct nvmm_mem mem = {.mach = a->mach, .vcpu = a->user, .gpa = gpa, .write = write, .size = size, .data = data};
  a->v->in_assist = true;
  a->user->cbs.mem(&mem);
  a->v->in_assist = false;
}

/* Guest memory by linear address, page by page; what no range backs goes to the mem callback. */
static int access_memory(struct assist *a, uint64_t gva, uint8_t *data, size_t size, bool write) {
  while (size > 0) {
    uint64_t gpa, prot;
    size_t room = 4096 - (gva & 4095), part = size < room ? size : room;
    if (walk(a->v->mach, a->s, gva, &gpa, &prot) < 0) return -1;
    if (!(prot & (write ? NVMM_PROT_WRITE : NVMM_PROT_READ))) return fail(EFAULT);
    struct area *area = area_at(a->v->mach, gpa);
    bool ram = area != NULL && (!write || (area->prot & NVMM_PROT_WRITE));
    if (!ram) {
      call_mem(a, gpa, write, data, part);
    } else if (write) {
      memcpy((void *)(area->hva + (gpa - area->gpa)), data, part);
    } else {
      memcpy(data, (void *)(area->hva + (gpa - area->gpa)), part);
    }
    gva += part;
    data += part;
    size -= part;
  }
  return 0;
}

static struct assist begin(struct nvmm_machine *mach, struct nvmm_vcpu *user, const char *call) {
  struct assist a = {.mach = mach, .user = user, .v = find_vcpu(mach, user, call), .s = user->state};
  if (a.v->in_assist) violation("%s from an assist callback", call);
  return a;
}

static int64_t step_of(const struct nvmm_x64_state *s, int size) { return s->gprs[NVMM_X64_GPR_RFLAGS] & FLAG_DF ? -size : size; }

static void add(struct nvmm_x64_state *s, int gpr, int adsize, int64_t by) {
  uint64_t mask = size_mask(adsize), sum = s->gprs[gpr] + (uint64_t)by;
  s->gprs[gpr] = adsize == 2 ? (s->gprs[gpr] & ~mask) | (sum & mask) : sum & mask;
}

/* ---- port I/O ----------------------------------------------------------------------------------------------------- */

static int io_string(struct assist *a, const struct nvmm_x86_exit_io *x, struct nvmm_io *io) {
  struct nvmm_x64_state *s = a->s;
  int size = x->operand_size, reg = x->in ? NVMM_X64_GPR_RDI : NVMM_X64_GPR_RSI, seg = x->seg;
  uint64_t mask = size_mask(x->address_size), count = x->rep ? s->gprs[NVMM_X64_GPR_RCX] & mask : 1;
  if (count == 0) return 0;
  if (seg < 0 && x->in) seg = NVMM_X64_SEG_ES;
  if (seg < 0) { /* only the prefixes tell */
    uint8_t bytes[15];
    struct insn i;
    int n = fetch_code(a->v->mach, s, s->gprs[NVMM_X64_GPR_RIP], bytes, 15);
    if (decode(bytes, n, s, s->gprs[NVMM_X64_GPR_RIP], &i) < 0) return fail(EFAULT);
    seg = i.seg;
  }
  bool down = s->gprs[NVMM_X64_GPR_RFLAGS] & FLAG_DF;
  uint64_t elements = down ? 1 : count < (uint64_t)(BATCH / size) ? count : (uint64_t)(BATCH / size);
  uint8_t buffer[BATCH];
  uint64_t gva = linear(s, seg, s->gprs[reg], x->address_size);
  if (!x->in && access_memory(a, gva, buffer, elements * (uint64_t)size, false) < 0) return -1;
  for (uint64_t i = 0; i < elements; i++) {
    io->data = buffer + i * (uint64_t)size;
    call_io(a, io);
  }
  if (x->in && access_memory(a, gva, buffer, elements * (uint64_t)size, true) < 0) return -1;
  add(s, reg, x->address_size, step_of(s, size) * (int64_t)elements);
  if (x->rep) add(s, NVMM_X64_GPR_RCX, x->address_size, -(int64_t)elements);
  if (count == elements) s->gprs[NVMM_X64_GPR_RIP] = x->npc;
  return 0;
}

int nvmm_assist_io(struct nvmm_machine *mach, struct nvmm_vcpu *user) {
  struct assist a = begin(mach, user, "nvmm_assist_io");
  const struct nvmm_x86_exit_io x = user->exit->u.io;
  if (user->exit->reason != NVMM_VCPU_EXIT_IO) return fail(EINVAL);
  if (nvmm_vcpu_getstate(mach, user, ASSIST_STATE) < 0) return -1;
  struct nvmm_io io = {.mach = mach, .vcpu = user, .port = x.port, .in = x.in, .size = x.operand_size};
  if (x.str) {
    if (io_string(&a, &x, &io) < 0) return -1;
    return nvmm_vcpu_setstate(mach, user, NVMM_X64_STATE_GPRS);
  }
  uint8_t data[8];
  memcpy(data, &a.s->gprs[NVMM_X64_GPR_RAX], sizeof data);
  io.data = data;
  call_io(&a, &io);
  if (x.in) {
    uint64_t value = 0;
    memcpy(&value, data, x.operand_size);
    gpr_write(a.s, NVMM_X64_GPR_RAX, x.operand_size, true, value);
  }
  a.s->gprs[NVMM_X64_GPR_RIP] = x.npc;
  return nvmm_vcpu_setstate(mach, user, NVMM_X64_STATE_GPRS);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static uint64_t flags_of(uint64_t result, int size) {
  uint64_t flags = 0;
  if ((result & size_mask(size)) == 0) flags |= FLAG_ZF;
  if (result >> (size * 8 - 1) & 1) flags |= FLAG_SF;
  if (!__builtin_parityll(result & 0xff)) flags |= FLAG_PF;
  return flags;
}

static void set_flags(struct nvmm_x64_state *s, uint64_t flags) {
  uint64_t all = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF;
  s->gprs[NVMM_X64_GPR_RFLAGS] = (s->gprs[NVMM_X64_GPR_RFLAGS] & ~all) | flags;
}

/* 1 OR, 4 AND, 5 SUB, 6 XOR, 7 CMP, as group 1 numbers them. */
static uint64_t arithmetic(struct nvmm_x64_state *s, int op, uint64_t x, uint64_t y, int size) {
  uint64_t r, flags = 0, top = 1ull << (size * 8 - 1);
  switch (op) {
    case 1: r = x | y; break;
    case 4: r = x & y; break;
    case 6: r = x ^ y; break;
    default:
      r = (x - y) & size_mask(size);
      if (x < y) flags |= FLAG_CF;
      if ((x ^ y ^ r) & 0x10) flags |= FLAG_AF;
      if ((x ^ y) & (x ^ r) & top) flags |= FLAG_OF;
  }
  set_flags(s, flags | flags_of(r, size));
  return r;
}

static int load(struct assist *a, uint64_t gva, int size, uint64_t *value) {
  *value = 0;
  return access_memory(a, gva, (uint8_t *)value, (size_t)size, false);
}

static int store(struct assist *a, uint64_t gva, int size, uint64_t value) {
  return access_memory(a, gva, (uint8_t *)&value, (size_t)size, true);
}

/* OP m,r (to_memory), OP r,m, or OP m,imm. */
static int emulate_alu(struct assist *a, const struct insn *i, int op, uint64_t gva, bool to_memory, uint64_t other) {
  uint64_t value;
  if (load(a, gva, i->opsize, &value) < 0) return -1;
  uint64_t r = to_memory ? arithmetic(a->s, op, value, other, i->opsize) : arithmetic(a->s, op, other, value, i->opsize);
  if (op == 7) return 0;
  if (to_memory) return store(a, gva, i->opsize, r);
  gpr_write(a->s, i->reg, i->opsize, i->rex, r);
  return 0;
}

static int emulate_string(struct assist *a, const struct insn *i, bool *again) {
  struct nvmm_x64_state *s = a->s;
  uint64_t mask = size_mask(i->adsize), count = i->rep ? s->gprs[NVMM_X64_GPR_RCX] & mask : 1, value, other;
  if (count == 0) return 0;
  uint64_t from = linear(s, i->segover >= 0 ? i->segover : NVMM_X64_SEG_DS, s->gprs[NVMM_X64_GPR_RSI], i->adsize);
  uint64_t to = linear(s, NVMM_X64_SEG_ES, s->gprs[NVMM_X64_GPR_RDI], i->adsize);
  int kind = i->opcode & ~1, size = i->opsize;
  int r = 0;
  if (kind == 0xA4) r = load(a, from, size, &value) < 0 ? -1 : store(a, to, size, value);
  if (kind == 0xAA) r = store(a, to, size, gpr_read(s, NVMM_X64_GPR_RAX, size, true));
  if (kind == 0xAC) r = load(a, from, size, &value);
  if (kind == 0xA6) r = load(a, from, size, &value) < 0 ? -1 : load(a, to, size, &other);
  if (r < 0) return -1;
  if (kind == 0xAC) gpr_write(s, NVMM_X64_GPR_RAX, size, true, value);
  if (kind == 0xA6) arithmetic(s, 7, value, other, size);
  if (kind != 0xAA) add(s, NVMM_X64_GPR_RSI, i->adsize, step_of(s, size));
  if (kind != 0xAC) add(s, NVMM_X64_GPR_RDI, i->adsize, step_of(s, size));
  if (i->rep) {
    add(s, NVMM_X64_GPR_RCX, i->adsize, -1);
    bool equal = s->gprs[NVMM_X64_GPR_RFLAGS] & FLAG_ZF;
    *again = count > 1 && (kind != 0xA6 || equal == (i->rep == 0xF3));
  }
  return 0;
}

/* Executes one instruction of those libnvmm decodes. ENODEV for others. */
static int emulate(struct assist *a, const struct insn *i, bool *again) {
  struct nvmm_x64_state *s = a->s;
  uint64_t gva = linear(s, i->seg, i->offset, i->adsize), value;
  int c = i->opcode, reg = i->reg & 7;
  if (!i->mem) return fail(ENODEV);
  switch (c) {
    case 0x08 ... 0x0B: case 0x20 ... 0x23: case 0x28 ... 0x2B: case 0x30 ... 0x33:
      return emulate_alu(a, i, c >> 3, gva, (c & 3) < 2, gpr_read(s, i->reg, i->opsize, i->rex));
    case 0x80: case 0x81: case 0x83:
      if (reg != 1 && reg != 4 && reg != 6 && reg != 7) return fail(ENODEV);
      return emulate_alu(a, i, reg, gva, true, i->imm & size_mask(i->opsize));
    case 0x86: case 0x87:
      if (load(a, gva, i->opsize, &value) < 0 || store(a, gva, i->opsize, gpr_read(s, i->reg, i->opsize, i->rex)) < 0) return -1;
      gpr_write(s, i->reg, i->opsize, i->rex, value);
      return 0;
    case 0x88: case 0x89:
      return store(a, gva, i->opsize, gpr_read(s, i->reg, i->opsize, i->rex));
    case 0x8A: case 0x8B:
      if (load(a, gva, i->opsize, &value) < 0) return -1;
      gpr_write(s, i->reg, i->opsize, i->rex, value);
      return 0;
    case 0xA0: case 0xA1:
      if (load(a, gva, i->opsize, &value) < 0) return -1;
      gpr_write(s, NVMM_X64_GPR_RAX, i->opsize, true, value);
      return 0;
    case 0xA2: case 0xA3:
      return store(a, gva, i->opsize, gpr_read(s, NVMM_X64_GPR_RAX, i->opsize, true));
    case 0xC6: case 0xC7:
      return reg == 0 ? store(a, gva, i->opsize, i->imm) : fail(ENODEV);
    case 0xF6: case 0xF7:
      if (reg > 1) return fail(ENODEV);
      if (load(a, gva, i->opsize, &value) < 0) return -1;
      arithmetic(s, 4, value, i->imm & size_mask(i->opsize), i->opsize);
      return 0;
    case 0xFB6: case 0xFB7:
      if (load(a, gva, c == 0xFB6 ? 1 : 2, &value) < 0) return -1;
      gpr_write(s, i->reg, i->opsize, i->rex, value);
      return 0;
#ifdef NVMM_NETBSD
    case 0xA6: case 0xA7:
#else
    case 0xFBA:
      if (reg != 4) return fail(ENODEV);
      if (load(a, gva, i->opsize, &value) < 0) return -1;
      s->gprs[NVMM_X64_GPR_RFLAGS] = (s->gprs[NVMM_X64_GPR_RFLAGS] & ~1ull) | (value >> (i->imm & (uint64_t)(i->opsize * 8 - 1)) & 1);
      return 0;
#endif
    case 0xA4: case 0xA5: case 0xAA ... 0xAD:
      return emulate_string(a, i, again);
    default:
      return fail(ENODEV);
  }
}

int nvmm_assist_mem(struct nvmm_machine *mach, struct nvmm_vcpu *user) {
  struct assist a = begin(mach, user, "nvmm_assist_mem");
  if (user->exit->reason != NVMM_VCPU_EXIT_MEMORY) return fail(EINVAL);
  if (nvmm_vcpu_getstate(mach, user, ASSIST_STATE) < 0) return -1;
  uint64_t rip = a.s->gprs[NVMM_X64_GPR_RIP];
  uint8_t bytes[15];
  int n = user->exit->u.mem.inst_len;
  if (n > 0) memcpy(bytes, user->exit->u.mem.inst_bytes, (size_t)n);
  else n = fetch_code(a.v->mach, a.s, rip, bytes, 15);
  if (n == 0) return fail(EFAULT);
  struct insn i;
  bool again = false;
  struct nvmm_x64_state before = *a.s;
  if (decode(bytes, n, a.s, rip, &i) < 0) return fail(ENODEV);
  if (emulate(&a, &i, &again) < 0) {
    *a.s = before;
    return fail(errno == EFAULT ? EFAULT : ENODEV);
  }
  if (!again) a.s->gprs[NVMM_X64_GPR_RIP] = code_bits(a.s) == 64 ? rip + (uint64_t)i.len : (rip + (uint64_t)i.len) & 0xffffffff;
  return nvmm_vcpu_setstate(mach, user, NVMM_X64_STATE_GPRS);
}
