import { describe, expect, test } from "bun:test";
import { guestPath } from "../../guests/assemble.ts";
import { BACKEND_NAMES, type BackendName, openBackend } from "../../src/index.ts";
import { type TestGuest, type TestGuestOptions, testGuest } from "../../src/testing/index.ts";

/** What a kernel's author would assert of each guest, with nothing but vmexit/test. */
const CASES: readonly (readonly [
  guest: string,
  options: TestGuestOptions,
  check: (guest: TestGuest) => Promise<void>,
])[] = [
  [
    "hello",
    {},
    async (guest) => {
      await expect(guest).toPrint(/^Hello from vmexit!$/m);
      await expect(guest).toHalt();
    },
  ],
  ["echo", { input: "abc\x04" }, async (guest) => await expect(guest).toPrint("abc")],
  ["memtest", {}, async (guest) => await expect(guest).toExitWith(0)],
  ["debug-exit", {}, async (guest) => await expect(guest).toExitWith(85)],
  ["triple-fault", { mode: "prot32" }, async (guest) => await expect(guest).toTripleFault()],
  [
    "endless",
    { timeoutMs: 50 },
    async (guest) => {
      await expect(guest).not.toHalt();
      await expect(guest).toExitWith(124);
    },
  ],
];

for (const backend of BACKEND_NAMES) {
  const missing = whyMissing(backend);
  describe(`guests on ${backend} end as their authors say`, () => {
    for (const [name, options, check] of CASES) {
      test.skipIf(missing !== undefined)(
        `${name}${missing === undefined ? "" : ` (skipped: ${missing})`}`,
        async () => {
          using guest = await testGuest(guestPath(name, "bin"), { backend, memoryBytes: 0x20000, ...options });
          await check(guest);
        },
      );
    }
  });
}

function whyMissing(backend: BackendName): string | undefined {
  try {
    openBackend(backend)[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
