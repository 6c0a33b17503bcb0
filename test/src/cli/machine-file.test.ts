import { expect, test } from "bun:test";
import { readMachineFile } from "../../../src/cli/machine-file.ts";
import { UsageError } from "../../../src/cli/usage-error.ts";
import { Scratch } from "./vmexit-process.ts";

function read(content: string) {
  using scratch = new Scratch();
  return readMachineFile(scratch.write("machine.json", content));
}

test("readMachineFile() takes quantities as text or as numbers", () => {
  const machine = {
    memory: "1M",
    loadAddress: 4096,
    entry: "0x1010",
    timeout: "2s",
    maxExits: 5,
    maxInstructions: "1_000",
  };
  expect(read(JSON.stringify(machine))).toEqual({
    memory: 2 ** 20,
    loadAddress: 4096,
    entry: 0x1010,
    timeout: 2000,
    maxExits: 5,
    maxInstructions: 1000,
  });
});

test("readMachineFile() finds guest and modules beside the description", () => {
  using scratch = new Scratch();
  const path = scratch.write("machine.json", '{ "guest": "k.elf", "modules": ["../initrd", "/abs"] }');
  const { guest, modules } = readMachineFile(path);
  expect(guest).toBe(`${scratch.path}/k.elf`);
  expect(modules).toEqual([`${scratch.path.slice(0, scratch.path.lastIndexOf("/"))}/initrd`, "/abs"]);
});

test("readMachineFile() takes CPUID overrides, null for a leaf to remove", () => {
  expect(read('{ "cpuid": { "7.0": { "ebx": "0x10", "ecx": 1 }, "0x80000008": null } }')).toEqual({
    cpuid: { "7.0": { ebx: 16, ecx: 1 }, "0x80000008": null },
  });
});

test.each([
  ['{ "memory": "64Q" }', 'memory: expected a size such as 64K, 2M, 1G or 0x10000, got "64Q"'],
  ['{ "memory": -1 }', "memory: expected a size such as 64K, 2M, 1G or 0x10000, got -1"],
  ['{ "memory": [] }', "memory: expected a size such as 64K, 2M, 1G or 0x10000, got []"],
  [
    '{ "timeout": "10" }',
    'timeout: expected a time such as 500ms, 10s or 2m, or "none"; a number means milliseconds, got "10"',
  ],
  ['{ "maxExits": 0 }', "maxExits: expected a whole number of 1 or more, got 0"],
  ['{ "pit": "yes" }', 'pit: expected a boolean, got "yes"'],
  ['{ "irqchip": "on" }', 'irqchip: expected "none" or "full" or "split", got "on"'],
  ['{ "modules": "initrd" }', 'modules: expected an array, got "initrd"'],
  ['{ "modules": [1] }', "modules.0: expected a string, got 1"],
  ['{ "memroy": 1 }', 'memroy: unknown field, did you mean "memory"?'],
  [
    '{ "cpuid": { "7.0": { "eax": -1 } } }',
    "cpuid.7.0.eax: expected a number from 0 to 0xffffffff, or text such as 0x10, got -1",
  ],
  [
    '{ "cpuid": { "7.0": { "eax": 4294967296 } } }',
    "cpuid.7.0.eax: expected a number from 0 to 0xffffffff, got 4294967296",
  ],
  ['{ "cpuid": { "seven": {} } }', "cpuid.seven: expected a leaf such as 0x80000008 or 7.0"],
  ["[1]", "the file: expected an object, got [1]"],
  ['{ "memory":', "it is no JSON"],
])("readMachineFile() answers %s with the field, what it takes and what it got", (content, message) => {
  expect(() => read(content)).toThrow(UsageError);
  expect(() => read(content)).toThrow(message);
});

test("readMachineFile() names every wrong field at once", () => {
  expect(() => read('{ "pit": 1, "memory": "x" }')).toThrow(/memory: expected .*; pit: expected/);
});

test("readMachineFile() refuses a file that is not there", () => {
  expect(() => readMachineFile("/nonexistent/m.json")).toThrow("as there is no such file: check the path");
});
