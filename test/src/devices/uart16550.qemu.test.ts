import { describe, expect, test } from "bun:test";
import { Uart16550 } from "../../../src/devices/uart16550.ts";
import { findQemu, qtest } from "./qtest.ts";

// Where the two differ on purpose, and how the sequences below keep clear of it:
// - MCR after reset: QEMU sets OUT2, the datasheet clears it. Every sequence starts by writing MCR.
// - MSR's deltas: QEMU raises none in loopback. Only the upper half is compared, EDSSI stays off.
// - Character timeout: QEMU's processor is stopped and with it its timers, ours is immediate. Above trigger level 1
//   only line status and received data are enabled, and IIR 0xCC counts as 0xC1.
// - RBR of an empty receiver is undefined; it is compared only when there is a character.
// - The line: QEMU does not gate it by OUT2. It is not compared; IIR is.

const COM1 = 0x3f8;
const SEQUENCES = 8;
const STEPS = 400;

type Access = { register: number; value?: number };

/** A guest's random but repeatable treatment of the UART, mostly in loopback so that characters come back. */
function randomAccesses(seed: number): Access[] {
  let state = seed * 2654435761;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const trigger = seed % 2 === 0 ? 0 : random(4) << 6;
  const enable = trigger === 0 ? 0x07 : 0x05;
  const accesses: Access[] = [{ register: 4, value: 0x10 }];
  while (accesses.length < STEPS) {
    const register = random(8);
    if (random(2)) accesses.push({ register });
    else if (register === 1) accesses.push({ register, value: random(256) & (0xf0 | enable) });
    else if (register === 2)
      accesses.push({ register, value: (random(8) & ~(random(3) ? 6 : 0)) | trigger | (8 * random(2)) });
    else if (register === 3) accesses.push({ register, value: random(8) === 0 ? 0x83 : random(128) });
    else if (register === 4) accesses.push({ register, value: random(4) ? 0x10 | random(16) : random(256) });
    else accesses.push({ register, value: random(256) });
    // Bursts, so that the FIFO gets past its trigger levels and overruns.
    if (random(12) === 0) for (let i = random(18); i > 0; i--) accesses.push({ register: 0, value: random(256) });
  }
  return accesses;
}

/** What a register reads, with what is meant to differ taken out. */
function comparable(register: number, value: number, hadCharacter: boolean): number | undefined {
  if (register === 6) return value & 0xf0;
  if (register === 2 && value === 0xcc) return 0xc1;
  if (register === 0 && !hadCharacter) return undefined;
  return value;
}

describe("Uart16550 against QEMU's 16550A", () => {
  const { path, skip } = findQemu();
  test.skipIf(path === undefined)(`reads alike in ${SEQUENCES} random sequences of port accesses${skip}`, async () => {
    for (let seed = 1; seed <= SEQUENCES; seed++) {
      const accesses = randomAccesses(seed);
      const theirs = await qtest(
        path!,
        accesses.map(({ register, value }) =>
          value === undefined ? `inb ${COM1 + register}` : `outb ${COM1 + register} ${value}`,
        ),
      );
      const uart = new Uart16550();
      const data = new Uint8Array(1);
      for (const [step, { register, value }] of accesses.entries()) {
        if (value !== undefined) {
          uart.write(register, Uint8Array.of(value));
          continue;
        }
        const divisorLatch = (uart.state().LCR & 0x80) !== 0;
        const hadCharacter = divisorLatch || uart.pending > 0;
        uart.read(register, data);
        const ours = comparable(register, data[0]!, hadCharacter);
        expect(`seed ${seed} step ${step} register ${register}: ${ours}`).toBe(
          `seed ${seed} step ${step} register ${register}: ${comparable(register, theirs[step]!, hadCharacter)}`,
        );
      }
    }
  });
});
