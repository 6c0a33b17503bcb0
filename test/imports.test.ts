import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative, sep } from "node:path";

/** Which way imports point (DESIGN.md, "The house"). Paths are from the project's root. */
const ROOT = join(import.meta.dir, "..");

interface Import {
  readonly from: string;
  readonly to: string;
  /** `type`: gone at run time. `lazy`: require() or import() where it is used. */
  readonly how: "value" | "type" | "lazy";
}

const files = ["src", "ffi"].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => [folder, ...path.split(sep)].join("/")),
);
const texts = new Map(files.map((path) => [path, readFileSync(join(ROOT, path), "utf8")]));
const imports = files.flatMap(importsOf);

/** Import and export lines, several lines long or not, and `require("…")`, `import("…")`; also of packages. */
function importsOf(from: string): Import[] {
  const text = (texts.get(from) as string).replace(/\/\*[\s\S]*?\*\//g, "");
  const found: Import[] = [];
  const add = (specifier: string, how: Import["how"]) => found.push({ from, to: resolved(from, specifier), how });
  for (const match of text.matchAll(/^(?:import|export)\s+(type\s+)?(?:[^"'();=]*?\sfrom\s+)?"([^"]+)";?$/gm)) {
    add(match[2] as string, match[1] === undefined ? "value" : "type");
  }
  for (const match of text.matchAll(/(typeof\s+)?\b(?:require|import)\(\s*"([^"]+)"\s*\)/g)) {
    add(match[2] as string, match[1] === undefined ? "lazy" : "type");
  }
  return found;
}

function resolved(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return relative(ROOT, normalize(join(ROOT, dirname(from), specifier))).replaceAll(sep, "/");
}

/** Words that everybody speaks: no host knowledge, no engine. */
const VOCABULARY = [
  "backend",
  "bus",
  "cpuid",
  "device",
  "dispatch",
  "errors",
  "exit",
  "exit-status",
  "lazy-device",
  "limits",
  "memory",
  "msrs",
  "outcome",
  "registers",
];

/** The part of the house a file belongs to. Files of `src/` itself are vocabulary, wiring or the index. */
function roomOf(path: string): string {
  const [top, room = "", third = ""] = path.split("/");
  if (top !== "src") return top === "ffi" ? "ffi" : "outside";
  if (!room.endsWith(".ts")) return room === "backends" ? `backends/${third}` : room;
  const name = room.slice(0, -3);
  if (VOCABULARY.includes(name)) return "vocabulary";
  return name === "index" || name === "test" ? "index" : "wiring";
}

/** What each room may import besides itself. A room that is not here may import nothing. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  ffi: [],
  vocabulary: [],
  devices: ["vocabulary"],
  asm: ["vocabulary"],
  boot: ["vocabulary"],
  inspect: ["vocabulary", "boot"],
  "backends/kvm": ["ffi", "vocabulary"],
  "backends/nvmm": ["ffi", "vocabulary"],
  "backends/soft": ["vocabulary"],
  wiring: ["vocabulary"],
  testing: ["vocabulary", "wiring", "boot", "devices", "inspect", "asm"],
  index: ["vocabulary", "wiring", "testing"],
  cli: ["index", "vocabulary", "wiring", "asm", "boot", "devices", "inspect"],
};

/** Imports that break the table, each for a reason. */
const EXCEPTIONS: readonly { from: string; to: string; how: readonly Import["how"][]; because: string }[] = [
  {
    from: "src/host.ts",
    to: "src/backends/",
    how: ["lazy", "type"],
    because: "it opens backends by name, each when asked for",
  },
  {
    from: "src/vcpu.ts",
    to: "src/boot/",
    how: ["lazy", "type"],
    because: "vcpu.enterMode() loads mode set-up when it is used",
  },
  {
    from: "src/vcpu.ts",
    to: "src/inspect/",
    how: ["lazy", "type"],
    because: "what is wrong with a state is worked out when an engine refuses it",
  },
  { from: "src/pc.ts", to: "src/devices/", how: ["lazy", "type", "value"], because: "a PC is its devices" },
  { from: "src/index.ts", to: "src/backends/", how: ["type"], because: "vm.engine has a type to name" },
  {
    from: "src/backends/kvm/decode.ts",
    to: "src/inspect/hardware-reason.ts",
    how: ["lazy", "type"],
    because: "an entry that failed is explained in words; the table is data, loaded then",
  },
];

const isOwn = ({ to }: Import): boolean => to.startsWith("src/") || to.startsWith("ffi/");
const isExcepted = ({ from, to, how }: Import): boolean =>
  EXCEPTIONS.some((one) => one.from === from && to.startsWith(one.to) && one.how.includes(how));
const line = ({ from, to, how }: Import): string => `${from} → ${to} (${how})`;

describe("imports", () => {
  test("are all found: every file of src/ and ffi/ is reached or is an entry", () => {
    expect(files.length).toBeGreaterThan(100);
    expect(imports.filter((one) => isOwn(one) && !texts.has(one.to)).map(line)).toEqual([]);
  });

  for (const [room, allowed] of Object.entries(MAY_IMPORT)) {
    test(`of ${room} reach ${[room, ...allowed].join(", ")} and nothing else`, () => {
      const wrong = imports.filter((one) => {
        if (roomOf(one.from) !== room || !isOwn(one) || isExcepted(one)) return false;
        const to = roomOf(one.to);
        return to !== room && !allowed.includes(to);
      });
      expect(wrong.map(line)).toEqual([]);
    });
  }

  test("start only in rooms that the table knows", () => {
    expect(files.map(roomOf).filter((room) => !(room in MAY_IMPORT))).toEqual([]);
  });

  test("of ffi/ are taken by src/backends/ only, and so is bun:ffi by ffi/ only", () => {
    const ffiUsers = imports.filter(({ from, to }) => to.startsWith("ffi/") && !from.startsWith("ffi/"));
    expect(ffiUsers.filter(({ from }) => !from.startsWith("src/backends/")).map(line)).toEqual([]);
    const bunFfi = imports.filter(({ from, to }) => to === "bun:ffi" && !from.startsWith("ffi/"));
    expect(bunFfi.map(line)).toEqual([]);
  });

  test("never lead into the command line", () => {
    const back = imports.filter(({ from, to }) => to.startsWith("src/cli/") && !from.startsWith("src/cli/"));
    expect(back.map(line)).toEqual([]);
  });

  test("of a file outside src/ and ffi/ come from the command line alone, for the package's version", () => {
    const outside = imports.filter(({ to }) => to === "package.json" || /^(guests|test)\//.test(to));
    expect(outside.filter(({ from }) => !from.startsWith("src/cli/")).map(line)).toEqual([]);
  });

  test("make no cycle at run time, lazy ones counted (type imports are gone by then)", () => {
    const edges = imports.filter((one) => one.how !== "type" && texts.has(one.to));
    expect(cycles(edges)).toEqual([]);
  });

  test("use every exception", () => {
    const unused = EXCEPTIONS.filter(
      (one) => !imports.some(({ from, to }) => from === one.from && to.startsWith(one.to)),
    );
    expect(unused).toEqual([]);
  });
});

describe("files", () => {
  test("have no default export", () => {
    const found = [...texts].filter(([, text]) => /^export\s+default\b|\bas\s+default\b/m.test(text));
    expect(found.map(([path]) => path)).toEqual([]);
  });

  test("and folders are not named utils, common or base", () => {
    const vague = files.filter((path) => path.split("/").some((part) => /^(utils?|common|base)(\.ts)?$/i.test(part)));
    expect(vague).toEqual([]);
  });
});

/** Cycles of the graph, each as the path that closes it. */
function cycles(edges: readonly Import[]): string[] {
  const next = Map.groupBy(edges, ({ from }) => from);
  const state = new Map<string, "open" | "done">();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === "open") {
      found.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
      return;
    }
    if (state.has(path)) return;
    state.set(path, "open");
    for (const { to } of next.get(path) ?? []) visit(to, [...trail, path]);
    state.set(path, "done");
  };
  for (const path of next.keys()) visit(path, []);
  return found;
}
