import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Control registers by their number in QEMU's gdb protocol for x86-64. */
const CONTROL = { cr0: 27, cr3: 29, cr4: 30, efer: 32 } as const;

/**
 * A stopped QEMU machine as an independent page walk: control registers are set over the gdb protocol, and the monitor's
 * `gva2gpa` translates. It checks present bits and page sizes, not rights and reserved bits.
 */
export class QemuPaging implements AsyncDisposable {
  readonly #folder: string;
  readonly #process: Bun.Subprocess;
  #socket: Awaited<ReturnType<typeof Bun.connect>> | undefined;
  #received = "";
  #wake: (() => void) | undefined;

  /** @param memory What lies in guest memory from `gpa` on. */
  constructor(memory: Uint8Array, gpa: number) {
    this.#folder = mkdtempSync(join(tmpdir(), "vmexit-qemu-"));
    const image = join(this.#folder, "memory");
    writeFileSync(image, memory);
    const machine = ["-M", "pc", "-cpu", "max", "-m", "64", "-display", "none", "-nodefaults", "-S"];
    const load = ["-device", `loader,file=${image},addr=${gpa},force-raw=on`];
    const gdb = ["-gdb", `unix:${join(this.#folder, "gdb")},server=on,wait=off`];
    this.#process = Bun.spawn(["qemu-system-x86_64", ...machine, ...load, ...gdb], {
      stdout: "ignore",
      stderr: "ignore",
    });
  }

  async connect(): Promise<void> {
    const data = (_: unknown, bytes: Uint8Array) => {
      this.#received += Buffer.from(bytes).toString("latin1");
      this.#wake?.();
    };
    for (let attempt = 0; this.#socket === undefined; attempt++) {
      try {
        this.#socket = await Bun.connect({ unix: join(this.#folder, "gdb"), socket: { data } });
      } catch (error) {
        if (attempt === 250 || this.#process.exitCode !== null) throw error;
        await Bun.sleep(20);
      }
    }
    // QEMU numbers the control registers only for clients that read its description.
    await this.#ask("qSupported:xmlRegisters=i386");
    await this.#ask("qXfer:features:read:target.xml:0,ffb");
  }

  async setControl(name: keyof typeof CONTROL, value: bigint): Promise<void> {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    const answer = await this.#ask(`P${CONTROL[name].toString(16)}=${bytes.toString("hex")}`);
    if (answer !== "OK") throw new Error(`QEMU refused ${name}: ${answer}`);
  }

  async translate(gva: bigint): Promise<number | undefined> {
    this.#send(`qRcmd,${Buffer.from(`gva2gpa 0x${gva.toString(16)}`).toString("hex")}`);
    let text = "";
    for (let answer = await this.#receive(); answer !== "OK"; answer = await this.#receive()) {
      text += Buffer.from(answer.slice(1), "hex").toString("latin1");
    }
    const found = /gpa: (0x[0-9a-f]+)/.exec(text);
    return found ? Number(found[1]) : undefined;
  }

  async #ask(packet: string): Promise<string> {
    this.#send(packet);
    return this.#receive();
  }

  #send(packet: string): void {
    const sum = [...Buffer.from(packet)].reduce((all, byte) => all + byte, 0) & 0xff;
    this.#socket?.write(`$${packet}#${sum.toString(16).padStart(2, "0")}`);
  }

  async #receive(): Promise<string> {
    for (;;) {
      const found = /\$([^#]*)#../.exec(this.#received);
      if (found) {
        this.#received = this.#received.slice(found.index + found[0].length);
        this.#socket?.write("+");
        return found[1] ?? "";
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.end();
    this.#process.kill("SIGKILL");
    await this.#process.exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
