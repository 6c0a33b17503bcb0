import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { Exit, ExitOf } from "../exit.ts";
import { GPR_NAMES, RIP } from "../registers.ts";
import { type DisassembledInstruction, disassemble, type Iced, loadDisassembler } from "./disassemble.ts";
import { type CodeRegisters, codeBits, linearAddress, readLinear } from "./guest-code.ts";
import { pagingStateOf, walkPages } from "./walk.ts";

type Instruction = InstanceType<Iced["Instruction"]>;
type RetiredExit = ExitOf<"pioOut" | "mmioWrite" | "hlt">;

const MAX_INSTRUCTION_BYTES = 15;
const RDX = GPR_NAMES.indexOf("rdx");

/** An instruction and where it lies. */
export interface ExitingInstruction extends DisassembledInstruction {
  /** Linear address. */
  readonly linear: bigint;
}

/**
 * The instruction that made an exit; undefined where its bytes cannot be read.
 *
 * After an OUT, a store or a HLT the instruction pointer is already behind it, and x86 cannot be decoded backwards for
 * certain: of all that could end there, the shortest that does what the exit says is taken (the port, the address, the
 * size). When none does, it is the instruction at RIP.
 */
export function instructionOf(
  exit: Exit,
  registers: CodeRegisters,
  memory: PhysicalMemory,
): ExitingInstruction | undefined {
  const cs = registers.readSegment("cs");
  const bits = codeBits(registers, cs);
  const ip = registers.readGpr(RIP);
  if (exit.kind === "pioOut" || exit.kind === "mmioWrite" || exit.kind === "hlt") {
    const length = Number(ip < 15n ? ip : BigInt(MAX_INSTRUCTION_BYTES));
    const before = readLinear(registers, memory, { address: linearAddress(ip - BigInt(length), cs, bits), length });
    const scene = { exit, registers, memory, bits, ip };
    const found = before.length === length ? instructionBefore(before, scene) : undefined;
    if (found !== undefined) return { ...found, linear: linearAddress(found.ip, cs, bits) };
  }
  const linear = linearAddress(ip, cs, bits);
  const bytes = readLinear(registers, memory, { address: linear, length: MAX_INSTRUCTION_BYTES });
  const [found] = disassemble(bytes, { bits, ip, count: 1 });
  return found && { ...found, linear };
}

interface Scene {
  readonly exit: RetiredExit;
  readonly registers: CodeRegisters;
  readonly memory: PhysicalMemory;
  readonly bits: 16 | 32 | 64;
  readonly ip: bigint;
}

function instructionBefore(bytes: Uint8Array, scene: Scene): DisassembledInstruction | undefined {
  const { iced } = loadDisassembler();
  const { bits, ip } = scene;
  for (let length = 1; length <= bytes.length; length++) {
    const tail = bytes.subarray(bytes.length - length);
    const decoder = new iced.Decoder(bits, tail, iced.DecoderOptions.None);
    decoder.ip = ip - BigInt(length);
    const instruction = decoder.decode();
    const fits = !instruction.isInvalid && instruction.length === length && makes(iced, instruction, scene);
    instruction.free();
    decoder.free();
    if (fits) return disassemble(tail, { bits, ip: ip - BigInt(length), count: 1 })[0];
  }
  return undefined;
}

/** Whether the instruction could have made the exit. */
function makes(iced: Iced, instruction: Instruction, scene: Scene): boolean {
  const { Mnemonic, OpKind } = iced;
  const { mnemonic } = instruction;
  const { exit, registers } = scene;
  switch (exit.kind) {
    case "hlt":
      return mnemonic === Mnemonic.Hlt;
    case "pioOut": {
      const isDx = Number(registers.readGpr(RDX) & 0xffffn) === exit.port;
      if (mnemonic === Mnemonic.Outsb) return isDx && exit.size === 1;
      if (mnemonic === Mnemonic.Outsw) return isDx && exit.size === 2;
      if (mnemonic === Mnemonic.Outsd) return isDx && exit.size === 4;
      if (mnemonic !== Mnemonic.Out || exit.size !== iced.RegisterExt.size(instruction.op1Register)) return false;
      return instruction.op0Kind === OpKind.Immediate8 ? instruction.immediate(0) === BigInt(exit.port) : isDx;
    }
    case "mmioWrite": {
      // String stores have moved their pointer on already: their size has to do.
      if (iced.MemorySizeExt.size(instruction.memorySize) !== exit.data.length) return false;
      const isString = [OpKind.MemoryESDI, OpKind.MemoryESEDI, OpKind.MemoryESRDI].includes(instruction.op0Kind);
      return isString || (instruction.op0Kind === OpKind.Memory && operandGpa(iced, instruction, scene) === exit.gpa);
    }
  }
}

/** Where the memory operand lies, by the registers as they are now. */
function operandGpa(iced: Iced, instruction: Instruction, { registers, memory, bits }: Scene): number | undefined {
  const { Register, RegisterExt } = iced;
  const value = (register: number): bigint => {
    if (register === Register.None) return 0n;
    if (register === Register.RIP || register === Register.EIP) return 0n;
    const number = RegisterExt.number(register);
    return BigInt.asUintN(RegisterExt.size(register) * 8, registers.readGpr(number));
  };
  const segment = SEGMENTS[RegisterExt.number(instruction.memorySegment)] ?? "ds";
  const hasBase = bits !== 64 || segment === "fs" || segment === "gs";
  const base = hasBase ? registers.readSegment(segment).base : 0n;
  const { memoryBase, memoryIndex, memoryIndexScale, memoryDisplacement } = instruction;
  const offset = value(memoryBase) + value(memoryIndex) * BigInt(memoryIndexScale) + memoryDisplacement;
  const width =
    memoryBase === Register.None && memoryIndex === Register.None
      ? 64
      : RegisterExt.size(memoryBase || memoryIndex) * 8;
  const linear = base + BigInt.asUintN(width, offset);
  return walkPages(memory, pagingStateOf(registers), BigInt.asUintN(bits === 64 ? 64 : 32, linear)).gpa;
}

/** In the order x86 numbers them. */
const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"] as const;
