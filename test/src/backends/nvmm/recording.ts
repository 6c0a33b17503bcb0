/** A backend that writes down every exit of its vCPUs, as values. */
import type { Backend, BackendVcpu, BackendVm } from "../../../../src/backend.ts";
import { copyExit, type Exit } from "../../../../src/exit.ts";

/** Wraps `backend`; exits are appended to `log`, one element of port I/O per entry, since engines cut strings as they like. */
export function recording(backend: Backend, log: Exit[]): Backend {
  return wrap(backend, {
    createVm: (options: Parameters<Backend["createVm"]>[0]) => {
      const vm = backend.createVm(options);
      return wrap(vm, {
        createVcpu: (id: number, vcpuOptions: Parameters<BackendVm["createVcpu"]>[1]) => {
          const vcpu = vm.createVcpu(id, vcpuOptions);
          // Without answerWith() an engine leaves at each exit, so that run() sees all of them.
          return wrap<BackendVcpu>(vcpu, { run: () => record(vcpu, log), answerWith: undefined });
        },
      } satisfies Partial<BackendVm>);
    },
  } satisfies Partial<Backend>);
}

function record(vcpu: BackendVcpu, log: Exit[]): Exit {
  const exit = vcpu.run();
  // KVM may take an interrupt without a window, NVMM never does: how it got in is the engine's own affair.
  if (exit.kind !== "irqWindow" && exit.kind !== "interrupted") log.push(...elements(exit));
  return exit;
}

function elements(exit: Exit): Exit[] {
  const copy = copyExit(exit);
  if (copy.kind !== "pioIn" && copy.kind !== "pioOut") return [copy];
  const { size, count, data } = copy;
  return Array.from({ length: count }, (_, i) => ({ ...copy, count: 1, data: data.slice(i * size, (i + 1) * size) }));
}

/** `target` with some members replaced; the others are called on it. */
function wrap<T extends object>(target: T, replaced: { [K in keyof T]?: T[K] | undefined }): T {
  return new Proxy(target, {
    get(object, name) {
      if (name in replaced) return replaced[name as keyof T];
      const value = Reflect.get(object, name, object) as unknown;
      return typeof value === "function" ? value.bind(object) : value;
    },
  });
}
