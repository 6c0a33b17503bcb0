/** One decoded instruction. */
export interface DisassembledInstruction {
  /** The instruction pointer it was decoded for. */
  readonly ip: bigint;
  readonly bytes: Uint8Array;
  /** NASM syntax; `(bad)` for what is no instruction. */
  readonly text: string;
}

export interface DisassembleOptions {
  /** Width of the code. */
  readonly bits: 16 | 32 | 64;
  /** Instruction pointer of the first byte; jumps are shown relative to it. Default 0. */
  readonly ip?: bigint;
  /** Instructions at most. Default: to the end of the bytes. */
  readonly count?: number;
  /** Names addresses, e.g. `main+0x10`; undefined for no name. */
  readonly symbol?: (address: bigint) => string | undefined;
}

export type Iced = typeof import("iced-x86");

let loaded: { readonly iced: Iced; readonly formatter: InstanceType<Iced["Formatter"]> } | undefined;

/** iced-x86, loaded on first use: importing it costs 35 to 90 ms. */
export function loadDisassembler(): { readonly iced: Iced; readonly formatter: InstanceType<Iced["Formatter"]> } {
  if (loaded !== undefined) return loaded;
  const iced = require("iced-x86") as Iced;
  const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm);
  formatter.hexPrefix = "0x";
  formatter.hexSuffix = "";
  formatter.uppercaseHex = false;
  formatter.spaceAfterOperandSeparator = true;
  formatter.branchLeadingZeros = false;
  loaded = { iced, formatter };
  return loaded;
}

/** Decodes bytes from the first on. An instruction that the bytes do not hold to its end is `(bad)`. */
export function disassemble(bytes: Uint8Array, options: DisassembleOptions): DisassembledInstruction[] {
  const { bits, ip = 0n, count = bytes.length } = options;
  const { iced, formatter } = loadDisassembler();
  const decoder = new iced.Decoder(bits, bytes, iced.DecoderOptions.None);
  const found: DisassembledInstruction[] = [];
  try {
    decoder.ip = ip;
    while (found.length < count && decoder.canDecode) {
      const start = decoder.position;
      const instruction = decoder.decode();
      const text = instruction.isInvalid
        ? "(bad)"
        : `${formatter.format(instruction)}${nameOf(instruction, iced, options)}`;
      found.push({ ip: instruction.ip, bytes: bytes.slice(start, decoder.position), text });
      instruction.free();
    }
  } finally {
    decoder.free();
  }
  return found;
}

function nameOf(instruction: InstanceType<Iced["Instruction"]>, iced: Iced, { symbol }: DisassembleOptions): string {
  if (symbol === undefined || instruction.flowControl === iced.FlowControl.Next) return "";
  const name = instruction.nearBranchTarget === 0n ? undefined : symbol(instruction.nearBranchTarget);
  return name === undefined ? "" : ` <${name}>`;
}
