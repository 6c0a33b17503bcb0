/** Asks the C compiler: values of expressions over <linux/kvm.h>, and what that header holds. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const HEADER = "#include <linux/kvm.h>\n";

function run(command: readonly string[], stdin = ""): { code: number; out: string; err: string } {
  const done = Bun.spawnSync([...command], {
    stdin: Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, LC_ALL: "C" },
  });
  return { code: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
}

/** The compiler, or why there is none to ask. */
export function findCompiler(): { cc: string } | { missing: string } {
  if (process.arch !== "x64") return { missing: `the declarations are x86-64's and this is ${process.arch}` };
  const cc = ["cc", "gcc", "clang"].find((name) => Bun.which(name) !== null);
  if (cc === undefined) return { missing: "no C compiler (cc, gcc, clang)" };
  if (run([cc, "-fsyntax-only", "-xc", "-"], HEADER).code !== 0) return { missing: "no <linux/kvm.h>" };
  return { cc };
}

/** `offsetof kvm_run.io.port` and the like, as C. */
function expression(query: string): string {
  const [operator, path] = query.split(" ");
  if (path === undefined) return query;
  const [tag, ...members] = path.split(".");
  if (members.length === 0) return `sizeof(struct ${tag})`;
  const member = members.join(".");
  if (operator === "offsetof") return `__builtin_offsetof(struct ${tag}, ${member})`;
  return `sizeof(((struct ${tag} *)0)->${member})`;
}

/**
 * The value of each query that the header knows; what it does not know is left out. Each query is a function and a line of
 * its own, so that the compiler's errors say which.
 */
export function askC(cc: string, queries: readonly string[]): Map<string, bigint> {
  const folder = mkdtempSync(join(tmpdir(), "vmexit-kvm-oracle-"));
  try {
    const line = (query: string, index: number) =>
      `static void q${index}(void) { printf("%s\\t%llu\\n", "${query}", (unsigned long long)(${expression(query)})); }`;
    const prelude = ["#include <stdio.h>", "#include <linux/kvm.h>"];
    const source = join(folder, "q.c");
    writeFileSync(source, [...prelude, ...queries.map(line)].join("\n"));
    const flags = ["-w", "-fmax-errors=0", "-ferror-limit=0"].filter(
      (flag) => run([cc, flag, "-fsyntax-only", "-xc", "-"]).code === 0,
    );
    const { err } = run([cc, ...flags, "-fsyntax-only", source]);
    const unknown = new Set(
      [...err.matchAll(/q\.c:(\d+):\d+: error:/g)].map((match) => Number(match[1]) - prelude.length - 1),
    );
    const known = queries.filter((_, index) => !unknown.has(index));
    const calls = known.map((_, index) => `q${index}();`).join(" ");
    writeFileSync(source, [...prelude, ...known.map(line), `int main(void) { ${calls} return 0; }`].join("\n"));
    const program = join(folder, "q");
    const built = run([cc, ...flags, "-O0", "-o", program, source]);
    if (built.code !== 0) throw new Error(`Cannot compile the questions: ${built.err.slice(0, 2000)}`);
    const answers = run([program]).out.trimEnd().split("\n");
    return new Map(
      answers.map((answer) => answer.split("\t") as [string, string]).map(([query, value]) => [query, BigInt(value)]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Version of the installed header, 6.1 as 601: from <linux/version.h>. */
export function headerVersion(cc: string): number {
  const text = run([cc, "-E", "-dM", "-xc", "-"], "#include <linux/version.h>\n").out;
  const code = Number(/LINUX_VERSION_CODE (\d+)/.exec(text)?.[1] ?? 0);
  return (code >> 16) * 100 + ((code >> 8) & 0xff);
}

export interface HeaderNames {
  /** Object-like macros and enumerators. */
  readonly constants: readonly string[];
  /** Macros with arguments. */
  readonly functionLike: readonly string[];
  /** Struct tag → names of its members at any depth, unnamed members' dissolved. */
  readonly structs: ReadonlyMap<string, readonly string[]>;
}

/** What <linux/kvm.h> and <asm/kvm.h> define on this architecture. */
export function readHeader(cc: string): HeaderNames {
  const paths = run([cc, "-M", "-xc", "-"], HEADER)
    .out.split(/[\s\\]+/)
    .filter((path) => /\/kvm\.h$/.test(path) && existsSync(path));
  const text = paths.map((path) => readFileSync(path, "utf8")).join("\n");
  const defined = new Set(
    [...run([cc, "-E", "-dM", "-xc", "-"], HEADER).out.matchAll(/^#define (\w+)/gm)].map((match) => match[1]),
  );
  const macros = [...text.matchAll(/^[ \t]*#[ \t]*define[ \t]+([A-Za-z]\w*)(\(?)(.*)$/gm)]
    .filter(([, name]) => defined.has(name))
    .map(([, name = "", argument, body = ""]) => ({ name, argument, body: body.trim() }));
  const expanded = run([cc, "-E", "-P", "-xc", "-"], HEADER).out;
  const enumerators = [...expanded.matchAll(/enum\s*\w*\s*\{([^}]*)\}/g)]
    .flatMap(([, body = ""]) => body.split(","))
    .map((item) => item.split("=")[0]?.trim() ?? "")
    .filter((name) => /^(KVM|kvm)_\w+$/.test(name));
  const constants = macros.filter(({ argument, body }) => argument === "" && body !== "").map(({ name }) => name);
  return {
    constants: [...new Set([...constants, ...enumerators])],
    functionLike: macros.filter(({ argument }) => argument !== "").map(({ name }) => name),
    structs: new Map(
      [...expanded.matchAll(/struct (kvm_\w+) \{/g)].map((match) => {
        const start = match.index + match[0].length;
        return [match[1] as string, memberNames(bodyAt(expanded, start))];
      }),
    ),
  };
}

/** The text up to the brace that closes the one before `start`. */
function bodyAt(text: string, start: number): string {
  let depth = 1;
  let end = start;
  while (depth > 0 && end < text.length) {
    if (text[end] === "{") depth++;
    else if (text[end] === "}") depth--;
    end++;
  }
  return text.slice(start, end - 1);
}

/** Members of a struct body: what stands before a `;`, `,`, `[` or bit-field `:`. Inner structs count with theirs. */
function memberNames(body: string): string[] {
  return [...body.matchAll(/(\w+)\s*(?:\[[^\]]*\]\s*)*(?::\s*\d+\s*)?[;,]/g)].map((match) => match[1] as string);
}
