/* What the benchmark runs, the same source for every engine and for the host. */
#ifndef WORKLOADS_H
#define WORKLOADS_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

struct workload {
  const char *name;
  u32 (*run)(void);
  u8 needs_guest; /* uses ports: nothing to compare with on the host */
};

extern const struct workload workloads[];
extern const u32 workload_count;

/* 64 MiB that pages map one by one: the pointer chase lives there. */
#define ARENA_BYTES (64u << 20)
extern u8 arena[ARENA_BYTES] __attribute__((aligned(4096)));

void port_out(u32 port, u32 value);
#endif
