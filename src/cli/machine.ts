import { AcpiPower } from "../devices/acpi-power.ts";
import { DebugConsole } from "../devices/debug-console.ts";
import { DebugExit, debugExitStatus } from "../devices/debug-exit.ts";
import { KeyboardController } from "../devices/keyboard-controller.ts";
import { PostCode } from "../devices/post-code.ts";
import { ResetControl } from "../devices/reset-control.ts";
import { Uart16550 } from "../devices/uart16550.ts";
import type { Device, Vm } from "../index.ts";

/** What the machine's devices are connected to. */
export interface MachineWires {
  readonly onSerial: (byte: number) => void;
  /** Without it port 0xE9 has no device. */
  readonly onDebugConsole: ((byte: number) => void) | undefined;
  /** The serial port can take input again after it refused some. */
  readonly onSerialSpace: () => void;
  /** What to put on the bus in a device's place: the device, for a trace one that tells. */
  readonly wrap: ((device: Device) => Device) | undefined;
}

const COM1_IRQ = 4;

/** Puts the devices of `vmexit boot`'s machine on the bus. @returns the serial port. */
export function mapDevices(vm: Vm, wires: MachineWires): Uart16550 {
  const irq = vm.irqchip === "full" ? { irq: vm.irqLine(COM1_IRQ) } : {};
  const uart = new Uart16550({ ...irq, onByte: wires.onSerial, onSpace: wires.onSerialSpace });
  const onReset = () => vm.stop({ kind: "reset" });
  const keyboard = new KeyboardController({ onReset });
  const debugExit = new DebugExit({ onExit: (v) => vm.stop({ kind: "debugExit", status: debugExitStatus(v) }) });
  const map = (port: number, ports: number, device: Device, offset = 0) =>
    vm.pio.map(port, ports, wires.wrap?.(device) ?? device, { offset });
  map(0x60, 1, keyboard);
  map(0x64, 1, keyboard, 4);
  map(0x80, 1, new PostCode());
  if (wires.onDebugConsole !== undefined) map(0xe9, 1, new DebugConsole({ onByte: wires.onDebugConsole }));
  map(0xf4, 4, debugExit);
  map(0x3f8, 8, uart);
  map(0x501, 4, debugExit);
  map(0x604, 2, new AcpiPower({ onPowerOff: () => vm.stop({ kind: "poweredOff" }) }));
  map(0xcf9, 1, new ResetControl({ onReset }));
  return uart;
}
