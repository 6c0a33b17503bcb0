/** Delivery modes of interrupt messages (Intel SDM Vol. 3A, "Interrupt Command Register"). */
export const DELIVERY = { fixed: 0, lowest: 1, smi: 2, nmi: 4, init: 5, startup: 6, extInt: 7 } as const;

/** An interrupt on its way from an I/O APIC, an MSI or another processor to local APICs. */
export interface InterruptMessage {
  /** One of `DELIVERY`, or a reserved number, which goes nowhere. */
  readonly delivery: number;
  readonly vector: number;
  readonly destination: number;
  /** The destination is a set in the logical register instead of an APIC id. */
  readonly logical: boolean;
  /** Level-triggered: its EOI is told to the I/O APIC. */
  readonly level: boolean;
}

/** Delivers a message; how many local APICs took it, −1 when none was addressed. */
export type DeliverMessage = (message: InterruptMessage) => number;

/**
 * A message-signalled interrupt as a write to 0xFEExxxxx has it (Intel SDM Vol. 3A, "Message Signalled Interrupts").
 * The address above bits 19 to 0 is not looked at, as on KVM.
 */
export function decodeMsi(address: number, data: number): InterruptMessage {
  const delivery = (data >> 8) & 7;
  // The redirection hint asks for the lowest priority.
  const hint = (address & 8) !== 0 && delivery === DELIVERY.fixed;
  return {
    delivery: hint ? DELIVERY.lowest : delivery,
    vector: data & 0xff,
    destination: (address >>> 12) & 0xff,
    logical: (address & 4) !== 0,
    level: (data & 0x8000) !== 0,
  };
}
