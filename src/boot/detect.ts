/** What a guest file is, by its content alone: cheap, so that a flat file costs no loader it does not need. */

const MULTIBOOT_HEADER_MAGIC = 0x1badb002;
/** The header must begin and end within so many bytes of the file. */
const MULTIBOOT_SEARCH_BYTES = 8192;

/** A Multiboot 1 header that was found. */
export interface MultibootHeader {
  /** In the file. */
  readonly offset: number;
  readonly flags: number;
}

/** The header, or undefined when the first 8192 bytes hold none with a right checksum. */
export function findMultibootHeader(bytes: Uint8Array): MultibootHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = Math.min(bytes.length, MULTIBOOT_SEARCH_BYTES) - 12;
  for (let offset = 0; offset <= end; offset += 4) {
    if (view.getUint32(offset, true) !== MULTIBOOT_HEADER_MAGIC) continue;
    const flags = view.getUint32(offset + 4, true);
    if ((MULTIBOOT_HEADER_MAGIC + flags + view.getUint32(offset + 8, true)) % 2 ** 32 === 0) return { offset, flags };
  }
  return undefined;
}

/** Whether the bytes begin as an ELF file does. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** Whether the bytes are one boot sector: 512 bytes that end in 0x55 0xaa. */
export function isBootSector(bytes: Uint8Array): boolean {
  return bytes.length === 512 && bytes[510] === 0x55 && bytes[511] === 0xaa;
}
