/** Hand-made ELF executables, every field open to be wrong. */

export interface ElfSegment {
  vaddr?: number | bigint;
  paddr?: number | bigint;
  data: Uint8Array;
  memsz?: number | bigint;
  type?: number;
}

export interface ElfFields {
  wide: boolean;
  segments: ElfSegment[];
  entry?: number | bigint;
  type?: number;
  machine?: number;
}

/** The executable, program headers right behind the ELF header, data behind those. */
export function makeElf({
  wide,
  segments,
  entry = 0x100000,
  type = 2,
  machine = wide ? 62 : 3,
}: ElfFields): Uint8Array {
  const headerBytes = wide ? 64 : 52;
  const programBytes = wide ? 56 : 32;
  let end = headerBytes + segments.length * programBytes;
  const offsets = segments.map(({ data }) => {
    const offset = end;
    end += data.length;
    return offset;
  });
  const bytes = new Uint8Array(end);
  const view = new DataView(bytes.buffer);
  /** A field as wide as the class. */
  const word = (at: number, value: number | bigint) =>
    wide ? view.setBigUint64(at, BigInt(value), true) : view.setUint32(at, Number(value), true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, type, true);
  view.setUint16(18, machine, true);
  view.setUint32(20, 1, true);
  word(24, entry);
  word(wide ? 32 : 28, headerBytes);
  const tail = wide ? 52 : 40;
  view.setUint16(tail, headerBytes, true);
  view.setUint16(tail + 2, programBytes, true);
  view.setUint16(tail + 4, segments.length, true);
  segments.forEach((segment, index) => {
    const at = headerBytes + index * programBytes;
    const vaddr = segment.vaddr ?? segment.paddr ?? 0x100000;
    const fields = [
      offsets[index]!,
      vaddr,
      segment.paddr ?? vaddr,
      segment.data.length,
      segment.memsz ?? segment.data.length,
    ];
    view.setUint32(at, segment.type ?? 1, true);
    view.setUint32(at + (wide ? 4 : 24), 5, true);
    fields.forEach((value, position) => {
      word(wide ? at + 8 + position * 8 : at + 4 + position * 4, value);
    });
    bytes.set(segment.data, offsets[index]!);
  });
  return bytes;
}
