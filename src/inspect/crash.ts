import type { Outcome } from "../outcome.ts";
import type { GprName, RegisterAccess, Segment, SegmentName } from "../registers.ts";
import { GPR_NAMES, RFLAGS, RIP } from "../registers.ts";
import { type CrashReason, type CrashScene, explainOutcome } from "./crash-reason.ts";
import { disassemble } from "./disassemble.ts";
import type { RecordedExit } from "./exit-ring.ts";
import { formatExit } from "./format.ts";
import { codeBits, linearAddress, readLinear } from "./guest-code.ts";

export interface CrashReport extends CrashScene {
  /** Names an address, e.g. `main+0x10`. */
  readonly symbol?: (address: bigint) => string | undefined;
  /** The source of an address, e.g. `hello.asm:14`. */
  readonly sourceLine?: (address: bigint) => string | undefined;
  /** From an `ExitRing`, oldest first. */
  readonly exits: readonly RecordedExit[];
  /** Ends the first line, e.g. `after 34 exits in 2.1 ms`. */
  readonly summary: string;
  /** Sentences to add to the explanation. */
  readonly notes?: readonly string[];
}

/** What one screen holds. */
export const SCREEN = { lines: 24, columns: 80 } as const;

const CODE_LINES = { 16: 5, 32: 5, 64: 4 } as const;
/** With their heading. */
const MIN_EXIT_LINES = 3;

/** A guest's end on one screen: why, the registers, the code at RIP, the last exits. At most 24 lines of 80 columns. */
export function crashScreen(outcome: Outcome, report: CrashReport): string[] {
  const { registers } = report;
  const bits = codeBits(registers);
  const reason = explainOutcome(outcome, report);
  const state = [...gprLines(registers, bits), ...segmentLines(registers, bits), controlLine(registers, bits)];
  const code = codeLines(report, bits);
  const room = SCREEN.lines - state.length - code.length - MIN_EXIT_LINES;
  const head = headLines(reason, report, room);
  const left = SCREEN.lines - head.length - state.length - code.length;
  return [...head, ...state, ...code, ...exitLines(report.exits, left)].map((line) => line.slice(0, SCREEN.columns));
}

/** The title, and of the details as many as fit as a whole. */
function headLines({ title, details }: CrashReason, { summary, notes = [] }: CrashReport, room: number): string[] {
  const lines = wrap(`vmexit: ${title} ${summary}`);
  for (const detail of [...details, ...notes].map(wrap)) {
    if (lines.length + detail.length <= room) lines.push(...detail);
  }
  return lines;
}

function gprLines(registers: RegisterAccess, bits: 16 | 32 | 64): string[] {
  const names = GPR_NAMES.filter((name) => bits === 64 || !/^r\d/.test(name));
  const cells = names.map(
    (name) => `${registerLabel(name, bits)}=${digits(registers.readGpr(GPR_NAMES.indexOf(name)), bits)}`,
  );
  const lines = rows(cells, bits === 64 ? 3 : 5);
  const flags = flagNames(registers.readGpr(RFLAGS));
  lines.push(`${lines.pop() ?? ""}  ${flags}`);
  return lines;
}

/** In 64-bit code no limit counts, and no base but those of FS, GS and TR. */
function segmentLines(registers: RegisterAccess, bits: 16 | 32 | 64): string[] {
  const segment = (name: SegmentName): string => {
    const { selector, base, limit } = registers.readSegment(name);
    const label = `${name.toUpperCase().padEnd(3)} ${digits(BigInt(selector), bits, 4)} base ${digits(base, bits)}`;
    return bits === 64 ? label : `${label} limit ${digits(BigInt(limit), bits)}`;
  };
  const table = (name: "gdt" | "idt"): string => {
    const { base, limit } = registers.readTable(name);
    return `${name.toUpperCase()} base ${digits(base, bits)} limit ${limit.toString(16).padStart(4, "0")}`;
  };
  const names: SegmentName[] = bits === 64 ? ["cs", "ss", "fs", "gs", "tr"] : ["cs", "ss", "ds", "es", "fs", "gs"];
  return [...rows(names.map(segment), 2), [table("gdt"), table("idt")].join("  ")];
}

function modeOf(registers: RegisterAccess, cs: Segment): string {
  if ((registers.readControl("cr0") & 1n) === 0n) return "real mode";
  return (registers.readGpr(RFLAGS) & (1n << 17n)) !== 0n ? "virtual-8086 mode" : `code, ring ${cs.dpl}`;
}

function controlLine(registers: RegisterAccess, bits: 16 | 32 | 64): string {
  const names = ["cr0", "cr2", "cr3", "cr4", "efer"] as const;
  const cells = names.map(
    (name) =>
      `${name.toUpperCase()}=${registers
        .readControl(name)
        .toString(16)
        .padStart(bits === 64 ? 1 : 8, "0")}`,
  );
  return cells.join(" ");
}

function codeLines({ registers, memory, symbol, sourceLine }: CrashReport, bits: 16 | 32 | 64): string[] {
  const ip = registers.readGpr(RIP);
  const cs = registers.readSegment("cs");
  const address = linearAddress(ip, cs, bits);
  const bytes = readLinear(registers, memory, { address, length: CODE_LINES[bits] * 15 });
  const name = symbol?.(address);
  const source = sourceLine?.(address);
  const title = `Code at RIP${name === undefined ? "" : ` <${name}>`}${source === undefined ? "" : `, ${source}`}, ${bits}-bit ${modeOf(registers, cs)}:`;
  if (bytes.length === 0) return [title, `  nothing is mapped at 0x${address.toString(16)}`];
  const options = { bits, ip, count: CODE_LINES[bits], ...(symbol === undefined ? {} : { symbol }) };
  const lines = disassemble(bytes, options).map((instruction) => {
    const hexBytes = Array.from(instruction.bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return `  ${digits(instruction.ip, bits)}  ${hexBytes.padEnd(20)}  ${instruction.text}`;
  });
  return [title, ...lines];
}

/** The newest that fit; a run of the same, such as a polling loop, is one line. */
function exitLines(exits: readonly RecordedExit[], room: number): string[] {
  if (exits.length === 0) return ["The guest made no exit."].slice(0, room);
  const lines: { text: string; first: number; times: number }[] = [];
  for (const { number, exit, bytes } of exits) {
    const text = formatExit(exit, bytes || undefined);
    const last = lines.at(-1);
    if (last?.text === text) last.times++;
    else lines.push({ text, first: number, times: 1 });
  }
  const shown = lines.slice(-(room - 1)).map(({ text, first, times }) => {
    const number = String(first + times - 1).padStart(8);
    return `  ${number}  ${text}${times > 1 ? `  (${times} times)` : ""}`;
  });
  return ["Last exits:", ...shown];
}

function registerLabel(name: GprName, bits: 16 | 32 | 64): string {
  if (name === "rflags") return bits === 64 ? "RFL" : "EFL";
  return (bits === 64 ? name : name.replace(/^r/, "e")).toUpperCase().padEnd(3);
}

const FLAG_NAMES: readonly [bit: number, name: string][] = [
  [0, "CF"],
  [2, "PF"],
  [4, "AF"],
  [6, "ZF"],
  [7, "SF"],
  [8, "TF"],
  [9, "IF"],
  [10, "DF"],
  [11, "OF"],
  [17, "VM"],
  [18, "AC"],
];

function flagNames(rflags: bigint): string {
  const set = FLAG_NAMES.filter(([bit]) => ((rflags >> BigInt(bit)) & 1n) !== 0n).map(([, name]) => name);
  return `[${set.join(" ")}]`;
}

function digits(value: bigint, bits: 16 | 32 | 64, width: number = bits === 64 ? 16 : 8): string {
  return value.toString(16).padStart(width, "0");
}

function rows(cells: readonly string[], perLine: number): string[] {
  const lines: string[] = [];
  for (let at = 0; at < cells.length; at += perLine) lines.push(cells.slice(at, at + perLine).join("  "));
  return lines;
}

/** Breaks a sentence at spaces; continuation lines are indented. */
function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (longer.length <= SCREEN.columns || line === "") line = longer;
    else {
      lines.push(line);
      line = `  ${word}`;
    }
  }
  lines.push(line);
  return lines;
}
