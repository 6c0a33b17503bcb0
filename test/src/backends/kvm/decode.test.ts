import { describe, expect, test } from "bun:test";
import * as kvm from "../../../../ffi/kvm/run.ts";
import { answerWords, ExitDecoder } from "../../../../src/backends/kvm/decode.ts";
import type { Exit, ExitOf } from "../../../../src/exit.ts";

/** Where KVM puts PIO data: the second page of the mapping. */
const PIO_DATA = 4096;

/** A kvm_run as the kernel would leave it, and its decoder. No KVM is needed. */
function invented(fill: (run: kvm.KvmRun, page: Uint8Array) => void): {
  run: kvm.KvmRun;
  page: Uint8Array;
  decoder: ExitDecoder;
} {
  const page = new Uint8Array(3 * 4096);
  const run = kvm.KvmRun.view(page);
  // What KVM does not fill holds what the exit before left there.
  run.padding.fill(0xa5);
  fill(run, page);
  return { run, page, decoder: new ExitDecoder(run, page) };
}

const decoded = (fill: (run: kvm.KvmRun, page: Uint8Array) => void): Exit => invented(fill).decoder.decode();

function pio(direction: number, size: number, count: number, bytes: readonly number[] = []) {
  return (run: kvm.KvmRun, page: Uint8Array): void => {
    run.exit_reason = kvm.KVM_EXIT_IO;
    Object.assign(run.io, { direction, size, port: 0x3f8, count, data_offset: PIO_DATA });
    page.set(bytes, PIO_DATA);
  };
}

function mmio(isWrite: number, bytes: readonly number[]) {
  return (run: kvm.KvmRun): void => {
    run.exit_reason = kvm.KVM_EXIT_MMIO;
    Object.assign(run.mmio, { phys_addr: 0xf_0000_0000_0ff8, len: bytes.length, is_write: isWrite });
    run.mmio.data.fill(0xee);
    run.mmio.data.set(bytes);
  };
}

describe("ExitDecoder on KVM_EXIT_IO", () => {
  for (const size of [1, 2, 4] as const) {
    for (const count of [1, 3]) {
      const bytes = Array.from({ length: size * count }, (_, i) => i + 1);

      test(`gives the ${bytes.length} bytes of ${count} OUT of ${size}, and nothing behind them`, () => {
        const exit = decoded(pio(kvm.KVM_EXIT_IO_OUT, size, count, [...bytes, 0xdd, 0xdd]));
        expect(exit).toEqual({ kind: "pioOut", port: 0x3f8, size, count, data: Uint8Array.from(bytes) });
      });

      test(`presets the ${bytes.length} bytes of ${count} IN of ${size} to ones, in the page itself`, () => {
        const { page, decoder } = invented(pio(kvm.KVM_EXIT_IO_IN, size, count, new Array(32).fill(0)));
        const exit = decoder.decode() as ExitOf<"pioIn">;
        expect(exit).toEqual({
          kind: "pioIn",
          port: 0x3f8,
          size,
          count,
          data: new Uint8Array(size * count).fill(0xff),
        });
        exit.data.set(bytes);
        expect([...page.subarray(PIO_DATA, PIO_DATA + bytes.length + 1)]).toEqual([...bytes, 0]);
      });
    }
  }

  test("holds a whole page of REP INSB", () => {
    const exit = decoded(pio(kvm.KVM_EXIT_IO_IN, 1, 4096)) as ExitOf<"pioIn">;
    expect([exit.count, exit.data.length, exit.data.every((byte) => byte === 0xff)]).toEqual([4096, 4096, true]);
  });

  test("follows data_offset when it moves between two exits of one length", () => {
    const { run, page, decoder } = invented(pio(kvm.KVM_EXIT_IO_OUT, 1, 1, [1]));
    decoder.decode();
    run.io.data_offset = PIO_DATA + 8;
    page[PIO_DATA + 8] = 2;
    expect((decoder.decode() as ExitOf<"pioOut">).data).toEqual(Uint8Array.of(2));
  });

  test("makes a new value for each exit, over the same bytes", () => {
    const { decoder } = invented(pio(kvm.KVM_EXIT_IO_OUT, 1, 1, [1]));
    const [first, second] = [decoder.decode(), decoder.decode()] as [ExitOf<"pioOut">, ExitOf<"pioOut">];
    expect(first).not.toBe(second);
    expect(first.data).toBe(second.data);
  });
});

describe("ExitDecoder on KVM_EXIT_MMIO", () => {
  for (let length = 1; length <= 8; length++) {
    const bytes = Array.from({ length }, (_, i) => 0x10 + i);

    test(`gives the ${length} bytes of a store at its 52-bit address`, () => {
      const exit = decoded(mmio(1, bytes));
      expect(exit).toEqual({ kind: "mmioWrite", gpa: 0xf_0000_0000_0ff8, data: Uint8Array.from(bytes) });
    });

    test(`presets the ${length} bytes of a load to ones, in the page itself`, () => {
      const { run, decoder } = invented(mmio(0, bytes));
      const exit = decoder.decode() as ExitOf<"mmioRead">;
      expect(exit).toEqual({ kind: "mmioRead", gpa: 0xf_0000_0000_0ff8, data: new Uint8Array(length).fill(0xff) });
      exit.data.fill(0x77);
      expect([...run.mmio.data]).toEqual([...new Array(length).fill(0x77), ...new Array(8 - length).fill(0xee)]);
    });
  }
});

describe("ExitDecoder on an MSR exit", () => {
  const REASONS = [
    [kvm.KVM_MSR_EXIT_REASON_INVAL, "invalid"],
    [kvm.KVM_MSR_EXIT_REASON_UNKNOWN, "unknown"],
    [kvm.KVM_MSR_EXIT_REASON_FILTER, "filter"],
  ] as const;
  for (const [number, reason] of REASONS) {
    test(`says ${reason} for reason ${number}, and offers RDMSR the value 0`, () => {
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_X86_RDMSR;
        Object.assign(run.msr, { reason: number, index: 0xc0000080, data: 0x55n });
      });
      expect(exit).toEqual({ kind: "rdmsr", msr: 0xc0000080, reason, value: 0n, error: false });
    });

    test(`says ${reason} for reason ${number}, and carries what WRMSR writes`, () => {
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_X86_WRMSR;
        Object.assign(run.msr, { reason: number, index: 0x4b564d00, data: 0xfedcba9876543210n, error: 1 });
      });
      expect(exit).toEqual({ kind: "wrmsr", msr: 0x4b564d00, reason, value: 0xfedcba9876543210n, error: false });
    });
  }
});

describe("ExitDecoder on an exit without payload", () => {
  const PLAIN: readonly [string, number, Exit][] = [
    ["KVM_EXIT_HLT", kvm.KVM_EXIT_HLT, { kind: "hlt" }],
    ["KVM_EXIT_SHUTDOWN", kvm.KVM_EXIT_SHUTDOWN, { kind: "shutdown" }],
    ["KVM_EXIT_IRQ_WINDOW_OPEN", kvm.KVM_EXIT_IRQ_WINDOW_OPEN, { kind: "irqWindow" }],
    ["KVM_EXIT_X86_BUS_LOCK", kvm.KVM_EXIT_X86_BUS_LOCK, { kind: "busLock" }],
    ["KVM_EXIT_DIRTY_RING_FULL", kvm.KVM_EXIT_DIRTY_RING_FULL, { kind: "dirtyRingFull" }],
    ["KVM_EXIT_INTR", kvm.KVM_EXIT_INTR, { kind: "interrupted", by: "signal" }],
  ];
  for (const [name, reason, expected] of PLAIN) {
    test(`gives ${expected.kind} for ${name}`, () => {
      const exit = decoded((run) => {
        run.exit_reason = reason;
      });
      expect(exit).toEqual(expected);
    });
  }
});

describe("ExitDecoder on a failure", () => {
  test("carries the hardware's reason for KVM_EXIT_FAIL_ENTRY, the CPU, and words for it", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_FAIL_ENTRY;
      Object.assign(run.fail_entry, { hardware_entry_failure_reason: 0x80000021n, cpu: 3 });
    }) as ExitOf<"failEntry">;
    expect(exit).toMatchObject({ kind: "failEntry", hardwareReason: 0x80000021n, cpu: 3 });
    expect(exit.explanation).toMatch(/guest state/i);
  });

  test("explains a hardware reason that no table has by its number", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_FAIL_ENTRY;
      Object.assign(run.fail_entry, { hardware_entry_failure_reason: 0xdeadbeefcafen, cpu: 0 });
    }) as ExitOf<"failEntry">;
    expect(exit.hardwareReason).toBe(0xdeadbeefcafen);
    expect(exit.explanation.length).toBeGreaterThan(0);
  });

  const SUBERRORS: readonly [number, string][] = [
    [kvm.KVM_INTERNAL_ERROR_EMULATION, "emulation failure"],
    [kvm.KVM_INTERNAL_ERROR_SIMUL_EX, "simultaneous exceptions"],
    [kvm.KVM_INTERNAL_ERROR_DELIVERY_EV, "exit during event delivery"],
    [kvm.KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, "unexpected exit reason of the processor"],
    [77, "sub-error 77"],
  ];
  for (const [suberror, name] of SUBERRORS) {
    test(`names sub-error ${suberror} "${name}" and carries exactly its data words`, () => {
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_INTERNAL_ERROR;
        Object.assign(run.internal, { suberror, ndata: 3 });
        // Word 0 would be the flags of an emulation failure: bit 0 clear, so no instruction bytes follow.
        run.internal.data.set([0x10n, 0x20n, 0xffffffffffffffffn, 0x40n]);
      });
      const data = [0x10n, 0x20n, 0xffffffffffffffffn];
      expect(exit).toEqual({ kind: "internalError", suberror, name, data, instruction: new Uint8Array(0) });
    });
  }

  test("never reads more data words than the structure has", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_INTERNAL_ERROR;
      Object.assign(run.internal, { suberror: 2, ndata: 0xffffffff });
    }) as ExitOf<"internalError">;
    expect(exit.data.length).toBe(16);
  });

  const failure = (insnSize: number, ndata: number) =>
    decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_INTERNAL_ERROR;
      Object.assign(run.emulation_failure, { suberror: 1, ndata, flags: 1, insn_size: insnSize });
      run.emulation_failure.insn_bytes.set([0x0f, 0xae, 0x00]);
    }) as ExitOf<"internalError">;

  test("copies the instruction bytes of an emulation failure that has them", () => {
    const { instruction, data } = failure(3, 4);
    expect(instruction).toEqual(Uint8Array.of(0x0f, 0xae, 0x00));
    expect(data.length).toBe(4);
  });

  test("gives no instruction bytes where ndata says that the flags are not valid", () => {
    expect(failure(3, 0).instruction.length).toBe(0);
  });

  test("gives at most 15 instruction bytes, as an x86 instruction has", () => {
    expect(failure(200, 4).instruction.length).toBe(15);
  });

  const fault = (run: kvm.KvmRun): void => {
    run.exit_reason = kvm.KVM_EXIT_MEMORY_FAULT;
    Object.assign(run.memory_fault, { flags: kvm.KVM_MEMORY_EXIT_FLAG_PRIVATE, gpa: 0x1_2345_6000, size: 4096 });
  };

  test("carries flags, address and size of KVM_EXIT_MEMORY_FAULT", () => {
    const expected = { kind: "memoryFault", flags: 8n, gpa: 0x1_2345_6000, bytes: 4096 } as const;
    expect(decoded(fault)).toEqual(expected);
    expect(invented(fault).decoder.decodeMemoryFault()).toEqual(expected);
  });

  test("decodeMemoryFault() is undefined where the kernel did not tell which access failed", () => {
    const { decoder } = invented(pio(kvm.KVM_EXIT_IO_OUT, 1, 1));
    expect(decoder.decodeMemoryFault()).toBeUndefined();
  });
});

describe("ExitDecoder on a rarer exit", () => {
  test("carries exception, address and both debug registers of KVM_EXIT_DEBUG", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_DEBUG;
      Object.assign(run.debug.arch, { exception: 1, pc: 0xffffffff81000000n, dr6: 0xffff4ff0n, dr7: 0x400n });
    });
    expect(exit).toEqual({ kind: "debug", exception: 1, pc: 0xffffffff81000000n, dr6: 0xffff4ff0n, dr7: 0x400n });
  });

  test("carries vector and error code of KVM_EXIT_EXCEPTION", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_EXCEPTION;
      Object.assign(run.ex, { exception: 14, error_code: 0x80000004 });
    });
    expect(exit).toEqual({ kind: "exception", exception: 14, errorCode: 0x80000004 });
  });

  for (const [longmode, longMode] of [
    [1, true],
    [0, false],
  ] as const) {
    test(`carries number and all six arguments of KVM_EXIT_HYPERCALL, long mode ${longMode}`, () => {
      const args = [1n, 2n, 3n, 4n, 5n, 0xffffffffffffffffn];
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_HYPERCALL;
        Object.assign(run.hypercall, { nr: 12n, longmode });
        run.hypercall.args.set(args);
      });
      expect(exit).toEqual({ kind: "hypercall", number: 12n, args, longMode, result: 0n });
    });
  }

  test("carries CR8 of KVM_EXIT_SET_TPR", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_SET_TPR;
      run.cr8 = 9n;
    });
    expect(exit).toEqual({ kind: "setTpr", cr8: 9n });
  });

  for (const isWrite of [true, false]) {
    test(`carries RIP of KVM_EXIT_TPR_ACCESS, a ${isWrite ? "write" : "read"}`, () => {
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_TPR_ACCESS;
        Object.assign(run.tpr_access, { rip: 0x80001234n, is_write: Number(isWrite) });
      });
      expect(exit).toEqual({ kind: "tprAccess", rip: 0x80001234n, isWrite });
    });
  }

  const EVENTS = ["shutdown", "reset", "crash", "wakeup", "suspend", "sevTermination", "tdxFatal", "event 8"];
  for (const [i, name] of EVENTS.entries()) {
    test(`names KVM_EXIT_SYSTEM_EVENT ${i + 1} "${name}" and carries its data`, () => {
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_SYSTEM_EVENT;
        Object.assign(run.system_event, { type: i + 1, ndata: 2 });
        run.system_event.data.set([7n, 8n, 9n]);
      });
      expect(exit).toEqual({ kind: "systemEvent", type: i + 1, name, data: [7n, 8n] });
    });
  }

  test("carries the vector of KVM_EXIT_IOAPIC_EOI", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_IOAPIC_EOI;
      run.eoi.vector = 0x31;
    });
    expect(exit).toEqual({ kind: "ioapicEoi", vector: 0x31 });
  });

  for (const contextInvalid of [true, false]) {
    test(`tells from KVM_EXIT_NOTIFY's flags that the context is ${contextInvalid ? "lost" : "whole"}`, () => {
      const exit = decoded((run) => {
        run.exit_reason = kvm.KVM_EXIT_NOTIFY;
        run.notify.flags = contextInvalid ? kvm.KVM_NOTIFY_CONTEXT_INVALID : 0;
      });
      expect(exit).toEqual({ kind: "notify", contextInvalid });
    });
  }

  const words = (run: kvm.KvmRun, count: number): void => {
    const view = new DataView(run.padding.buffer, run.padding.byteOffset + 8);
    for (let i = 0; i < count; i++) view.setBigUint64(i * 8, BigInt(i) << 40n, true);
  };

  test("carries type and all 6 words of KVM_EXIT_HYPERV", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_HYPERV;
      run.hyperv.type = 2;
      words(run, 6);
    });
    expect(exit).toEqual({ kind: "hyperv", type: 2, data: Array.from({ length: 6 }, (_, i) => BigInt(i) << 40n) });
  });

  test("carries type and all 9 words of KVM_EXIT_XEN", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_XEN;
      run.xen.type = 1;
      words(run, 9);
    });
    expect(exit).toEqual({ kind: "xen", type: 1, data: Array.from({ length: 9 }, (_, i) => BigInt(i) << 40n) });
  });

  test("takes what was set in the words of a hypercall where KVM looks for its result", () => {
    const xen = invented((run) => {
      run.exit_reason = kvm.KVM_EXIT_XEN;
    });
    const exit = xen.decoder.decode() as ExitOf<"xen">;
    exit.data[2] = 0x1122334455667788n;
    answerWords(xen.run, exit.data);
    expect(xen.run.xen.u.hcall.result).toBe(0x1122334455667788n);

    const hyperv = invented((run) => {
      run.exit_reason = kvm.KVM_EXIT_HYPERV;
    });
    const call = hyperv.decoder.decode() as ExitOf<"hyperv">;
    call.data[1] = 3n;
    answerWords(hyperv.run, call.data);
    expect(hyperv.run.hyperv.u.hcall.result).toBe(3n);
    expect(hyperv.run.hyperv.u.hcall.input).toBe(call.data[0] as bigint);
  });

  test("hands the hardware's own number on for KVM_EXIT_UNKNOWN", () => {
    const exit = decoded((run) => {
      run.exit_reason = kvm.KVM_EXIT_UNKNOWN;
      run.hw.hardware_exit_reason = 0x402n;
    });
    expect(exit).toEqual({ kind: "unknown", reason: 0x402 });
  });
});

test("ExitDecoder has a member of its own for every reason that x86 uses, and unknown with its number for all others", () => {
  const OTHER_ARCHITECTURES = ["DCR", "OSI", "WATCHDOG", "EPR"];
  /** Not x86's any more, or only for guests that vmexit cannot make: an in-kernel SEV-ES AP, a TDX guest. */
  const NOT_OURS = ["UNKNOWN", "NMI", "AP_RESET_HOLD", "TDX"];
  const ours = new Set<number>();
  for (const [name, value] of Object.entries(kvm)) {
    const [, reason] = /^KVM_EXIT_((?!IO_|HYPERCALL_)[A-Z0-9_]+|IO|HYPERCALL)$/.exec(name) ?? [];
    if (reason === undefined || typeof value !== "number") continue;
    if (!OTHER_ARCHITECTURES.includes(reason) && !NOT_OURS.includes(reason)) ours.add(value);
  }
  for (let reason = 1; reason <= 0x100; reason++) {
    const exit = decoded((run) => {
      run.padding.fill(0);
      run.exit_reason = reason;
    });
    if (ours.has(reason)) expect([reason, exit.kind]).not.toEqual([reason, "unknown"]);
    else expect(exit).toEqual({ kind: "unknown", reason });
  }
});
