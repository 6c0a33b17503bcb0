import { NVMM_VCPU_EVENT_EXCP, NVMM_VCPU_EVENT_INTR, type NvmmX86Event } from "../../../ffi/nvmm/exit.ts";
import {
  EVT_PENDING,
  INT_SHADOW,
  INT_WINDOW_EXITING,
  NMI_WINDOW_EXITING,
  NVMM_X64_STATE_GPRS,
  NVMM_X64_STATE_INTR,
} from "../../../ffi/nvmm/state.ts";
import type { NvmmState } from "./state.ts";

const RFLAGS = 17;
const RFLAGS_ALWAYS = 1 << 1;
const RFLAGS_IF = 1 << 9;
const NMI_VECTOR = 2;

/** Something to deliver with the next run. */
export interface NvmmEvent {
  readonly kind: "exception" | "interrupt" | "nmi";
  readonly vector: number;
  readonly error: number;
}

/**
 * What may be injected when. NVMM has one event slot, checks nothing, and may replace the reason of an exit by NONE or
 * STOPPED, so the copies here come from the state that every exit carries, not from reasons.
 *
 * @see "Events and windows" of libnvmm(3); NetBSD's overwrite rule is described there as "exitstate"
 */
export class NvmmEvents {
  readonly #state: NvmmState;
  readonly #slot: NvmmX86Event;
  readonly #post: () => void;
  readonly #queue: NvmmEvent[] = [];
  #nmiHeld = false;
  #windowWanted = false;
  /** Copies of RFLAGS and the flag word, as of the last exit that carried them. */
  #rflags = RFLAGS_ALWAYS;
  #flags = 0;
  #cr8 = 0;
  /** The copies are those of the run that just ended, and nothing was written since. */
  #fresh = false;

  /** @param post Hands the filled slot over: nvmm_vcpu_inject(). */
  constructor(state: NvmmState, slot: NvmmX86Event, post: () => void) {
    this.#state = state;
    this.#slot = slot;
    this.#post = post;
  }

  /** CR8 at the exit that just was, where it carried state: saves fetching a group. */
  get exitCr8(): number | undefined {
    return this.#fresh ? this.#cr8 : undefined;
  }

  /** RFLAGS, likewise. */
  get exitRflags(): number | undefined {
    return this.#fresh ? this.#rflags : undefined;
  }

  get windowWanted(): boolean {
    return this.#windowWanted;
  }

  get nmiBlocked(): boolean {
    return (this.#intr() & NMI_WINDOW_EXITING) !== 0;
  }

  get shadow(): boolean {
    return (this.#intr() & INT_SHADOW) !== 0;
  }

  /** Events that wait for the next run, or for an NMI to end. */
  get waiting(): readonly NvmmEvent[] {
    const held = { kind: "nmi", vector: NMI_VECTOR, error: 0 } as const;
    return this.#nmiHeld ? [...this.#queue, held] : this.#queue;
  }

  /** Whether an external interrupt can be injected now. */
  get interruptReady(): boolean {
    const rflags = (this.#state.valid & NVMM_X64_STATE_GPRS) === 0 ? this.#rflags : this.#state.gprLow(RFLAGS);
    const blocked = INT_SHADOW | INT_WINDOW_EXITING | EVT_PENDING;
    return (rflags & RFLAGS_IF) !== 0 && (this.#intr() & blocked) === 0 && this.#queue.length === 0;
  }

  /**
   * Takes the state that an exit carries. A run that returned before it entered the guest carries none: bit 1 of RFLAGS,
   * always 1 in a guest, tells.
   *
   * @returns false when there was none.
   */
  refresh(rflags: number, cr8: number, flags: number): boolean {
    this.#fresh = (rflags & RFLAGS_ALWAYS) !== 0;
    if (!this.#fresh) return false;
    this.#rflags = rflags;
    this.#cr8 = cr8;
    this.#flags = flags;
    return true;
  }

  /** An interrupt window that was asked for stands open: known from state, whatever the exit's reason. */
  get windowOpened(): boolean {
    return this.#windowWanted && this.interruptReady;
  }

  requestWindow(wanted: boolean): void {
    this.#windowWanted = wanted;
  }

  queueInterrupt(vector: number): void {
    this.#queue.push({ kind: "interrupt", vector, error: 0 });
  }

  /** Faults come before anything that waits. */
  queueException(vector: number, error: number): void {
    this.#queue.unshift({ kind: "exception", vector, error });
  }

  /** One NMI waits at most, as in the processor. */
  queueNmi(): void {
    this.#nmiHeld = true;
  }

  /** The instruction of the last exit was completed here: its shadow ends. Costs a call only where there was one. */
  endShadow(): void {
    if ((this.#intr() & INT_SHADOW) === 0) return;
    this.#state.change(NVMM_X64_STATE_INTR).intr.flags &= ~INT_SHADOW;
  }

  setShadow(on: boolean): void {
    const { intr } = this.#state.change(NVMM_X64_STATE_INTR);
    intr.flags = on ? intr.flags | INT_SHADOW : intr.flags & ~INT_SHADOW;
  }

  /** Before a run: arms or disarms the window, fills the event slot. */
  prepare(): void {
    if (this.#windowWanted !== ((this.#intr() & INT_WINDOW_EXITING) !== 0)) this.#armWindow(this.#windowWanted);
    const flags = this.#intr();
    if (this.#nmiHeld && (flags & NMI_WINDOW_EXITING) === 0) {
      this.#nmiHeld = false;
      this.#queue.push({ kind: "nmi", vector: NMI_VECTOR, error: 0 });
    }
    // While the kernel re-delivers an interrupted event, a new one would replace it.
    if (this.#queue.length === 0 || (flags & EVT_PENDING) !== 0) return;
    const event = this.#queue.shift() as NvmmEvent;
    this.#slot.type = event.kind === "exception" ? NVMM_VCPU_EVENT_EXCP : NVMM_VCPU_EVENT_INTR;
    this.#slot.vector = event.vector;
    this.#slot.u.excp.error = BigInt(event.error);
    this.#post();
    // Until an exit says otherwise: the kernel arms the NMI window by itself, and a run may return before delivery.
    this.#flags = flags | EVT_PENDING | (event.kind === "nmi" ? NMI_WINDOW_EXITING : 0);
  }

  /** Forgets what waits: the state was replaced. */
  clear(): void {
    this.#fresh = false;
    this.#queue.length = 0;
    this.#nmiHeld = false;
  }

  #armWindow(on: boolean): void {
    const { intr } = this.#state.change(NVMM_X64_STATE_INTR);
    intr.flags = on ? intr.flags | INT_WINDOW_EXITING : intr.flags & ~INT_WINDOW_EXITING;
    this.#flags = intr.flags;
  }

  #intr(): number {
    return (this.#state.valid & NVMM_X64_STATE_INTR) === 0 ? this.#flags : this.#state.view.intr.flags;
  }
}
