/* The same arithmetic on the host and on the software CPU: a hash over every bit of the results.
 * With -DHOSTED a program that prints the hash; else a flat 64-bit guest that leaves it in RAX and halts. */
typedef unsigned long u64;

static u64 mix(u64 hash, u64 value) {
  hash = (hash ^ value) * 0x100000001b3UL;
  return hash ^ (hash >> 29);
}
static u64 bits_of_double(double d) { union { double d; u64 u; } x; x.d = d; return x.u; }
static u64 bits_of_float(float f) { union { float f; unsigned u; } x; x.f = f; return x.u; }

static unsigned seed = 12345;
static unsigned next(void) { return seed = seed * 1664525u + 1013904223u; }

static double a[24][24], b[24][24], c[24][24];
static float f[256];
static int n[256];
static unsigned char s[512], d[512];

__attribute__((noinline)) static u64 matrix(void) {
  u64 hash = 1;
  for (int i = 0; i < 24; i++)
    for (int j = 0; j < 24; j++) {
      a[i][j] = (int)(next() >> 20) / 7.0 - 200;
      b[i][j] = (int)(next() >> 22) - 300.0;
      c[i][j] = 0;
    }
  for (int i = 0; i < 24; i++)
    for (int k = 0; k < 24; k++)
      for (int j = 0; j < 24; j++) c[i][j] += a[i][k] * b[k][j];
  for (int i = 0; i < 24; i++)
    for (int j = 0; j < 24; j++) hash = mix(hash, bits_of_double(c[i][j]));
  return hash;
}

__attribute__((noinline)) static u64 floats(void) {
  u64 hash = 2;
  float sum = 0, most = -1e30f;
  for (int i = 0; i < 256; i++) {
    f[i] = (float)((int)next() >> (i & 15)) * 1.25e-3f;
    n[i] = next();
  }
  for (int round = 0; round < 20; round++)
    for (int i = 0; i < 256; i++) {
      float x = f[i];
      sum += x * x / (1.0f + (x < 0 ? -x : x));
      if (x > most) most = x;
      f[i] = x * 0.75f + (float)(n[i] >> 16);
      n[i] = (int)f[i] + i;
    }
  for (int i = 0; i < 256; i++) hash = mix(hash, bits_of_float(f[i]) + n[i]);
  return mix(mix(hash, bits_of_float(sum)), bits_of_float(most));
}

__attribute__((noinline)) static u64 bytes(void) {
  u64 hash = 3;
  for (int i = 0; i < 512; i++) s[i] = next() >> 24;
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < 512; i++) {
      int v = s[i] * 3 + d[511 - i];
      d[i] = v > 255 ? 255 : v;
    }
    for (int i = 0; i < 511; i++) s[i] = (s[i] + s[i + 1] + 1) >> 1;
  }
  for (int i = 0; i < 512; i++) hash = mix(hash, s[i] * 256 + d[i]);
  return hash;
}

__attribute__((noinline)) static u64 roots(void) {
  u64 hash = 4;
  for (int i = 1; i < 400; i++) {
    double x = i * 1.37, y = x;
    for (int k = 0; k < 6; k++) y = 0.5 * (y + x / y);
    hash = mix(mix(hash, bits_of_double(y)), bits_of_double(__builtin_sqrt(x)));
    hash = mix(hash, (u64)(long)(y * 1000));
    long double l = x;
    l = l * l / 3 + y;
    hash = mix(mix(hash, bits_of_double((double)l)), (u64)(long)(l * 16));
  }
  return hash;
}

u64 work(void) { return mix(mix(mix(mix(0, matrix()), floats()), bytes()), roots()); }

#ifdef HOSTED
#include <stdio.h>
int main(void) {
  printf("%016lx\n", work());
  return 0;
}
#else
void *memset(void *to, int byte, u64 count) {
  char *p = to;
  while (count--) *p++ = byte;
  return to;
}
/* CR0.EM and TS off, MP on; CR4.OSFXSR, OSXMMEXCPT and OSXSAVE on; x87, SSE and AVX state enabled in XCR0. */
__asm__(
    ".section .text.start\n"
    ".globl _start\n"
    "_start:\n"
    "  mov %cr0, %rax\n"
    "  and $~0xc, %eax\n"
    "  or $2, %eax\n"
    "  mov %rax, %cr0\n"
    "  mov %cr4, %rax\n"
    "  or $0x40600, %eax\n"
    "  mov %rax, %cr4\n"
    "  xor %ecx, %ecx\n"
    "  xor %edx, %edx\n"
    "  mov $7, %eax\n"
    "  xsetbv\n"
    "  fninit\n"
    "  call work\n"
    "  hlt\n");
#endif
