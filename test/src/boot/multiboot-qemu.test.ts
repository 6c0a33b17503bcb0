import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildMultibootKernel } from "./multiboot-kernel.ts";
import { lacking } from "./tools.ts";

/** What QEMU's own Multiboot loader makes the kernel print until it says "map" or "?". */
async function runOnQemu(kernel: Uint8Array): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-multiboot-"));
  writeFileSync(join(folder, "kernel"), kernel);
  writeFileSync(join(folder, "module"), "module\0");
  const boot = ["-kernel", "kernel", "-initrd", "module", "-append", "quiet"];
  const quiet = ["-display", "none", "-nodefaults", "-no-reboot", "-debugcon", "stdio"];
  const qemu = Bun.spawn(["qemu-system-x86_64", "-M", "pc", "-m", "16", ...quiet, ...boot], {
    cwd: folder,
    stdout: "pipe",
    stderr: "ignore",
  });
  try {
    let text = "";
    for await (const chunk of qemu.stdout) {
      text += Buffer.from(chunk).toString("latin1");
      if (/map$|[?]$/.test(text)) break;
    }
    return text;
  } finally {
    qemu.kill("SIGKILL");
    await qemu.exited;
    rmSync(folder, { recursive: true, force: true });
  }
}

// The kernel of boot-guest-kvm.test.ts, so that its expectations are not vmexit's alone.
const skipped = lacking("qemu-system-x86_64", "nasm", "ld");
test.skipIf(skipped !== "")(
  `QEMU's Multiboot loader satisfies the kernel that bootGuest() satisfies${skipped}`,
  async () => {
    expect(await runOnQemu(buildMultibootKernel())).toMatch(/<kernel quiet><module>map$/);
  },
);
