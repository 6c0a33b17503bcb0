/** What does a guest in a string cost to assemble, and a large source per line next to NASM? */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bench } from "tinybench";
import { asm, assemble } from "../../src/asm/index.ts";
import { formatSpread, hostLine, spreadOf } from "./report.ts";

const ROUNDS = 15;
const FUNCTIONS = 2500;
const asmModule = join(import.meta.dir, "../../src/asm/index.ts");

const guest = `
start: cli
  xor ax, ax
  mov ds, ax
  mov ss, ax
  mov sp, 0x7c00
  mov si, msg
.next: lodsb
  test al, al
  jz .done
  mov dx, 0xe9
  out dx, al
  jmp .next
.done: mov ax, [count]
  inc ax
  mov [count], ax
  cmp ax, 10
  jb start
  hlt
msg: db "hello", 0
count: dw 0
`;

/** A source of many small functions: calls ahead and back, local loops, addresses, data. */
function largeSource(): string[] {
  const lines = ["bits 32"];
  for (let i = 0; i < FUNCTIONS; i++) {
    lines.push(`f${i}: push ebp`, "mov ebp, esp", "mov eax, [ebp+8]", `add eax, ${i}`, `cmp eax, [table+${i}*4]`);
    lines.push("jz .out", `call f${(i * 7) % FUNCTIONS}`, ".loop: dec ecx", "jnz .loop");
    lines.push(".out: mov [esi+ecx*4+16], eax", "pop ebp", "ret");
  }
  return [...lines, `table: times ${FUNCTIONS} dd 0`];
}

/** One fresh process: milliseconds of its first guest after the assembler has loaded. */
function coldMs(): number {
  const script = `
    const { assemble } = await import(${JSON.stringify(asmModule)});
    assemble("nop");
    const start = performance.now();
    assemble(${JSON.stringify(guest)});
    console.log(performance.now() - start);`;
  return Number(Bun.spawnSync([process.execPath, "-e", script]).stdout.toString());
}

function perLineUs(lines: number, run: () => void): number {
  const start = Bun.nanoseconds();
  run();
  return (Bun.nanoseconds() - start) / 1e3 / lines;
}

console.log(`assembler: ${hostLine()}`);

const bench = new Bench({ time: 500 });
bench.add("20-line guest, assemble()", () => {
  assemble(guest);
});
bench.add("4-line guest, asm.real16", () => {
  asm.real16`
    mov al, ${65}
    out 0xe9, al
    hlt
  `;
});
await bench.run();
for (const task of bench.tasks) {
  const { result } = task;
  if (!("latency" in result)) throw new Error(`${task.name} did not run`);
  const { p50, min, p99 } = result.latency;
  console.log(
    `${task.name.padEnd(44)} ${p50.toFixed(3)} ms (${min.toFixed(3)} to ${p99.toFixed(3)} at the 99th percentile)`,
  );
}
const cold = spreadOf(Array.from({ length: ROUNDS }, coldMs));
console.log(`${"20-line guest, first in a process after load".padEnd(44)} ${formatSpread(cold, 2)} ms`);

const directory = mkdtempSync(join(tmpdir(), "vmexit-bench-"));
try {
  const lines = largeSource();
  const source = lines.join("\n");
  const [input, output] = [join(directory, "large.asm"), join(directory, "large.bin")];
  writeFileSync(input, source);
  const nasm = Bun.which("nasm");
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    const mine = perLineUs(lines.length, () => void assemble(source));
    const other = nasm && perLineUs(lines.length, () => void Bun.spawnSync([nasm, "-f", "bin", "-o", output, input]));
    if (round === 0) continue; // compiles our code and fills the page cache
    ours.push(mine);
    if (other) theirs.push(other);
  }
  console.log(`${lines.length} lines, ${ROUNDS} interleaved rounds, µs per line; median (minimum to maximum)`);
  console.log(`${"assemble()".padEnd(44)} ${formatSpread(spreadOf(ours), 2)}`);
  if (theirs.length === 0) console.log("nasm is not installed");
  else {
    console.log(`${"nasm -f bin, process included".padEnd(44)} ${formatSpread(spreadOf(theirs), 2)}`);
    console.log(`${"ratio".padEnd(44)} ${formatSpread(spreadOf(ours.map((us, i) => us / theirs[i]!)), 2)}`);
  }
} finally {
  rmSync(directory, { recursive: true });
}
