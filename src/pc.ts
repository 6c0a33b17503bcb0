import type { Device } from "./device.ts";
import { DebugConsole } from "./devices/debug-console.ts";
import { Uart16550 } from "./devices/uart16550.ts";
import { LazyDevice } from "./lazy-device.ts";
import type { Vm } from "./vm.ts";

/** What the devices of a PC are connected to. */
export interface PcWires {
  readonly onSerial: (byte: number) => void;
  /** Without it port 0xE9 has no device. */
  readonly onDebugConsole: ((byte: number) => void) | undefined;
  /** The serial port can take input again after it refused some. */
  readonly onSerialSpace: () => void;
  /** What to put on the bus in a device's place: the device, for a trace one that tells. */
  readonly wrap: ((device: Device) => Device) | undefined;
}

const COM1_IRQ = 4;

/** Puts a PC's devices on the bus: serial port, debug console, debug exit, reset and power. @returns the serial port. */
export function mapPc(vm: Vm, wires: PcWires): Uart16550 {
  const irq = vm.irqchip === "full" ? { irq: vm.irqLine(COM1_IRQ) } : {};
  const uart = new Uart16550({ ...irq, onByte: wires.onSerial, onSpace: wires.onSerialSpace });
  const map = (port: number, ports: number, device: Device, offset = 0) =>
    vm.pio.map(port, ports, wires.wrap?.(device) ?? device, { offset });
  map(0x3f8, 8, uart);
  if (wires.onDebugConsole !== undefined) map(0xe9, 1, new DebugConsole({ onByte: wires.onDebugConsole }));
  const { keyboard, postCode, debugExit, power, reset } = rareDevices(vm);
  map(0x60, 1, keyboard);
  map(0x64, 1, keyboard, 4);
  map(0x80, 1, postCode);
  map(0xf4, 4, debugExit);
  map(0x501, 4, debugExit);
  map(0x604, 2, power);
  map(0xcf9, 1, reset);
  return uart;
}

/** The devices that most guests never touch. */
function rareDevices(vm: Vm) {
  const onReset = () => vm.stop({ kind: "reset" });
  return {
    keyboard: new LazyDevice("keyboard controller", () => {
      const { KeyboardController } =
        require("./devices/keyboard-controller.ts") as typeof import("./devices/keyboard-controller.ts");
      return new KeyboardController({ onReset });
    }),
    postCode: new LazyDevice("POST code", () => {
      const { PostCode } = require("./devices/post-code.ts") as typeof import("./devices/post-code.ts");
      return new PostCode();
    }),
    debugExit: new LazyDevice("debug exit", () => {
      const { DebugExit, debugExitStatus } =
        require("./devices/debug-exit.ts") as typeof import("./devices/debug-exit.ts");
      return new DebugExit({ onExit: (value) => vm.stop({ kind: "debugExit", status: debugExitStatus(value) }) });
    }),
    power: new LazyDevice("ACPI PM1a control", () => {
      const { AcpiPower } = require("./devices/acpi-power.ts") as typeof import("./devices/acpi-power.ts");
      return new AcpiPower({ onPowerOff: () => vm.stop({ kind: "poweredOff" }) });
    }),
    reset: new LazyDevice("reset control", () => {
      const { ResetControl } = require("./devices/reset-control.ts") as typeof import("./devices/reset-control.ts");
      return new ResetControl({ onReset });
    }),
  };
}
