import { expect, test } from "bun:test";
import { BOOT_OPTIONS, bootPlan } from "../../../src/cli/boot-options.ts";
import { UsageError } from "../../../src/cli/usage-error.ts";
import { Scratch, vmexit } from "./vmexit-process.ts";

test("bootPlan() of a guest alone sets nothing else", () => {
  expect(bootPlan(["g.bin"])).toEqual({ guest: "g.bin", trace: "off", stats: false, json: false });
});

test("bootPlan() gives each option in its unit", () => {
  const plan = bootPlan(
    "g --memory 2M --load-address 0x7c00 --entry 32K --timeout 1.5s --max-exits 10 --mode long64 --stats --json".split(
      " ",
    ),
  );
  expect(plan).toEqual({
    guest: "g",
    memory: 2 ** 21,
    loadAddress: 0x7c00,
    entry: 0x8000,
    timeout: 1500,
    maxExits: 10,
    mode: "long64",
    trace: "off",
    stats: true,
    json: true,
  });
});

test("bootPlan() takes --pit for a wish for an irqchip, and --irqchip alone for a full one", () => {
  expect(bootPlan(["g", "--pit"])).toMatchObject({ pit: true, irqchip: "full" });
  expect(bootPlan(["g", "--irqchip"])).toMatchObject({ irqchip: "full" });
  expect(() => bootPlan(["g", "--pit", "--irqchip=split"])).toThrow("Cannot use --pit with --irqchip=split");
});

test("bootPlan() lets an option win over the machine description", () => {
  using scratch = new Scratch();
  const file = scratch.write("m.json", '{ "guest": "k.bin", "memory": "64K", "timeout": 500 }');
  expect(bootPlan(["--machine", file, "--memory", "1M"])).toMatchObject({
    guest: `${scratch.path}/k.bin`,
    memory: 2 ** 20,
    timeout: 500,
  });
});

test.each([
  [[], "Cannot boot without a guest"],
  [["a", "b"], 'Cannot boot "b" beside "a"'],
  [["g", "--memory", "64Q"], 'Cannot read --memory "64Q": write a size such as 64K, 2M, 1G or 0x10000'],
  [["g", "--mode", "real"], 'Cannot read --mode "real": write real16,'],
  [["g", "--timeout", "10"], 'Cannot read --timeout "10": write a time such as 500ms, 10s or 2m, or "none"'],
  [["g", "--max-exits", "0"], 'Cannot read --max-exits "0": write a whole number of 1 or more'],
  [["g", "--backend", "xen"], 'Cannot read --backend "xen": write auto'],
  [["g", "--format", "pe"], 'Cannot read --format "pe": write flat, com, boot-sector, elf or multiboot'],
  [["g", "--trace=foo"], "Cannot read --trace=foo: write --trace or --trace=asm"],
])("bootPlan() refuses %j with %p", (args, message) => {
  expect(() => bootPlan(args)).toThrow(UsageError);
  expect(() => bootPlan(args)).toThrow(message);
});

test("BOOT_OPTIONS leave no line of the help beyond 80 columns", async () => {
  const { stdout } = await vmexit(["boot", "--help"]);
  expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
  for (const { name } of BOOT_OPTIONS) expect(stdout).toContain(`--${name}`);
});
