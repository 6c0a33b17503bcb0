import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { cString, errno, libc, linuxLibc, O_RDONLY, pageSize } from "../../ffi/libc.ts";
import { Mapping } from "../../ffi/mapping.ts";

const linuxTest = test.skipIf(process.platform !== "linux");
const page = pageSize();

function present(mapping: Mapping | null): Mapping {
  if (mapping === null) throw new Error(`mmap failed: errno ${errno()}`);
  return mapping;
}

describe("Mapping.anonymous()", () => {
  test("gives zeroed, writable bytes at its address", () => {
    using mapping = present(Mapping.anonymous(4 * page));
    expect(mapping.bytes).toHaveLength(4 * page);
    expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
    mapping.bytes[4 * page - 1] = 0xaa;
    expect(mapping.bytes[4 * page - 1]).toBe(0xaa);
    expect(mapping.address % page).toBe(0);
  });

  linuxTest("starts on a 2 MiB boundary with hugePages", () => {
    using mapping = present(Mapping.anonymous(3 * 2 ** 20, { hugePages: true, populate: true }));
    expect(mapping.address % 2 ** 21).toBe(0);
    mapping.bytes[3 * 2 ** 20 - 1] = 1;
  });

  linuxTest("maps 4 GiB sparse with noReserve, and its last byte is there", () => {
    using mapping = present(Mapping.anonymous(2 ** 32, { noReserve: true }));
    mapping.bytes[2 ** 32 - 1] = 7;
    expect(mapping.bytes[2 ** 32 - 1]).toBe(7);
  });

  test("throws RangeError for lengths that are no multiple of a page, not positive, or above 4 GiB", () => {
    for (const length of [0, -page, 1, page + 1, Number.NaN, 1.5, 2 ** 32 + page]) {
      expect(() => Mapping.anonymous(length)).toThrow(RangeError);
    }
  });
});

describe("Mapping.write()", () => {
  test("puts bytes where a later view finds them, and where a view made before shows them", () => {
    using mapping = Mapping.anonymous(8192) as Mapping;
    mapping.write(4094, Uint8Array.of(1, 2, 3));
    expect([...mapping.bytes.subarray(4092, 4098)]).toEqual([0, 0, 1, 2, 3, 0]);
    mapping.write(4092, Uint8Array.of(9).subarray(0));
    mapping.write(8192, new Uint8Array(0));
    expect([...mapping.bytes.subarray(4092, 4098)]).toEqual([9, 0, 1, 2, 3, 0]);
  });

  test("takes part of a larger array", () => {
    using mapping = Mapping.anonymous(4096) as Mapping;
    mapping.write(0, Uint8Array.of(1, 2, 3, 4).subarray(1, 3));
    expect([...mapping.bytes.subarray(0, 3)]).toEqual([2, 3, 0]);
  });

  for (const offset of [-1, 4095, 4096, 2 ** 40]) {
    test(`refuses two bytes at ${offset} of 4096, with a view and without`, () => {
      using mapping = Mapping.anonymous(4096) as Mapping;
      expect(() => mapping.write(offset, Uint8Array.of(1, 2))).toThrow(RangeError);
      expect(mapping.bytes.every((byte) => byte === 0)).toBe(true);
      expect(() => mapping.write(offset, Uint8Array.of(1, 2))).toThrow(RangeError);
    });
  }
});

describe("Mapping.ofFd()", () => {
  test("returns null with the reason in errno() when mmap fails", () => {
    expect(Mapping.ofFd(-1, page)).toBeNull();
    expect(errno()).toBe(constants.errno.EBADF);
  });

  test("maps a file read-only", () => {
    const fd = libc().open(cString(import.meta.path), O_RDONLY, 0);
    using mapping = present(Mapping.ofFd(fd, page, { readOnly: true }));
    libc().close(fd);
    expect(new TextDecoder().decode(mapping.bytes.subarray(0, 6))).toBe("import");
  });
});

describe("Mapping.ofFd() with copyOnWrite", () => {
  linuxTest("keeps writes out of the file", () => {
    const fd = linuxLibc().memfd_create(cString("vmexit"), 0);
    libc().write(fd, new Uint8Array(page).fill(7), page);
    {
      using mapping = present(Mapping.ofFd(fd, page, { copyOnWrite: true }));
      mapping.bytes[0] = 1;
    }
    const first = new Uint8Array(1);
    libc().pread(fd, first, 1, 0);
    expect(first[0]).toBe(7);
    libc().close(fd);
  });
});

describe("Mapping[Symbol.dispose]()", () => {
  test("leaves every view with length 0, so a late read is undefined", () => {
    const mapping = present(Mapping.anonymous(page));
    const words = new Uint32Array(mapping.bytes.buffer);
    const view = new DataView(mapping.bytes.buffer);
    mapping[Symbol.dispose]();
    expect(mapping.bytes).toHaveLength(0);
    expect(words[0]).toBeUndefined();
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(mapping.disposed).toBe(true);
  });

  test("leaves nothing behind when nobody looked at the bytes either", () => {
    const mapping = Mapping.anonymous(4096) as Mapping;
    mapping[Symbol.dispose]();
    expect(mapping.bytes.length).toBe(0);
    expect(() => mapping.write(0, Uint8Array.of(1))).toThrow(RangeError);
  });

  test("is harmless when repeated, and unmaps: madvise on the range fails afterwards", () => {
    // Large, so that nothing else of the process can have filled the whole range meanwhile; MADV_NORMAL changes nothing.
    const mapping = present(Mapping.anonymous(2 ** 30, { noReserve: true }));
    const MADV_NORMAL = 0;
    expect(libc().madvise(mapping.address, 2 ** 30, MADV_NORMAL)).toBe(0);
    mapping[Symbol.dispose]();
    mapping[Symbol.dispose]();
    expect(libc().madvise(mapping.address, 2 ** 30, MADV_NORMAL)).toBe(-1);
    expect(errno()).toBe(constants.errno.ENOMEM);
  });

  test("collecting the detached buffer frees nothing twice", () => {
    for (let i = 0; i < 100; i++) present(Mapping.anonymous(page))[Symbol.dispose]();
    Bun.gc(true);
    using mapping = present(Mapping.anonymous(page));
    expect(mapping.bytes[0]).toBe(0);
  });
});
