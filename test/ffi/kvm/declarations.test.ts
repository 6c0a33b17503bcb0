import { describe, expect, test } from "bun:test";
import { askC, findCompiler, headerVersion, readHeader } from "./c-oracle.ts";
import { declaredValues, readDeclarations } from "./declarations.ts";
import { EXCLUDED_CONSTANTS, EXCLUDED_MEMBERS, EXCLUDED_STRUCTS, excludedBy } from "./excluded.ts";
import { NEWER_VALUES } from "./newer.ts";

const declarations = await readDeclarations();
const declared = declaredValues(declarations);
const compiler = findCompiler();
const skip = "missing" in compiler;
const why = skip ? ` (skipped: ${compiler.missing})` : "";
const cc = skip ? "" : compiler.cc;
const version = skip ? 0 : headerVersion(cc);
/** Later headers have more than we set out to declare, so that only 6.1 can tell whether something is left out. */
const notCovered = skip || version !== 601;
const whyNotCovered = skip ? why : notCovered ? ` (skipped: the header is not Linux 6.1's but ${version / 100}'s)` : "";

const sorted = (map: Iterable<[string, bigint]>) => Object.fromEntries([...map].sort(([a], [b]) => (a < b ? -1 : 1)));

describe("ffi/kvm", () => {
  test.skipIf(skip)(`every size, offset, request and constant is what C says${why}`, () => {
    const answers = askC(cc, [...declared.keys()]);
    const asDeclared = [...declared].filter(([query]) => answers.has(query));
    expect(sorted(asDeclared)).toEqual(sorted(answers));
    expect(answers.size).toBeGreaterThan(1000);
    // What a header of Linux 6.1 or later does not know must be later than 6.1, and what that later header says.
    if (version < 601) return;
    const absent = [...declared].filter(([query]) => !answers.has(query));
    expect(sorted(absent)).toEqual(sorted(absent.map(([query]) => [query, NEWER_VALUES.get(query) ?? -1n])));
  });

  test.skipIf(notCovered)(`leaves out no constant of <linux/kvm.h> without a reason${whyNotCovered}`, () => {
    const { constants } = readHeader(cc);
    expect(constants.length).toBeGreaterThan(500);
    const missing = constants.filter(
      (name) => !declarations.constants.has(name) && excludedBy(EXCLUDED_CONSTANTS, name) === undefined,
    );
    expect(missing).toEqual([]);
  });

  test("declares nothing that it also excludes", () => {
    const both = [...declarations.constants.keys()].filter(
      (name) => excludedBy(EXCLUDED_CONSTANTS, name) !== undefined,
    );
    expect(both).toEqual([]);
  });

  test.skipIf(notCovered)(
    `leaves out no struct of <linux/kvm.h>, and no member of one, without a reason${whyNotCovered}`,
    () => {
      const { structs } = readHeader(cc);
      expect(structs.size).toBeGreaterThan(80);
      const missing = [...structs].flatMap(([tag, members]) => {
        const layout = declarations.structs.get(tag);
        if (layout === undefined) return excludedBy(EXCLUDED_STRUCTS, tag) === undefined ? [tag] : [];
        const names = new Set(
          Object.keys(layout.offsets).flatMap((path) => path.replaceAll(/\[\d+\]/g, "").split(".")),
        );
        return members
          .map((member) => ({ member, path: `${tag}.${member}` }))
          .filter(({ member, path }) => !names.has(member) && excludedBy(EXCLUDED_MEMBERS, path) === undefined)
          .map(({ path }) => path);
      });
      expect(missing).toEqual([]);
    },
  );

  test("every later value is declared as listed", () => {
    const listed = [...NEWER_VALUES].map(([query]) => [query, declared.get(query) ?? -1n] as [string, bigint]);
    expect(sorted(listed)).toEqual(sorted(NEWER_VALUES));
  });
});
