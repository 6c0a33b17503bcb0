import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { guestPath } from "../../guests/assemble.ts";
import { assemble } from "../../src/asm/index.ts";
import { findQemu } from "../src/devices/qtest.ts";
import { EXPECTATIONS } from "./expectations.ts";

/**
 * Guests that need no more than the devices of a PC without firmware. Not serial-irq: input that reaches QEMU's UART
 * before the guest switches FIFOs on is lost, and the rest is stuck behind it.
 */
const GUESTS = ["hello", "echo", "timer", "memtest", "real16"];

/** What a guest writes to the UART and the debug console of QEMU's own PC, in order, up to `bytes` bytes. */
async function runOnQemu(qemu: string, guest: string, { input, bytes }: { input: string; bytes: number }) {
  const folder = mkdtempSync(`${tmpdir()}/vmexit-rom-`);
  try {
    const rom = `${folder}/rom.bin`;
    const file = `${import.meta.dir}/rom.asm`;
    const defines = { GUEST: `"${guestPath(guest, "bin")}"` };
    await Bun.write(rom, assemble(readFileSync(file, "utf8"), { file, defines }).bytes);
    const machine = ["-M", "isapc", "-m", "16", "-nodefaults", "-display", "none", "-bios", rom];
    // The last user of a shared chardev is the one that gets its input.
    const both = [
      "-chardev",
      "stdio,id=c,mux=on",
      "-device",
      "isa-debugcon,chardev=c",
      "-device",
      "isa-serial,chardev=c",
    ];
    const child = Bun.spawn([qemu, ...machine, ...both], {
      stdin: new Blob([input]),
      stdout: "pipe",
      stderr: "ignore",
      timeout: 4000,
    });
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      text += decoder.decode(chunk);
      if (text.length >= bytes) break;
    }
    child.kill();
    await child.exited;
    return text;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The text in a transcript's UART and console lines. */
function textOf(transcript: readonly string[]): string {
  const texts = transcript.map((line) => /^(?:uart|console) (".*")$/.exec(line)?.[1]);
  return texts.map((text) => (text === undefined ? "" : JSON.parse(text))).join("");
}

describe("guests on QEMU's PC, as an oracle for their expectations", () => {
  const { path, skip } = findQemu();
  test.skipIf(path === undefined).each(GUESTS)(`%s writes the same${skip}`, async (guest) => {
    const { transcript, input = "" } = EXPECTATIONS.find((expectation) => expectation.guest === guest)!;
    const expected = textOf(transcript);
    expect(await runOnQemu(path!, guest, { input, bytes: expected.length })).toBe(expected);
  });
});
