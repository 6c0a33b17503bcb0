import type { Segment, SegmentName } from "../registers.ts";
import { nullSegment, realSegment, tssSegment } from "./descriptor.ts";
import { DEFAULT_ENTRY, type ModeTable } from "./mode.ts";
import { hex, type ModeParts, type ModePlan } from "./mode-plan.ts";

/** CR0.ET: hard-wired to 1 since the 486. */
const CR0_ET = 0x10n;

/** Without a wish, the segment that keeps IP below 64 KiB: 0 for everything in the first. */
function codeSelector({ options, entry }: ModePlan): number {
  return options.realSegment ?? (entry > 0xffffn ? Number(entry >> 4n) & 0xf000 : 0);
}

function segmentsOf(plan: ModePlan, selector: number): Record<SegmentName, Segment> {
  const other = plan.options.realSegment ?? 0;
  const limit = plan.mode === "unreal16" ? 0xffffffff : 0xffff;
  const data = () => realSegment(other, { limit });
  return {
    cs: realSegment(selector, { code: true }),
    ss: realSegment(other),
    ds: data(),
    es: data(),
    fs: data(),
    gs: data(),
    tr: tssSegment({ bits: 32, limit: 0xffff }),
    ldt: nullSegment(),
  };
}

/** Only the vectors asked for: the others may belong to whoever loaded the guest. */
function vectorsOf({ options, withTables }: ModePlan): ModeTable[] {
  if (!withTables) return [];
  return Object.entries(options.handlers ?? {}).map(([vector, handler]) => {
    const offset = Number(handler);
    if (!(offset >= 0 && offset <= 0xffff)) {
      throw new RangeError(`Cannot set vector ${vector} to ${hex(handler)}: IP has 16 bits`);
    }
    return { what: `vector ${vector}`, gpa: Number(vector) * 4, bytes: Uint8Array.of(offset, offset >>> 8, 0, 0) };
  });
}

/** Real-address mode, also with the large limits of `unreal16`. */
export function realMode(plan: ModePlan): ModeParts {
  const selector = codeSelector(plan);
  const codeBase = BigInt(selector * 16);
  const offset = plan.entry - codeBase;
  if (offset < 0n || offset > 0xffffn) {
    throw new RangeError(
      `Cannot start ${plan.mode} at ${hex(plan.entry)}: IP reaches 64 KiB above CS = ${hex(selector)}`,
    );
  }
  return {
    segments: segmentsOf(plan, selector),
    descriptorTables: { gdt: { base: 0n, limit: 0 }, idt: { base: 0n, limit: 0x3ff } },
    controls: { cr0: CR0_ET, cr2: 0n, cr3: 0n, cr4: 0n, efer: 0n },
    tables: vectorsOf(plan),
    codeBase,
    stack: DEFAULT_ENTRY,
  };
}
