/**
 * Task-state segments with named fields.
 *
 * @see Intel SDM Vol. 3A, "Task-State Segment (TSS)", "16-Bit Task-State Segment (TSS)", "Task Management in 64-bit Mode"
 */

type Layout = Readonly<Record<string, readonly [offset: number, bytes: 2 | 4 | 8]>>;

/** Field → offset and width in bytes. */
export const TSS16 = {
  link: [0, 2],
  sp0: [2, 2],
  ss0: [4, 2],
  sp1: [6, 2],
  ss1: [8, 2],
  sp2: [10, 2],
  ss2: [12, 2],
  ip: [14, 2],
  flags: [16, 2],
  ax: [18, 2],
  cx: [20, 2],
  dx: [22, 2],
  bx: [24, 2],
  sp: [26, 2],
  bp: [28, 2],
  si: [30, 2],
  di: [32, 2],
  es: [34, 2],
  cs: [36, 2],
  ss: [38, 2],
  ds: [40, 2],
  ldt: [42, 2],
} as const satisfies Layout;

export const TSS32 = {
  link: [0, 2],
  esp0: [4, 4],
  ss0: [8, 2],
  esp1: [12, 4],
  ss1: [16, 2],
  esp2: [20, 4],
  ss2: [24, 2],
  cr3: [28, 4],
  eip: [32, 4],
  eflags: [36, 4],
  eax: [40, 4],
  ecx: [44, 4],
  edx: [48, 4],
  ebx: [52, 4],
  esp: [56, 4],
  ebp: [60, 4],
  esi: [64, 4],
  edi: [68, 4],
  es: [72, 2],
  cs: [76, 2],
  ss: [80, 2],
  ds: [84, 2],
  fs: [88, 2],
  gs: [92, 2],
  ldt: [96, 2],
  trap: [100, 2],
  ioMapBase: [102, 2],
} as const satisfies Layout;

export const TSS64 = {
  rsp0: [4, 8],
  rsp1: [12, 8],
  rsp2: [20, 8],
  ist1: [36, 8],
  ist2: [44, 8],
  ist3: [52, 8],
  ist4: [60, 8],
  ist5: [68, 8],
  ist6: [76, 8],
  ist7: [84, 8],
  ioMapBase: [102, 2],
} as const satisfies Layout;

type Fields<L extends Layout> = { readonly [Name in keyof L]?: number | bigint };

function fill<L extends Layout>(layout: L, size: number, fields: Fields<L>, ioMap?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(size + (ioMap?.length ?? 0));
  const view = new DataView(bytes.buffer);
  // Without a map the base points behind the limit, which denies every port (IOPL aside).
  if (layout.ioMapBase) view.setUint16(layout.ioMapBase[0], size, true);
  for (const [name, value] of Object.entries<number | bigint | undefined>(fields)) {
    const place = layout[name];
    if (place === undefined)
      throw new RangeError(`Cannot set "${name}": this TSS has ${Object.keys(layout).join(", ")}`);
    if (value === undefined) continue;
    const wide = BigInt(value);
    if (wide < 0n || wide >> BigInt(place[1] * 8)) {
      throw new RangeError(`Cannot set ${name} to 0x${wide.toString(16)}: it has ${place[1] * 8} bits`);
    }
    for (let index = 0; index < place[1]; index++) {
      bytes[place[0] + index] = Number((wide >> BigInt(index * 8)) & 0xffn);
    }
  }
  if (ioMap) bytes.set(ioMap, size);
  return bytes;
}

/** A 16-bit TSS of 44 bytes. */
export function buildTss16(fields: Fields<typeof TSS16>): Uint8Array {
  return fill(TSS16, 44, fields);
}

/** A 32-bit TSS of 104 bytes, with `ioMap` (see `ioPermissionMap`) behind it. */
export function buildTss32(fields: Fields<typeof TSS32>, ioMap?: Uint8Array): Uint8Array {
  return fill(TSS32, 104, fields, ioMap);
}

/** A 64-bit TSS of 104 bytes, with `ioMap` (see `ioPermissionMap`) behind it. */
export function buildTss64(fields: Fields<typeof TSS64>, ioMap?: Uint8Array): Uint8Array {
  return fill(TSS64, 104, fields, ioMap);
}

/**
 * An I/O permission bit map: ports in `allowed` may be used by any ring, all others fault when CPL > IOPL. As long as the
 * highest allowed port needs, and one byte of ones behind, which the processor reads with the last.
 *
 * @see Intel SDM Vol. 1, "I/O Permission Bit Map"
 */
export function ioPermissionMap(allowed: readonly { first: number; count: number }[]): Uint8Array {
  let end = 0;
  for (const { first, count } of allowed) {
    if (!(Number.isInteger(first) && first >= 0 && count >= 0 && first + count <= 0x10000)) {
      throw new RangeError(`Cannot allow ${count} ports at 0x${first.toString(16)}: ports end at 0xffff`);
    }
    end = Math.max(end, first + count);
  }
  const map = new Uint8Array(Math.ceil(end / 8) + 1).fill(0xff);
  for (const { first, count } of allowed) {
    for (let port = first; port < first + count; port++) map[port >>> 3]! &= ~(1 << (port & 7));
  }
  return map;
}
