/*
 * The C program of the NVMM benchmarks: the same guest on the same libnvmm as vmexit, with the least a consumer in C does per
 * exit. Reads lines "KIND EXITS GUEST LIBRARY", writes nanoseconds.
 */
#define NVMM_NETBSD
#include "../nvmm.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int (*init)(void), (*machine_create)(struct nvmm_machine *), (*machine_destroy)(struct nvmm_machine *);
static int (*hva_map)(struct nvmm_machine *, uintptr_t, size_t);
static int (*gpa_map)(struct nvmm_machine *, uintptr_t, uint64_t, size_t, int);
static int (*vcpu_create)(struct nvmm_machine *, uint32_t, struct nvmm_vcpu *);
static int (*vcpu_configure)(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t, void *);
static int (*set_state)(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
static int (*get_state)(struct nvmm_machine *, struct nvmm_vcpu *, uint64_t);
static int (*run)(struct nvmm_machine *, struct nvmm_vcpu *);
static int (*assist_mem)(struct nvmm_machine *, struct nvmm_vcpu *);

static volatile uint8_t sink;

static void load(const char *library) {
  void *handle = dlopen(library, RTLD_NOW);
  if (handle == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
  *(void **)&init = dlsym(handle, "nvmm_init");
  *(void **)&machine_create = dlsym(handle, "nvmm_machine_create");
  *(void **)&machine_destroy = dlsym(handle, "nvmm_machine_destroy");
  *(void **)&hva_map = dlsym(handle, "nvmm_hva_map");
  *(void **)&gpa_map = dlsym(handle, "nvmm_gpa_map");
  *(void **)&vcpu_create = dlsym(handle, "nvmm_vcpu_create");
  *(void **)&vcpu_configure = dlsym(handle, "nvmm_vcpu_configure");
  *(void **)&set_state = dlsym(handle, "nvmm_vcpu_setstate");
  *(void **)&get_state = dlsym(handle, "nvmm_vcpu_getstate");
  *(void **)&run = dlsym(handle, "nvmm_vcpu_run");
  *(void **)&assist_mem = dlsym(handle, "nvmm_assist_mem");
  if (init() != 0) exit(1);
}

static void on_mem(struct nvmm_mem *mem) {
  if (mem->write) sink = mem->data[0];
  else memset(mem->data, 0x5a, mem->size);
}

static void answer(struct nvmm_machine *m, struct nvmm_vcpu *v) {
  struct nvmm_x64_state *s = v->state;
  switch (v->exit->reason) {
    case NVMM_VCPU_EXIT_IO:
      get_state(m, v, NVMM_X64_STATE_GPRS);
      if (v->exit->u.io.in) s->gprs[NVMM_X64_GPR_RAX] = (s->gprs[NVMM_X64_GPR_RAX] & ~0xffull) | 0x5a;
      else sink = (uint8_t)s->gprs[NVMM_X64_GPR_RAX];
      s->gprs[NVMM_X64_GPR_RIP] = v->exit->u.io.npc;
      set_state(m, v, NVMM_X64_STATE_GPRS);
      break;
    case NVMM_VCPU_EXIT_MEMORY:
      if (assist_mem(m, v) != 0) exit(1);
      break;
    default:
      break;
  }
}

int main(void) {
  char kind[32], guest[1024], library[1024];
  long exits;
  while (scanf("%31s %ld %1023s %1023s", kind, &exits, guest, library) == 4) {
    if (init == NULL) load(library);
    struct nvmm_machine m = {0};
    struct nvmm_vcpu v = {0};
    size_t size = 0xf0000;
    if (machine_create(&m) != 0) return 1;
    uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    hva_map(&m, (uintptr_t)ram, size);
    gpa_map(&m, (uintptr_t)ram, 0, size, NVMM_PROT_READ | NVMM_PROT_WRITE | NVMM_PROT_EXEC);
    FILE *file = fopen(guest, "rb");
    if (file == NULL || fread(ram + 0x1000, 1, 0x1000, file) == 0) return 1;
    fclose(file);
    if (vcpu_create(&m, 0, &v) != 0) return 1;
    struct nvmm_assist_callbacks callbacks = {NULL, on_mem};
    vcpu_configure(&m, &v, NVMM_VCPU_CONF_CALLBACKS, &callbacks);
    for (int i = 0; i < NVMM_X64_SEG_GDT; i++) {
      v.state->segs[i].base = 0;
      v.state->segs[i].selector = 0;
    }
    v.state->gprs[NVMM_X64_GPR_RIP] = 0x1000;
    set_state(&m, &v, NVMM_X64_STATE_SEGS | NVMM_X64_STATE_GPRS);
    for (int i = 0; i < 100; i++) {
      run(&m, &v);
      answer(&m, &v);
    }
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < exits; i++) {
      run(&m, &v);
      answer(&m, &v);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%ld\n", (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec);
    fflush(stdout);
    machine_destroy(&m);
    munmap(ram, size);
  }
  return 0;
}
