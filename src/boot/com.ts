import { refuseEmpty } from "./flat.ts";
import { GuestFile } from "./guest-file.ts";
import { checkSegments, type GuestPlan, type GuestSegment, type LoadOptions } from "./guest-plan.ts";

/** The segment that a .com file gets here: its PSP lies at 0x1000, its code at 0x1100. */
export const COM_SEGMENT = 0x100;

const PSP_BYTES = 0x100;
const STUB_GPA = 0x500;
/** INT 20H, DOS's way to end a program: the vector leads to a stub that halts. */
const STUB = Uint8Array.of(0xf4, 0xeb, 0xfd);

/** The program segment prefix: INT 20H at 0, the command tail at 0x80. */
function programSegmentPrefix(file: GuestFile, commandLine: string): Uint8Array {
  const psp = new Uint8Array(PSP_BYTES);
  psp.set([0xcd, 0x20]);
  const tail = new TextEncoder().encode(commandLine === "" ? "" : ` ${commandLine}`);
  if (tail.length > 126) {
    throw file.bad("commandLine", `the command line has ${tail.length} bytes and a PSP holds 126`, "shorten it");
  }
  psp[0x80] = tail.length;
  psp.set(tail, 0x81);
  psp[0x81 + tail.length] = 0x0d;
  return psp;
}

/**
 * A .com program as DOS starts it, as far as that goes without DOS: all segment registers name the PSP, code is at offset
 * 0x100, SP is 0xfffe with a zero word there, so that RET reaches the INT 20H in the PSP, which halts.
 */
export function loadCom(bytes: Uint8Array, options: LoadOptions): GuestPlan {
  refuseEmpty(bytes, options);
  const file = new GuestFile(options.file, bytes);
  if (bytes.length > 0xfe00) {
    throw file.bad(
      "length",
      `it has ${bytes.length} bytes and a .com program at most ${0xfe00}`,
      "is it a .com program?",
    );
  }
  const base = COM_SEGMENT * 16;
  const data = new Uint8Array(PSP_BYTES + bytes.length);
  data.set(programSegmentPrefix(file, options.commandLine ?? ""));
  data.set(bytes, PSP_BYTES);
  const segments: GuestSegment[] = [
    {
      what: "vector of INT 20H",
      field: "vector",
      gpa: 0x20 * 4,
      data: Uint8Array.of(STUB_GPA & 0xff, STUB_GPA >> 8, 0, 0),
      bytes: 4,
    },
    { what: "INT 20H stub", field: "stub", gpa: STUB_GPA, data: STUB, bytes: STUB.length },
    { what: "program segment", field: "length", gpa: base, data, bytes: 0x10000 },
  ];
  checkSegments(options.file, segments, options.memoryBytes);
  return {
    file: options.file,
    format: "com",
    segments,
    mode: "real16",
    entry: BigInt(base + PSP_BYTES),
    stack: 0xfffe,
    realSegment: COM_SEGMENT,
    gprs: {},
    map: [],
    symbols: [],
  };
}
