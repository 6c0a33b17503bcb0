import { describe, expect, test } from "bun:test";
import { totalmem } from "node:os";
import { asm } from "../../../../src/asm/index.ts";
import { MemoryError } from "../../../../src/errors.ts";
import { openBackend } from "../../../../src/host.ts";
import type { MemorySlot } from "../../../../src/memory.ts";
import { kvmGuest, noKvm } from "./guest.ts";

const GIB = 2 ** 30;
const HUGE_PAGE = 2 ** 21;

/** Guest memory as KVM and the guest see it. What needs no guest is in test/src/memory.test.ts. */
describe.skipIf(noKvm !== "")(`guest memory on KVM${noKvm}`, () => {
  const HIGH = asm.long64`
    mov rbx, 0x140000000        ; 5 GiB, of the second gigabyte above the hole
    mov rax, 0x1122334455667788
    mov [rbx + 8], rax
    mov rcx, [rbx + 16]
    mov rsi, 0x17ffffff8        ; the last 8 bytes of 5 GiB of memory
    mov [rsi], rcx
    mov rdi, 0xc0000000         ; the hole between 3 and 4 GiB
    mov [rdi], al`;

  test("of 5 GiB lies above 4 GiB too, is reached by a guest's page tables, and leaves the hole to devices", () => {
    using guest = kvmGuest(HIGH, {
      memoryBytes: 5 * GIB,
      noReserve: true,
      mode: "long64-ring3",
      modeOptions: {
        map: [
          { gva: 0n, gpa: 0, bytes: HUGE_PAGE, user: true },
          { gva: 0xc0000000n, gpa: 0xc0000000, bytes: HUGE_PAGE, user: true },
          { gva: 0x140000000n, gpa: 0x140000000, bytes: GIB, user: true },
        ],
      },
    });
    const { memory } = guest.vm;
    expect([memory.bytes, memory.end, memory.has(3 * GIB - 1, 2), memory.has(4 * GIB, 2 * GIB)]).toEqual([
      5 * GIB,
      6 * GIB,
      false,
      true,
    ]);
    memory.writeU64(0x140000010, 0xfeedn);
    expect(guest.next()).toEqual({ kind: "mmioWrite", gpa: 0xc0000000, data: Uint8Array.of(0x88) });
    expect(memory.readU64(0x140000008)).toBe(0x1122334455667788n);
    expect(memory.readU64(6 * GIB - 8)).toBe(0xfeedn);
    expect(() => memory.readU64(6 * GIB - 7)).toThrow(MemoryError);
    expect(() => memory.readU8(3.5 * GIB)).toThrow(MemoryError);
  });

  test("find(), copy() and fill() work across the slots of a large guest", () => {
    using host = openBackend("kvm");
    using vm = host.createVm({ memoryBytes: 5 * GIB, noReserve: true });
    const { memory } = vm;
    memory.write(5 * GIB - 3, new TextEncoder().encode("border"));
    // Only near the border: a search of all 5 GiB would fault every page in.
    expect(memory.find("border", { from: 5 * GIB - 0x1000, to: 5 * GIB + 0x1000 })).toBe(5 * GIB - 3);
    memory.copy(5 * GIB - 3, 0x1000, 6);
    expect(memory.readCString(0x1000)).toBe("border");
    memory.fill(4 * GIB, 0x2000, 0x5a);
    expect([memory.readU8(4 * GIB), memory.readU8(4 * GIB + 0x1fff), memory.readU8(4 * GIB + 0x2000)]).toEqual([
      0x5a, 0x5a, 0,
    ]);
  });

  test("larger than the host has is refused by size, with what to do, and leaves nothing mapped", () => {
    using host = openBackend("kvm");
    const wanted = (Math.ceil(totalmem() / GIB) + 4) * GIB;
    expect(() => host.createVm({ memoryBytes: wanted })).toThrow(MemoryError);
    expect(() => host.createVm({ memoryBytes: wanted })).toThrow(`the host has ${totalmem()}`);
    using sparse = host.createVm({ memoryBytes: wanted, noReserve: true });
    expect(sparse.memory.bytes).toBe(wanted);
  });

  test("with hugePages starts on 2 MiB in the host, so that KVM can map it large", () => {
    using guest = kvmGuest([0xf4], { memoryBytes: 2 * HUGE_PAGE, hugePages: true });
    const mapped: number[] = [];
    const { mapSlot } = guest.kvmVm;
    guest.kvmVm.mapSlot = (slot, mapping) => {
      mapped.push((mapping.memory as unknown as { mapping: { address: number } }).mapping.address % HUGE_PAGE);
      mapSlot.call(guest.kvmVm, slot, mapping);
    };
    guest.vm.memory.add({ gpa: 4 * HUGE_PAGE, bytes: 4096 * 3, hugePages: true });
    guest.vm.memory.add({ gpa: 6 * HUGE_PAGE, bytes: HUGE_PAGE, hugePages: true });
    expect(mapped).toEqual([0, 0]);
    expect(guest.next().kind).toBe("hlt");
  });

  test("an alias of logged memory logs only the address that was written", () => {
    using guest = kvmGuest(asm.real16`
      mov ax, 0x5000
      mov es, ax
      mov byte [es:0x1000], 1
      hlt`);
    const { memory } = guest.vm;
    const ram = memory.add({ gpa: 0x40000, bytes: 0x4000, logDirty: true });
    memory.alias({ gpa: 0x50000, of: ram, logDirty: true });
    expect(guest.next().kind).toBe("hlt");
    expect([...memory.dirtyPages()]).toEqual([{ gpa: 0x51000, bytes: 0x1000 }]);
    expect(memory.readU8(0x41000)).toBe(1);
  });

  test("the dirty log joins pages over word borders, and forgets what the host itself wrote", () => {
    using guest = kvmGuest(asm.real16`
      mov ax, 0x2000 + 0x100 * 30
      mov cx, 5
    next:
      mov es, ax
      inc byte [es:0]
      add ax, 0x100
      loop next
      hlt`);
    const slot = guest.vm.memory.add({ gpa: 0x20000, bytes: 0x50000, logDirty: true });
    guest.vm.memory.writeU8(0x20000, 1);
    expect(guest.next().kind).toBe("hlt");
    expect([...guest.vm.memory.dirtyPages(slot)]).toEqual([{ gpa: 0x20000 + 30 * 4096, bytes: 5 * 4096 }]);
  });

  test("a slot number that is freed is taken again, and KVM shows the new memory", () => {
    using guest = kvmGuest(asm.real16`
    again:
      mov ax, 0x4000
      mov es, ax
      mov al, [es:0]
      out 0x80, al
      jmp again`);
    for (const value of [1, 2, 3]) {
      const slot: MemorySlot = guest.vm.memory.add({ gpa: 0x40000, bytes: 4096 });
      expect(slot.slot).toBe(1);
      slot.data[0] = value;
      expect(guest.next()).toMatchObject({ kind: "pioOut", data: Uint8Array.of(value) });
      slot[Symbol.dispose]();
    }
  });
});
