import type { Exit } from "../exit.ts";
import { msrLabel } from "../msrs.ts";

/** Payload bytes that a line shows. */
const SHOWN_BYTES = 16;

/** `0x3f8`. */
export function hex(value: number | bigint, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, "0")}`;
}

/** `48 65 6c 6c 6f "Hello"`; cut after 16 bytes. `bytes` when the payload was longer than what is here. */
export function formatPayload(data: Uint8Array, bytes = data.length): string {
  const shown = data.subarray(0, SHOWN_BYTES);
  const digits = Array.from(shown, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const more = bytes > shown.length ? ` … (${bytes} bytes)` : "";
  return `${digits}${more}${textOf(shown)}`;
}

/** The bytes as quoted text when all of them are text. */
function textOf(data: Uint8Array): string {
  let text = "";
  for (const byte of data) {
    if (byte === 0x0a) text += "\\n";
    else if (byte === 0x0d) text += "\\r";
    else if (byte === 0x09) text += "\\t";
    else if (byte < 0x20 || byte > 0x7e) return "";
    else text += String.fromCharCode(byte);
  }
  return text === "" ? "" : ` "${text}"`;
}

/**
 * An exit in one line, its fields by name: `pioOut port=0x3f8 size=1 data=48 "H"`.
 *
 * A read shows no data: what the guest gets is decided after the exit. A trace adds it.
 * @param bytes Length of the payload, when `exit.data` was cut.
 */
export function formatExit(exit: Exit, bytes?: number): string {
  switch (exit.kind) {
    case "pioOut":
      return `pioOut port=${hex(exit.port)} ${width(exit)} data=${formatPayload(exit.data, bytes)}`;
    case "pioIn":
      return `pioIn port=${hex(exit.port)} ${width(exit)}`;
    case "mmioWrite":
      return `mmioWrite gpa=${hex(exit.gpa)} size=${exit.data.length} data=${formatPayload(exit.data)}`;
    case "mmioRead":
      return `mmioRead gpa=${hex(exit.gpa)} size=${exit.data.length}`;
    case "rdmsr":
      return `rdmsr msr=${msrLabel(exit.msr)} reason=${exit.reason}`;
    case "wrmsr":
      return `wrmsr msr=${msrLabel(exit.msr)} value=${hex(exit.value)} reason=${exit.reason}`;
    case "exception":
      return `exception ${exceptionName(exit.exception)} errorCode=${hex(exit.errorCode)}`;
    case "debug":
      return `debug ${exceptionName(exit.exception)} pc=${hex(exit.pc)} dr6=${hex(exit.dr6)}`;
    default:
      return formatFields(exit);
  }
}

/** Numbers that are addresses, not counts or codes. */
const ADDRESSES: readonly string[] = ["gpa", "leaf", "subleaf"];

/** Kind and fields of any exit; registers and addresses in hexadecimal. */
function formatFields(exit: Exit): string {
  const fields = Object.entries(exit)
    .filter(([name]) => name !== "kind")
    .map(([name, value]) => `${name}=${formatField(name, value)}`);
  return [exit.kind, ...fields].join(" ");
}

function formatField(name: string, value: unknown): string {
  if (value instanceof Uint8Array) return value.length === 0 ? "none" : formatPayload(value);
  if (Array.isArray(value)) return `[${value.map((item) => formatField(name, item)).join(", ")}]`;
  if (typeof value === "bigint") return hex(value);
  if (typeof value === "number") return ADDRESSES.includes(name) ? hex(value) : String(value);
  return typeof value === "string" ? `"${value}"` : String(value);
}

function width({ size, count }: { size: number; count: number }): string {
  return count === 1 ? `size=${size}` : `size=${size} count=${count}`;
}

const EXCEPTIONS: readonly (string | undefined)[] =
  "#DE #DB NMI #BP #OF #BR #UD #NM #DF  #TS #NP #SS #GP #PF  #MF #AC #MC #XM #VE #CP".split(" ");

/** `#PF (14)`: Intel SDM Vol. 3A, "Exception and Interrupt Vectors". */
export function exceptionName(vector: number): string {
  const name = EXCEPTIONS[vector];
  return name ? `${name} (${vector})` : `vector ${vector}`;
}
