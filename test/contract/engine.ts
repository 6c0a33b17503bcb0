import { describe, test } from "bun:test";
import type { Program } from "../../src/asm/index.ts";
import type { Mode, ModeOptions } from "../../src/boot/index.ts";
import {
  type BackendName,
  type Capabilities,
  type Exit,
  type Host,
  openBackend,
  type Vcpu,
  type VcpuOptions,
  type Vm,
  type VmOptions,
} from "../../src/index.ts";

/** A backend under the contract, or why it is not there. */
export interface Engine {
  readonly name: string;
  readonly host: Host | undefined;
  /** Why every rule is skipped. */
  readonly missing: string | undefined;
  /** Opens the backend a second time, where that can be done. */
  readonly reopen?: () => Host;
  /** What this host's engine is known not to do, by rule name part, with the reason. */
  readonly exceptions?: Readonly<Record<string, string>>;
}

/** Opens a backend for the contract; a host without it gives the reason instead. */
export function engine(
  name: BackendName,
  exceptions: (host: Host) => Readonly<Record<string, string>> = () => ({}),
): Engine {
  try {
    const host = openBackend(name);
    return { name, host, missing: undefined, reopen: () => openBackend(name), exceptions: exceptions(host) };
  } catch (error) {
    return { name, host: undefined, missing: (error as Error).message };
  }
}

type Need = keyof { [K in keyof Capabilities as Capabilities[K] extends boolean ? K : never]: true };

/** States one rule of the contract. `needs` are capabilities without which it is skipped, by name. */
export function rule(
  engine: Engine,
  name: string,
  needs: readonly Need[],
  check: (host: Host) => void | Promise<void>,
): void {
  const lacking = needs.find((need) => engine.host !== undefined && !engine.host.capabilities[need]);
  const exception = Object.entries(engine.exceptions ?? {}).find(([part]) => name.includes(part))?.[1];
  const reason = engine.missing ?? (lacking === undefined ? exception : `the backend lacks ${lacking}`);
  const title = reason === undefined ? name : `${name} (skipped: ${reason})`;
  test.skipIf(reason !== undefined)(title, () => check(engine.host as Host));
}

/** Groups rules under the engine's name. */
export function chapter(engine: Engine, title: string, rules: () => void): void {
  describe(`${engine.name}: ${title}`, rules);
}

export interface Booted extends Disposable {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  /** Runs to the next exit that no device answers, at most 5 s. */
  next(): Exit;
}

export interface BootOptions extends VmOptions {
  readonly mode?: Mode;
  readonly modeOptions?: ModeOptions;
  readonly vcpu?: VcpuOptions;
}

/** A VM with `program` loaded at its origin and one vCPU ready to run it. */
export function boot(host: Host, program: Program, options: BootOptions = {}): Booted {
  const { mode = "real16", modeOptions = {}, vcpu: vcpuOptions, ...vmOptions } = options;
  const vm = host.createVm({ memoryBytes: 0x20000, ...vmOptions });
  try {
    const vcpu = vm.createVcpu(0, vcpuOptions);
    vm.memory.write(0x1000, program.bytes);
    vcpu.enterMode(mode, { entry: 0x1000, ...modeOptions });
    return { vm, vcpu, next: () => vcpu.run({ timeoutMs: 5000 }), [Symbol.dispose]: () => vm[Symbol.dispose]() };
  } catch (error) {
    vm[Symbol.dispose]();
    throw error;
  }
}

/** The bytes of a string. */
export function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
