import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAsmCommand } from "../../../src/asm/index.ts";

describe("runAsmCommand()", () => {
  let directory = "";
  let file = "";
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "vmexit-asm-"));
    file = join(directory, "a.asm");
    writeFileSync(file, "start: mov ax, N\n%ifdef E\nbad line\n%endif\n");
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  test("runAsmCommand() hands the bytes back for FILE.bin", () => {
    const result = runAsmCommand([file, "-DN=5"]);
    expect(result).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
    expect(result.files).toEqual([{ path: join(directory, "a.bin"), bytes: new Uint8Array([0xb8, 5, 0]) }]);
  });

  test("runAsmCommand() takes -o, mode and origin", () => {
    const result = runAsmCommand([file, "-o", "x.img", "--bits=32", "--origin", "0x1000", "-D", "N=start"]);
    expect(result.files).toEqual([{ path: "x.img", bytes: new Uint8Array([0x66, 0xb8, 0, 0x10]) }]);
  });

  test("runAsmCommand() prints listing and symbols instead of writing", () => {
    const result = runAsmCommand(["--listing", "--symbols", file, "-DN=5"]);
    expect(result.files).toEqual([]);
    expect(result.stdout).toContain("     1 00000000 B80500            start: mov ax, N");
    expect(result.stdout).toContain("0000000000000000 start\n");
  });

  test("runAsmCommand() reports errors with exit code 1, a wrong command line with 2", () => {
    const failed = runAsmCommand([file, "-DN=5", "-DE"]);
    expect(failed).toMatchObject({ exitCode: 1, files: [] });
    expect(failed.stderr).toContain(`${file}:3:1: error: "bad" is not an instruction`);
    expect(() => runAsmCommand([join(directory, "missing.asm")])).toThrow(/missing\.asm" as there is no such file/);
    for (const args of [[], ["a", "b"], ["a", "--what"], ["a", "-o"], ["a", "--bits=17"], ["a", "--origin=x"]]) {
      expect(runAsmCommand(args)).toMatchObject({ exitCode: 2, stdout: "" });
    }
    expect(runAsmCommand(["--help"])).toMatchObject({ exitCode: 0, stderr: "" });
  });
});
