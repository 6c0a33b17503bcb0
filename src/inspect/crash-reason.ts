import type { FaultRecord } from "../backend.ts";
import type { PhysicalMemory } from "../boot/physical-memory.ts";
import type { ExitOf } from "../exit.ts";
import type { Outcome } from "../outcome.ts";
import { type RegisterAccess, RIP } from "../registers.ts";
import { exceptionName, hex } from "./format.ts";
import { guestStateOf } from "./guest-state.ts";
import { validateState } from "./validate.ts";

/** Why a run ended as it did, in words. */
export interface CrashReason {
  /** A few words: `triple fault`. */
  readonly title: string;
  /** What it means and what to look at, whole sentences. */
  readonly details: readonly string[];
}

/** What is looked at beside the outcome. */
export interface CrashScene {
  readonly registers: RegisterAccess;
  readonly memory: PhysicalMemory;
  /** The faults that led to a triple fault, oldest first, where the engine tells. */
  readonly faults?: readonly FaultRecord[];
  /** The limit that was reached, as the user gave it, e.g. `10 s`. */
  readonly limit?: string;
}

/** Explains an outcome. */
export function explainOutcome(outcome: Outcome, scene: CrashScene): CrashReason {
  switch (outcome.kind) {
    case "tripleFault":
      return { title: "triple fault", details: explainTripleFault(scene) };
    case "failed":
      return explainFailure(outcome.exit, scene);
    case "timeout":
      return { title: `time limit${ofLimit(scene)} reached`, details: ["The guest was still running."] };
    case "maxExits":
      return { title: `exit limit${ofLimit(scene)} reached`, details: ["The guest was still running."] };
    case "maxInstructions":
      return { title: `instruction limit${ofLimit(scene)} reached`, details: ["The guest was still running."] };
    case "aborted":
      return { title: "interrupted", details: ["The guest was still running."] };
    case "debugExit":
      return { title: `debug exit with status ${outcome.status}`, details: [] };
    case "halted":
    case "poweredOff":
    case "reset":
      return { title: outcome.kind, details: [] };
  }
}

function ofLimit({ limit }: CrashScene): string {
  return limit === undefined ? "" : ` of ${limit}`;
}

/** What the interrupt descriptor table says about why no handler ran. */
function explainTripleFault({ registers, faults = [] }: CrashScene): string[] {
  const details = ["An exception, and the double fault after it, found no handler: shutdown."];
  if (faults.length > 0) details.push(`The faults, oldest first: ${faults.map(faultName).join(", then ")}.`);
  if (isReset(registers)) {
    return [...details, "KVM on AMD has reset the vCPU since: these registers are not the guest's.", KEEPING_REGISTERS];
  }
  const idt = registers.readTable("idt");
  const isProtected = (registers.readControl("cr0") & 1n) !== 0n;
  if (isProtected && idt.limit < 8 * 8)
    details.push(`The IDT at ${hex(idt.base)} has limit ${hex(idt.limit)}: no handlers in it.`);
  const cr2 = registers.readControl("cr2");
  if (cr2 !== 0n) details.push(`CR2 = ${hex(cr2)}: the last page fault was for this address.`);
  return details;
}

function faultName({ vector, errorCode }: FaultRecord): string {
  return `${exceptionName(vector)}${errorCode === undefined ? "" : ` (error code ${hex(errorCode)})`}`;
}

const KEEPING_REGISTERS = "The soft backend keeps them; a trace shows RIP at each exit.";

/**
 * Whether a vCPU is at the reset vector. A VMCB is undefined after an intercepted shutdown, so kvm_amd puts the vCPU
 * through INIT (shutdown_interception(), arch/x86/kvm/svm/svm.c, Linux v6.1).
 */
function isReset(registers: RegisterAccess): boolean {
  return registers.readGpr(RIP) === 0xfff0n && registers.readSegment("cs").base === 0xffff0000n;
}

function explainFailure(exit: Extract<Outcome, { kind: "failed" }>["exit"], scene: CrashScene): CrashReason {
  switch (exit.kind) {
    case "failEntry":
      return {
        title: "the processor refused to enter the guest",
        details: [`Hardware reason ${hex(exit.hardwareReason)}: ${exit.explanation}.`, ...violations(scene)],
      };
    case "internalError":
      return {
        title: `the engine gave up: ${exit.name}`,
        details: [...instructionBytes(exit), ...dataWords(exit), ...violations(scene)],
      };
    case "memoryFault":
      return {
        title: "an access that guest memory does not allow",
        details: [`${exit.bytes} bytes at GPA ${hex(exit.gpa)}, flags ${hex(exit.flags)}.`],
      };
    case "systemEvent":
      return {
        title: `the guest reported ${exit.name}`,
        details: exit.data.length === 0 ? [] : [`Data words: ${exit.data.map((word) => hex(word)).join(", ")}.`],
      };
    case "unknown":
      return {
        title: `an exit vmexit does not know: reason ${exit.reason}`,
        details: ["Your kernel may be newer than this vmexit: please report the number."],
      };
  }
}

function instructionBytes({ instruction }: ExitOf<"internalError">): string[] {
  if (instruction.length === 0) return [];
  const bytes = Array.from(instruction, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [`It cannot emulate the instruction at RIP: ${bytes}. The soft backend may.`];
}

function dataWords({ data, instruction }: ExitOf<"internalError">): string[] {
  if (data.length === 0 || instruction.length > 0) return [];
  return [
    `Data words: ${data
      .slice(0, 4)
      .map((word) => hex(word))
      .join(", ")}.`,
  ];
}

/** The rules that the state breaks on any processor. */
function violations({ registers, memory }: CrashScene): string[] {
  return validateState(guestStateOf(registers), { memory }).map(({ what, rule }) => `${what} (${rule}).`);
}
