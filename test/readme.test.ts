import { describe, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBackend } from "../src/index.ts";

const root = join(import.meta.dir, "..");
const readme = readFileSync(join(root, "README.md"), "utf8");

/** Every TypeScript block that is followed by a block of what it prints. */
const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```\n\n```\n([\s\S]*?)```/g)].map(
  ([, code = "", printed = ""]) => ({
    code,
    printed,
  }),
);

const missing = whyNoBackend();

describe("README.md", () => {
  test("shows a first script of at most 16 lines, and three more", () => {
    expect(examples.length).toBeGreaterThanOrEqual(4);
    expect(examples[0]?.code.trim().split("\n").filter(Boolean).length).toBeLessThanOrEqual(16);
  });

  for (const [i, { code, printed }] of examples.entries()) {
    test.skipIf(missing !== undefined)(`example ${i + 1} prints what the README shows${missing ?? ""}`, () => {
      // Evaluated in the package's folder, "vmexit" is the package itself.
      const run = Bun.spawnSync([process.execPath, "-e", code], { cwd: root, env: { ...process.env, NO_COLOR: "1" } });
      expect(run.stderr.toString()).toBe("");
      expect(run.stdout.toString()).toBe(printed);
      expect(run.exitCode).toBe(0);
    });
  }

  test.skipIf(missing !== undefined)(`the kernel test passes as it stands${missing ?? ""}`, () => {
    const code = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)]
      .map(([, block = ""]) => block)
      .find((block) => block.includes("bun:test"));
    expect(code).toBeDefined();
    // Inside the package, so that "vmexit/test" is the package itself.
    const file = join(import.meta.dir, `readme-example-${process.pid}.test.ts`);
    writeFileSync(file, code ?? "");
    try {
      const run = Bun.spawnSync([process.execPath, "test", file], {
        cwd: root,
        env: { ...process.env, NO_COLOR: "1" },
      });
      expect(run.stderr.toString()).toContain(" 1 pass\n 0 fail");
      expect(run.exitCode).toBe(0);
    } finally {
      rmSync(file);
    }
  });
});

function whyNoBackend(): string | undefined {
  try {
    openBackend()[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return ` (skipped: ${(error as Error).message})`;
  }
}
