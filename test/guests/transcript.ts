import type { Exit } from "../../src/exit.ts";

/** What happened, one line per event; bytes that follow bytes of the same label join them. */
export class Transcript {
  readonly #entries: { label: string; bytes: number[] | undefined }[] = [];

  note(label: string): void {
    this.#entries.push({ label, bytes: undefined });
  }

  bytes(label: string, bytes: Iterable<number>): void {
    const last = this.#entries.at(-1);
    if (last?.label === label && last.bytes !== undefined) last.bytes.push(...bytes);
    else this.#entries.push({ label, bytes: [...bytes] });
  }

  /** An exit that no device answered, with the answer it got. */
  exit(exit: Exit): void {
    switch (exit.kind) {
      case "pioIn":
      case "pioOut":
        this.bytes(`${exit.kind} ${hex(exit.port)}/${exit.size}`, exit.data);
        break;
      case "mmioRead":
      case "mmioWrite":
        this.note(`${exit.kind} ${hex(exit.gpa)}/${exit.data.length} ${hexBytes(exit.data)}`);
        break;
      case "rdmsr":
      case "wrmsr":
        this.note(`${exit.kind} ${hex(exit.msr)} ${exit.error ? "refused" : `= ${hex(exit.value)}`}`);
        break;
      case "interrupted":
        this.note(`interrupted ${exit.by}`);
        break;
      case "internalError":
        this.note(`internalError ${exit.suberror} ${showBytes(exit.instruction)}`);
        break;
      default:
        this.note(exit.kind);
    }
  }

  get lines(): string[] {
    return this.#entries.map(({ label, bytes }) => (bytes === undefined ? label : `${label} ${showBytes(bytes)}`));
  }
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Text where all of it is printable, else hex. */
function showBytes(bytes: Iterable<number>): string {
  const all = [...bytes];
  const printable = all.every((byte) => byte === 10 || (byte >= 0x20 && byte < 0x7f));
  if (printable && all.length > 0) return JSON.stringify(String.fromCharCode(...all));
  return hexBytes(all);
}

function hexBytes(bytes: Iterable<number>): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
