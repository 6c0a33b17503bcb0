import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, truncateSync } from "node:fs";
import { totalmem } from "node:os";
import { BACKEND_NAMES } from "../../../src/index.ts";
import { guest, MAIN, Scratch, skipped, vmexit, whyNoKvm } from "./vmexit-process.ts";

const onKvm = test.skipIf(whyNoKvm !== undefined);

describe("vmexit boot, exit status", () => {
  onKvm(`is 0 for a guest that halts, and stdout holds what it printed, alone${skipped}`, async () => {
    const { status, stdout, stderr } = await vmexit(["boot", guest("hello")]);
    expect({ status, stdout, stderr }).toEqual({
      status: 0,
      stdout: "Hello from vmexit!\nThat was all.\n",
      stderr: "",
    });
  });

  onKvm(`is 0 for a guest that powers off, with PIC and PIT in the engine${skipped}`, async () => {
    expect(await vmexit(["boot", guest("timer"), "--pit"])).toEqual({ status: 0, stdout: ".....", stderr: "" });
  });

  onKvm(`is (value << 1) | 1 for debug exit, without a crash screen${skipped}`, async () => {
    expect(await vmexit(["boot", guest("debug-exit")])).toEqual({ status: 85, stdout: "", stderr: "" });
  });

  onKvm(`is 124 at the time limit, and the screen shows where the guest is${skipped}`, async () => {
    const { status, stderr } = await vmexit(["boot", guest("endless"), "--timeout", "50ms"]);
    expect(status).toBe(124);
    expect(stderr).toStartWith("vmexit: time limit of 50 ms reached after 0 exits");
    expect(stderr).toContain("  00001000  ebfe                  jmp short 0x1000\n");
    expect(stderr).toContain("The guest made no exit.\n");
  });

  onKvm(`is 124 at the exit limit, and the screen ends with the last exits${skipped}`, async () => {
    const { status, stdout, stderr } = await vmexit(["boot", guest("hello"), "--max-exits", "5"]);
    expect({ status, stdout }).toEqual({ status: 124, stdout: "Hello" });
    expect(stderr).toContain("vmexit: exit limit of 5 reached after 5 exits");
    expect(stderr).toContain('         4  pioOut port=0x3f8 size=1 data=6c "l"  (2 times)\n');
    expect(stderr.trimEnd()).toEndWith('5  pioOut port=0x3f8 size=1 data=6f "o"');
  });

  onKvm(`is 134 for a triple fault, or 124 where KVM spins instead${skipped}`, async () => {
    const { status, stderr } = await vmexit(["boot", guest("triple-fault"), "--mode", "prot32", "--timeout", "1s"]);
    expect([124, 134]).toContain(status);
    if (status === 134) {
      expect(stderr).toStartWith("vmexit: triple fault after 1 exit");
      expect(stderr).toContain("The IDT at 0x0 has limit 0x0: no handlers in it.");
    }
  });

  onKvm(
    `is 70 where KVM cannot emulate an instruction, and the screen names it; 0 where it can${skipped}`,
    async () => {
      using scratch = new Scratch();
      const sse = "mov rax, cr4\n or rax, 0x600\n mov cr4, rax\n addps xmm0, xmm0\n hlt\n";
      const { status, stderr } = await vmexit(["boot", scratch.write("sse.asm", sse), "--mode", "long64"]);
      expect([0, 70]).toContain(status);
      if (status === 70) {
        expect(stderr).toStartWith("vmexit: the engine gave up: emulation failure after 1 exit");
        expect(stderr).toContain("0f58c0                addps xmm0, xmm0\n");
      }
    },
  );

  onKvm(`is 130, 143 and 129 for SIGINT, SIGTERM and SIGHUP, with a crash screen${skipped}`, async () => {
    const signals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
    for (const [signal, status] of Object.entries(signals)) {
      const child = Bun.spawn([process.execPath, MAIN, "boot", guest("echo")], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
      });
      child.stdin.write("x");
      await child.stdin.flush();
      expect((await child.stdout.getReader().read()).value).toEqual(new Uint8Array([0x78]));
      child.kill(signal as "SIGINT");
      expect(await child.exited).toBe(status);
      expect(await child.stderr.text()).toStartWith("vmexit: interrupted after ");
    }
  });

  onKvm(`is 141 and the guest stops when nobody reads stdout${skipped}`, async () => {
    const script = `'${process.execPath}' '${MAIN}' boot '${guest("echo")}' --timeout 20s < /dev/zero | head -c 1 >/dev/null; echo "\${PIPESTATUS[0]}"`;
    const child = Bun.spawn(["bash", "-c", script], { stdout: "pipe" });
    expect((await child.stdout.text()).trim()).toBe("141");
  });
});

/** Runs the tool where /dev/kvm is no KVM: /dev/null, in a mount namespace of its own. */
async function withoutKvm(args: readonly string[]) {
  const script = 'mount --bind /dev/null /dev/kvm && exec "$@"';
  const child = Bun.spawn(["unshare", "-m", "sh", "-c", script, "sh", process.execPath, MAIN, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [status, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { status, stdout, stderr };
}

const canHideKvm =
  whyNoKvm === undefined &&
  Bun.which("unshare") !== null &&
  Bun.spawnSync(["unshare", "-m", "mount", "--bind", "/dev/null", "/dev/kvm"]).exitCode === 0;
const hiding = canHideKvm ? "" : " (skipped: no KVM to hide, or mount namespaces are not allowed)";

describe("vmexit where KVM does not work", () => {
  test.skipIf(!canHideKvm)(`boot --backend kvm ends with status 69 and the call that failed${hiding}`, async () => {
    const { status, stdout, stderr } = await withoutKvm(["boot", guest("hello"), "--backend", "kvm"]);
    expect({ status, stdout }).toEqual({ status: 69, stdout: "" });
    expect(stderr).toStartWith("vmexit: Cannot complete ioctl(KVM_GET_API_VERSION) as the kernel returned ENOTTY");
  });

  const hasSoft = BACKEND_NAMES.includes("soft");
  test.skipIf(!canHideKvm || !hasSoft)(
    `boot says which backend it runs on instead${hasSoft ? hiding : " (skipped: no soft backend)"}`,
    async () => {
      const { status, stdout, stderr } = await withoutKvm(["boot", guest("hello")]);
      expect({ status, stdout }).toEqual({ status: 0, stdout: "Hello from vmexit!\nThat was all.\n" });
      expect(stderr).toMatch(
        /^vmexit: running on soft, as kvm is not usable: Cannot complete ioctl\(KVM_GET_API_VERSION\) .*\n$/,
      );
    },
  );

  test.skipIf(!canHideKvm)(`doctor names the failure of KVM with its remedy${hiding}`, async () => {
    const { stdout } = await withoutKvm(["doctor"]);
    expect(stdout).toMatch(/^FAIL Backend kvm: Cannot complete ioctl\(KVM_GET_API_VERSION\).*\n {5}-> \S/m);
  });
});

describe("vmexit boot, wrong usage and bad files", () => {
  test.each([
    [
      ["--memory", "0"],
      "Cannot give the guest 0 bytes of memory as it could not hold anything: use --memory 64K or more",
    ],
    [
      ["--memory", "5000"],
      "Cannot give the guest 4.9 KiB of memory as that is 904 bytes more than whole pages: use a multiple of 4K, for example 8192",
    ],
    [
      ["--load-address", "2G"],
      "Cannot load a guest at 0x80000000 as its memory ends at 0x1000000: use a lower --load-address or more --memory",
    ],
    [["--entry", "0x200000"], "Cannot start real16 at 0x200000"],
    [
      ["--format", "boot-sector", "--load-address", "0x9000"],
      "as it is taken for boot-sector, which says so itself: leave --load-address out, or add --format flat",
    ],
  ])("status 64 for %j", async (options, message) => {
    const { status, stdout, stderr } = await vmexit(["boot", guest("hello"), ...options]);
    expect({ status, stdout }).toEqual({
      status: whyNoKvm !== undefined && options[0] === "--entry" ? 69 : 64,
      stdout: "",
    });
    if (status === 64) expect(stderr).toContain(message);
  });

  test("status 64 for more memory than the host has, telling how much that is", async () => {
    const bytes = 4096 * Math.ceil((totalmem() + 1) / 4096);
    const { status, stderr } = await vmexit(["boot", guest("hello"), "--memory", String(bytes)]);
    expect(status).toBe(64);
    expect(stderr).toMatch(/of memory as this host has [\d.]+ [GM]iB: use less, [\d.]+ [GM]iB are free\n$/);
  });

  test("status 66 for a guest that is missing, empty, a directory or too large, each with its reason", async () => {
    using scratch = new Scratch();
    const empty = scratch.write("empty.bin", "");
    const large = scratch.write("large.bin", "");
    truncateSync(large, 10 * 2 ** 30);
    mkdirSync(`${scratch.path}/folder`);
    const expected = {
      [`${scratch.path}/missing.bin`]: "there is no such file: check the path",
      [empty]: "it is empty: give a file with code in it",
      [`${scratch.path}/folder`]: "it is a directory: give the file itself, not its directory",
      [large]:
        "its size of 10737418240 exceeds the guest's 16777216 bytes of memory: give the guest more with --memory",
    };
    for (const [path, reason] of Object.entries(expected)) {
      const { status, stderr } = await vmexit(["boot", path]);
      expect(status).toBe(66);
      expect(stderr).toEndWith(`"${path}" as ${reason}\n`);
      expect(stderr.split("\n")).toHaveLength(2);
    }
  });

  const isRoot = process.getuid?.() === 0;
  test.skipIf(isRoot)(
    `status 66 for a guest that may not be read${isRoot ? " (skipped: root may read everything)" : ""}`,
    async () => {
      using scratch = new Scratch();
      const path = scratch.write("secret.bin", "x");
      chmodSync(path, 0);
      const { status, stderr } = await vmexit(["boot", path]);
      expect(status).toBe(66);
      expect(stderr).toContain("as you may not read it: make the file readable");
    },
  );

  test("status 66 for a guest that its place in memory cannot hold", async () => {
    const { status, stderr } = await vmexit(["boot", guest("hello"), "--memory", "16K", "--load-address", "0x3fff"]);
    expect(status).toBe(66);
    expect(stderr).toContain("its image needs 0x3fff to 0x403e and memory ends at 0x4000");
  });

  test("status 64 names the field of a bad machine description, and loads no guest", async () => {
    using scratch = new Scratch();
    const path = scratch.write("m.json", '{ "guest": "x", "memory": "64Q" }');
    const { status, stderr } = await vmexit(["boot", "--machine", path]);
    expect(status).toBe(64);
    expect(stderr).toBe(
      `vmexit: Cannot use the machine description "${path}": memory: expected a size such as 64K, 2M, 1G or 0x10000, got "64Q"\n`,
    );
  });

  test("--json reports an error as an object too", async () => {
    const { status, stdout } = await vmexit(["boot", guest("hello"), "--json", "--memory", "0"]);
    expect(JSON.parse(stdout)).toMatchObject({
      status,
      error: { name: "UsageError", remedy: "use --memory 64K or more" },
    });
  });
});

describe("vmexit boot, console and reports", () => {
  onKvm(`hands piped stdin to the guest's serial port${skipped}`, async () => {
    const input = `${"0123456789abcdef".repeat(1000)}\n`;
    const { status, stdout } = await vmexit(["boot", guest("echo")], { stdin: `${input}\x04` });
    expect(status).toBe(0);
    expect(stdout).toBe(input);
  });

  onKvm(`--trace writes a line per exit on stderr, with the answer to a read${skipped}`, async () => {
    const { stdout, stderr } = await vmexit(["boot", guest("echo"), "--trace"], { stdin: "\x04" });
    expect(stdout).toBe("");
    const lines = stderr.trimEnd().split("\n");
    expect(lines.some((line) => /^ +\d+\.\d{3} 0000100\w pioIn port=0x3fd size=1 -> 61 "a"$/.test(line))).toBe(true);
    expect(lines.at(-2)).toMatch(/pioIn port=0x3f8 size=1 -> 04$/);
    expect(lines.at(-1)).toMatch(/^ +\d+\.\d{3} 0000\w{4} hlt$/);
  });

  onKvm(`--trace=asm names the instruction behind each exit${skipped}`, async () => {
    const { stderr } = await vmexit(["boot", guest("string-out"), "--trace=asm"]);
    const lines = stderr.trimEnd().split("\n");
    expect(lines[0]).toEndWith("; rep outsb");
    expect(lines.at(-1)).toEndWith("hlt  ; hlt");
  });

  onKvm(`--stats counts exits by reason and port on stderr${skipped}`, async () => {
    const { stdout, stderr } = await vmexit(["boot", guest("hello"), "--stats"]);
    expect(stdout).toBe("Hello from vmexit!\nThat was all.\n");
    expect(stderr).toMatch(/^ +exits +ms +bytes {2}reason\n +19 +[\d.]+ +19 {2}pioOut port 0x3f8\n/);
    expect(stderr).toMatch(/ +34 +[\d.]+ +33 {2}total\n$/);
  });

  onKvm(`--json puts one object on stdout, with the console inside${skipped}`, async () => {
    const { stdout, stderr } = await vmexit(["boot", guest("hello"), "--json", "--stats"]);
    expect(stderr).toBe("");
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(result).toMatchObject({
      status: 0,
      outcome: { kind: "halted" },
      format: "flat",
      mode: "real16",
      backend: "kvm",
      exits: 34,
      lastExit: { kind: "hlt" },
      console: "Hello from vmexit!\nThat was all.\n",
    });
    expect(result.registers).toMatchObject({ rip: "0x1013" });
    expect((result.stats as unknown[])[0]).toMatchObject({ kind: "pioOut", place: "port 0x3f8", count: 19 });
  });

  onKvm(`--cpuid changes what the guest reads${skipped}`, async () => {
    const override = "0:ebx=0x78656d76,edx=0x20207469,ecx=0x75504376";
    const { stdout } = await vmexit(["boot", guest("cpuid"), "--cpuid", override]);
    expect(stdout).toBe("vmexit  vCPu\n");
  });

  test("--seed chooses what RDRAND gives on soft, the same every time", async () => {
    using scratch = new Scratch();
    const source = scratch.write("random.asm", "bits 16\nrdrand eax\nmov dx, 0xf4\nout dx, al\n");
    const runs = ["1", "1", "0x2", "3"].map((seed) => vmexit(["boot", "--backend", "soft", "--seed", seed, source]));
    const statuses = (await Promise.all(runs)).map(({ status }) => status);
    expect(statuses[0]).toBe(statuses[1]);
    expect(new Set(statuses).size).toBe(3);
  });

  onKvm(`--seed and --clock instructions are refused by name on KVM${skipped}`, async () => {
    for (const [option, what] of [
      [["--seed", "1"], "a seed of random numbers"],
      [["--clock", "instructions"], "a clock of instructions"],
    ] as const) {
      const { status, stderr } = await vmexit(["boot", "--backend", "kvm", ...option, guest("hello")]);
      expect(status).toBe(69);
      expect(stderr).toContain(`Cannot use ${what} on the kvm backend`);
    }
  });

  onKvm(`--msr-exits makes unknown MSRs exits${skipped}`, async () => {
    const { stderr } = await vmexit(["boot", guest("msr"), "--msr-exits", "--trace"]);
    expect(stderr).toMatch(/rdmsr msr=0x12340 reason=(unknown|invalid)\n/);
  });

  onKvm(`--debug-console parts port 0xe9 from the serial port${skipped}`, async () => {
    const apart = await vmexit(["boot", guest("hello"), "--debug-console", "stderr"]);
    expect(apart).toEqual({ status: 0, stdout: "Hello from vmexit!\n", stderr: "That was all.\n" });
    const off = await vmexit(["boot", guest("hello"), "--debug-console", "off"]);
    expect(off).toEqual({ status: 0, stdout: "Hello from vmexit!\n", stderr: "" });
  });

  onKvm(`--machine boots what the description says${skipped}`, async () => {
    using scratch = new Scratch();
    const path = scratch.write("m.json", JSON.stringify({ guest: guest("prot32"), mode: "prot32", memory: "128K" }));
    expect(await vmexit(["boot", "--machine", path])).toEqual({ status: 0, stdout: "prot32 ok\n", stderr: "" });
  });

  onKvm(`a crash screen has no colours off a terminal, and fits 24 lines of 80 columns${skipped}`, async () => {
    const { stderr } = await vmexit(["boot", guest("echo"), "--max-exits", "50", "--mode", "long64"]);
    const lines = stderr.trimEnd().split("\n");
    expect(stderr).not.toContain("\x1b");
    expect(lines.length).toBeLessThanOrEqual(24);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});
