import { describe, expect, test } from "bun:test";
import { loadNvmm, NVMM_SIGNATURES } from "../../../ffi/nvmm/library.ts";
import { PEER_SYSTEMS, peerLibrary, peerMissing } from "../../peers/libnvmm/build.ts";

const missing = peerMissing();
const skipped = missing === undefined ? "" : ` (skipped: ${missing})`;

test("loadNvmm() that finds none of its paths says why for each", () => {
  const paths = ["/nonexistent/libnvmm.so", "/nonexistent/libnvmm.so.0"];
  try {
    loadNvmm(paths);
  } catch (error) {
    expect((error as AggregateError).errors.length).toBe(2);
    expect((error as AggregateError).message).toContain(paths.join(" or "));
    return;
  }
  throw new Error("It found one");
});

describe.each(PEER_SYSTEMS)(`loadNvmm() of %s's library${skipped}`, (system) => {
  test.skipIf(missing !== undefined)(
    "binds every function, takes the first path that loads, and stop where there is one",
    () => {
      const path = peerLibrary(system);
      const library = loadNvmm(["/nonexistent/libnvmm.so", path]);
      expect(library.path).toBe(path);
      for (const name of Object.keys(NVMM_SIGNATURES)) {
        expect(typeof library.functions[name as keyof typeof library.functions]).toBe("function");
      }
      expect(library.stop !== undefined).toBe(system === "netbsd");
    },
  );

  test.skipIf(missing !== undefined)("reads errno of the call that failed", () => {
    const { functions, errno } = loadNvmm([peerLibrary(system, "library")]);
    expect(functions.nvmm_capability(new Uint8Array(256))).toBe(-1);
    expect(errno()).toBe(9); // EBADF: nvmm_init() was not called
  });
});
