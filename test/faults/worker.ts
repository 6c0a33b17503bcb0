/**
 * A VM in a Worker: counts a guest's exits, then lets a guest that spins run into its deadline, and tells both. The VMs
 * are disposed before the answer.
 */
import { createVm } from "../../src/index.ts";

declare const self: Worker;

export interface WorkerAnswer {
  readonly name: string;
  /** What the guest wrote to port 0x80. */
  readonly written: readonly number[];
  /** The last exit of the guest that counts, and of the one that spins. */
  readonly ends: readonly string[];
}

export interface WorkerTask {
  readonly name: string;
  /** Code of a guest that writes to port 0x80 until it halts, and of one that never ends; both at 0x1000. */
  readonly count: Uint8Array;
  readonly spin: Uint8Array;
}

self.onmessage = ({ data: { name, count, spin } }: MessageEvent<WorkerTask>) => {
  const written: number[] = [];
  const ends: string[] = [];
  for (const code of [count, spin]) {
    using vm = createVm({ backend: "kvm", memoryBytes: 0x2000 });
    vm.pio.map(0x80, 1, { name: "recorder", read: () => {}, write: (_, data) => void written.push(data[0] as number) });
    using vcpu = vm.createVcpu();
    vm.memory.write(0x1000, code);
    vcpu.enterMode("real16", { entry: 0x1000 });
    const limits = { timeoutMs: code === spin ? 20 : 5000 };
    let exit = vcpu.run(limits);
    // The runtime's own signal to this thread: the guest goes on where it was.
    while (exit.kind === "interrupted" && exit.by === "signal") exit = vcpu.run(limits);
    ends.push(exit.kind === "interrupted" ? exit.by : exit.kind);
  }
  self.postMessage({ name, written, ends } satisfies WorkerAnswer);
};
