import { expect, test } from "bun:test";
import { NvmmX86Event } from "../../../../ffi/nvmm/exit.ts";
import { EVT_PENDING, INT_SHADOW, INT_WINDOW_EXITING, NMI_WINDOW_EXITING } from "../../../../ffi/nvmm/state.ts";
import { NvmmEvents } from "../../../../src/backends/nvmm/events.ts";
import type { NvmmState } from "../../../../src/backends/nvmm/state.ts";

const IF = 0x202;

/** Events over a state in which nothing is cached: what an exit carried is all there is. */
function make(): { events: NvmmEvents; posted: [number, number, bigint][]; intr: { flags: number } } {
  const slot = NvmmX86Event.alloc();
  const posted: [number, number, bigint][] = [];
  const intr = { flags: 0 };
  const view = { intr };
  const state = { valid: 0, view, change: () => view, gprLow: () => 0 };
  const events = new NvmmEvents(state as unknown as NvmmState, slot, () => {
    posted.push([slot.type, slot.vector, slot.u.excp.error]);
  });
  return { events, posted, intr };
}

test.each([
  [IF, 0, true],
  [0x2, 0, false],
  [IF, INT_SHADOW, false],
  [IF, INT_WINDOW_EXITING, false],
  [IF, EVT_PENDING, false],
  [IF, NMI_WINDOW_EXITING, true],
])("NvmmEvents with rflags %p and flags %p is ready for an interrupt: %p", (rflags, flags, ready) => {
  const { events } = make();
  expect(events.refresh(rflags, 0, flags)).toBe(true);
  expect(events.interruptReady).toBe(ready);
});

test("NvmmEvents.refresh() keeps its copies when the exit carried no state", () => {
  const { events } = make();
  events.refresh(IF, 7, NMI_WINDOW_EXITING);
  expect([events.exitCr8, events.exitRflags]).toEqual([7, IF]);
  expect(events.refresh(0, 0, 0)).toBe(false);
  expect([events.interruptReady, events.nmiBlocked]).toEqual([true, true]);
  expect([events.exitCr8, events.exitRflags]).toEqual([undefined, undefined]);
});

test("NvmmEvents.prepare() posts faults before interrupts, one at a time, and none over a pending one", () => {
  const { events, posted } = make();
  events.refresh(IF, 0, 0);
  events.queueInterrupt(0x20);
  events.queueException(13, 5);
  events.prepare();
  events.prepare();
  expect(posted).toEqual([[0, 13, 5n]]);
  events.refresh(IF, 0, EVT_PENDING);
  events.prepare();
  expect(posted.length).toBe(1);
  events.refresh(IF, 0, 0);
  events.prepare();
  expect(posted).toEqual([
    [0, 13, 5n],
    [1, 0x20, 0n],
  ]);
});

test("NvmmEvents.prepare() holds an NMI until the one before it has ended, and only one", () => {
  const { events, posted } = make();
  events.refresh(IF, 0, 0);
  events.queueNmi();
  events.prepare();
  events.queueNmi();
  events.queueNmi();
  events.refresh(IF, 0, NMI_WINDOW_EXITING);
  events.prepare();
  expect(posted).toEqual([[1, 2, 0n]]);
  expect(events.waiting.map(({ kind }) => kind)).toEqual(["nmi"]);
  events.refresh(IF, 0, 0);
  events.prepare();
  events.refresh(IF, 0, 0);
  events.prepare();
  expect(posted.length).toBe(2);
});

test("NvmmEvents.prepare() arms the window that is wanted and disarms one that is not", () => {
  const { events, intr } = make();
  events.refresh(0x2, 0, 0);
  events.requestWindow(true);
  events.prepare();
  expect(intr.flags).toBe(INT_WINDOW_EXITING);
  events.requestWindow(false);
  events.prepare();
  expect(intr.flags).toBe(0);
});

test("NvmmEvents.windowOpened sees an open window in the state alone, since NVMM may replace INT_READY by NONE", () => {
  const { events } = make();
  events.requestWindow(true);
  events.refresh(IF, 0, INT_WINDOW_EXITING);
  expect(events.windowOpened).toBe(false);
  events.refresh(IF, 0, 0);
  expect(events.windowOpened).toBe(true);
});
