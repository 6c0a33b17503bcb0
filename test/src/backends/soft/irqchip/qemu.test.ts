import { describe, expect, test } from "bun:test";
import { PicPair } from "../../../../../src/backends/soft/irqchip/pic.ts";
import { Pit8254 } from "../../../../../src/backends/soft/irqchip/pit.ts";
import { findQemu, qtest } from "../../../devices/qtest.ts";
import { randomFrom } from "./random.ts";

const PIC_SEQUENCES = 3;
const PIT_SEQUENCES = 3;
const STEPS = 400;

/** What drives QEMU's chip and ours: QEMU's command, and ours, with what it reads. */
interface Step {
  readonly command: string;
  act(): number | undefined;
}

/** Where the two 8259A are in QEMU's object tree, master first: it differs between versions. */
async function picPaths(qemu: string): Promise<string[]> {
  const child = Bun.spawn([qemu, "-M", "isapc", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio"], {
    stdin: new TextEncoder().encode("info qom-tree\nquit\n"),
    stdout: "pipe",
    stderr: "ignore",
    timeout: 4000,
  });
  const tree = await new Response(child.stdout).text();
  await child.exited;
  return [...tree.matchAll(/\/(device\[\d+\]) \(isa-i8259\)/g)].map((found) => `/machine/unattached/${found[1]}`);
}

async function expectAlike(qemu: string, seed: number, steps: readonly Step[]): Promise<void> {
  const theirs = await qtest(
    qemu,
    steps.map((step) => step.command),
  );
  for (const [i, step] of steps.entries()) {
    const ours = step.act();
    if (ours === undefined) continue;
    const where = `seed ${seed} step ${i} ${step.command}`;
    expect(`${where}: ${ours}`).toBe(`${where}: ${theirs[i]}`);
  }
}

/** Initialisations, every OCW, polls (which acknowledge) and lines. Line 2 of the master is the cascade's. */
function picSteps(seed: number, [master, slave]: readonly string[]): Step[] {
  const random = randomFrom(seed);
  const pics = new PicPair();
  const out = (port: number, value: number): Step => ({
    command: `outb ${port} ${value}`,
    act: () => {
      pics.writePort(port, value);
      return undefined;
    },
  });
  const read = (port: number): Step => ({ command: `inb ${port}`, act: () => pics.readPort(port) });
  const initialise = (port: number): Step[] => {
    const icw4 = random(8) !== 0;
    const words = [icw4 ? 0x11 : 0x10, random(256), 4];
    if (icw4) words.push(1 | (random(4) === 0 ? 2 : 0) | (random(4) === 0 ? 16 : 0));
    return [...words.map((value, i) => out(port + (i === 0 ? 0 : 1), value)), out(port + 1, random(256) & random(256))];
  };
  const steps: Step[] = [...initialise(0x20), ...initialise(0xa0)];
  while (steps.length < STEPS) {
    const port = random(2) ? 0x20 : 0xa0;
    const choice = random(20);
    if (choice === 0) steps.push(...initialise(port));
    else if (choice === 1) steps.push(out(port + 1, random(256) & random(256)));
    else if (choice < 5) steps.push(out(port, (random(8) << 5) | random(8)));
    // Special mask, and the mask anew: QEMU looks at the former only then.
    else if (choice === 5) steps.push(out(port, 0x48 | (random(2) << 5)), out(port + 1, random(256)));
    else if (choice === 6) steps.push(out(0x4d0 + random(2), random(256)));
    else if (choice < 10) steps.push(out(port, 0x0c), read(port));
    else if (choice < 13) steps.push(out(port, 0x0a | random(2)), read(port), read(port + 1));
    else {
      const irq = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15][random(15)] as number;
      const level = random(2);
      steps.push({
        command: `set_irq_in ${irq < 8 ? master : slave} unnamed-gpio-in ${irq & 7} ${level}`,
        act: () => {
          pics.setIrq(irq, level === 1);
          return undefined;
        },
      });
    }
  }
  return steps;
}

/** Counters read in every way. QEMU's processor is stopped and time with it: how they count is tested by itself. */
function pitSteps(seed: number): Step[] {
  const random = randomFrom(seed);
  const pit = new Pit8254({ now: () => 0, pulse: () => {} });
  const out = (port: number, value: number): Step => ({
    command: `outb ${port} ${value}`,
    act: () => {
      pit.write(port, value);
      return undefined;
    },
  });
  const read = (port: number): Step => ({ command: `inb ${port}`, act: () => pit.read(port) });
  const program = (channel: number): Step[] => {
    const mode = [0, 2, 3, 4][random(4)] as number;
    const access = 1 + random(3);
    const drained = Array.from({ length: 4 }, () => read(0x40 + channel));
    const bytes = access === 3 ? [random(256), random(8)] : [random(256)];
    return [
      ...drained,
      out(0x43, (channel << 6) | (access << 4) | (mode << 1)),
      ...bytes.map((byte) => out(0x40 + channel, byte)),
    ];
  };
  // The gate of channel 2, then all channels.
  const steps: Step[] = [out(0x61, 1)];
  for (const channel of [0, 1, 2]) {
    steps.push(out(0x43, (channel << 6) | 0x34), out(0x40 + channel, 0), out(0x40 + channel, 0), ...program(channel));
  }
  while (steps.length < STEPS) {
    const channel = random(3);
    const choice = random(12);
    if (choice === 0) steps.push(...program(channel));
    else if (choice < 4) steps.push(out(0x43, channel << 6));
    else if (choice === 5) steps.push(out(0x43, 0xd0 | ((1 + random(7)) << 1)));
    else steps.push(read(0x40 + channel));
  }
  return steps;
}

describe("the soft irqchip against QEMU's devices", () => {
  const { path, skip } = findQemu();
  test.skipIf(path === undefined)(`PicPair reads alike in ${PIC_SEQUENCES} random sequences${skip}`, async () => {
    const paths = await picPaths(path as string);
    expect(paths.length).toBe(2);
    for (let seed = 1; seed <= PIC_SEQUENCES; seed++) await expectAlike(path as string, seed, picSteps(seed, paths));
  });

  test.skipIf(path === undefined)(`Pit8254 reads alike in ${PIT_SEQUENCES} random sequences${skip}`, async () => {
    for (let seed = 1; seed <= PIT_SEQUENCES; seed++) await expectAlike(path as string, seed, pitSteps(seed));
  });
});
