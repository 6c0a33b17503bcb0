import { expect, test } from "bun:test";
import { MODES } from "../../../src/boot/index.ts";
import { guest, vmexit } from "./vmexit-process.ts";

test("vmexit without a command shows what there is, with status 64", async () => {
  const { status, stdout, stderr } = await vmexit([]);
  expect({ status, stdout }).toEqual({ status: 64, stdout: "" });
  expect(stderr).toContain("vmexit boot <guest> [options]");
});

test("vmexit with a file in place of a command tells how to boot it", async () => {
  const { status, stderr } = await vmexit([guest("hello")]);
  expect(status).toBe(64);
  expect(stderr).toContain(`to run it, write vmexit boot ${guest("hello")}`);
});

test("vmexit suggests the command that was meant", async () => {
  expect(await vmexit(["bot"])).toEqual({
    status: 64,
    stdout: "",
    stderr: 'vmexit: Unknown command "bot": did you mean "boot"?\n',
  });
});

test("vmexit --version prints the package's version", async () => {
  const { version } = require("../../../package.json") as { version: string };
  expect(await vmexit(["--version"])).toEqual({ status: 0, stdout: `vmexit ${version}\n`, stderr: "" });
});

test("vmexit help boot documents every exit status", async () => {
  const { status, stdout } = await vmexit(["help", "boot"]);
  expect(status).toBe(0);
  for (const code of [0, 64, 66, 69, 70, 74, 124, 130, 134, 141])
    expect(stdout).toMatch(new RegExp(`^  ${code} `, "m"));
});

test("vmexit help modes says of every mode what each register gets and why", async () => {
  const { status, stdout } = await vmexit(["help", "modes"]);
  expect(status).toBe(0);
  expect([...stdout.matchAll(/^### (.*)$/gm)].map(([, mode]) => mode)).toEqual([...MODES]);
  const rows = stdout.split("\n").filter((line) => /^\| (CR0|CS|RIP|EFER) \|/.test(line));
  expect(rows.length).toBe(4 * MODES.length);
  for (const row of rows) expect(row.split(" | ").at(-1)?.replace(" |", "").length).toBeGreaterThan(3);
});
