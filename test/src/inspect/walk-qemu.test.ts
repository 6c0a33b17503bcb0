import { expect, test } from "bun:test";
import { arrayMemory, buildPageTables, CR0, EFER, type PagingFormat } from "../../../src/boot/index.ts";
import { formatWalk, type PagingState, walkPages } from "../../../src/inspect/walk.ts";
import { FORMATS, randomMappings, stateOf } from "../boot/mappings.ts";
import { randomFrom } from "../boot/random.ts";
import { lacking } from "../boot/tools.ts";
import { QemuPaging } from "./qemu-paging.ts";

const FIRST = 0x100000;
const END = 0x2000000;

interface Question {
  readonly state: PagingState;
  readonly gva: bigint;
}

/** Random tables of `format`, one behind the other from 1 MiB on, some entries with flipped bits, and addresses to ask about. */
function prepare(format: PagingFormat, rounds: number) {
  const random = randomFrom(0x9e3);
  const memory = arrayMemory(END);
  const questions: Question[] = [];
  let gpa = FIRST;
  for (let round = 0; round < rounds; round++) {
    const mappings = randomMappings(random, format);
    const tables = buildPageTables(mappings, { format, gpa });
    memory.write(gpa, tables.bytes);
    const state = stateOf(format, gpa);
    gpa += tables.bytes.length;
    for (const mapping of mappings) {
      const gva = BigInt(mapping.gva) + BigInt(random.below(mapping.bytes));
      const { steps } = walkPages(memory, state, gva);
      const step = random.pick(steps);
      const entry = memory.read(step.entryGpa, format === "32-bit" || format === "pse" ? 4 : 8);
      if (random.chance(0.5)) entry[random.below(entry.length)]! ^= 1 << random.below(8);
      questions.push({ state, gva });
    }
  }
  return { memory, questions, end: gpa };
}

const noQemu = lacking("qemu-system-x86_64");
for (const format of FORMATS) {
  test.skipIf(noQemu !== "")(
    `walkPages() agrees with QEMU's page walk on random ${format} tables${noQemu}`,
    async () => {
      const { memory, questions, end } = prepare(format, 40);
      await using qemu = new QemuPaging(memory.bytes.subarray(FIRST, end), FIRST);
      await qemu.connect();
      const outcomes = new Map<string, number>();
      const { cr4, efer } = stateOf(format, 0);
      await qemu.setControl("cr0", CR0.PE);
      await qemu.setControl("cr4", cr4);
      await qemu.setControl("efer", efer & ~EFER.LMA);
      await qemu.setControl("cr3", questions[0]!.state.cr3);
      await qemu.setControl("cr0", CR0.PE | CR0.PG);
      for (const { state, gva } of questions) {
        const walk = walkPages(memory, state, gva);
        const outcome = walk.stop?.kind ?? "translated";
        // The machine's memory ends elsewhere, and its walk is blind to reserved bits.
        if (outcome === "noMemory" || outcome === "reservedBit") continue;
        await qemu.setControl("cr3", state.cr3);
        expect(`${await qemu.translate(gva)} ${formatWalk(walk)}`).toBe(`${walk.gpa} ${formatWalk(walk)}`);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
      expect(outcomes.get("translated")).toBeGreaterThan(30);
      expect(outcomes.get("notPresent")).toBeGreaterThan(0);
    },
  );
}
