import type { Socket } from "bun";

/** A register of the target, in the order of the `g` packet. */
interface TargetRegister {
  readonly name: string;
  readonly bytes: number;
}

/** A target that halts never answers a step. */
const ANSWER_MS = 2000;

/**
 * A client of the GDB remote serial protocol over a unix socket: as much as stepping a QEMU takes.
 *
 * @see Debugging with GDB, "Remote Protocol"; QEMU, "GDB usage"
 */
export class GdbClient implements Disposable {
  readonly #socket: Socket<undefined>;
  readonly #packets: string[] = [];
  #waiting: { resolve: (packet: string) => void; reject: (error: Error) => void } | undefined;
  #buffer = "";
  #registers: readonly TargetRegister[] = [];
  #closed = false;

  private constructor(socket: Socket<undefined>) {
    this.#socket = socket;
  }

  /** Connects as soon as somebody listens. @throws {Error} when nobody does within 5 s. */
  static async connect(path: string): Promise<GdbClient> {
    const until = performance.now() + 5000;
    for (;;) {
      try {
        let client: GdbClient | undefined;
        const socket = await Bun.connect<undefined>({
          unix: path,
          socket: {
            data: (_, data) => client?.receive(data.toString("latin1")),
            close: () => client?.close(),
            error: () => client?.close(),
          },
        });
        client = new GdbClient(socket);
        await client.#start();
        return client;
      } catch (error) {
        if (performance.now() > until) throw error;
        await Bun.sleep(10);
      }
    }
  }

  async #start(): Promise<void> {
    await this.ask("QStartNoAckMode");
    this.#socket.write("+");
    await this.ask("qSupported:xmlRegisters=i386");
    this.#registers = await this.#describe("target.xml");
  }

  /** The registers of a target description and what it includes. */
  async #describe(annex: string): Promise<TargetRegister[]> {
    let xml = "";
    for (let more = true; more; ) {
      const part = await this.ask(`qXfer:features:read:${annex}:${xml.length.toString(16)},7f0`);
      xml += part.slice(1);
      more = part[0] === "m";
    }
    const found: TargetRegister[] = [];
    for (const match of xml
      .replaceAll(/<!--.*?-->/gs, "")
      .matchAll(/<reg name="([^"]+)" bitsize="(\d+)"|xi:include href="([^"]+)"/g)) {
      if (match[3] !== undefined) found.push(...(await this.#describe(match[3])));
      else found.push({ name: match[1] as string, bytes: Number(match[2]) / 8 });
    }
    return found;
  }

  receive(text: string): void {
    this.#buffer += text;
    for (;;) {
      const start = this.#buffer.indexOf("$");
      const end = this.#buffer.indexOf("#", start);
      if (start < 0 || end < 0 || this.#buffer.length < end + 3) return;
      this.#packets.push(plainText(this.#buffer.slice(start + 1, end)));
      this.#buffer = this.#buffer.slice(end + 3);
      this.#deliver();
    }
  }

  close(): void {
    this.#closed = true;
    this.#waiting?.reject(new Error("The GDB port closed"));
    this.#waiting = undefined;
  }

  #deliver(): void {
    if (this.#waiting === undefined) return;
    const packet = this.#packets.shift();
    if (packet === undefined) return;
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve(packet);
  }

  /** Sends a packet and returns the answer. */
  async ask(packet: string): Promise<string> {
    if (this.#closed) throw new Error("The GDB port closed");
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.#waiting = { resolve, reject };
    let sum = 0;
    for (let i = 0; i < packet.length; i++) sum = (sum + packet.charCodeAt(i)) & 0xff;
    this.#socket.write(`$${packet}#${sum.toString(16).padStart(2, "0")}`);
    const timer = setTimeout(() => this.close(), ANSWER_MS);
    return promise.finally(() => clearTimeout(timer));
  }

  /** All registers by the target's names. */
  async registers(): Promise<Map<string, bigint>> {
    const image = Buffer.from(await this.ask("g"), "hex");
    const values = new Map<string, bigint>();
    let at = 0;
    for (const { name, bytes } of this.#registers) {
      let value = 0n;
      for (let i = Math.min(bytes, image.length - at) - 1; i >= 0; i--)
        value = (value << 8n) | BigInt(image[at + i] as number);
      values.set(name, value);
      at += bytes;
    }
    return values;
  }

  /** Sets one register by the target's name. */
  async setRegister(name: string, value: bigint): Promise<void> {
    const index = this.#registers.findIndex((register) => register.name === name);
    const bytes = this.#registers[index]?.bytes ?? 8;
    const image = Buffer.alloc(bytes);
    for (let i = 0; i < bytes; i++) image[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    await this.expectOk(`P${index.toString(16)}=${image.toString("hex")}`);
  }

  async write(address: number, bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; from += 1024) {
      const part = bytes.subarray(from, from + 1024);
      const where = `${(address + from).toString(16)},${part.length.toString(16)}`;
      await this.expectOk(`M${where}:${Buffer.from(part).toString("hex")}`);
    }
  }

  async read(address: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let from = 0; from < length; from += 1024) {
      const count = Math.min(1024, length - from);
      bytes.set(Buffer.from(await this.ask(`m${(address + from).toString(16)},${count.toString(16)}`), "hex"), from);
    }
    return bytes;
  }

  async expectOk(packet: string): Promise<void> {
    const answer = await this.ask(packet);
    if (answer !== "OK") throw new Error(`GDB packet ${packet.slice(0, 40)} answered "${answer}"`);
  }

  [Symbol.dispose](): void {
    this.#socket.end();
  }
}

/** `}` escapes a byte, `*` repeats the one before. */
function plainText(text: string): string {
  let plain = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (c === "}") plain += String.fromCharCode(text.charCodeAt(++i) ^ 0x20);
    else if (c === "*") plain += (plain.at(-1) ?? "").repeat(text.charCodeAt(++i) - 29);
    else plain += c;
  }
  return plain;
}
