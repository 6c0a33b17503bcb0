import type { Bus } from "./bus.ts";
import { DeviceError } from "./errors.ts";
import type { Exit } from "./exit.ts";

/** The two address spaces a vCPU reaches devices through. */
export interface Buses {
  readonly pio: Bus;
  readonly mmio: Bus;
}

/**
 * Hands an exit to the device behind its address.
 *
 * @returns false when it is no access, or no device claims it; `data` of a read is all ones then.
 * @throws {DeviceError} when the device throws; the exit stays pending.
 */
export function dispatch(exit: Exit, buses: Buses): boolean {
  const { kind } = exit;
  try {
    // Comparisons, no switch: on strings a switch reads their characters, and this is on the path of every exit.
    if (kind === "pioOut") return buses.pio.write(exit.port, exit.data, exit.size);
    if (kind === "pioIn") return buses.pio.read(exit.port, exit.data, exit.size);
    if (kind === "mmioRead") return buses.mmio.read(exit.gpa, exit.data);
    if (kind === "mmioWrite") return buses.mmio.write(exit.gpa, exit.data);
    return false;
  } catch (error) {
    // What the device had filled in is no answer.
    if (exit.kind === "pioIn" || exit.kind === "mmioRead") exit.data.fill(0xff);
    throw deviceError(exit, buses, error);
  }
}

function deviceError(exit: Exit, buses: Buses, cause: unknown): DeviceError {
  const [bus, address] = "port" in exit ? [buses.pio, exit.port] : [buses.mmio, "gpa" in exit ? exit.gpa : 0];
  const access = exit.kind === "pioOut" || exit.kind === "mmioWrite" ? "a write to" : "a read of";
  const place = `${bus === buses.pio ? "port" : "GPA"} 0x${address.toString(16)}`;
  return new DeviceError(bus.find(address)?.device.name ?? "unknown", `${access} ${place}`, cause);
}
