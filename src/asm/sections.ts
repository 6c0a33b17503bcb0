import type { Place } from "./source.ts";

/** One section of the output, or an ABSOLUTE area, which has addresses and no bytes. */
export interface Section {
  readonly index: number;
  readonly name: string;
  nobits: boolean;
  readonly absolute: boolean;
  align: number;
  /** Address of the first byte as labels count it, as assumed in the current pass. */
  base: number;
  /** Wanted addresses, where the source gives any. */
  start: number | undefined;
  vstart: number | undefined;
  follows: string | undefined;
  vfollows: string | undefined;
  /** Bytes emitted or reserved so far in this pass. */
  size: number;
  bytes: Uint8Array;
  /** Where it ends up in the output, counted from the origin. */
  place: Place | undefined;
}

export function newSection(index: number, name: string, place: Place | undefined): Section {
  return {
    index,
    name,
    nobits: name === ".bss",
    absolute: false,
    align: index === 0 ? 1 : 4,
    base: 0,
    start: undefined,
    vstart: undefined,
    follows: undefined,
    vfollows: undefined,
    size: 0,
    bytes: new Uint8Array(64),
    place,
  };
}

/** Makes room for `more` bytes behind what a section has. */
export function grow(section: Section, more: number): void {
  const wanted = section.size + more;
  if (wanted <= section.bytes.length) return;
  const larger = new Uint8Array(Math.max(wanted, section.bytes.length * 2));
  larger.set(section.bytes.subarray(0, section.size));
  section.bytes = larger;
}

/** A section's address in the output, and the address its labels count from. */
interface Placed {
  readonly section: Section;
  readonly load: number;
  readonly virtual: number;
}

const alignUp = (address: number, boundary: number): number => Math.ceil(address / boundary) * boundary;

/**
 * Places the sections as NASM's flat format does: `.text` first, the rest of the initialised ones in order of appearance, then
 * the uninitialised ones; `start=` and `follows=` override that, `vstart=` and `vfollows=` change addresses only.
 */
export function placeSections(sections: readonly Section[], origin: number): Placed[] {
  const real = sections.filter((section) => !section.absolute);
  const text = real.filter((section) => section.name === ".text");
  const order = [
    ...text,
    ...real.filter((section) => !section.nobits && section.name !== ".text"),
    ...real.filter((section) => section.nobits && section.name !== ".text"),
  ];
  const placed = new Map<string, Placed>();
  let end = origin;
  for (const section of order) {
    const before = section.follows === undefined ? undefined : placed.get(section.follows);
    const from = before ? before.load + before.section.size : end;
    const load = section.start ?? alignUp(from, section.align);
    const virtualBefore = section.vfollows === undefined ? undefined : placed.get(section.vfollows);
    const follow = virtualBefore ? alignUp(virtualBefore.virtual + virtualBefore.section.size, section.align) : load;
    placed.set(section.name, { section, load, virtual: section.vstart ?? follow });
    end = Math.max(end, load + section.size);
  }
  return [...placed.values()];
}
