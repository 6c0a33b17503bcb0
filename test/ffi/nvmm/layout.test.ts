import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as config from "../../../ffi/nvmm/config.ts";
import * as exit from "../../../ffi/nvmm/exit.ts";
import { libraryNames, NVMM_SIGNATURES, NVMM_STOP_SIGNATURES } from "../../../ffi/nvmm/library.ts";
import * as objects from "../../../ffi/nvmm/objects.ts";
import * as state from "../../../ffi/nvmm/state.ts";
import { DRAGONFLY, layoutFor, NETBSD, type NvmmSystemLayout } from "../../../ffi/nvmm/systems.ts";
import type { Fields, Struct } from "../../../ffi/struct.ts";
import { compiler, PEER_FOLDER, type PeerSystem, SYSTEM_FLAG } from "../../peers/libnvmm/build.ts";
import abi from "./abi.json";

interface Fact {
  offset: number;
  size: number;
  bits?: number[];
}
interface Facts {
  structs: Record<string, { size: number; align: number; fields: Record<string, Fact> }>;
  constants: Record<string, number | string>;
  errno: Record<string, number>;
  functions: Record<string, { returns: string; args: { type: string }[] }>;
  platform: Record<string, unknown>;
}
const FACTS = { netbsd: abi.netbsd, dragonfly: abi.dragonfly } as unknown as Record<PeerSystem, Facts>;
const LAYOUTS: Record<PeerSystem, NvmmSystemLayout> = { netbsd: NETBSD, dragonfly: DRAGONFLY };

type Declared = Struct<Fields>;
type BitTable = Readonly<Record<string, readonly [number, number]>>;
interface Declaration {
  layout: Declared;
  /** Bit fields: the declared member that is their storage unit, their path in the facts, their table. */
  bits?: { unit: string; path: string; table: BitTable }[];
  /** Members whose name the facts have otherwise. */
  names?: Record<string, string>;
}

const SAME: Record<string, Declaration> = {
  nvmm_cap_md: { layout: config.NvmmCapMd },
  nvmm_assist_callbacks: { layout: config.NvmmAssistCallbacks },
  nvmm_machine: { layout: objects.NvmmMachine },
  nvmm_io: { layout: objects.NvmmIo },
  nvmm_mem: { layout: objects.NvmmMem },
  nvmm_x64_state_seg: {
    layout: state.NvmmX64StateSeg,
    bits: [{ unit: "attrib", path: "attrib.", table: state.SEG_ATTRIB }],
  },
  nvmm_x64_state_intr: { layout: state.NvmmX64StateIntr, bits: [{ unit: "flags", path: "", table: state.INTR }] },
  nvmm_x64_state: { layout: state.NvmmX64State },
  nvmm_x86_exit_memory: { layout: exit.NvmmX86ExitMemory },
  nvmm_x86_exit_io: { layout: exit.NvmmX86ExitIo },
  nvmm_x86_exit_rdmsr: { layout: exit.NvmmX86ExitRdmsr },
  nvmm_x86_exit_wrmsr: { layout: exit.NvmmX86ExitWrmsr },
  nvmm_x86_exit_insn: { layout: exit.NvmmX86ExitInsn },
  nvmm_x86_exit_invalid: { layout: exit.NvmmX86ExitInvalid },
  nvmm_x86_exit: {
    layout: exit.NvmmX86Exit,
    bits: [{ unit: "exitstate.flags", path: "exitstate.", table: state.INTR }],
  },
  nvmm_x86_event: { layout: exit.NvmmX86Event },
  nvmm_vcpu_conf_cpuid: {
    layout: config.NvmmVcpuConfCpuid,
    bits: [{ unit: "flags", path: "", table: config.CPUID_CONF }],
  },
  nvmm_vcpu_conf_tpr: {
    layout: config.NvmmVcpuConfTpr,
    bits: [{ unit: "flags", path: "", table: config.TPR_CONF }],
  },
  nvmm_ctl_mach_info: { layout: config.NvmmCtlMachInfo },
};

const FPU: Record<PeerSystem, Record<string, Declaration>> = {
  netbsd: {
    fp_addr: { layout: state.FpAddr },
    fpaccfx: { layout: state.FpAcc, names: { "r.f87_mantissa": "mantissa", "r.f87_exp_sign": "exp_sign" } },
    xmmreg: { layout: state.XmmReg },
    fxsave: { layout: state.Fxsave },
  },
  dragonfly: {
    nvmm_x64_state_fpu_addr: { layout: state.FpAddr },
    nvmm_x64_state_fpu_mmreg: { layout: state.FpAcc, names: { mm_significand: "mantissa", mm_exp_sign: "exp_sign" } },
    nvmm_x64_state_fpu_xmmreg: { layout: state.XmmReg },
    nvmm_x64_state_fpu: { layout: state.Fxsave },
  },
};

/** Members that vmexit declares as part of another, or not at all, and why. */
const LEFT_OUT: Record<string, string> = {
  "fxsave.fx_rsvd": "declared with fx_kernel as one run of reserved bytes",
  "fxsave.fx_kernel": "declared with fx_rsvd as one run of reserved bytes",
  "fpaccfx.r": "its two members are declared",
  "nvmm_x64_state_fpu_mmreg.mm_rsvd": "reserved",
};

function declarations(system: PeerSystem): Record<string, Declaration> {
  const { capability, vcpu, commPage } = LAYOUTS[system];
  return {
    ...SAME,
    ...FPU[system],
    nvmm_capability: { layout: capability as Declared },
    nvmm_vcpu: { layout: vcpu as Declared },
    nvmm_comm_page: { layout: commPage as Declared },
  };
}

function isBits(fact: Fact): boolean {
  return fact.bits !== undefined;
}

describe.each(["netbsd", "dragonfly"] as const)("NVMM layouts of %s", (system) => {
  const facts = FACTS[system];
  const declared = declarations(system);

  test("declare every struct of the facts with its size", () => {
    const sizes = Object.fromEntries(Object.entries(declared).map(([name, { layout }]) => [name, layout.size]));
    const wanted = Object.fromEntries(Object.entries(facts.structs).map(([name, { size }]) => [name, size]));
    expect(sizes).toEqual(wanted);
  });

  test("declare every member of the facts with its offset and size", () => {
    const wrong: string[] = [];
    let compared = 0;
    for (const [name, { fields }] of Object.entries(facts.structs)) {
      const { layout, names = {} } = declared[name] as Declaration;
      for (const [path, fact] of Object.entries(fields)) {
        if (isBits(fact) || LEFT_OUT[`${name}.${path}`] !== undefined) continue;
        const place = layout.offsets[names[path] ?? path];
        compared++;
        if (place?.offset !== fact.offset || place.size !== fact.size) {
          wrong.push(`${name}.${path}: ${JSON.stringify(place)}, not ${JSON.stringify(fact)}`);
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(150);
  });

  test("declare every bit field of the facts with its bits and storage unit", () => {
    for (const [name, { fields }] of Object.entries(facts.structs)) {
      const found = Object.entries(fields).filter(([, fact]) => isBits(fact));
      const { layout, bits = [] } = declared[name] as Declaration;
      const ours = bits.flatMap(({ unit, path, table }) =>
        Object.entries(table).map(([field, range]) => [
          `${path}${field}`,
          { offset: layout.offsets[unit]?.offset, bits: [...range] },
        ]),
      );
      expect(Object.fromEntries(ours)).toEqual(
        Object.fromEntries(found.map(([path, { offset, bits }]) => [path, { offset, bits }])),
      );
    }
  });

  test("have every constant that the facts and vmexit share at its value", () => {
    const ours: Record<string, unknown> = { ...state, ...exit, ...config };
    const shared = Object.entries(facts.constants).filter(([name]) => ours[name] !== undefined);
    for (const [name, value] of shared) expect([name, BigInt(ours[name] as number)]).toEqual([name, BigInt(value)]);
    expect(shared.length).toBeGreaterThan(90);
    expect(LAYOUTS[system].kernelVersion).toBe(facts.constants.NVMM_KERN_VERSION as number);
  });

  test("have the system's error numbers, errno accessor, library names and stop", () => {
    const layout = LAYOUTS[system];
    expect(layout.errno).toEqual(facts.errno);
    expect(layout.errnoSymbol as string).toBe(facts.platform.errno_accessor as string);
    expect(layout.libraries).toEqual(facts.platform.library as string[]);
    expect(layout.hasStop).toBe(facts.platform.has_vcpu_stop as boolean);
    expect(libraryNames(system)).toEqual(layout.libraries);
  });

  test("bind every function of the facts with its argument types", () => {
    const signatures = { ...NVMM_SIGNATURES, ...(LAYOUTS[system].hasStop ? NVMM_STOP_SIGNATURES : {}) };
    const ours = Object.fromEntries(
      Object.entries(signatures).map(([name, { args, returns }]) => [name, { args: [...args], returns }]),
    );
    const wanted = Object.fromEntries(
      Object.entries(facts.functions).map(([name, { args, returns }]) => [
        name,
        { args: args.map(({ type }) => type), returns },
      ]),
    );
    expect(ours as unknown).toEqual(wanted);
  });

  const cc = compiler();
  const skip = cc === undefined ? " (skipped: no C compiler)" : "";
  test.skipIf(cc === undefined)(`agree with the C compiler over the peer's header${skip}`, () => {
    expect(askC(cc as string, system, facts)).toEqual(expected(facts));
  });
});

/** One line per fact: `struct path offset size`, as the C program prints them. */
function expected(facts: Facts): string[] {
  return Object.entries(facts.structs).flatMap(([name, { size, fields }]) => [
    `${name} ${size}`,
    ...Object.entries(fields)
      .filter(([, fact]) => !isBits(fact))
      .map(([path, fact]) => `${name} ${path} ${fact.offset} ${fact.size}`),
  ]);
}

function askC(cc: string, system: PeerSystem, facts: Facts): string[] {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-nvmm-layout-"));
  const unions = new Set(["fp_addr", "nvmm_x64_state_fpu_addr"]);
  const lines = Object.entries(facts.structs).flatMap(([name, { fields }]) => {
    const type = `${unions.has(name) ? "union" : "struct"} ${name}`;
    return [
      `printf("${name} %zu\\n", sizeof(${type}));`,
      ...Object.entries(fields)
        .filter(([, fact]) => !isBits(fact))
        .map(
          ([path]) =>
            `printf("${name} ${path} %zu %zu\\n", __builtin_offsetof(${type}, ${path}), sizeof(((${type} *)0)->${path}));`,
        ),
    ];
  });
  try {
    const source = join(folder, "layout.c");
    writeFileSync(
      source,
      `#include <stdio.h>\n#include "nvmm.h"\nint main(void) {\n${lines.join("\n")}\nreturn 0; }\n`,
    );
    const program = join(folder, "layout");
    const built = Bun.spawnSync([cc, SYSTEM_FLAG[system], `-I${PEER_FOLDER}`, "-o", program, source]);
    if (built.exitCode !== 0) throw new Error(built.stderr.toString());
    return Bun.spawnSync([program]).stdout.toString().trimEnd().split("\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("layoutFor() picks a system by version and state size, and knows no other pair", () => {
  expect(layoutFor({ version: 2, state_size: 1008 })).toBe(NETBSD);
  expect(layoutFor({ version: 3, state_size: 1008 })).toBe(DRAGONFLY);
  expect(layoutFor({ version: 2, state_size: 1000 })).toBeUndefined();
  expect(layoutFor({ version: 1, state_size: 1008 })).toBeUndefined();
  expect(layoutFor({ version: 5, state_size: 1008 })).toBeUndefined();
});

test("libraryNames() tries the names of both systems where the platform says nothing", () => {
  expect(libraryNames("linux")).toEqual(["libnvmm.so", "libnvmm.so.0", "libnvmm.so.3"]);
});
