/**
 * `npm run build [folder]`: bundles the tool into dist/, as bytecode, in two files. vmexit.js holds what a plain boot on
 * KVM loads, rest.js everything else: one file of all would cost 4 ms more at every start, as Bun reads a bundle whole.
 * A module is in one of the two only, and the other asks for it there: no class or state exists twice.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { BunPlugin } from "bun";

/** What dist/vmexit.js exports. */
export interface Bundle {
  /** Every file of both bundles, from the package's root, with its time of modification in ms. */
  readonly sources: readonly (readonly [path: string, modified: number])[];
  readonly commands: () => typeof import("./commands.ts");
}

const ROOT = join(import.meta.dir, "../..");
const OUT = resolve(process.argv[2] ?? join(ROOT, "dist"));
/** Both are written here, then moved: a start never sees half of a file. */
const UNFINISHED = join(OUT, `unfinished-${process.pid}`);

const ENTRY = "src/cli/commands.ts";
/** Loaded on use, and by every plain boot. */
const ALSO_FIRST: ReadonlySet<string> = new Set(["src/cli/boot.ts", "src/backends/kvm/backend.ts"]);

interface Part {
  /** Paths from the root. */
  readonly modules: ReadonlySet<string>;
  /** Those that it asks the other part for. */
  readonly asked: ReadonlySet<string>;
}

/** Bundles the CommonJS text `entry`, leaving to the bundle `other` the modules that `isForeign` picks. */
async function bundle(
  name: string,
  entry: string,
  other: string,
  isForeign: (path: string, kind: string) => boolean,
): Promise<Part> {
  const modules = new Set<string>();
  const asked = new Set<string>();
  const plugin: BunPlugin = {
    name: "vmexit-parts",
    setup(build) {
      build.onResolve({ filter: /^\..*\.ts$/ }, ({ path, importer, kind }) => {
        const target = relative(ROOT, join(dirname(importer), path));
        if (!isForeign(target, kind)) return undefined;
        asked.add(target);
        return { path: target, namespace: "other-part" };
      });
      build.onLoad({ filter: /.*/, namespace: "other-part" }, ({ path }) => ({
        contents: `module.exports = require(${JSON.stringify(other)}).module(${JSON.stringify(path)});`,
        loader: "js",
      }));
      build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        modules.add(relative(ROOT, path));
        return { contents: fromDist(await Bun.file(path).text(), path), loader: "ts" };
      });
    },
  };
  const file = join(UNFINISHED, `${name}.entry.js`);
  writeFileSync(file, entry);
  const { success, logs } = await Bun.build({
    entrypoints: [file],
    outdir: UNFINISHED,
    naming: `${name}.js`,
    target: "bun",
    format: "cjs",
    bytecode: true,
    minify: true,
    // Large, and loaded on use.
    external: ["iced-x86", "iced-x86/*", other],
    plugins: [plugin],
  });
  if (!success) throw new AggregateError(logs, `Cannot bundle ${name}`);
  return { modules, asked };
}

/** In the bundle a module that asks where it is must hear where its source is. */
function fromDist(text: string, path: string): string {
  const url = `new URL("${relative(OUT, path)}", Bun.pathToFileURL(__filename))`;
  return text
    .replaceAll("import.meta.url", `${url}.href`)
    .replaceAll("import.meta.dir", `Bun.fileURLToPath(new URL(".", ${url}))`);
}

/** `module(path)` of a bundle's exports: evaluates each when it is asked for. */
function exportModules(paths: Iterable<string>): string {
  const cases = Array.from(paths, (path) => {
    const key = JSON.stringify(path);
    return `case ${key}: return require(${JSON.stringify(fromEntry(path))});`;
  });
  return `exports.module = (path) => { switch (path) { ${cases.join("\n")} } throw new Error("No module " + path); };\n`;
}

function fromEntry(path: string): string {
  return relative(UNFINISHED, join(ROOT, path));
}

function timesOf(paths: Iterable<string>): Bundle["sources"] {
  return Array.from(paths, (path) => [path, Bun.file(join(ROOT, path)).lastModified] as const);
}

async function build(): Promise<void> {
  const commands = `exports.commands = () => require(${JSON.stringify(fromEntry(ENTRY))});\n`;
  const isLater = (path: string, kind: string): boolean => kind === "require-call" && !isFirst(path);
  const isFirst = (path: string): boolean => path === ENTRY || ALSO_FIRST.has(path);
  // Once to learn what belongs to it; the second time with what the rest asks of it.
  const draft = await bundle("vmexit", commands, "./rest.js", isLater);
  const rest = await bundle("rest", exportModules(draft.asked), "./vmexit.js", (path) => draft.modules.has(path));
  const sources = `exports.sources = ${JSON.stringify(timesOf([...draft.modules, ...rest.modules, "package.json"]))};\n`;
  const first = new Set([...rest.asked, ENTRY]);
  await bundle(
    "vmexit",
    commands + sources + exportModules(first),
    "./rest.js",
    (path, kind) => isLater(path, kind) && !first.has(path),
  );
}

mkdirSync(UNFINISHED, { recursive: true });
try {
  await build();
  for (const name of ["rest.js.jsc", "rest.js", "vmexit.js.jsc", "vmexit.js"]) {
    renameSync(join(UNFINISHED, name), join(OUT, name));
  }
} finally {
  rmSync(UNFINISHED, { recursive: true });
}
