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
    const ioAt = NvmmIo.fields;
    const memAt = NvmmMem.fields;
    this.#io = new JSCallback((at: Pointer) => {
      const size = Number(read.u64(at, ioAt.size.offset));
      const data = bytesAt(read.ptr(at, ioAt.data.offset), size);
      io(read.u8(at, ioAt.in.offset) !== 0, data);
    }, declaration);
    this.#mem = new JSCallback((at: Pointer) => {
      const size = Number(read.u64(at, memAt.size.offset));
      const data = bytesAt(read.ptr(at, memAt.data.offset), size);
      mem(Number(read.u64(at, memAt.gpa.offset)), read.u8(at, memAt.write.offset) !== 0, data);
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
