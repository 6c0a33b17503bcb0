import { describe, expect, test } from "bun:test";
import { Uart16550, type Uart16550Options } from "../../../src/devices/uart16550.ts";

// Register offsets and bits, as TI's PC16550D datasheet numbers them; written out again so that the tests can disagree.
const RBR = 0;
const THR = 0;
const DLL = 0;
const DLM = 1;
const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

function build(options: Uart16550Options = {}) {
  const sent: number[] = [];
  const levels: boolean[] = [];
  const uart = new Uart16550({
    onByte: (byte) => sent.push(byte),
    irq: { set: (level) => levels.push(level) },
    ...options,
  });
  return { uart, sent, levels, ...access(uart) };
}

function access(uart: Uart16550) {
  return {
    get: (register: number) => {
      const data = Uint8Array.of(0xff);
      uart.read(register, data);
      return data[0]!;
    },
    set: (register: number, value: number) => uart.write(register, Uint8Array.of(value)),
  };
}

describe("Uart16550 after reset", () => {
  test("has the values of the datasheet's reset table, and a terminal that is ready", () => {
    const { get } = build();
    expect([IER, IIR, LCR, MCR, LSR, MSR].map(get)).toEqual([0x00, 0x01, 0x00, 0x00, 0x60, 0xb0]);
  });

  test("sends without any set-up", () => {
    const { set, sent } = build();
    set(THR, 0x41);
    expect(sent).toEqual([0x41]);
  });
});

describe("Uart16550 registers", () => {
  test("IER keeps four bits, MCR five, SCR and LCR eight", () => {
    const { get, set } = build();
    for (const register of [IER, MCR, SCR, LCR]) set(register, 0xff);
    expect([MCR, SCR, LCR].map(get)).toEqual([0x1f, 0xff, 0xff]);
    set(LCR, 0x03);
    expect(get(IER)).toBe(0x0f);
  });

  test("DLAB puts the divisor latch over RBR, THR and IER, and neither sends nor enables anything", () => {
    const { uart, get, set, sent } = build();
    set(LCR, 0x83);
    set(DLL, 0x01);
    set(DLM, 0x02);
    expect([get(DLL), get(DLM), uart.divisor]).toEqual([0x01, 0x02, 0x0201]);
    set(LCR, 0x03);
    expect(get(IER)).toBe(0);
    expect(sent).toEqual([]);
  });

  test("LSR and MSR ignore writes", () => {
    const { get, set } = build();
    set(LSR, 0x00);
    set(MSR, 0xff);
    expect([get(LSR), get(MSR)]).toEqual([0x60, 0xb0]);
  });

  test("a wider access reaches consecutive registers, and nothing behind the last", () => {
    const { uart, get } = build();
    uart.write(LCR, Uint8Array.of(0x03, 0x0b));
    expect([get(LCR), get(MCR)]).toEqual([0x03, 0x0b]);
    const data = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
    uart.read(SCR, data);
    expect(data).toEqual(Uint8Array.of(0x00, 0xff, 0xff, 0xff));
  });

  test("IIR shows bits 6 and 7 while FIFOs are enabled, by which a driver tells a 16550A", () => {
    const { get, set } = build();
    set(FCR, 0x01);
    expect(get(IIR)).toBe(0xc1);
    set(FCR, 0x00);
    expect(get(IIR)).toBe(0x01);
  });
});

describe("Uart16550 receiver", () => {
  test("shows one character at a time without FIFOs; the rest waits and does not overrun", () => {
    const { uart, get } = build();
    expect(uart.receive(Uint8Array.of(1, 2, 3))).toBe(3);
    for (const byte of [1, 2, 3]) {
      expect(get(LSR)).toBe(0x61);
      expect(get(RBR)).toBe(byte);
    }
    expect(get(LSR)).toBe(0x60);
  });

  test("keeps order through a FIFO of 16 and the input behind it", () => {
    const { uart, get, set } = build();
    set(FCR, 0x01);
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
    uart.receive(bytes);
    const read: number[] = [];
    while (get(LSR) & 1) read.push(get(RBR));
    expect(read).toEqual([...bytes]);
  });

  test("receive() takes no more than there is room for, and says once when there is room again", () => {
    let spaces = 0;
    const { uart, get } = build({ inputBytes: 4, onSpace: () => spaces++ });
    // One byte goes on into RBR, so a fifth fits afterwards.
    expect(uart.receive(Uint8Array.of(1, 2, 3, 4, 5, 6))).toBe(4);
    expect(spaces).toBe(1);
    expect(uart.receive(Uint8Array.of(5, 6))).toBe(1);
    expect(uart.receive(Uint8Array.of(6))).toBe(0);
    expect([uart.space, uart.pending, spaces]).toEqual([0, 5, 1]);
    get(RBR);
    get(RBR);
    expect([uart.space, uart.pending, spaces]).toEqual([2, 3, 2]);
  });

  test("wraps its input around without losing order", () => {
    const { uart, get } = build({ inputBytes: 3 });
    let next = 0;
    for (let value = 0; value < 50; ) {
      value += uart.receive(Uint8Array.of(value, value + 1).subarray(0, Math.min(2, 50 - value)));
      expect(get(RBR)).toBe(next++);
    }
    while (get(LSR) & 1) expect(get(RBR)).toBe(next++);
    expect(next).toBe(50);
  });

  test("works with room for a single byte", () => {
    const { uart, get } = build({ inputBytes: 1 });
    expect([1, 2, 3].map((byte) => uart.receive(Uint8Array.of(byte)))).toEqual([1, 1, 0]);
    expect([get(RBR), get(RBR), get(LSR) & 1]).toEqual([1, 2, 0]);
  });

  test("refuses an input limit that is not a whole number above 0", () => {
    for (const inputBytes of [0, -1, 1.5, Number.NaN]) expect(() => new Uart16550({ inputBytes })).toThrow(RangeError);
  });

  test("FCR bit 1 empties the FIFO", () => {
    const { get, set } = build();
    set(FCR, 0x01);
    set(MCR, 0x10);
    set(THR, 1);
    set(THR, 2);
    expect(get(LSR) & 1).toBe(1);
    set(FCR, 0x03);
    expect(get(LSR) & 1).toBe(0);
  });

  test("switching FIFOs on or off empties the receiver", () => {
    const { get, set } = build();
    set(MCR, 0x10);
    for (const value of [0x01, 0x00]) {
      set(THR, 1);
      set(FCR, value);
      expect(get(LSR) & 1).toBe(0);
    }
  });

  test("a FIFO reset keeps input that the guest was not told of, so that its set-up loses nothing", () => {
    const { uart, get, set } = build({ inputBytes: 4 });
    uart.receive(Uint8Array.of(1, 2, 3, 4));
    uart.receive(Uint8Array.of(5));
    for (const value of [0x01, 0x03, 0xc7, 0x00, 0x01]) set(FCR, value);
    expect([uart.space, uart.pending]).toEqual([4, 5]);
    for (const byte of [1, 2, 3, 4, 5]) expect(get(RBR)).toBe(byte);
  });

  test("a FIFO reset keeps order when what it keeps wraps around", () => {
    const { uart, get, set } = build({ inputBytes: 4 });
    let next = 0;
    for (let value = 0; value < 60; value += 3) {
      uart.receive(Uint8Array.of(value, value + 1, value + 2));
      for (const fcr of [0x01, 0x00, 0x01]) set(FCR, fcr);
      for (let i = 0; i < 3; i++) expect(get(RBR)).toBe(next++);
    }
  });

  test("a FIFO reset drops a break and what loopback sent", () => {
    const { uart, get, set } = build();
    set(FCR, 0x01);
    uart.receiveBreak();
    set(FCR, 0x03);
    set(MCR, 0x10);
    set(THR, 1);
    set(FCR, 0x03);
    set(MCR, 0x00);
    expect(get(LSR)).toBe(0x60);
  });

  test("a FIFO reset tells what was shown from what came after it was read", () => {
    const { uart, get, set } = build();
    set(FCR, 0x01);
    uart.receive(Uint8Array.of(1));
    get(LSR);
    get(RBR);
    uart.receive(Uint8Array.of(2));
    set(FCR, 0x03);
    expect(get(RBR)).toBe(2);
  });

  test("a FIFO reset drops input that LSR or IIR has shown", () => {
    for (const register of [LSR, IIR]) {
      const { uart, get, set } = build();
      set(FCR, 0x01);
      set(IER, 0x01);
      uart.receive(Uint8Array.of(1, 2));
      get(register);
      set(FCR, 0x03);
      expect(get(LSR) & 1).toBe(0);
    }
  });

  test("FCR programs nothing while its bit 0 is clear", () => {
    const { uart, set } = build();
    set(FCR, 0xc8);
    expect(uart.state().FCR).toBe(0);
  });
});

describe("Uart16550 errors", () => {
  test("overrun without FIFOs: RBR holds the later character; LSR shows OE until it is read", () => {
    const { get, set } = build();
    set(MCR, 0x10);
    set(THR, 1);
    set(THR, 2);
    expect(get(LSR)).toBe(0x63);
    expect(get(LSR)).toBe(0x61);
    expect(get(RBR)).toBe(2);
  });

  test("overrun with FIFOs: the sixteen characters stay, the seventeenth is lost", () => {
    const { get, set } = build();
    set(FCR, 0x01);
    set(MCR, 0x10);
    for (let value = 0; value < 17; value++) set(THR, value);
    expect(get(LSR) & 0x02).toBe(0x02);
    const read: number[] = [];
    while (get(LSR) & 1) read.push(get(RBR));
    expect(read).toEqual(Array.from({ length: 16 }, (_, i) => i));
  });

  test("a break shows BI only when its zero character is at the top of the FIFO, and bit 7 as long as it is in", () => {
    const { uart, get, set } = build();
    set(FCR, 0x01);
    uart.receive(Uint8Array.of(0x41));
    uart.receiveBreak();
    expect(get(LSR)).toBe(0xe1);
    expect(get(RBR)).toBe(0x41);
    expect(get(LSR)).toBe(0xf1);
    expect(get(LSR)).toBe(0x61);
    expect(get(RBR)).toBe(0);
    expect(get(LSR)).toBe(0x60);
  });

  test("LSR bit 7 is always 0 without FIFOs", () => {
    const { uart, get } = build();
    uart.receiveBreak();
    expect(get(LSR)).toBe(0x71);
  });
});

describe("Uart16550 loopback", () => {
  test("sends to its own receiver and not to the outside", () => {
    const { get, set, sent } = build();
    set(MCR, 0x10);
    set(THR, 0x55);
    expect(get(RBR)).toBe(0x55);
    expect(sent).toEqual([]);
  });

  test("cuts the receiver off from the wire; input comes afterwards", () => {
    const { uart, get, set } = build();
    set(MCR, 0x10);
    uart.receive(Uint8Array.of(1));
    expect(get(LSR) & 1).toBe(0);
    set(MCR, 0x00);
    expect(get(LSR) & 1).toBe(1);
  });

  test.each([
    ["DTR", 0x01, "DSR", 0x20],
    ["RTS", 0x02, "CTS", 0x10],
    ["OUT1", 0x04, "RI", 0x40],
    ["OUT2", 0x08, "DCD", 0x80],
  ])("wires %s (MCR %i) to %s (MSR %i)", (_output, mcr, _input, msr) => {
    const { get, set } = build();
    set(MCR, 0x10 | mcr);
    expect(get(MSR) & 0xf0).toBe(msr);
  });

  test("passes the test of Linux's 8250 autoconfig: RTS and OUT2 give CTS and DCD", () => {
    const { get, set } = build();
    set(MCR, 0x10 | 0x0a);
    expect(get(MSR) & 0xf0).toBe(0x90);
  });
});

describe("Uart16550 modem status", () => {
  test("notes changes of CTS, DSR and DCD in deltas, which reading MSR clears", () => {
    const { uart, get } = build();
    uart.setModemLines({ cts: false, dsr: false, dcd: false });
    expect(get(MSR)).toBe(0x0b);
    expect(get(MSR)).toBe(0x00);
    uart.setModemLines({ dcd: true });
    expect(get(MSR)).toBe(0x88);
  });

  test("TERI notes only the end of RI", () => {
    const { uart, get } = build();
    uart.setModemLines({ ri: true });
    expect(get(MSR)).toBe(0xf0);
    uart.setModemLines({ ri: false });
    expect(get(MSR)).toBe(0xb4);
  });

  test("loopback changes the lines, and so the deltas", () => {
    const { get, set } = build();
    set(MCR, 0x10 | 0x04);
    expect(get(MSR)).toBe(0x4b);
    set(MCR, 0x10);
    expect(get(MSR)).toBe(0x04);
  });

  test("a line set to what it is leaves no delta", () => {
    const { uart, get } = build();
    uart.setModemLines({ cts: true, dsr: true, dcd: true, ri: false });
    expect(get(MSR)).toBe(0xb0);
  });
});

describe("Uart16550 interrupts", () => {
  test("come in the order line status, received data, THR empty, modem status, each cleared in its own way", () => {
    const { uart, get, set } = build();
    set(MCR, 0x08);
    set(IER, 0x0f);
    uart.receiveBreak();
    uart.setModemLines({ cts: false });
    expect(get(IIR)).toBe(0x06);
    get(LSR);
    expect(get(IIR)).toBe(0x04);
    get(RBR);
    expect(get(IIR)).toBe(0x02); // and this read clears it
    expect(get(IIR)).toBe(0x00);
    get(MSR);
    expect(get(IIR)).toBe(0x01);
  });

  test("a source that IER does not enable stays silent", () => {
    const { uart, get } = build();
    uart.receive(Uint8Array.of(1));
    uart.setModemLines({ cts: false });
    expect(get(IIR)).toBe(0x01);
  });

  test("THR empty: enabling it raises it at once, also after it was read away", () => {
    const { get, set } = build();
    set(IER, 0x02);
    expect(get(IIR)).toBe(0x02);
    expect(get(IIR)).toBe(0x01);
    set(IER, 0x02); // already enabled: nothing new
    expect(get(IIR)).toBe(0x01);
    set(IER, 0x00);
    set(IER, 0x02);
    expect(get(IIR)).toBe(0x02);
  });

  test("THR empty: emptying the transmitter by FCR raises it, another trigger level does not", () => {
    const { get, set } = build();
    set(FCR, 0x01);
    set(IER, 0x02);
    get(IIR);
    set(FCR, 0x41);
    expect(get(IIR)).toBe(0xc1);
    set(FCR, 0x45);
    expect(get(IIR)).toBe(0xc2);
  });

  test("THR empty: each character sent raises it again", () => {
    const { get, set } = build();
    set(IER, 0x02);
    get(IIR);
    set(THR, 0x41);
    expect(get(IIR)).toBe(0x02);
  });

  test("THR empty: reading IIR does not clear it while another source hides it", () => {
    const { uart, get, set } = build();
    set(IER, 0x03);
    uart.receive(Uint8Array.of(1));
    expect(get(IIR)).toBe(0x04);
    get(RBR);
    expect(get(IIR)).toBe(0x02);
  });

  test.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])("FCR %i: received data at %i characters, the character timeout below", (fcr, level) => {
    const { uart, get, set } = build();
    set(FCR, fcr);
    set(IER, 0x01);
    expect(get(IIR)).toBe(0xc1);
    for (let count = 1; count <= 16; count++) {
      uart.receive(Uint8Array.of(count));
      expect(get(IIR)).toBe(count >= level ? 0xc4 : 0xcc);
    }
    for (let left = 15; left >= 1; left--) {
      get(RBR);
      expect(get(IIR)).toBe(left >= level ? 0xc4 : 0xcc);
    }
    get(RBR);
    expect(get(IIR)).toBe(0xc1);
  });
});

describe("Uart16550 IRQ line", () => {
  test("is gated by OUT2", () => {
    const { uart, levels, set } = build();
    set(IER, 0x01);
    uart.receive(Uint8Array.of(1));
    expect(levels).toEqual([]);
    set(MCR, 0x08);
    expect(levels).toEqual([true]);
    set(MCR, 0x00);
    expect(levels).toEqual([true, false]);
  });

  test("is held off in loopback, where OUT2 is forced inactive", () => {
    const { levels, get, set } = build();
    set(IER, 0x01);
    set(MCR, 0x18);
    set(THR, 1);
    expect(get(IIR)).toBe(0x04);
    expect(levels).toEqual([]);
    set(MCR, 0x08);
    expect(levels).toEqual([true]);
  });

  test("stays up while characters remain and falls with the last", () => {
    const { uart, levels, get, set } = build();
    set(MCR, 0x08);
    set(IER, 0x01);
    uart.receive(Uint8Array.of(1, 2));
    get(RBR);
    expect(levels).toEqual([true]);
    get(RBR);
    expect(levels).toEqual([true, false]);
  });

  test("follows every source up, and down when its register is read", () => {
    const { uart, levels, get, set } = build();
    set(MCR, 0x08);
    set(IER, 0x0e);
    const down = (register: number) => {
      get(register);
      return levels.splice(0);
    };
    expect(down(IIR)).toEqual([true, false]);
    uart.receiveBreak();
    expect(down(LSR)).toEqual([true, false]);
    uart.setModemLines({ dsr: false });
    expect(down(MSR)).toEqual([true, false]);
    expect(get(IIR)).toBe(0x01);
  });

  test("falls and rises with each character sent, so that an edge-triggered controller sees each", () => {
    const { levels, set } = build();
    set(MCR, 0x08);
    set(IER, 0x02);
    set(THR, 0x41);
    expect(levels).toEqual([true, false, true]);
  });
});

describe("Uart16550.state()", () => {
  function busy() {
    const built = build({ inputBytes: 64 });
    const { uart, set } = built;
    set(LCR, 0x83);
    set(DLL, 0x01);
    set(DLM, 0x00);
    set(LCR, 0x03);
    set(FCR, 0x81);
    set(IER, 0x05);
    set(MCR, 0x0b);
    set(SCR, 0x5a);
    uart.receive(Uint8Array.of(1));
    uart.receiveBreak();
    uart.receive(Uint8Array.from({ length: 20 }, (_, i) => i + 2));
    uart.setModemLines({ cts: false });
    set(MCR, 0x1b);
    set(THR, 0xff); // An overrun.
    set(MCR, 0x0b);
    return built;
  }

  test("survives JSON, and what fromState() builds from it answers the guest alike and raises its line", () => {
    const { uart, get } = busy();
    const levels: boolean[] = [];
    const copy = Uart16550.fromState(JSON.parse(JSON.stringify(uart.state())), {
      inputBytes: 64,
      irq: { set: (level) => levels.push(level) },
    });
    expect(levels).toEqual([true]);
    expect(copy.state()).toEqual(uart.state());
    const other = access(copy);
    for (let i = 0; i < 24; i++) {
      for (const register of [IIR, LSR, MSR, RBR, IER, LCR, MCR, SCR]) expect(other.get(register)).toBe(get(register));
    }
    expect(copy.state()).toEqual(uart.state());
  });

  test.each([
    ["IER with bit 4", "IER", 0x10],
    ["IER as a string", "IER", "1"],
    ["FCR with a reset bit", "FCR", 0x02],
    ["FCR with a trigger level but no FIFOs", "FCR", 0xc0],
    ["LCR of nine bits", "LCR", 256],
    ["MCR with bit 5", "MCR", 0x20],
    ["SCR below 0", "SCR", -1],
    ["MSR with a fraction", "MSR", 1.5],
    ["divisor of 17 bits", "divisor", 0x10000],
    ["overrun as a number", "overrun", 1],
    ["thrEmptyPending missing", "thrEmptyPending", undefined],
    ["fifo with 17 characters", "fifo", Array(17).fill(0)],
    ["fifo with a number of nine bits", "fifo", [256]],
    ["fifoErrors shorter than fifo", "fifoErrors", []],
    ["fifoErrors with a bit that is no error", "fifoErrors", [1, 0]],
    ["shown beyond fifo", "shown", 17],
    ["input beyond the limit", "input", Array(64 + 16 + 1).fill(0)],
    ["input missing", "input", undefined],
  ])("fromState() refuses %s, and names the field", (_what, field, value) => {
    const state = { ...busy().uart.state(), [field]: value };
    expect(() => Uart16550.fromState(state, { inputBytes: 64 })).toThrow(new RegExp(`UART: ${field}`));
  });

  test("fromState() leaves room for a FIFO that goes back to the input", () => {
    const state = { ...new Uart16550().state(), FCR: 0x01, fifo: Array(16).fill(1), fifoErrors: Array(16).fill(0) };
    const full = { ...state, input: Array(8).fill(2) };
    expect(Uart16550.fromState(full, { inputBytes: 8 }).pending).toBe(24);
    expect(() => Uart16550.fromState({ ...full, input: Array(9).fill(2) }, { inputBytes: 8 })).toThrow(/input must be/);
    const shown = { ...full, shown: 16, input: Array(24).fill(2) };
    expect(Uart16550.fromState(shown, { inputBytes: 8 }).pending).toBe(40);
  });

  test("fromState() refuses more than one character without FIFOs, and what is no object", () => {
    const state = { ...new Uart16550().state(), fifo: [1, 2], fifoErrors: [0, 0] };
    expect(() => Uart16550.fromState(state)).toThrow(/fifo must be at most 1/);
    expect(() => Uart16550.fromState(null)).toThrow(RangeError);
  });
});

describe("Uart16550 before Linux's 8250 driver", () => {
  // What drivers/tty/serial/8250/8250_port.c (Linux v6.1) looks for, in its order.
  test("is a 16550A to autoconfig(): IER, loopback, FIFOs, no EFR, no 64-byte FIFO, no UUE", () => {
    const { get, set } = build();
    set(IER, 0x00);
    expect(get(IER) & 0x0f).toBe(0x00);
    set(IER, 0x0f);
    expect(get(IER) & 0x0f).toBe(0x0f);
    set(IER, 0x00);
    set(MCR, 0x10 | 0x0a);
    expect(get(MSR) & 0xf0).toBe(0x90);
    set(MCR, 0x00);

    set(LCR, 0xbf); // Where a 16650 has its EFR; on a 16550A the divisor latch is over IER, and IIR stays.
    set(FCR, 0x00);
    set(LCR, 0x00);
    set(FCR, 0x01);
    expect(get(IIR) >> 6).toBe(3);

    set(LCR, 0xbf);
    expect(get(IIR)).not.toBe(0x00);
    set(LCR, 0x00);
    set(FCR, 0x21);
    expect(get(IIR) >> 5).toBe(6);
    set(LCR, 0x80);
    set(FCR, 0x21);
    expect(get(IIR) >> 5).toBe(6);
    set(LCR, 0x00);
    set(IER, 0x40);
    expect(get(IER) & 0x40).toBe(0);
  });

  test("has none of the bugs that startup() works around: THRE comes again, and at once", () => {
    const { get, set } = build();
    set(FCR, 0x01);
    set(IER, 0x02);
    expect(get(IIR) & 0x01).toBe(0);
    set(IER, 0x00);
    set(IER, 0x02);
    expect(get(IIR) & 0x01).toBe(0);
    set(IER, 0x00);
    set(IER, 0x02);
    expect([get(LSR) & 0x40, get(IIR) & 0x01]).toEqual([0x40, 0]);
  });
});

test("Uart16550 never throws, whatever the guest does", () => {
  const { uart } = build({ inputBytes: 8 });
  let seed = 7;
  const random = () => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return seed >>> 8;
  };
  for (let step = 0; step < 20000; step++) {
    const data = new Uint8Array(1 << (random() % 3)).fill(random());
    if (random() % 2) uart.write(random() % 8, data);
    else uart.read(random() % 8, data);
    if (random() % 8 === 0) uart.receive(data);
  }
  expect(() => Uart16550.fromState(uart.state(), { inputBytes: 8 })).not.toThrow();
});
