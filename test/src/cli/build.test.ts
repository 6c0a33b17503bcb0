import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Finished, guest, Scratch, skipped, whyNoKvm } from "./vmexit-process.ts";

const ROOT = join(import.meta.dir, "../../..");
/** Beside node_modules, where the bundle finds what it leaves there. */
const FOLDER = join(ROOT, "tmp", `build-${process.pid}`);

async function run(command: readonly string[]): Promise<Finished> {
  const child = Bun.spawn([process.execPath, ...command], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [status, stdout, stderr] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { status, stdout, stderr: stderr.replace(/in [\d.]+ ms/, "in no time") };
}

function runModule(path: string, get: string, args: readonly string[]): Promise<Finished> {
  const script = `const { run } = require(${JSON.stringify(path)})${get};
    run(${JSON.stringify(args)}).then((status) => process.exit(status));`;
  return run(["-e", script]);
}

const runBundle = (folder: string, args: readonly string[]) =>
  runModule(join(folder, "vmexit.js"), ".commands()", args);
const runSources = (args: readonly string[]) => runModule(join(ROOT, "src/cli/commands.ts"), "", args);

describe("npm run build", () => {
  beforeAll(async () => {
    expect(await run([join(ROOT, "src/cli/build.ts"), FOLDER])).toEqual({ status: 0, stdout: "", stderr: "" });
  });
  afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

  for (const args of [
    ["help", "boot"],
    ["help", "modes"],
    ["frobnicate"],
    ["boot", "no-such-file.bin"],
    ["boot", "--memory", "3", guest("hello")],
    ["boot", "--backend", "soft", guest("hello")],
    ["boot", "--backend", "soft", "--max-instructions", "1000", guest("endless")],
    ["boot", "--backend", "soft", join(ROOT, "guests/hello.asm")],
    ["asm", join(ROOT, "README.md")],
  ]) {
    test(`makes a tool that answers "${args.join(" ").replaceAll(`${ROOT}/`, "")}" as its sources do`, async () => {
      const [bundle, sources] = await Promise.all([runBundle(FOLDER, args), runSources(args)]);
      expect(bundle).toEqual(sources);
      expect(bundle.stdout + bundle.stderr).not.toBe("");
    });
  }

  test.skipIf(whyNoKvm !== undefined)(`puts all that a plain boot on KVM loads into vmexit.js${skipped}`, async () => {
    using alone = new Scratch();
    for (const name of ["vmexit.js", "vmexit.js.jsc"]) cpSync(join(FOLDER, name), join(alone.path, name));
    const { status, stdout, stderr } = await runBundle(alone.path, ["boot", guest("hello")]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toStartWith("Hello");
  });

  test("makes the bundle as bytecode", async () => {
    expect(await Bun.file(join(FOLDER, "vmexit.js")).text()).toStartWith("// @bun @bytecode");
    expect(Bun.file(join(FOLDER, "vmexit.js.jsc")).size).toBeGreaterThan(100_000);
    expect(Bun.file(join(FOLDER, "rest.js.jsc")).size).toBeGreaterThan(100_000);
  });
});

describe("the tool's entry", () => {
  /** A package whose sources and bundle each say who they are. */
  function fakePackage(scratch: Scratch, options: { isClone: boolean; hasBundle: boolean; isEdited: boolean }): string {
    const at = (path: string) => join(scratch.path, path);
    const answer = (name: string) => `({ run: async () => { console.log(${JSON.stringify(name)}); return 0; } })`;
    mkdirSync(at("src/cli"), { recursive: true });
    mkdirSync(at("dist"));
    cpSync(join(ROOT, "src/cli/main.ts"), at("src/cli/main.ts"));
    writeFileSync(at("src/cli/commands.ts"), `export const { run } = ${answer("sources")};\n`);
    if (options.isClone) writeFileSync(at(".gitignore"), "dist/\n");
    const built = `[["src/cli/commands.ts", ${Bun.file(at("src/cli/commands.ts")).lastModified}]]`;
    if (options.hasBundle) {
      writeFileSync(
        at("dist/vmexit.js"),
        `exports.sources = ${built}; exports.commands = () => ${answer("bundle")};\n`,
      );
    }
    if (options.isEdited) utimesSync(at("src/cli/commands.ts"), new Date(0), new Date(0));
    return at("src/cli/main.ts");
  }

  for (const [options, answer] of [
    [{ isClone: true, hasBundle: true, isEdited: false }, "bundle"],
    [{ isClone: true, hasBundle: true, isEdited: true }, "sources"],
    [{ isClone: true, hasBundle: false, isEdited: false }, "sources"],
    [{ isClone: false, hasBundle: true, isEdited: true }, "bundle"],
  ] as const) {
    test(`runs the ${answer} for ${JSON.stringify(options)}`, async () => {
      using scratch = new Scratch();
      expect(await run([fakePackage(scratch, options)])).toEqual({ status: 0, stdout: `${answer}\n`, stderr: "" });
    });
  }
});
