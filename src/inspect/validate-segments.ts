import { CR0, EFER, RFLAG } from "../boot/control-bits.ts";
import type { Segment, SegmentName } from "../registers.ts";
import type { GuestState } from "./guest-state.ts";
import { broken, hex, isCanonical, RULES, type StateAuthority, type StateViolation } from "./state-violation.ts";

/** The six registers that hold code and data segments. */
const PLAIN: readonly SegmentName[] = ["cs", "ss", "ds", "es", "fs", "gs"];
/** SVM loads nearly anything; only VMX judges segments. */
const INTEL: readonly StateAuthority[] = ["intel"];

const say = (what: string, enforcedBy = INTEL) => broken(what, RULES.segment, enforcedBy);

function* granularity(name: string, { limit, g }: Segment): Generator<StateViolation> {
  if (g && (limit & 0xfff) !== 0xfff) yield say(`${name}.G is 1 and limit ${hex(limit)} does not end in 0xfff`);
  if (!g && limit > 0xfffff) yield say(`${name}.G is 0 and limit ${hex(limit)} is above 0xfffff`);
}

/** Virtual-8086 mode leaves no choice: base from selector, limit 0xffff, access rights 0xf3. */
function* virtual8086(name: string, segment: Segment): Generator<StateViolation> {
  const { selector, base, limit, type, s, dpl, present } = segment;
  if (base !== BigInt(selector) * 16n) {
    yield say(`${name} base ${hex(base)} is not selector ${hex(selector)} × 16 in virtual-8086 mode`);
  }
  if (limit !== 0xffff) yield say(`${name} limit ${hex(limit)} is not 0xffff in virtual-8086 mode`);
  if (type !== 3 || s !== 1 || dpl !== 3 || present !== 1) {
    yield say(`${name} is type ${type}, S ${s}, DPL ${dpl}, P ${present} and not 3, 1, 3, 1 in virtual-8086 mode`);
  }
}

function* plain(name: string, segment: Segment): Generator<StateViolation> {
  if (!segment.s) yield say(`${name}.S is 0: a code or data segment has S = 1`);
  if (!segment.present) yield say(`${name}.P is 0 in a usable segment`);
  yield* granularity(name, segment);
}

function* codeChecks(cs: Segment, ss: Segment, long: boolean): Generator<StateViolation> {
  if (cs.unusable) yield say("CS is unusable");
  yield* plain("CS", cs);
  if (cs.base >> 32n) yield say(`CS base ${hex(cs.base)} is above 4 GiB`);
  if (![3, 9, 11, 13, 15].includes(cs.type)) {
    yield say(`CS.type is ${cs.type}: it must be 9, 11, 13, 15 (accessed code) or 3`);
  }
  if (cs.type === 3 && cs.dpl !== 0) yield say(`CS.type is 3 and CS.DPL is ${cs.dpl}: it must be 0`);
  const nonConforming = cs.type === 9 || cs.type === 11;
  if (nonConforming && cs.dpl !== ss.dpl) {
    yield say(`CS.DPL is ${cs.dpl} and SS.DPL is ${ss.dpl}: they must agree`);
  }
  if ((cs.type === 13 || cs.type === 15) && cs.dpl > ss.dpl) {
    yield say(`CS is conforming with DPL ${cs.dpl}, above SS.DPL ${ss.dpl}`);
  }
  if (long && cs.l && cs.db) yield say("CS.L and CS.D are both 1", ["intel", "amd"]);
}

function* stackChecks(ss: Segment, cs: Segment, real: boolean): Generator<StateViolation> {
  if ((cs.type === 3 || real) && ss.dpl !== 0) {
    yield say(`SS.DPL is ${ss.dpl} ${real ? "in real mode" : "with CS.type 3"}: it must be 0`);
  }
  if (ss.unusable) return;
  yield* plain("SS", ss);
  if (ss.type !== 3 && ss.type !== 7) yield say(`SS.type is ${ss.type}: it must be 3 or 7 (writable, accessed)`);
  if (ss.base >> 32n) yield say(`SS base ${hex(ss.base)} is above 4 GiB`);
}

function* dataChecks(name: "ds" | "es" | "fs" | "gs", state: GuestState): Generator<StateViolation> {
  const segment = state.segments[name];
  const label = name.toUpperCase();
  if (name === "fs" || name === "gs") {
    if (!isCanonical(segment.base, state)) yield say(`${label} base ${hex(segment.base)} is not canonical`);
  }
  if (segment.unusable) return;
  yield* plain(label, segment);
  if (!(segment.type & 1)) yield say(`${label}.type is ${segment.type}: bit 0 (accessed) must be 1`);
  if (segment.type & 8 && !(segment.type & 2)) {
    yield say(`${label}.type is ${segment.type}: code in a data register must be readable (bit 1)`);
  }
  if ((name === "ds" || name === "es") && segment.base >> 32n) {
    yield say(`${label} base ${hex(segment.base)} is above 4 GiB`);
  }
}

function* taskChecks(state: GuestState, long: boolean): Generator<StateViolation> {
  const { tr } = state.segments;
  if (tr.unusable) yield say("TR is unusable: it must hold a busy TSS");
  else if (tr.type !== 11 && (long || tr.type !== 3)) {
    yield say(`TR.type is ${tr.type}: it must be ${long ? "11 (busy 64-bit TSS)" : "3 or 11 (busy TSS)"}`);
  }
  if (tr.s) yield say("TR.S is 1: a TSS is a system segment");
  if (!tr.present) yield say("TR.P is 0");
  if (tr.selector & 4) yield say(`TR selector ${hex(tr.selector)} has TI set: a TSS lies in the GDT`);
  if (!isCanonical(tr.base, state)) yield say(`TR base ${hex(tr.base)} is not canonical`);
  yield* granularity("TR", tr);
}

function* localTableChecks(state: GuestState): Generator<StateViolation> {
  const { ldt } = state.segments;
  if (ldt.unusable) return;
  if (ldt.type !== 2) yield say(`LDTR.type is ${ldt.type}: it must be 2 (LDT)`);
  if (ldt.s) yield say("LDTR.S is 1: an LDT is a system segment");
  if (!ldt.present) yield say("LDTR.P is 0 in a usable segment");
  if (ldt.selector & 4) yield say(`LDTR selector ${hex(ldt.selector)} has TI set: an LDT lies in the GDT`);
  if (!isCanonical(ldt.base, state)) yield say(`LDTR base ${hex(ldt.base)} is not canonical`);
  yield* granularity("LDTR", ldt);
}

/** The rules about segment registers that `state` breaks. */
export function* segmentViolations(state: GuestState): Generator<StateViolation> {
  const { segments, cr0, efer, rflags } = state;
  const long = (efer & EFER.LMA) !== 0n;
  if (rflags & RFLAG.VM) {
    for (const name of PLAIN) yield* virtual8086(name.toUpperCase(), segments[name]);
  } else {
    yield* codeChecks(segments.cs, segments.ss, long);
    yield* stackChecks(segments.ss, segments.cs, !(cr0 & CR0.PE));
    for (const name of ["ds", "es", "fs", "gs"] as const) yield* dataChecks(name, state);
  }
  yield* taskChecks(state, long);
  yield* localTableChecks(state);
}
