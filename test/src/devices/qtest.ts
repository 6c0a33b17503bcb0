/** Where QEMU is, or why a test against it is skipped, worded for the end of a test's name. */
export function findQemu(): { path: string | undefined; skip: string } {
  const path = Bun.which("qemu-system-i386") ?? Bun.which("qemu-system-x86_64") ?? undefined;
  return { path, skip: path === undefined ? " (skipped: no qemu-system-i386 on this host)" : "" };
}

/**
 * Runs port accesses on QEMU's own devices, its processor stopped, over the qtest protocol.
 *
 * @param commands `inb 0x3f8` or `outb 0x3f8 0x41`, and so on.
 * @returns For each command the number read, or undefined for a write.
 * @see docs/devel/testing/qtest.rst in QEMU
 */
export async function qtest(path: string, commands: readonly string[]): Promise<(number | undefined)[]> {
  const args = ["-M", "isapc", "-nodefaults", "-display", "none", "-S", "-serial", "null"];
  const qemu = Bun.spawn([path, ...args, "-qtest", "stdio", "-qtest-log", "none"], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "ignore",
    timeout: 4000,
  });
  try {
    qemu.stdin.write(`${commands.join("\n")}\n`);
    qemu.stdin.flush();
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of qemu.stdout) {
      text += decoder.decode(chunk);
      if (text.split("\n").length > commands.length) break;
    }
    const answers = text.trim().split("\n");
    return commands.map((command, i) => {
      const [status, value] = answers[i]?.split(" ") ?? [];
      if (status !== "OK") throw new Error(`qtest answered ${JSON.stringify(answers[i])} to "${command}"`);
      return value === undefined ? undefined : Number(value);
    });
  } finally {
    qemu.kill();
    await qemu.exited;
  }
}
