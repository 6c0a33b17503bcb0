/*
 * libnvmm for Linux: instruction lengths and memory operands. KVM tells neither how long the instruction behind an exit was nor,
 * after a store, where it began; NVMM tells both. Legacy and 0F, 0F38, 0F3A opcode maps; VEX and EVEX are left out, since no
 * state beyond SSE exists here.
 */
#include "peer.h"
#include <string.h>

/* What follows an opcode: M a ModRM byte, b imm8, w imm16, z imm16/32 by operand size, v also imm64, f far pointer, o moffs. */
enum { M = 1, b = 2, w = 4, z = 8, v = 16, f = 32, o = 64 };

static const uint8_t one[256] = {
    M, M, M, M, b, z, 0, 0, M, M, M, M, b, z, 0, 0, /* 00 */
    M, M, M, M, b, z, 0, 0, M, M, M, M, b, z, 0, 0, /* 10 */
    M, M, M, M, b, z, 0, 0, M, M, M, M, b, z, 0, 0, /* 20 */
    M, M, M, M, b, z, 0, 0, M, M, M, M, b, z, 0, 0, /* 30 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 40 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 50 */
    0, 0, M, M, 0, 0, 0, 0, z, M | z, b, M | b, 0, 0, 0, 0, /* 60 */
    b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, /* 70 */
    M | b, M | z, M | b, M | b, M, M, M, M, M, M, M, M, M, M, M, M, /* 80 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, f, 0, 0, 0, 0, 0, /* 90 */
    o, o, o, o, 0, 0, 0, 0, b, z, 0, 0, 0, 0, 0, 0, /* A0 */
    b, b, b, b, b, b, b, b, v, v, v, v, v, v, v, v, /* B0 */
    M | b, M | b, w, 0, M, M, M | b, M | z, w | b, 0, w, 0, 0, b, 0, 0, /* C0 */
    M, M, M, M, b, b, 0, 0, M, M, M, M, M, M, M, M, /* D0 */
    b, b, b, b, b, b, b, b, z, z, f, b, 0, 0, 0, 0, /* E0 */
    0, 0, 0, 0, 0, 0, M, M, 0, 0, 0, 0, 0, 0, M, M, /* F0 */
};

static int two(int byte) {
  switch (byte) {
    case 0x05 ... 0x0C: case 0x0E: case 0x30 ... 0x37: case 0x77: case 0xA0 ... 0xA2: case 0xA8 ... 0xAA: case 0xC8 ... 0xCF:
      return 0;
    case 0x80 ... 0x8F:
      return z;
    case 0x0F: case 0x70 ... 0x73: case 0xA4: case 0xAC: case 0xBA: case 0xC2: case 0xC4 ... 0xC6:
      return M | b;
    default:
      return M;
  }
}

uint64_t size_mask(int bytes) { return bytes == 8 ? ~0ull : (1ull << (bytes * 8)) - 1; }

uint64_t gpr_read(const struct nvmm_x64_state *s, int index, int size, bool rex) {
  if (size == 1 && !rex && index >= 4 && index < 8) return s->gprs[index - 4] >> 8 & 0xff;
  return s->gprs[index] & size_mask(size);
}

void gpr_write(struct nvmm_x64_state *s, int index, int size, bool rex, uint64_t value) {
  if (size == 1 && !rex && index >= 4 && index < 8) {
    s->gprs[index - 4] = (s->gprs[index - 4] & ~0xff00ull) | (value & 0xff) << 8;
  } else if (size >= 4) {
    s->gprs[index] = value & size_mask(size);
  } else {
    s->gprs[index] = (s->gprs[index] & ~size_mask(size)) | (value & size_mask(size));
  }
}

static int64_t signed_at(const uint8_t *p, int n) {
  int64_t value = 0;
  memcpy(&value, p, (size_t)n);
  return value << (64 - 8 * n) >> (64 - 8 * n);
}

/* ModRM of 16-bit addressing. Returns bytes used after the ModRM byte, or -1. */
static int modrm16(const uint8_t *p, int n, const struct nvmm_x64_state *s, struct insn *i) {
  static const int8_t base[8] = {3, 3, 5, 5, -1, -1, 5, 3}, index[8] = {6, 7, 6, 7, 6, 7, -1, -1};
  int disp = i->mod == 1 ? 1 : i->mod == 2 || (i->mod == 0 && i->rm == 6) ? 2 : 0;
  if (disp > n) return -1;
  uint64_t at = disp ? (uint64_t)signed_at(p, disp) : 0;
  bool absolute = i->mod == 0 && i->rm == 6;
  if (!absolute && base[i->rm] >= 0) at += s->gprs[base[i->rm]];
  if (!absolute && index[i->rm] >= 0) at += s->gprs[index[i->rm]];
  bool on_stack = !absolute && base[i->rm] == 5;
  if (i->segover < 0) i->seg = on_stack ? NVMM_X64_SEG_SS : NVMM_X64_SEG_DS;
  i->offset = at & 0xffff;
  return disp;
}

static int modrm32(const uint8_t *p, int n, const struct nvmm_x64_state *s, struct insn *i, bool *rip_relative) {
  int used = 0, base = i->rm & 7;
  uint64_t at = 0;
  bool has_base = true;
  if (base == 4) {
    if (n < 1) return -1;
    int sib = p[used++], index = (sib >> 3 & 7) | (i->rex & 2) << 2;
    base = sib & 7;
    if (index != 4) at += s->gprs[index] << (sib >> 6);
  }
  int disp = i->mod == 1 ? 1 : i->mod == 2 ? 4 : 0;
  if (i->mod == 0 && base == 5) {
    disp = 4;
    has_base = false;
    *rip_relative = (i->rm & 7) == 5 && i->adsize != 2 && code_bits(s) == 64;
  }
  if (has_base) at += s->gprs[base | (i->rex & 1) << 3];
  if (used + disp > n) return -1;
  if (disp) at += (uint64_t)signed_at(p + used, disp);
  bool on_stack = has_base && (i->rex & 1) == 0 && (base == 4 || base == 5);
  if (i->segover < 0) i->seg = on_stack ? NVMM_X64_SEG_SS : NVMM_X64_SEG_DS;
  i->offset = at;
  return used + disp;
}

static bool prefix(uint8_t byte, struct insn *i, bool *op66, bool *ad67) {
  switch (byte) {
    case 0x26: i->segover = NVMM_X64_SEG_ES; return true;
    case 0x2E: i->segover = NVMM_X64_SEG_CS; return true;
    case 0x36: i->segover = NVMM_X64_SEG_SS; return true;
    case 0x3E: i->segover = NVMM_X64_SEG_DS; return true;
    case 0x64: i->segover = NVMM_X64_SEG_FS; return true;
    case 0x65: i->segover = NVMM_X64_SEG_GS; return true;
    case 0x66: *op66 = true; return true;
    case 0x67: *ad67 = true; return true;
    case 0xF0: return true;
    case 0xF2: case 0xF3: i->rep = byte; return true;
    default: return false;
  }
}

bool is_string(const struct insn *i) {
  int c = i->opcode;
  return (c >= 0x6C && c <= 0x6F) || (c >= 0xA4 && c <= 0xA7) || (c >= 0xAA && c <= 0xAF);
}

static bool is_port(const struct insn *i) {
  int c = i->opcode;
  return (c >= 0x6C && c <= 0x6F) || (c >= 0xE4 && c <= 0xE7) || (c >= 0xEC && c <= 0xEF);
}

static bool byte_sized(const struct insn *i) {
  int c = i->opcode;
  if (c < 0x40) return (c & 7) == 0 || (c & 7) == 2 || (c & 7) == 4;
  switch (c) {
    case 0x6C: case 0x6E: case 0x80: case 0x82: case 0x84: case 0x86: case 0x88: case 0x8A: case 0xA0: case 0xA2: case 0xA4:
    case 0xA6: case 0xA8: case 0xAA: case 0xAC: case 0xAE: case 0xC0: case 0xC6: case 0xD0: case 0xD2: case 0xE4: case 0xE6:
    case 0xEC: case 0xEE: case 0xF6: case 0xFE: case 0xF90 ... 0xF9F: case 0xFB0: case 0xFC0:
      return true;
    default:
      return false;
  }
}

/* Whether the memory operand is written (alone or after a read). */
bool writes_memory(const struct insn *i) {
  int c = i->opcode;
  if (c < 0x38) return (c & 7) < 2;
  switch (c) {
    case 0x6C: case 0x6D: case 0x86 ... 0x89: case 0x8C: case 0x8F: case 0xA2 ... 0xA5: case 0xAA: case 0xAB: case 0xC0:
    case 0xC1: case 0xC6: case 0xC7: case 0xD0 ... 0xD3: case 0xFE: case 0xF11: case 0xF13: case 0xF17: case 0xF29: case 0xF2B:
    case 0xF7E: case 0xF7F: case 0xF90 ... 0xF9F: case 0xFB0: case 0xFB1: case 0xFC0: case 0xFC1: case 0xFC3: case 0xFC7:
    case 0xFD6: case 0xFE7: case 0xFAB: case 0xFB3: case 0xFBB:
      return true;
    case 0x80: case 0x81: case 0x83:
      return (i->reg & 7) != 7;
    case 0xF6: case 0xF7:
      return (i->reg & 7) == 2 || (i->reg & 7) == 3;
    case 0xFF:
      return (i->reg & 7) < 2;
    case 0xFBA:
      return (i->reg & 7) > 4;
    case 0xD9: case 0xDB: case 0xDD: case 0xDF:
      return (i->reg & 7) == 2 || (i->reg & 7) == 3 || (i->reg & 7) == 7;
    default:
      return false;
  }
}

/* Decodes the instruction at the start of `bytes`. Returns its length, or -1 when it is cut short or not known. */
int decode(const uint8_t *bytes, int n, const struct nvmm_x64_state *s, uint64_t rip, struct insn *i) {
  int bits = code_bits(s), at = 0;
  bool op66 = false, ad67 = false, rip_relative = false;
  *i = (struct insn){.segover = -1, .seg = NVMM_X64_SEG_DS};
  if (n > 15) n = 15;
  for (; at < n; at++) { /* a REX that a legacy prefix follows counts for nothing */
    if (bits == 64 && (bytes[at] & 0xf0) == 0x40) i->rex = bytes[at];
    else if (prefix(bytes[at], i, &op66, &ad67)) i->rex = 0;
    else break;
  }
  if (at >= n) return -1;
  int flags;
  i->opcode = bytes[at++];
  if (i->opcode == 0x0F) {
    if (at >= n) return -1;
    int second = bytes[at++];
    i->opcode = 0xF00 | second;
    flags = two(second);
    if (second == 0x38 || second == 0x3A) {
      if (at++ >= n) return -1;
      flags = second == 0x3A ? M | b : M;
    }
  } else {
    flags = one[i->opcode];
  }
  i->opsize = i->rex & 8 ? 8 : (bits == 16) != op66 ? 2 : 4;
  if (byte_sized(i)) i->opsize = 1;
  if (is_port(i) && i->opsize == 8) i->opsize = 4;
  i->adsize = bits == 64 ? (ad67 ? 4 : 8) : (bits == 16) != ad67 ? 2 : 4;
  if (i->segover >= 0) i->seg = i->segover;
  if (flags & M) {
    if (at >= n) return -1;
    int byte = bytes[at++];
    i->modrm = true;
    i->mod = byte >> 6;
    i->reg = (byte >> 3 & 7) | (i->rex & 4) << 1;
    i->rm = byte & 7;
    i->mem = i->mod != 3;
    if (i->mem) {
      int used = i->adsize == 2 ? modrm16(bytes + at, n - at, s, i) : modrm32(bytes + at, n - at, s, i, &rip_relative);
      if (used < 0) return -1;
      at += used;
    } else {
      i->rm |= (i->rex & 1) << 3;
    }
  }
  if ((i->opcode == 0xF6 || i->opcode == 0xF7) && (i->reg & 7) < 2) flags |= i->opcode == 0xF6 ? b : z;
  int word = i->opsize == 2 ? 2 : 4;
  int imm = 0;
  if (flags & b) imm = 1;
  if (flags & w) imm += 2;
  if (flags & z) imm = word;
  if (flags & v) imm = i->opsize == 8 ? 8 : word;
  if (flags & f) imm = word + 2;
  if (flags & o) imm = i->adsize;
  if (at + imm > n) return -1;
  if (imm > 0 && imm <= 8) i->imm = imm == 3 || imm == 6 ? 0 : (uint64_t)signed_at(bytes + at, imm);
  at += imm;
  i->len = at;
  if (flags & o) {
    i->mem = true;
    i->offset = i->imm & size_mask(i->adsize);
  }
  if (is_string(i)) {
    bool to_di = i->opcode == 0x6C || i->opcode == 0x6D || i->opcode == 0xAA || i->opcode == 0xAB || i->opcode >= 0xAE;
    i->mem = true;
    i->offset = s->gprs[to_di ? NVMM_X64_GPR_RDI : NVMM_X64_GPR_RSI];
    if (to_di) i->seg = NVMM_X64_SEG_ES;
  }
  if (rip_relative) i->offset += rip + (uint64_t)at;
  i->offset &= size_mask(i->adsize);
  return at;
}
