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

type Iced = typeof import("iced-x86");

let loaded: { readonly iced: Iced; readonly formatter: InstanceType<Iced["Formatter"]> } | undefined;

/** iced-x86 costs 35 to 90 ms to import: only when something is disassembled. */
function load() {
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
  const { iced, formatter } = load();
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

/** What is known of an exit when its instruction is looked for. */
export interface ExitingAccess {
  readonly kind: "pioOut" | "mmioWrite" | "hlt";
  readonly port?: number;
  /** Bytes of one access. */
  readonly size?: number;
}

/**
 * The instruction that ends at the end of `bytes` and made this exit: after an OUT, a store or a HLT the instruction
 * pointer is already behind it, and x86 cannot be decoded backwards for certain. The shortest that fits wins.
 *
 * @param bytes Up to 15 bytes before the instruction pointer.
 * @param options `ip` is the instruction pointer behind the bytes.
 */
export function instructionBefore(
  bytes: Uint8Array,
  access: ExitingAccess,
  options: DisassembleOptions,
): DisassembledInstruction | undefined {
  const { iced } = load();
  const { ip = 0n, bits } = options;
  for (let length = 1; length <= bytes.length; length++) {
    const tail = bytes.subarray(bytes.length - length);
    const decoder = new iced.Decoder(bits, tail, iced.DecoderOptions.None);
    const instruction = decoder.decode();
    const fits = !instruction.isInvalid && instruction.length === length && makes(iced, instruction, access);
    instruction.free();
    decoder.free();
    if (fits) return disassemble(tail, { ...options, ip: ip - BigInt(length), count: 1 })[0];
  }
  return undefined;
}

function makes(iced: Iced, instruction: InstanceType<Iced["Instruction"]>, access: ExitingAccess): boolean {
  const { Mnemonic, OpKind } = iced;
  const { mnemonic } = instruction;
  switch (access.kind) {
    case "hlt":
      return mnemonic === Mnemonic.Hlt;
    case "pioOut": {
      if ([Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd].includes(mnemonic)) return true;
      if (mnemonic !== Mnemonic.Out) return false;
      if (instruction.op0Kind === OpKind.Immediate8 && instruction.immediate(0) !== BigInt(access.port ?? -1))
        return false;
      const { AL, AX } = iced.Register;
      return access.size === (instruction.op1Register === AL ? 1 : instruction.op1Register === AX ? 2 : 4);
    }
    case "mmioWrite": {
      if (![instruction.op0Kind, instruction.op1Kind].includes(OpKind.Memory)) return false;
      return access.size === iced.MemorySizeExt.size(instruction.memorySize);
    }
  }
}
