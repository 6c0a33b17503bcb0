/** Devices of a PC, one per file. */
export { AcpiPower } from "./acpi-power.ts";
export { DebugConsole } from "./debug-console.ts";
export { DebugExit, debugExitStatus } from "./debug-exit.ts";
export { KeyboardController } from "./keyboard-controller.ts";
export { PostCode } from "./post-code.ts";
export { ResetControl, type ResetKind } from "./reset-control.ts";
export { Uart16550 } from "./uart16550.ts";
export type { Uart16550State } from "./uart16550-state.ts";
