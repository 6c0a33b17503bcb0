import { expect, test } from "bun:test";
import { peerLibrary } from "../../../peers/libnvmm/build.ts";
import { missing, PEER_SYSTEMS, skipped } from "./peers.ts";

const source = (name: string) => JSON.stringify(new URL(`../../../../src/${name}`, import.meta.url).href);

/** Runs a VM to its deadline and back in a Worker. */
const SCRIPT = `
  import { openNvmm } from ${source("backends/nvmm/backend.ts")};
  import { Vm } from ${source("vm.ts")};
  self.onmessage = ({ data: library }) => {
    using vm = new Vm(openNvmm({ library }), { memoryBytes: 0x2000 });
    const vcpu = vm.createVcpu();
    vm.memory.write(0x1000, Uint8Array.of(0xa0, 0, 0x80, 0xe6, 0x80, 0xeb, 0xfe)); // MOV AL, [0x8000]; OUT 0x80, AL; JMP $
    vcpu.enterMode("real16", { entry: 0x1000 });
    const load = vcpu.run({ timeoutMs: 5000 });
    load.data[0] = 0x5a;
    const out = vcpu.run({ timeoutMs: 5000 });
    const end = vcpu.run({ timeoutMs: 20 });
    postMessage([load.kind, out.kind, out.data[0], end.by]);
  };`;

test.skipIf(missing !== undefined).each(PEER_SYSTEMS)(
  `a VM in a Worker of its own meets its deadline on %s${skipped}`,
  async (system) => {
    const library = peerLibrary(system, "worker");
    const workers = [0, 1].map(() => new Worker(URL.createObjectURL(new Blob([SCRIPT], { type: "text/javascript" }))));
    try {
      const answers = await Promise.all(
        workers.map(
          (worker) =>
            new Promise((resolve, reject) => {
              worker.onmessage = ({ data }) => resolve(data);
              worker.onerror = (event) => reject(new Error(event.message));
              worker.postMessage(library);
            }),
        ),
      );
      expect(answers).toEqual([
        ["mmioRead", "pioOut", 0x5a, "timeout"],
        ["mmioRead", "pioOut", 0x5a, "timeout"],
      ]);
    } finally {
      for (const worker of workers) worker.terminate();
    }
  },
);
