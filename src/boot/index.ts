export { bootGuest } from "./boot-guest.ts";
export { COM_SEGMENT, loadCom } from "./com.ts";
export { CR0, CR4, EFER, RFLAG } from "./control-bits.ts";
export {
  codeSegment,
  dataSegment,
  decodeDescriptor,
  encodeDescriptor,
  ldtSegment,
  nullSegment,
  realSegment,
  type SegmentOptions,
  SYSTEM_TYPE,
  tssSegment,
} from "./descriptor.ts";
export { findMultibootHeader } from "./detect.ts";
export { loadElf } from "./elf.ts";
export { applyMode, enterMode } from "./enter-mode.ts";
export { BOOT_SECTOR_ADDRESS, loadBootSector, loadFlat } from "./flat.ts";
export {
  callGate,
  type DecodedGate,
  decodeGate,
  type GateOptions,
  interruptGate,
  taskGate,
  trapGate,
} from "./gate.ts";
export { buildGdt, type Gdt, type GdtEntry } from "./gdt.ts";
export {
  findSymbol,
  type GuestFormat,
  type GuestModule,
  type GuestPlan,
  type GuestSegment,
  type GuestSymbol,
  type LoadOptions,
  placeGuest,
} from "./guest-plan.ts";
export { buildIdt, buildIvt, type Idt } from "./idt.ts";
export { loadGuest } from "./load.ts";
export {
  DEFAULT_ENTRY,
  DEFAULT_TABLES_GPA,
  MODE_BITS,
  MODES,
  type Mode,
  type ModeOptions,
  type ModeRegisters,
  type ModeRow,
  type ModeSetup,
  type ModeTable,
} from "./mode.ts";
export { describeModes } from "./mode-rows.ts";
export { modeSetup } from "./mode-setup.ts";
export { loadMultiboot, MULTIBOOT_MAGIC } from "./multiboot.ts";
export {
  buildPageTables,
  type PageBytes,
  type PageMapping,
  type PageTableOptions,
  type PageTables,
} from "./page-tables.ts";
export {
  PAGING_LAYOUTS,
  type PagingFormat,
  type PagingLayout,
  type PagingLevel,
} from "./paging.ts";
export { arrayMemory, type PhysicalMemory } from "./physical-memory.ts";
export { SELECTORS, TABLES_LAYOUT } from "./protected-mode.ts";
export { buildTss16, buildTss32, buildTss64, ioPermissionMap, TSS16, TSS32, TSS64 } from "./tss.ts";
