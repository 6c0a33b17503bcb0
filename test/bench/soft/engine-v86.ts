/** Runs a 32-bit benchmark image on v86: `bun engine-v86.ts IMAGE`. Prints a line per round, then RSS. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { RoundListener } from "./rounds.ts";

/** The part of v86 that is used, as its build of 0.5.462 has it. */
interface Emulator {
  readonly v86: {
    readonly cpu: {
      readonly io: { register_write(port: number, device: unknown, write: (value: number) => void): void };
    };
  };
  add_listener(event: string, listener: () => void): void;
  run(): void;
}

const require = createRequire(import.meta.url);
const folder = dirname(require.resolve("v86/package.json"));
const { V86 } = (await import(join(folder, "build/libv86.mjs"))) as { V86: new (options: object) => Emulator };
const image = readFileSync(Bun.argv[2] as string);
const emulator = new V86({
  wasm_path: join(folder, "build/v86.wasm"),
  memory_size: 256 << 20,
  vga_memory_size: 2 << 20,
  multiboot: { buffer: image.buffer.slice(image.byteOffset, image.byteOffset + image.length) },
  disable_keyboard: true,
  disable_mouse: true,
  disable_speaker: true,
  autostart: false,
});
emulator.add_listener("emulator-ready", () => {
  const rounds = new RoundListener((line) => console.log(line));
  const { io } = emulator.v86.cpu;
  const device = {};
  io.register_write(0x80, device, () => {});
  io.register_write(0xe9, device, (value) => {
    rounds.byte(value);
    if (!rounds.done) return;
    console.log(`rss ${process.memoryUsage().rss}`);
    process.exit(0);
  });
  emulator.run();
});
