/* Freestanding workloads: each returns a checksum that depends on all of its work. */
#include "workloads.h"

/* Compilers turn loops into calls of these. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n) {
  u8 *d = to;
  const u8 *s = from;
  while (n--) *d++ = *s++;
  return to;
}
void *memset(void *to, int value, __SIZE_TYPE__ n) {
  u8 *d = to;
  while (n--) *d++ = (u8)value;
  return to;
}

u8 arena[ARENA_BYTES] __attribute__((aligned(4096)));
static u32 buffer[64 << 10];
static u32 other[64 << 10];

static u32 seed;
static u32 rnd(void) {
  seed ^= seed << 13;
  seed ^= seed >> 17;
  seed ^= seed << 5;
  return seed;
}

/* Shifts, multiplications, comparisons in registers. */
static u32 integer_loop(void) {
  u32 a = 1, b = 0x12345678, c = 0;
  for (u32 i = 0; i < 4000000; i++) {
    a = a * 1664525 + 1013904223;
    b ^= a >> 7;
    if (b & 0x10) c += b;
    else c ^= a + i;
    b = (b << 3) | (b >> 29);
  }
  return a ^ b ^ c;
}

static u32 sieve(void) {
  u8 *flags = (u8 *)buffer;
  const u32 n = sizeof buffer;
  u32 sum = 0;
  for (u32 round = 0; round < 6; round++) {
    for (u32 i = 0; i < n; i++) flags[i] = 1;
    for (u32 i = 2; i < n; i++) {
      if (!flags[i]) continue;
      sum += i;
      for (u32 j = i + i; j < n; j += i) flags[j] = 0;
    }
  }
  return sum;
}

static u32 table[256];
static u32 crc32(void) {
  for (u32 i = 0; i < 256; i++) {
    u32 c = i;
    for (u32 k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  seed = 1;
  for (u32 i = 0; i < 16384; i++) buffer[i] = rnd();
  const u8 *bytes = (const u8 *)buffer;
  u32 crc = ~0u;
  for (u32 round = 0; round < 40; round++)
    for (u32 i = 0; i < 65536; i++) crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

static const u32 K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
#define ROR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
static u32 sha256(void) {
  u32 h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  seed = 7;
  for (u32 block = 0; block < 6000; block++) {
    u32 w[64];
    for (u32 i = 0; i < 16; i++) w[i] = rnd();
    for (u32 i = 16; i < 64; i++) {
      u32 s0 = ROR(w[i - 15], 7) ^ ROR(w[i - 15], 18) ^ (w[i - 15] >> 3);
      u32 s1 = ROR(w[i - 2], 17) ^ ROR(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    u32 a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], k = h[7];
    for (u32 i = 0; i < 64; i++) {
      u32 t1 = k + (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
      u32 t2 = (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      k = g; g = f; f = e; e = d + t1; d = c; c = b; b = a; a = t1 + t2;
    }
    h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e; h[5] += f; h[6] += g; h[7] += k;
  }
  return h[0] ^ h[3] ^ h[7];
}

/* Copies by loads and stores of a word. */
static u32 copy_words(void) {
  seed = 3;
  for (u32 i = 0; i < 65536; i++) buffer[i] = rnd();
  u32 sum = 0;
  for (u32 round = 0; round < 40; round++) {
    const u32 *s = buffer;
    u32 *d = other;
    for (u32 i = 0; i < 65536; i += 4) {
      d[i] = s[i];
      d[i + 1] = s[i + 1];
      d[i + 2] = s[i + 2];
      d[i + 3] = s[i + 3];
    }
    buffer[round] += other[65535 - round];
    sum += other[round * 7];
  }
  return sum;
}

/* The same with REP MOVSD, and a REP STOSB. */
static u32 rep_movs(void) {
  seed = 5;
  for (u32 i = 0; i < 65536; i++) buffer[i] = rnd();
  u32 sum = 0;
  for (u32 round = 0; round < 120; round++) {
    void *to = other;
    const void *from = buffer;
    __SIZE_TYPE__ n = 65536;
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    to = buffer + 1024;
    n = 4096;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(round) : "memory");
    sum += other[round * 7] + buffer[1024 + round];
  }
  return sum;
}

static void quick(u32 *a, int low, int high) {
  while (low < high) {
    u32 pivot = a[(low + high) / 2];
    int i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        u32 t = a[i];
        a[i++] = a[j];
        a[j--] = t;
      }
    }
    if (j - low < high - i) {
      quick(a, low, j);
      low = i;
    } else {
      quick(a, i, high);
      high = j;
    }
  }
}
static u32 quicksort(void) {
  seed = 11;
  for (u32 i = 0; i < 65536; i++) buffer[i] = rnd();
  quick(buffer, 0, 65535);
  u32 sum = 0;
  for (u32 i = 1; i < 65536; i++) {
    if (buffer[i - 1] > buffer[i]) return 0;
    sum = sum * 31 + buffer[i];
  }
  return sum;
}

__attribute__((noinline, optimize("O1"))) static u32 fib(u32 n) {
  if (n < 2) return n;
  u32 a = fib(n - 1);
  __asm__ volatile("" : "+r"(a));
  return a + fib(n - 2);
}
static u32 recursion(void) { return fib(29); }

/* A bytecode machine whose every step is an indirect jump. */
static u32 interpreter(void) {
  static const void *const ops[] = {&&add, &&sub, &&mul, &&xor, &&load, &&store, &&loop};
  static u8 code[256];
  seed = 13;
  for (u32 i = 0; i < 255; i++) code[i] = rnd() % 6;
  code[255] = 6;
  u32 acc = 1, rounds = 4000, pc = 0, memory[16] = {0};
#define NEXT goto *ops[code[pc++]]
  NEXT;
add: acc += pc; NEXT;
sub: acc -= memory[pc & 15]; NEXT;
mul: acc *= 5; NEXT;
xor: acc ^= acc >> 9; NEXT;
load: acc += memory[acc & 15]; NEXT;
store: memory[pc & 15] = acc; NEXT;
loop:
  if (--rounds == 0) return acc;
  pc = 0;
  NEXT;
}

typedef float v4 __attribute__((vector_size(16)));
__attribute__((target("sse2"))) static u32 matrix(void) {
  enum { N = 96 };
  static v4 a[N][N / 4], b[N][N / 4], c[N][N / 4];
  float *fa = (float *)a, *fb = (float *)b;
  for (u32 i = 0; i < N * N; i++) {
    fa[i] = (float)(int)(i % 17) - 8;
    fb[i] = (float)(int)(i % 13) - 6;
  }
  for (u32 round = 0; round < 4; round++)
    for (u32 i = 0; i < N; i++)
      for (u32 j = 0; j < N / 4; j++) {
        v4 sum = {0, 0, 0, 0};
        for (u32 k = 0; k < N; k++) {
          float x = ((float *)a[i])[k];
          sum += (v4){x, x, x, x} * b[k][j];
        }
        c[i][j] = sum;
      }
  u32 sum = 0;
  const float *fc = (const float *)c;
  for (u32 i = 0; i < N * N; i++) sum = sum * 7 + (u32)(int)fc[i];
  return sum;
}

/* A chain through one word of each of 16384 pages in random order: every step needs another translation. */
static u32 chase(void) {
  const u32 pages = ARENA_BYTES / 4096;
  u32 *order = other;
  static u8 made;
  if (!made) {
    seed = 17;
    for (u32 i = 0; i < pages; i++) order[i] = i;
    for (u32 i = pages - 1; i > 0; i--) {
      u32 j = rnd() % (i + 1), t = order[i];
      order[i] = order[j];
      order[j] = t;
    }
    for (u32 i = 0; i < pages; i++) {
      u32 here = order[i], next = order[(i + 1) % pages];
      *(u32 *)(arena + here * 4096 + (here % 61) * 64) = next;
    }
    made = 1;
  }
  u32 at = 0, sum = 0;
  for (u32 i = 0; i < 300000; i++) {
    at = *(u32 *)(arena + at * 4096 + (at % 61) * 64);
    sum = sum * 3 + at;
  }
  return sum;
}

/* Port writes that leave the guest. */
static u32 exit_storm(void) {
  for (u32 i = 0; i < 100000; i++) port_out(0x80, i);
  return 100000;
}

const struct workload workloads[] = {
    {"integer loop", integer_loop, 0}, {"sieve", sieve, 0},          {"crc32", crc32, 0},
    {"sha-256", sha256, 0},            {"memcpy, words", copy_words, 0}, {"rep movs", rep_movs, 0},
    {"quicksort", quicksort, 0},       {"recursive calls", recursion, 0}, {"interpreter", interpreter, 0},
    {"matrix, sse", matrix, 0},        {"page-walk chase", chase, 0}, {"exit storm", exit_storm, 1},
};
const u32 workload_count = sizeof workloads / sizeof *workloads;
