import { highOf, lowOf } from "./access.ts";

/** One data breakpoint. */
export interface Watchpoint {
  /** 0 to 3: which debug register, and which bit of DR6. */
  readonly index: number;
  readonly address: bigint;
  readonly bytes: number;
  /** Fires on reads too. */
  readonly reads: boolean;
}

/** One I/O breakpoint (CR4.DE). */
export interface PortWatch {
  readonly index: number;
  readonly port: number;
  readonly bytes: number;
}

/** The data and I/O breakpoints in force, of the guest's own debug registers or of the debugger's. */
export class Watchpoints {
  readonly list: readonly Watchpoint[];
  /** DR6 bits of the present instruction. */
  hits = 0;

  readonly ports: readonly PortWatch[];

  constructor(list: readonly Watchpoint[], ports: readonly PortWatch[] = []) {
    this.list = list;
    this.ports = ports;
  }

  get active(): boolean {
    return this.list.length > 0;
  }

  /** DR6 bits that an access would set. */
  match(linear: bigint, bytes: number, write: boolean): number {
    let hit = 0;
    for (const w of this.list) {
      if (!write && !w.reads) continue;
      if (linear < w.address + BigInt(w.bytes) && linear + BigInt(bytes) > w.address) hit |= 1 << w.index;
    }
    return hit;
  }

  /** DR6 bits that an access to ports would set. */
  matchPort(port: number, bytes: number): number {
    let hit = 0;
    for (const w of this.ports) if (port < w.port + w.bytes && port + bytes > w.port) hit |= 1 << w.index;
    return hit;
  }

  note(hit: number): void {
    this.hits |= hit;
  }

  /** Whether a watchpoint lies on the page: such pages stay out of the TLB. */
  onPage(low: number, high: number): boolean {
    return this.list.some((w) => {
      const last = w.address + BigInt(w.bytes - 1);
      return (
        (lowOf(w.address) >>> 12 === low >>> 12 && highOf(w.address) === high) ||
        (lowOf(last) >>> 12 === low >>> 12 && highOf(last) === high)
      );
    });
  }
}

/** Decodes DR7: which of DR0 to DR3 are on, and for what. `execute` breakpoints come as addresses. */
export function decodeDr7(
  dr7: number,
  address: (index: number) => bigint,
): { execute: { index: number; address: bigint }[]; data: Watchpoint[]; ports: PortWatch[] } {
  const execute: { index: number; address: bigint }[] = [];
  const data: Watchpoint[] = [];
  const ports: PortWatch[] = [];
  for (let index = 0; index < 4; index++) {
    if (((dr7 >>> (index * 2)) & 3) === 0) continue;
    const kind = (dr7 >>> (16 + index * 4)) & 3;
    const bytes = [1, 2, 8, 4][(dr7 >>> (18 + index * 4)) & 3] as number;
    if (kind === 0) execute.push({ index, address: address(index) });
    else if (kind === 2) ports.push({ index, port: Number(address(index) & 0xffffn) & ~(bytes - 1), bytes });
    else data.push({ index, address: address(index) & ~BigInt(bytes - 1), bytes, reads: kind === 3 });
  }
  return { execute, data, ports };
}
