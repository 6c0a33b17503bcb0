/** `vmexit/test`: guests under `bun test`. Importing it adds the matchers to `expect`. */
export { TestGuest, type TestGuestOptions, testGuest } from "./guest.ts";
export type { GuestMatchers } from "./matchers.ts";

import "./matchers.ts";
