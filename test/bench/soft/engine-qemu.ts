/** Runs a benchmark image on QEMU's TCG: `bun engine-qemu.ts IMAGE`. Prints a line per round. */
import { RoundListener } from "./rounds.ts";

const image = Bun.argv[2] as string;
const machine = ["-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot"];
const ports = ["-chardev", "stdio,id=c", "-device", "isa-debugcon,chardev=c"];
const child = Bun.spawn(
  ["qemu-system-x86_64", ...machine, ...ports, "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", image],
  { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
);
const rounds = new RoundListener((line) => console.log(line));
for await (const chunk of child.stdout) for (const byte of chunk) rounds.byte(byte);
process.exit(rounds.done ? 0 : 1);
