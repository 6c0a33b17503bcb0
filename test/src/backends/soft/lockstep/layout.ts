/**
 * Where a generated program keeps what: linear and physical addresses are the same.
 *
 * The program starts at CODE; a statement stores the address of the next one in RECOVER before it does anything that may
 * fault, and every handler logs the event and goes on there in ring 0.
 */
export const LAYOUT = {
  code: 0x1000,
  /** One stub of 16 bytes per vector. */
  handlers: 0x4000,
  /** Targets of gates, SYSENTER and SYSCALL; code segments other than the flat ones start here too. */
  targets: 0x5000,
  /** Addresses of the next log entry and of the next statement, then the log. */
  logPointer: 0x6000,
  recover: 0x6008,
  log: 0x6010,
  logEnd: 0x7000,
  userStack: 0x7400,
  gateStack: 0x7800,
  kernelStack: 0x8000,
  tables: 0x8000,
  data: 0x20000,
  supervisorPage: 0x21000,
  readOnlyPage: 0x22000,
  supervisorReadOnlyPage: 0x23000,
  noExecutePage: 0x24000,
  absentPage: 0x25000,
  memoryBytes: 0x40000,
} as const;

/** Vectors that push an error code. */
export const ERROR_CODE_VECTORS: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17]);
/** Handlers exist for the exceptions and for these. */
export const SOFTWARE_VECTORS = {
  interrupt3: 0x30,
  trap3: 0x31,
  absent: 0x32,
  task: 0x33,
  ist: 0x34,
  badSelector: 0x35,
  conforming: 0x36,
  kernelOnly: 0x37,
  /** Through 16-bit gates, outside long mode. */
  interrupt16: 0x38,
  trap16: 0x39,
} as const;
export const VECTORS = 0x3a;

/** GDT entries behind those of `enterMode()`. Gates and LDT take two places, as long mode has them. */
export const EXTRA = {
  conforming: 0x60,
  executeOnly: 0x68,
  readOnly: 0x70,
  expandDown: 0x78,
  absent: 0x80,
  callGate: 0x88,
  ldt: 0x98,
  small: 0xa8,
  tss2: 0xb0,
  taskGate: 0xb8,
  kernelCallGate: 0xc0,
  userCallGate16: 0xd0,
  tss16: 0xe0,
  stack16: 0xe8,
  end: 0xf0,
} as const;
/** In the page of the GDT: it starts the tables, the TSS is at +0x100. */
export const LDT = { base: 0x8200, code: 0x04, data: 0x0c, end: 0x10 } as const;
export const TSS2 = 0x8300;
/** A 16-bit task. */
export const TSS3 = 0x8380;
