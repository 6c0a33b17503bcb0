import { programs, randomFrom } from "./programs.ts";
import { SHORTHAND } from "./shorthand.ts";

const WORDS = (
  "mov add jmp call times equ db dw dq dt resb align alignb section absolute org bits struc endstruc istruc at iend incbin default rel abs " +
  "%macro %endmacro %rep %endrep %exitrep %if %ifdef %ifidn %elif %else %endif %define %xdefine %assign %undef %strlen %substr %strcat " +
  "%include %push %pop %rotate %error %use %1 %0 %%x %{1:2} %+ %[ %$x %$$x %?? %!HOME %-1 %+1 %00 %( " +
  "( ) [ ] { } , : + - * / // % %% & && | || ^ ^^ ~ ! << >> >>> < > <= => = == != <> <=> ? $ $$ \\ ; ' \" ` . .x ..@x a b x: start: " +
  "0 1 -1 255 0x 0xg 1e5 1.5 1e 0b2 99999999999999999999 0x1p 1__ 3h 3z eax rax xmm1 zmm31 k1 st0 cr0 es: fs ah r8b byte word dword qword strict " +
  "short near far rep lock o16 a32 o64 {k1} {z} {1to8} {rn-sae} {sae} {evex} __LINE__ __FILE__ __SECT__ dup constructor toString __proto__ hasOwnProperty"
).split(" ");

const CHARACTERS = "\0\t\r\x7f\u00e9\u2028\ud800\ue000\ue001\"'`\\;%$[]{}(),:0aZ.@?#~";

/** An input that was a program once, or never. */
export function mutant(seed: number): string {
  const random = randomFrom(seed * 7919 + 1);
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
  sources ??= [...programs()].map(([, source]) => source);
  const all = sources;
  const lines: string[] = [];
  for (let i = random(3); i >= 0; i--) lines.push(...pick(all).split("\n").slice(0, 30));
  for (let i = random(6); i > 0; i--) lines.push(pick(SHORTHAND));
  for (let i = random(5); i >= 0; i--) {
    const at = random(lines.length + 1);
    const line = lines[at] ?? "";
    const cut = random(line.length + 1);
    switch (random(7)) {
      case 0:
        lines.splice(at, random(3));
        break;
      case 1:
        lines.splice(at, 0, Array.from({ length: random(12) }, () => pick(WORDS)).join(random(2) ? " " : ""));
        break;
      case 2:
        lines[at] = line.slice(0, cut) + pick(WORDS) + line.slice(cut + random(4));
        break;
      case 3:
        lines[at] = line.slice(0, cut) + CHARACTERS[random(CHARACTERS.length)] + line.slice(cut);
        break;
      case 4:
        lines[at] = line + pick(lines);
        break;
      case 5:
        lines.splice(at, 0, pick(lines) ?? "");
        break;
      default:
        lines[at] = line.slice(cut) + line.slice(0, cut);
    }
  }
  return lines.join(pick(["\n", "\n", "\n", "\r\n", "\r"]));
}

let sources: string[] | undefined;
