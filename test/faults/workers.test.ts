import { describe, expect, test } from "bun:test";
import { asm } from "../../src/asm/index.ts";
import { kvmGuest, noKvm } from "../src/backends/kvm/guest.ts";
import { openFds, vcpuMappings } from "./resources.ts";
import type { WorkerAnswer, WorkerTask } from "./worker.ts";

const { bytes: count } = asm.real16`
  again:
    inc al
    out 0x80, al
    cmp al, 100
    jne again
    hlt`;
const { bytes: spin } = asm.real16`jmp $`;

const HUNDRED = Array.from({ length: 100 }, (_, i) => i + 1);

/** Starts a Worker with a VM of its own, and ends it when it has answered. */
async function inWorker(name: string): Promise<WorkerAnswer> {
  const worker = new Worker(new URL("./worker.ts", import.meta.url).href);
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ name, count, spin } satisfies WorkerTask);
    });
  } finally {
    const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
    worker.terminate();
    await closed;
  }
}

describe.skipIf(noKvm !== "")(`VMs in Workers${noKvm}`, () => {
  test("a VM in a Worker loses no exit, keeps its deadline, and leaves nothing open", async () => {
    const before = vcpuMappings();
    const answer = await inWorker("alone");
    expect(answer).toEqual({ name: "alone", written: HUNDRED, ends: ["hlt", "timeout"] });
    expect(vcpuMappings()).toBe(before);
  }, 20_000);

  test("two Workers and the main thread run VMs at once, each with deadlines of its own", async () => {
    const workers = Promise.all([inWorker("first"), inWorker("second")]);
    let answered = false;
    void workers.finally(() => {
      answered = true;
    });
    using guest = kvmGuest(asm.real16`jmp $`);
    let runs = 0;
    while (!answered) {
      const exit = guest.vcpu.run({ timeoutMs: 2 });
      // JavaScriptCore stops a thread by SIGPWR, to start or end another's Worker for one.
      expect(["interrupted timeout", "interrupted signal"]).toContain(`${exit.kind} ${"by" in exit && exit.by}`);
      runs++;
      await Bun.sleep(1);
    }
    expect(runs).toBeGreaterThan(1);
    for (const [i, answer] of (await workers).entries()) {
      expect(answer).toEqual({ name: ["first", "second"][i] as string, written: HUNDRED, ends: ["hlt", "timeout"] });
    }
  }, 20_000);

  test("fds are the same after three Workers, one after the other", async () => {
    await inWorker("warm-up");
    const before = openFds();
    for (let i = 0; i < 3; i++) await inWorker(`${i}`);
    expect(openFds()).toBeLessThanOrEqual(before);
  }, 30_000);
});
