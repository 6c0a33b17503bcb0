import { AssistCallbacks } from "../../../ffi/nvmm/assist.ts";
import { NVMM_VCPU_CONF_CALLBACKS, NvmmAssistCallbacks } from "../../../ffi/nvmm/config.ts";
import { bytesOf } from "../../../ffi/struct.ts";
import { failed } from "./call.ts";
import type { NvmmSystem } from "./system.ts";

/** One access to memory that nothing backs, while libnvmm executes the instruction. */
export interface DirectAccess {
  readonly gpa: number;
  readonly isWrite: boolean;
  /** 1 to 8 bytes; fill it for a read. Good only while the handler runs. */
  readonly data: Uint8Array;
}

/** Answers an access on the spot; false leaves it to become an exit. */
export type DirectHandler = (access: DirectAccess) => boolean;

/** A store that an instruction made. */
export interface Store {
  readonly gpa: number;
  readonly data: Uint8Array;
}

/** What executing a memory instruction came to. */
export type MemoryResult =
  /** Executed; its stores, in order. */
  | { done: true; stores: readonly Store[] }
  /** It loads from here and nobody has answered yet; nothing of it is done. */
  | { done: false; gpa: number; bytes: number }
  /** libnvmm cannot execute it. */
  | { done: undefined; errno: number };

/** What a string instruction moves in one batch. */
export interface StringTransfer {
  readonly elements: Uint8Array;
  /** Bytes of `elements` moved before. */
  readonly at: number;
  readonly elementBytes: number;
}

export type StringResult =
  /** Bytes moved, and what INS stored to memory that nothing backs. */
  { done: true; moved: number; stores: readonly Store[] } | Exclude<MemoryResult, { done: true }>;

/** Bytes of the widest access that becomes one exit. */
const WIDEST = 8;

/**
 * libnvmm's assists for one vCPU. Their callbacks want answers while C waits, and scripts give theirs between two runs; so
 * an instruction is tried, its first unanswered load noted, its effects taken back by the caller, and once the answer is
 * there it is tried again. A handler that throws must not unwind through C: its error is kept and thrown after the return.
 *
 * @see nvmm_assist_io, nvmm_assist_mem, libnvmm(3)
 */
export class NvmmAssist implements Disposable {
  readonly #system: NvmmSystem;
  readonly #machine: number;
  readonly #vcpu: number;
  #callbacks: AssistCallbacks | undefined;
  /** Answers to the loads of the instruction at hand, in order. */
  #answers: readonly Uint8Array[] = [];
  #answered = 0;
  #unanswered: { gpa: number; bytes: number } | undefined;
  #stores: Store[] = [];
  /** Widest access to hand on as one. */
  #pieceBytes = WIDEST;
  /** Elements of a string instruction: where they come from or go to. */
  #port: Uint8Array = new Uint8Array(0);
  #portAt = 0;
  #error: { thrown: unknown } | undefined;
  /** Asked first for every access. */
  direct: DirectHandler | undefined;

  constructor(system: NvmmSystem, addresses: { machine: number; vcpu: number }) {
    this.#system = system;
    this.#machine = addresses.machine;
    this.#vcpu = addresses.vcpu;
  }

  /** Executes the instruction behind a MEMORY exit, with answers to its first loads. */
  memory(answers: readonly Uint8Array[]): MemoryResult {
    this.#begin(answers, WIDEST);
    const failure = this.#system.functions.nvmm_assist_mem(this.#machine, this.#vcpu);
    const errno = failure === 0 ? 0 : this.#system.library.errno();
    this.#rethrow();
    const unanswered = this.#unanswered as { gpa: number; bytes: number } | undefined;
    if (unanswered !== undefined) return { done: false, ...unanswered };
    if (failure !== 0) return { done: undefined, errno };
    return { done: true, stores: this.#stores };
  }

  /**
   * Executes one batch of a string instruction behind an IO exit.
   *
   * @param transfer Data of INS to hand out, or room for what OUTS gives; from `at` on. `answers`: to loads of OUTS from
   *   memory that nothing backs.
   */
  string(transfer: StringTransfer, answers: readonly Uint8Array[]): StringResult {
    this.#begin(answers, transfer.elementBytes);
    this.#port = transfer.elements;
    this.#portAt = transfer.at;
    const failure = this.#system.functions.nvmm_assist_io(this.#machine, this.#vcpu);
    const errno = failure === 0 ? 0 : this.#system.library.errno();
    this.#rethrow();
    const unanswered = this.#unanswered as { gpa: number; bytes: number } | undefined;
    if (unanswered !== undefined) return { done: false, ...unanswered };
    if (failure !== 0) return { done: undefined, errno };
    return { done: true, moved: this.#portAt - transfer.at, stores: this.#stores };
  }

  [Symbol.dispose](): void {
    this.#callbacks?.[Symbol.dispose]();
    this.#callbacks = undefined;
  }

  #begin(answers: readonly Uint8Array[], pieceBytes: number): void {
    this.#register();
    this.#answers = answers;
    this.#pieceBytes = pieceBytes;
    this.#answered = 0;
    this.#unanswered = undefined;
    this.#stores = [];
  }

  /** Registering is a copy inside the library, no system call; made at the first need. */
  #register(): void {
    if (this.#callbacks !== undefined) return;
    this.#callbacks = new AssistCallbacks(
      (isIn, data) => this.#guard(data, isIn, () => this.#onIo(isIn, data)),
      (gpa, isWrite, data) => this.#guard(data, !isWrite, () => this.#onMemory(gpa, isWrite, data)),
    );
    const conf = NvmmAssistCallbacks.alloc();
    conf.io = this.#callbacks.io;
    conf.mem = this.#callbacks.mem;
    const { nvmm_vcpu_configure: configure } = this.#system.functions;
    if (configure(this.#machine, this.#vcpu, NVMM_VCPU_CONF_CALLBACKS, bytesOf(conf)) !== 0) {
      throw failed(this.#system, "nvmm_vcpu_configure(NVMM_VCPU_CONF_CALLBACKS)");
    }
  }

  /** Nothing may be thrown into C; after an error the rest of the instruction reads all ones and stores nowhere. */
  #guard(data: Uint8Array, isRead: boolean, handle: () => void): void {
    if (this.#error === undefined) {
      try {
        handle();
        return;
      } catch (thrown) {
        this.#error = { thrown };
      }
    }
    if (isRead) data.fill(0xff);
  }

  #onIo(isIn: boolean, data: Uint8Array): void {
    const at = this.#portAt;
    if (at + data.length > this.#port.length) throw new RangeError("libnvmm moved more elements than the exit has");
    if (isIn) data.set(this.#port.subarray(at, at + data.length));
    else this.#port.set(data, at);
    this.#portAt = at + data.length;
  }

  /** A string instruction's memory comes in one access of many elements: one after the other here. */
  #onMemory(gpa: number, isWrite: boolean, data: Uint8Array): void {
    for (let at = 0; at < data.length; at += this.#pieceBytes) {
      if (this.#unanswered !== undefined) return; // tried in vain from here on
      this.#onPiece(gpa + at, isWrite, data.subarray(at, Math.min(at + this.#pieceBytes, data.length)));
    }
  }

  #onPiece(gpa: number, isWrite: boolean, data: Uint8Array): void {
    if (isWrite) {
      if (this.direct?.({ gpa, isWrite, data }) !== true) this.#stores.push({ gpa, data: data.slice() });
      return;
    }
    const answer = this.#answers[this.#answered++];
    if (answer !== undefined) data.set(answer.subarray(0, data.length));
    else if (this.direct?.({ gpa, isWrite, data }) !== true) this.#unanswered = { gpa, bytes: data.length };
  }

  #rethrow(): void {
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error.thrown;
  }
}
