import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { asm } from "../../../src/asm/index.ts";
import { openBackend } from "../../../src/index.ts";
import { testGuest } from "../../../src/testing/index.ts";

const guests = join(import.meta.dir, "../../../guests");
const missing = whyNoBackend();
const run = test.skipIf(missing !== undefined);
const reason = missing === undefined ? "" : ` (skipped: ${missing})`;

/** What a failed matcher says. */
async function complaint(matching: () => Promise<unknown>): Promise<string> {
  try {
    await matching();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("the matcher passed");
}

describe(`vmexit/test${reason}`, () => {
  run("toPrint() stops as soon as the text is there, and the guest goes on from there", async () => {
    using guest = await testGuest(join(guests, "hello.bin"));
    await expect(guest).toPrint("Hello");
    expect(guest.transcript).toBe("Hello");
    await expect(guest).toPrint(/vmexit!\n/);
    expect(guest.transcript).toBe("Hello from vmexit!\n");
    await expect(guest).toHalt();
    expect(guest.transcript).toBe("Hello from vmexit!\nThat was all.\n");
    await expect(guest).toExitWith(0);
  });

  run("toPrint() fails with transcript and crash screen when the guest ends without the text", async () => {
    using guest = await testGuest(join(guests, "hello.bin"));
    const message = await complaint(() => expect(guest).toPrint("Goodbye"));
    expect(message).toContain('Expected the guest to print "Goodbye", but it halted, status 0');
    expect(message).toContain("  Hello from vmexit!");
    expect(message).toMatch(/RIP|EIP|IP/);
  });

  run("not.toPrint() runs to the end before it is sure", async () => {
    using guest = await testGuest(join(guests, "hello.bin"));
    await expect(guest).not.toPrint("Goodbye");
    expect(guest.end).toEqual({ kind: "halted" });
  });

  run("toExitWith() takes the status of debug-exit as QEMU forms it", async () => {
    using guest = await testGuest(asm.real16`
        mov al, 0x10
        out 0xf4, al
        hlt`);
    await expect(guest).toExitWith(33);
    expect(await complaint(() => expect(guest).toExitWith(0))).toContain("left through debug-exit, status 33");
  });

  run("toPowerOff() knows ACPI's S5 from a halt", async () => {
    using guest = await testGuest(asm.real16`
        mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
        hlt`);
    await expect(guest).toPowerOff();
    await expect(guest).not.toHalt();
  });

  run("toTripleFault() sees a guest die", async () => {
    using guest = await testGuest(join(guests, "triple-fault.bin"), { mode: "prot32" });
    await expect(guest).toTripleFault();
  });

  run("a guest that hangs ends at its time limit, with the limit in the message", async () => {
    using guest = await testGuest(asm.real16`jmp $`, { timeoutMs: 30 });
    const message = await complaint(() => expect(guest).toHalt());
    expect(message).toContain("it ran out of time, status 124");
    expect(message).toContain("30 ms");
  });

  run("a guest that storms ends at its exit limit", async () => {
    using guest = await testGuest(
      asm.real16`again: out 0x80, al
                                             jmp again`,
      { maxExits: 50 },
    );
    const message = await complaint(() => expect(guest).toPrint("never"));
    expect(message).toContain("made more exits than allowed");
  });

  run("send() types at the serial port", async () => {
    using guest = await testGuest(join(guests, "echo.bin"), { input: "ab" });
    await expect(guest).toPrint("ab");
    guest.send("cd\x04");
    await expect(guest).toPrint("abcd");
    await expect(guest).toExitWith(0);
  });

  test("a guest that is not there is refused by name, and a matcher takes nothing but a guest", async () => {
    expect(testGuest("no/such/kernel.elf")).rejects.toThrow('Cannot read the guest "no/such/kernel.elf"');
    expect(await complaint(() => expect(1).toHalt())).toContain("pass what testGuest() returned");
  });
});

function whyNoBackend(): string | undefined {
  try {
    openBackend()[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
