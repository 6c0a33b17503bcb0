import { bootGuest } from "../boot/boot-guest.ts";
import type { LoadOptions } from "../boot/guest-plan.ts";
import { loadGuest } from "../boot/load.ts";
import type { ModeOptions } from "../boot/mode.ts";
import { type Host, openBackend, Vm, type VmOptions } from "../index.ts";
import { bootPlan } from "./boot-options.ts";
import type { BootPlan } from "./boot-plan.ts";
import { readGuestFile } from "./guest-file.ts";
import { type Machine, Session } from "./session.ts";
import type { AssembledSource } from "./source-guest.ts";
import { UsageError } from "./usage-error.ts";

const DEFAULT_MEMORY_BYTES = 16 * 2 ** 20;

/** `vmexit boot`. @returns the exit status. */
export async function boot(args: readonly string[]): Promise<number> {
  const plan = bootPlan(args);
  if (plan === "help") return (require("./help.ts") as typeof import("./help.ts")).help(["boot"]);
  const memoryBytes = plan.memory ?? DEFAULT_MEMORY_BYTES;
  checkAddresses(plan, memoryBytes);
  const { guest, sourceLine } = await loadPlanned(plan, memoryBytes);
  using vm = createPlannedVm(plan, memoryBytes);
  const vcpu = vm.createVcpu(0, plan.cpuid === undefined ? {} : { cpuid: plan.cpuid });
  asUsage(() => bootGuest(vcpu.access, vm.memory, guest, modeOptions(plan)));
  using session = new Session(plan, { vm, vcpu, guest, sourceLine });
  return await session.run();
}

function checkAddresses({ memory, loadAddress }: BootPlan, memoryBytes: number): void {
  if (memory !== undefined) (require("./host-memory.ts") as typeof import("./host-memory.ts")).checkMemory(memory);
  if (loadAddress === undefined || loadAddress < memoryBytes) return;
  throw new UsageError(
    `Cannot load a guest at 0x${loadAddress.toString(16)} as its memory ends at 0x${memoryBytes.toString(16)}`,
    "use a lower --load-address or more --memory",
    "--load-address",
  );
}

async function loadPlanned(plan: BootPlan, memoryBytes: number): Promise<Pick<Machine, "guest" | "sourceLine">> {
  const file = await readGuestFile(plan.guest, memoryBytes);
  const source = /\.(asm|nasm)$/i.test(plan.guest) ? assembleSource(file, plan) : undefined;
  const { format, mode, entry, commandLine } = plan;
  const { bytes, loadAddress } = source ?? { bytes: file, loadAddress: plan.loadAddress };
  const modules = await Promise.all(
    (plan.modules ?? []).map(async (file) => ({ file, bytes: await readGuestFile(file, memoryBytes) })),
  );
  const options: LoadOptions = {
    file: plan.guest,
    memoryBytes,
    ...(format === undefined ? {} : { format }),
    ...(mode === undefined ? {} : { mode }),
    ...(loadAddress === undefined ? {} : { loadAddress }),
    ...(entry === undefined ? {} : { entry }),
    ...(commandLine === undefined ? {} : { commandLine }),
    ...(modules.length === 0 ? {} : { modules }),
  };
  const guest = asUsage(() => loadGuest(bytes, options));
  if (plan.loadAddress === undefined || guest.format === "flat") {
    if (source === undefined) return { guest, sourceLine: undefined };
    return { guest: { ...guest, symbols: source.symbols }, sourceLine: source.sourceLine };
  }
  throw new UsageError(
    `Cannot choose where "${plan.guest}" goes as it is taken for ${guest.format}, which says so itself`,
    "leave --load-address out, or add --format flat",
    "--load-address",
  );
}

function assembleSource(file: Uint8Array, plan: BootPlan): AssembledSource {
  return (require("./source-guest.ts") as typeof import("./source-guest.ts")).assembleGuest(file, plan);
}

/** `auto` says which backend it took when that is not the first choice: a guest may behave otherwise there. */
function createPlannedVm({ backend, irqchip, pit, msrExits, clock, seed }: BootPlan, memoryBytes: number): Vm {
  const host = openBackend(backend);
  if (host.refusals.length > 0) tellRefusal(host);
  const options: VmOptions = {
    memoryBytes,
    ...(irqchip === undefined ? {} : { irqchip }),
    ...(pit === undefined ? {} : { pit }),
    ...(msrExits ? { msrExits: { invalid: true } } : {}),
    ...(clock === undefined ? {} : { clock }),
    ...(seed === undefined ? {} : { seed }),
  };
  try {
    return asUsage(() => new Vm(host.engine, options, host));
  } catch (error) {
    host[Symbol.dispose]();
    throw error;
  }
}

function tellRefusal({ refusals, name }: Host): void {
  const { isOfThisSystem } = require("./platforms.ts") as typeof import("./platforms.ts");
  const refusal = refusals.find(({ backend }) => isOfThisSystem(backend));
  const why = refusal === undefined ? "" : `, as ${refusal.backend} is not usable: ${refusal.error.message}`;
  console.error(`vmexit: running on ${name}${why}`);
}

function modeOptions({ entry, stack }: BootPlan): ModeOptions {
  return { ...(entry === undefined ? {} : { entry }), ...(stack === undefined ? {} : { stack }) };
}

/** While a machine is built, a `RangeError` means an option that does not fit. */
function asUsage<T>(build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(error.message, "see vmexit boot --help");
  }
}
