import { assemble } from "../../../../../src/asm/index.ts";
import { MODE_BITS, type Mode, type ModeOptions } from "../../../../../src/boot/mode.ts";
import { GPR_NAMES, type GprName } from "../../../../../src/registers.ts";
import { Random } from "../oracle/random.ts";
import { soup } from "./soup.ts";

/**
 * One guest made from a seed. Memory: code at 0x1000, fault handlers at 0x6000, their variables at 0x7000, descriptor
 * and page tables at 0x8000, more code and data up to 0x30000, a read-only page there, a hole, a last page at 0x3f000.
 */
export interface FuzzCase {
  readonly seed: number;
  readonly kind: Kind;
  readonly mode: Mode;
  readonly options: ModeOptions;
  readonly pieces: readonly { readonly gpa: number; readonly bytes: Uint8Array }[];
  /** 32-bit words to put over the page tables once they are there. */
  readonly tablePatches: readonly { readonly gpa: number; readonly low: number; readonly high: number }[];
  /** Interrupt controllers and PIT in the engine: HLT is no exit then, and time passes with instructions. */
  readonly irqchip: boolean;
  /** Interrupts and NMIs to queue: at which exit, which vector (2: NMI); with an irqchip, a pulse of the line of its low bits. */
  readonly interrupts: ReadonlyMap<number, number>;
}

export const KINDS = ["bytes", "soup", "selfModifying", "pageEnd", "intoInstructions", "selfMappedTables"] as const;
export type Kind = (typeof KINDS)[number];
export const FUZZ_MODES: readonly Mode[] = [
  "real16",
  "unreal16",
  "prot16",
  "prot32",
  "paged32",
  "pae",
  "long64",
  "long64-ring3",
  "compat32",
];

export const CODE = 0x1000;
const HANDLERS = 0x6000;
const TABLES = 0x8000;
export const READ_ONLY_PAGE = 0x30000;
export const LAST_PAGE = 0x3f000;
const PAGED: readonly Mode[] = ["paged32", "pae", "long64", "long64-ring3", "compat32"];

/** Every handler drops what was going on and jumps to another place of the code page, now and then in another ring. */
function handlers(mode: Mode): Uint8Array {
  const cached = handlerCache.get(mode);
  if (cached !== undefined) return cached;
  const bits = MODE_BITS[mode];
  const long = bits === 64 || mode === "compat32";
  const data = mode === "real16" || mode === "unreal16" ? 0 : 0x10;
  const start = long ? LONG_HANDLER : bits === 32 ? HANDLER_32 : HANDLER_16;
  const bytes = assemble(start, { origin: HANDLERS, defines: { DATA: data } }).bytes;
  handlerCache.set(mode, bytes);
  return bytes;
}
const handlerCache = new Map<Mode, Uint8Array>();

const HANDLER_16 = `
        bits 16
        mov ax, DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7800
        mov bx, [0x7000]
        add word [0x7000], 37
        and bx, 0xfff
        add bx, 0x1000
        jmp bx
`;
const HANDLER_32 = `
        bits 32
        mov ax, DATA
        mov ds, ax
        mov ss, ax
        mov esp, 0x7800
        mov ebx, [0x7000]
        add dword [0x7000], 37
        mov ecx, ebx
        and ebx, 0xfff
        add ebx, 0x1000
        test cl, 0x10
        jnz .ring3
        jmp ebx
.ring3: test cl, 0x20
        jnz .v8086
        push dword 0x2b
        push dword 0x7000
        push dword 0x3202
        push dword 0x23
        push ebx
        iretd
.v8086: push dword 0x100
        push dword 0x100
        push dword 0x100
        push dword 0x100
        push dword 0x100
        push dword 0x6000
        push dword 0x20202
        push dword 0x100
        sub ebx, 0x1000
        push ebx
        iretd
`;
const LONG_HANDLER = `
        bits 64
        mov ax, DATA
        mov ds, ax
        mov ss, ax
        mov esp, 0x7800
        mov ebx, [0x7000]
        add dword [0x7000], 37
        mov ecx, ebx
        and ebx, 0xfff
        add ebx, 0x1000
        shr ecx, 4
        and ecx, 3
        movzx eax, word [0x7010 + ecx * 4 + 2]
        push rax
        push qword 0x7000
        push qword 0x3202
        movzx eax, word [0x7010 + ecx * 4]
        push rax
        push rbx
        iretq
`;
/** CS and SS of the four ways on: ring 0 twice, 64-bit ring 3, 32-bit ring 3. */
const LONG_WAYS = [0x08, 0x10, 0x18, 0x10, 0x33, 0x2b, 0x23, 0x2b];

function address(r: Random): bigint {
  switch (r.below(8)) {
    case 0:
      return BigInt(CODE + r.below(0x1000));
    case 1:
      return BigInt(TABLES + r.below(0x8000));
    case 2:
      return BigInt(READ_ONLY_PAGE - 0x40 + r.below(0x1080));
    case 3:
      return BigInt(LAST_PAGE + 0xfc0 + r.below(0x80));
    case 4:
      return r.u64();
    case 5:
      return BigInt(r.below(64));
    default:
      return BigInt(0x20000 + r.below(0x8000));
  }
}

function entryOf(r: Random, kind: Kind, real: boolean): number {
  if (kind === "pageEnd" && !real) return r.pick([0x2000, READ_ONLY_PAGE, LAST_PAGE + 0x1000]) - 1 - r.below(40);
  if (kind === "pageEnd") return 0x2000 - 1 - r.below(40);
  if (kind === "bytes") return CODE + (r.chance(3) ? 0xff0 + r.below(16) : r.below(0x1000));
  return CODE + (kind === "intoInstructions" ? r.below(64) : 0);
}

/** Code that writes into itself: pointers into the code page and stores through them, in a loop. */
function selfModifying(r: Random, bits: 16 | 32 | 64): Uint8Array {
  const code = soup(r, bits, 0x1000);
  for (let at = 0; at < 0xf00; at += 8 + r.below(64)) {
    const imm = [r.below(256), 0x10 | (r.chance(4) ? 1 : 0), ...(bits === 16 ? [] : [0, 0])];
    // mov di, imm; then stosb, stosd, inc byte [di], xor [di], al or a short rep stosb.
    const store = r.pick([
      [0xaa],
      [0xab],
      bits === 16 ? [0xfe, 0x05] : [0xfe, 0x07],
      [0x30, bits === 16 ? 0x05 : 0x07],
    ]);
    const back = r.chance(2) ? [0xe2, 0x100 - r.below(24)] : [];
    code.set([0xbf, ...imm, ...store, ...back].slice(0, 0x1000 - at), at);
  }
  return code;
}

/** A few instructions with long immediates and branches into the middle of them. */
function intoInstructions(r: Random, bits: 16 | 32 | 64): Uint8Array {
  const code = soup(r, bits, 0x1000);
  for (let at = 0; at < 0xff0; at += 5 + r.below(12)) {
    const branch = r.pick([0xeb, 0x70 | r.below(16), 0xe2, 0xe8]);
    code[at] = branch;
    code[at + 1] = r.pick([1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfb, 0xf0, 0xe0]);
  }
  return code;
}

function tablePatches(r: Random, mode: Mode): FuzzCase["tablePatches"] {
  const patches: { gpa: number; low: number; high: number }[] = [];
  const wide = mode !== "paged32";
  for (let i = 1 + r.below(12); i > 0; i--) {
    const table = 0xa000 + r.below(6) * 0x1000;
    // Entry 0 translates the code itself: leave it alone most of the time.
    const entry =
      (r.chance(12) ? 0 : r.pick([1, 2, 3, 7, 8, 9, 0x10, 0x20, 0x30, 0x3f, r.below(512)])) * (wide ? 8 : 4);
    const target = r.pick([0xa000, 0xb000, 0xc000, 0xd000, 0xe000, table, 0x1000, r.below(0x50) * 0x1000]);
    const flags = (r.chance(6) ? r.below(0x1000) : 0x3 | (r.below(2) << 2) | (r.below(2) << 7)) >>> 0;
    const high = wide && r.chance(6) ? r.pick([0x80000000, 1, 0x000f0000, 0x7fffffff]) : 0;
    patches.push({ gpa: table + entry, low: (target | flags) >>> 0, high });
  }
  return patches;
}

/** The guest of a seed; the same one every time. */
export function makeCase(seed: number): FuzzCase {
  const r = new Random(seed * 2654435761);
  const kind = KINDS[seed % KINDS.length] as Kind;
  const wanted = r.pick(FUZZ_MODES);
  const mode = kind === "selfMappedTables" && !PAGED.includes(wanted) ? r.pick(PAGED) : wanted;
  const bits = MODE_BITS[mode];
  const real = mode === "real16" || mode === "unreal16";
  const make = { bytes: randomBytes, selfModifying, intoInstructions }[kind as string] ?? soup;
  const entry = entryOf(r, kind, real || mode === "prot16");
  const gprs: Partial<Record<GprName, bigint>> = {};
  const width = bits === 64 ? 64 : 32;
  for (const name of GPR_NAMES.slice(0, 16)) {
    if (name === "rsp" || (bits !== 64 && /^r\d/.test(name))) continue;
    gprs[name] = BigInt.asUintN(width, address(r));
  }
  // Without handlers a fault leads to the next one, down to the shutdown.
  const handled = !r.chance(12);
  const vectors = Array.from({ length: 48 }, (_, vector) => vector).filter(() => !r.chance(24));
  const options: ModeOptions = {
    entry,
    stack: r.chance(8) ? r.pick([0x20004, r.below(0x20000)]) : 0x7800,
    gprs,
    ...(handled ? { handlers: Object.fromEntries(vectors.map((vector) => [vector, HANDLERS])) } : {}),
    ...(PAGED.includes(mode) && (kind === "selfMappedTables" || r.chance(2)) ? { pageBytes: 0x1000 as const } : {}),
  };
  const variables = new DataView(new ArrayBuffer(0x40));
  variables.setUint32(0, r.below(0x1000), true);
  LONG_WAYS.forEach((value, index) => {
    variables.setUint16(0x10 + index * 2, value, true);
  });
  return {
    seed,
    kind,
    mode,
    options,
    irqchip: r.chance(6),
    pieces: [
      { gpa: CODE, bytes: make(r, bits, 0x1000) },
      { gpa: CODE + 0x1000, bytes: soup(r, bits, 0x400) },
      { gpa: HANDLERS, bytes: handlers(mode) },
      { gpa: 0x7000, bytes: new Uint8Array(variables.buffer) },
      { gpa: 0x20000, bytes: soup(r, bits, 0x400) },
      { gpa: READ_ONLY_PAGE - 0x100, bytes: soup(r, bits, 0x200) },
      { gpa: LAST_PAGE + 0xf00, bytes: soup(r, bits, 0x100) },
    ],
    tablePatches: kind === "selfMappedTables" || (PAGED.includes(mode) && r.chance(6)) ? tablePatches(r, mode) : [],
    interrupts: new Map(
      Array.from({ length: r.below(6) }, () => [r.below(60), r.pick([2, 0x20, 0x21, 0x2f, r.below(256)])]),
    ),
  };
}

/** Bytes by chance: all alike, or with more prefixes and escapes, more far and vector opcodes, more loops and stores. */
function randomBytes(r: Random, _bits: 16 | 32 | 64, length: number): Uint8Array {
  const favourites = r.pick(FAVOURITES);
  return Uint8Array.from({ length }, () => {
    const byte = r.below(256);
    return favourites.length === 0 || r.chance(2) ? byte : r.pick(favourites);
  });
}
const FAVOURITES: readonly (readonly number[])[] = [
  [],
  [0x0f, 0x66, 0x48, 0xf3, 0x00, 0x05, 0x3f],
  [0x0f, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xc4, 0xc5, 0xf0, 0x8e, 0xcf, 0xcd],
  [0xeb, 0x74, 0x75, 0xe2, 0xab, 0xaa, 0xa4, 0x88, 0x89, 0x01],
];
