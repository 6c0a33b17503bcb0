/** The callbacks of libnvmm's assists, as functions of JavaScript. */
import { JSCallback, type Pointer, read } from "bun:ffi";
import { bytesAt } from "./memory.ts";
import { NvmmIo, NvmmMem } from "./objects.ts";

/** One element of a port access. `data` is the library's memory: fill it (IN) or read it (OUT) before returning. */
export type IoHandler = (isIn: boolean, data: Uint8Array) => void;
/** One memory access. */
export type MemHandler = (gpa: number, isWrite: boolean, data: Uint8Array) => void;

/** Two C functions. They run on the thread that made them, inside an assist; handlers must not throw. */
export class AssistCallbacks implements Disposable {
  readonly #io: JSCallback;
  readonly #mem: JSCallback;

  constructor(io: IoHandler, mem: MemHandler) {
    const declaration = { args: ["ptr"], returns: "void" } as const;
    const dataOf = lentMemory();
    const ioAt = NvmmIo.fields;
    const memAt = NvmmMem.fields;
    this.#io = new JSCallback((at: Pointer) => {
      const data = dataOf(read.ptr(at, ioAt.data.offset), read.u32(at, ioAt.size.offset));
      io(read.u8(at, ioAt.in.offset) !== 0, data);
    }, declaration);
    this.#mem = new JSCallback((at: Pointer) => {
      const data = dataOf(read.ptr(at, memAt.data.offset), read.u32(at, memAt.size.offset));
      // In halves: a 64-bit read makes a BigInt.
      const gpa = read.u32(at, memAt.gpa.offset) + read.u32(at, memAt.gpa.offset + 4) * 2 ** 32;
      mem(gpa, read.u8(at, memAt.write.offset) !== 0, data);
    }, declaration);
  }

  /** Addresses for nvmm_assist_callbacks. */
  get io(): number {
    return this.#io.ptr as number;
  }
  get mem(): number {
    return this.#mem.ptr as number;
  }

  [Symbol.dispose](): void {
    this.#io.close();
    this.#mem.close();
  }
}

/** Views of what the library lends to a callback. It is stack memory, most often at the place of the time before. */
function lentMemory(): (address: number, length: number) => Uint8Array {
  let last: Uint8Array = new Uint8Array(0);
  let lastAddress = 0;
  return (address, length) => {
    if (address !== lastAddress || length !== last.length) {
      last = bytesAt(address, length);
      lastAddress = address;
    }
    return last;
  };
}
