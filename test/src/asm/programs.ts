/** A linear congruential generator (Numerical Recipes), so that every run tests the same programs. */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

/** Directive programs written by hand, one per feature, as `name: source`. */
const HANDWRITTEN: Readonly<Record<string, string>> = {
  "db of numbers and strings": "db 1, 'a', \"bc\", `x\\n\\t\\x41\\101\\0`, -1, 255",
  "db of escapes": "db `\\a\\b\\t\\n\\v\\f\\r\\e\\\\\\'\\\"\\``, `\\u263a\\U0001f600`",
  "dw dd dq of strings": "dw 'a', 'ab', 'abc'\ndd 'abcd', 'abcde'\ndq 'abcdefgh', 'i'",
  "db of a string expression": "db 'a'+1, 'ab' & 0xff\ndd 'abcd'+1",
  "dw dd dq of numbers": "dw 1, 0x1234, -1\ndd 0x12345678, -1\ndq 0x123456789abcdef0, -1, 0xffffffffffffffff",
  "floating point":
    "dd 1.0, -1.5, 3.14159265358979, 1e10, 1e-10, 1.e5, 0.1\ndq 1.0, 3.141592653589793, 1e300, -0.0\ndt 1.0, 3.14159265358979323846, -2.5e100",
  "half and quad floating point": "dw 1.0, 0.1, 65504.0, 1e-7\ndo 1.0, 0.1",
  "hexadecimal floating point": "dd 0x1.8p3, 0x1p-3\ndq 0x1.921fb54442d18p+1",
  "denormals and overflow": "dd 1e-40, 1e-46\ndq 5e-324, 1e-330, 1e309\ndt 1e-4940, 1e5000",
  "special floats":
    "dd __?Infinity?__, __?QNaN?__, __?SNaN?__, -__?Infinity?__\ndq __Infinity__, __NaN__\ndt __?Infinity?__, __?NaN?__",
  "float functions":
    "dd __?float32?__(1.5)\ndq __?float64?__(-2.25)\ndw __?float16?__(0.5), __?float80e?__(1.0)\ndq __?float80m?__(1.0)\nmov eax, __float32__(3.14)",
  "number spellings":
    "dd 0x1f, 1fh, 0fh, $1f, $0abc, 0b1011, 1011b, 0y11, 11y, 0o17, 17o, 17q, 0q17, 0d17, 17d, 0t9, 1_000, 0x1_0, 0h1f",
  "question marks": "db ?\ndw ?, 5\ndd 1, ?",
  dup: "db 3 dup (1, 2)\ndw 2 dup (5)\ndb 2 dup (1, 3 dup (0xff))\ndb 4 dup 'ab'\ndd 2 dup (?)",
  "resb and friends": "db 1\nresb 3\nresw 2\nresd 1\nresq 1\nrest 1\nreso 1\ndb 2",
  "resy resz": "resy 1\nresz 1\ndb 1",
  times: "times 4 db 1, 2\ntimes 3 nop\ntimes 0 hlt\ntimes 2 times 3 db 5\nlabel: times 2 db $-label",
  "times to pad": "org 0x7c00\nstart: jmp start\ntimes 510-($-$$) db 0\ndw 0xaa55",
  "times with an instruction that moves": "a: times 3 jmp a\ntimes 2 dw $-$$",
  align: "db 1\nalign 4\ndb 2\nalign 16, db 0\ndb 3\nalignb 8\ndb 4\nalign 8, int3\ndb 1",
  "align counts from the section": "org 0x7c01\ndb 1\nalign 8\ndb 2",
  equ: "a equ 5\nb equ a*2\ndb a, b, c\nc equ 7\nd: equ 9\ndb d",
  "equ of differences": "msg: db 'hello'\nlen equ $-msg\nmov cx, len\npush len\nadd ax, len",
  "equ as immediate": "bits 32\nadd eax, n\nmov eax, [ebx+n]\nn equ 5\nadd eax, n\nmov eax, [ebx+n]",
  "local labels": "a:\n.x: db 1\n.y: dw .x, .y\nb:\n.x: dw .x, a.x, b.x\njmp .x\njmp a.y",
  "local labels after equ": "a:\nk equ 5\n.x: db 1\ndw a.x\n",
  "special labels": "a: db 1\n..@foo: db 2\n.b: dw ..@foo, a.b",
  "labels without colon": "a db 1\nb: db 2\nc:\nlab\ndw a, b, c, lab\nd equ 4\ndb d\nmain nop\n jmp main",
  "dollar names": "$mov: db 1\ndw $mov\n$eax equ 5\nmov ax, $eax",
  "dollar signs": "org 0x100\ndw $, $$, $-$$\njmp $\njmp short $+2\nmov ax, $\ndw $",
  "expressions: arithmetic": "dd 1+2*3, (1+2)*3, 10/3, 10 % 3, -10//3, -10 %% 3, 7-10, -7, ~5, +5, !5, !0",
  "expressions: shifts and bits":
    "dd 1<<4, 0xff>>4, -16>>>2, 0xf0|0x0f, 0xff&0x0f, 0xff^0x0f, 1<<31, 1<<32\ndq 1<<40, -1>>60",
  "expressions: comparisons": "db 1=1, 1==2, 1!=2, 1<>1, 1<2, 2<=2, 3>4, 4>=4, 1&&0, 1||0, 1^^1",
  "expressions: conditional": "db 1 ? 2 : 3, 0 ? 2 : 3, 5>3 ? 'a' : 'b'",
  "expressions: unsigned and signed": "dq -1/2, -1//2, -7 % 3, -7 %% 3, 0x8000000000000000/2, 0x8000000000000000//2",
  "expressions: wrap around": "dq 0x7fffffffffffffff+1, 0xffffffffffffffff*2, 1<<63, 1<<64",
  "expressions: precedence": "dd 1|2^3&4, 1<<2+1, 2+3<<1, 1+2==3, 1|2==2, -1+2, ~0&0xf, 2*-3",
  "expressions: functions": "%use ifunc\ndb ilog2e(16), ilog2f(17), ilog2c(17), ilog2w(3)",
  "bits changes":
    "bits 16\nmov eax, 5\nbits 32\nmov eax, 5\nbits 64\nmov rax, 5\nuse16\nmov ax, 5\n[bits 32]\nmov ax, 5",
  "org and references": "org 0x7c00\nmov si, msg\nlodsb\nmsg: db 'x', 0\ndw msg, $$, msg-$$",
  "org in the upper half":
    "bits 64\norg 0xffffffff80100000\nx: mov rax, x\nmov eax, x\nlea rax, [rel x]\nmov rax, [x]\nmov [x], rbx\njmp x\ncall y\ntimes 200 nop\njz x\ny: dq x, y, $$\npush x",
  "org after the code": "mov ax, $\nmov bx, x\nx: dw $, $$\nk equ $\norg 0x100\ndw $, k",
  "the same equ twice": "n equ 5\nn equ 5\ndb n",
  "org in brackets": "[org 0x100]\n[bits 16]\nmov dx, m\nm: db 1",
  sections:
    "section .text\nmov ax, d\nmov bx, b\nsection .data\nd: dw 1, t\nsection .bss\nb: resw 2\nsection .text\nt: nop",
  "sections with an origin":
    "org 0x1000\nsection .data\nd: dd d\nsection .text\nmov ax, d\nsection .bss\nx: resb 4\ny: resd 1\nsection .text\nmov bx, x\nmov cx, y",
  "section alignment": "section .text\nnop\nsection .data align=16\nd: db 1\nsection .text\nmov ax, d",
  "section start and vstart": "section .text\nnop\nsection .high vstart=0x8000\nh: dw h\nsection .text\nmov ax, h",
  "section start": "org 0x100\nnop\nsection .late start=0x120\nl: dw l",
  "section follows": "section .text\nnop\nsection .a\ndb 1\nsection .b follows=.a\ndb 2\nsection .text\nhlt",
  "custom sections in order": "section .two\ndb 2\nsection .one\ndb 1\nsection .text\ndb 0",
  "nobits section": "section .foo nobits\nf: resb 8\ng:\nsection .text\nmov ax, f\nmov bx, g",
  "align raises section alignment": "nop\nsection .data\ndb 1\nalign 32\ndb 2",
  absolute: "absolute 0x400\na: resw 1\nb: resb 3\nc:\nsection .text\nmov ax, [a]\nmov bx, [b]\nmov cx, c\npush b",
  struc:
    "struc point\n.x: resd 1\n.y: resd 1\n.z: resb 3\nendstruc\nmov ax, [bx+point.y]\ndb point.x, point.y, point.z, point_size, point",
  "struc with offset and names": "struc hdr, 4\nhdr_a: resb 1\nhdr_b: resw 1\nendstruc\ndb hdr_a, hdr_b, hdr_size",
  istruc:
    "struc s\n.a: resb 2\n.b: resd 1\n.c: resb 4\nendstruc\nx: istruc s\nat s.a, db 1, 2\nat s.b, dd 0x12345678\nat s.c, db 'hi'\niend\ndb 0xee",
  "istruc with gaps":
    "struc s\n.a: resb 2\n.b: resd 1\n.c: resb 4\nendstruc\nistruc s\nat s.b, dd 7\niend\nistruc s\niend\ndw s_size",
  "default rel":
    "bits 64\ndefault rel\nmov rax, [x]\nmov rax, [abs x]\nmov rax, [rbx+x]\nlea rdi, [x]\nmov eax, [fs:x]\ndefault abs\nmov rax, [x]\nmov rax, [rel x]\nx: dq 5",
  "rip relative with immediate":
    "bits 64\nmov dword [rel x], 5\nadd byte [rel x], 1\ncmp qword [rel x], 500\nx: dq 0\npshufd xmm0, [rel x], 3",
  "forward references in addresses":
    "bits 32\nmov eax, [ebx+x]\nmov eax, [x]\nadd dword [x], 5\npush x\nmov eax, x\nadd eax, x\nx: dd 5\nmov eax, [ebx+x]\nadd eax, x",
  "label as 64-bit immediate": "bits 64\nmov rax, x\nmov eax, x\nmov rax, dword x\npush x\nlea rax, [x]\nx: dq x",
  "far jumps":
    "bits 16\njmp 0x8:x\njmp dword 0x8:x\ncall 0x10:y\nx: jmp word 0:y\ny:\nbits 32\njmp 0x8:x\njmp dword 8:y\njmp word 8:y",
  "jump out of the section": "jmp d\njmp 0x10\nloop $\nsection .data\nd: jmp t\nsection .text\nt: hlt",
  "define and undef": "%define A 5\n%define B A+1\ndb A, B\n%undef A\n%define A 7\ndb B*2\n%ifdef C\ndb 1\n%endif",
  idefine: "%idefine Foo 9\ndb foo, FOO, Foo",
  "function-like define":
    "%define add2(a,b) ((a)+(b))\n%define twice(x) add2(x,x)\ndb add2(1,2), twice(3), add2(5, 4)\n%define none() 5\ndb none()",
  "define overloads by arity": "%define f(a) a\n%define f(a,b) a*b\ndb f(3), f(3,4)",
  "define is lazy, xdefine is not": "%define x 1\n%define lazy x\n%xdefine eager x\n%define x 2\ndb lazy, eager",
  assign: "%assign i 0\n%assign i i+1\n%assign j i*10\ndb i, j\n%rep 4\ndb i\n%assign i i+1\n%endrep",
  "assign of layout": "a: db 1,2,3\n%assign n $-a\ndb n\ntimes n db 0xee",
  "strings in macros":
    "%strlen n 'hello'\ndb n\n%substr s 'hello' 2\ndb s\n%substr t 'hello' 2,3\ndb t\n%substr u 'hello' 2,-1\ndb u\n%strcat v 'ab','cd'\ndb v\n%defstr w foo bar\ndb w\n%deftok q 'mov ax, 5'\nq",
  "token pasting":
    "%define reg(x) e %+ x\nbits 32\nmov reg(ax), 5\n%define cat(a,b) a %+ b\ncat(lab,el): db 1\ndd label",
  "indirect expansion": "%define n 3\n%define v3 77\ndb v%[n]\nlab%[n]: dw lab3",
  "if else":
    "%if 1\ndb 1\n%else\ndb 2\n%endif\n%if 0\ndb 3\n%elif 2>1\ndb 4\n%elif 1\ndb 5\n%else\ndb 6\n%endif\n%if 0\n%if 1\ndb 7\n%endif\n%else\ndb 8\n%endif",
  ifdef:
    "%define X\n%ifdef X\ndb 1\n%endif\n%ifndef Y\ndb 2\n%elifdef X\ndb 3\n%else\ndb 4\n%endif\n%ifdef Y\n%elifndef Y\ndb 5\n%endif",
  ifidn:
    "%ifidn abc, abc\ndb 1\n%endif\n%ifidn abc, ABC\ndb 2\n%endif\n%ifidni abc, ABC\ndb 3\n%endif\n%ifnidn a,b\ndb 4\n%endif\n%ifidn 'a',\"a\"\ndb 5\n%endif",
  "ifnum ifstr ifid":
    "%macro kind 1\n%ifnum %1\ndb 'n'\n%elifstr %1\ndb 's'\n%elifid %1\ndb 'i'\n%else\ndb '?'\n%endif\n%endmacro\nkind 5\nkind 'x'\nkind foo\nkind [bx]\nkind -3\nkind 0x10",
  "ifempty iftoken ifmacro":
    "%macro t 0-1\n%ifempty %1\ndb 'e'\n%else\ndb 'f'\n%endif\n%iftoken %1\ndb 1\n%endif\n%endmacro\nt\nt 5\nt a b\n%ifmacro t\ndb 2\n%endif\n%ifmacro t 1\ndb 3\n%endif\n%ifmacro t 2\ndb 4\n%endif\n%ifnmacro u\ndb 5\n%endif",
  "if with symbols":
    "n equ 5\n%if n == 5\ndb 1\n%endif\na: db 1,2\n%if $-a == 2\ndb 9\n%endif\n%if ($-$$) > 2\ndb 8\n%endif",
  macro: "%macro put 2\nmov al, %1\nout %2, al\n%endmacro\nput 5, 0x80\nput 'x', 0xe9",
  "macro without parameters": "%macro prologue 0\npush bp\nmov bp, sp\n%endmacro\nf: prologue\nret",
  "macro with defaults": "%macro d 1-3 7, 8\ndb %1, %2, %3\n%endmacro\nd 1\nd 1, 2\nd 1, 2, 3",
  "macro with a range": "%macro list 1-*\ndb %0\n%rep %0\ndb %1\n%rotate 1\n%endrep\n%endmacro\nlist 1\nlist 5, 6, 7",
  "macro rotates backwards": "%macro rev 1-*\n%rep %0\n%rotate -1\ndb %1\n%endrep\n%endmacro\nrev 1, 2, 3",
  "greedy macro":
    "%macro msg 2+\ndb %1, %2\n%endmacro\nmsg 1, 'a', 'b', 'c'\n%macro all 1+\ndb %1\n%endmacro\nall 1, 2, 3",
  "braced parameters": "%macro two 2\ndb %1\ndb %2\n%endmacro\ntwo {1, 2}, {3, 4}\ntwo 5, 6",
  "macro local labels": "%macro wait1 0\n%%again: dec cx\njnz %%again\njmp %%out\n%%out:\n%endmacro\nwait1\nwait1",
  "macro parameter ranges": "%macro r 1-*\ndb %{2:3}\ndb %{3:1}\ndb %{-1:-2}\n%endmacro\nr 1, 2, 3, 4",
  "macro condition codes": "%macro skip 1\nj%-1 %%s\nj%+1 %%s\nnop\n%%s:\n%endmacro\nskip z\nskip ae\nskip nle",
  "macro pastes parameters":
    "%macro def 2\n%1_lo: db %2\n%{1}hi: db %2+1\nx%1: db 0\n%endmacro\ndef foo, 5\ndw foo_lo, foohi, xfoo",
  "macro keeps the label": "%macro m 0\nnop\n%endmacro\nlab: m\nlab2 m\ndw lab, lab2",
  "macro takes the label": "%macro m 0\ndb 1\n%00: db 2\n%endmacro\nlab: m\ndw lab",
  "macro overloads": "%macro push 2-*\n%rep %0\npush %1\n%rotate 1\n%endrep\n%endmacro\npush ax\npush ax, bx, cx",
  "macro of an instruction's name": "%macro ret 0\nnop\nret\n%endmacro\nret",
  imacro: "%imacro Foo 1\ndb %1\n%endmacro\nfoo 1\nFOO 2",
  "macro defines macros": "%macro mk 1\n%macro %1 0\ndb '%1'\n%endmacro\n%endmacro\nmk abc\nabc",
  "macro in macro": "%macro a 1\ndb %1\n%endmacro\n%macro b 2\na %2\na %1\n%endmacro\nb 1, 2",
  exitmacro: "%macro e 1\ndb 1\n%if %1\n%exitmacro\n%endif\ndb 2\n%endmacro\ne 0\ne 1",
  rep: "%rep 3\ndb 1\n%endrep\n%assign i 0\n%rep 100\n%if i == 5\n%exitrep\n%endif\ndb i\n%assign i i+1\n%endrep\ndb 0xff",
  "nested rep": "%assign i 0\n%rep 3\n%assign j 0\n%rep 2\ndb i*16+j\n%assign j j+1\n%endrep\n%assign i i+1\n%endrep",
  "rep zero": "%rep 0\ndb 1\n%endrep\ndb 2",
  "context stack":
    "%macro if1 1\n%push if1\nj%-1 %$end\n%endmacro\n%macro endif1 0\n%$end:\n%pop\n%endmacro\ncmp ax, bx\nif1 e\nnop\nif1 z\nhlt\nendif1\nendif1",
  "context locals":
    "%push c\n%assign %$n 5\n%define %$m 7\ndb %$n, %$m\n%push d\n%assign %$n 6\ndb %$n, %$$n\n%pop\ndb %$n\n%pop",
  "context tests":
    "%push foo\n%ifctx foo\ndb 1\n%endif\n%ifnctx bar\ndb 2\n%endif\n%repl bar\n%ifctx bar\ndb 3\n%endif\n%pop bar",
  "line continuation": "db 1, \\\n2, \\\n3\n%define long 1 + \\\n 2\ndb long",
  comments: "; nothing\ndb 1 ; one\n db ';' ; a semicolon\n;\ndb `;`\n",
  "special macros":
    "db __BITS__, __?NASM_MAJOR?__\n%ifidn __OUTPUT_FORMAT__, bin\ndb 1\n%endif\nbits 32\ndb __?BITS?__\ndw __LINE__",
  "predefined sect": "section .data\ndb 1\n[section .text]\nnop\n__?SECT?__\ndb 2",
  prefixes:
    "bits 32\nrep movsb\nrepne scasb\nlock inc dword [eax]\nes mov eax, [ebx]\nmov eax, [es:ebx]\no16 push 5\na16 mov eax, [bx]\nrep\nmovsb\nlock\nxchg [eax], ebx",
  "short and near":
    "a: jmp short b\njmp near b\njz near b\ncall b\njmp b\njz b\nb: loop a\njcxz a\njmp a\ntimes 200 nop\njmp a\njz a\njmp near a",
  "jump sizes settle": "a: jmp c\ntimes 120 nop\nb: jmp a\njmp c\ntimes 3 nop\njz a\nc: jmp a\njmp b",
  "jump chain that grows":
    "%assign i 0\n%rep 40\nj%[i]: jmp far_%[i]\n%assign i i+1\n%endrep\n%assign i 0\n%rep 40\ntimes 4 nop\nfar_%[i]: jmp j%[i]\n%assign i i+1\n%endrep",
  "trailing comma": "db 1, 2,\ndb 3",
  "boot sector":
    "bits 16\norg 0x7c00\ncli\nxor ax, ax\nmov ds, ax\nmov ss, ax\nmov sp, 0x7c00\nlgdt [gdtr]\nmov eax, cr0\nor al, 1\nmov cr0, eax\njmp 8:pm\nbits 32\npm: mov ax, 16\nmov ds, ax\nmov dword [0xb8000], 0x07410742\nhlt\njmp $\nalign 8\ngdt: dq 0, 0x00cf9a000000ffff, 0x00cf92000000ffff\ngdtr: dw $-gdt-1\ndd gdt\ntimes 510-($-$$) db 0\ndw 0xaa55",
  "long mode switch":
    "bits 32\norg 0x1000\nmov eax, pml4\nmov cr3, eax\nmov ecx, 0xc0000080\nrdmsr\nor eax, 1 << 8\nwrmsr\nmov eax, cr0\nor eax, (1<<31)|1\nmov cr0, eax\njmp 8:lm\nbits 64\nlm: mov rax, 0xffffffff80000000\nmov rsp, stack\nmov rdi, [rel data]\ncall f\nhlt\nf: ret\ndata: dq 0x1122334455667788\nalign 4096\npml4: dq pdpt + 3\ntimes 511 dq 0\npdpt: dq 0x83\ntimes 511 dq 0\nstack equ $",
};

const pick = <T>(random: (below: number) => number, from: readonly T[]): T => from[random(from.length)]!;

function expression(random: (below: number) => number, depth: number): string {
  if (depth === 0 || random(4) === 0)
    return String(pick(random, [0, 1, 2, 3, 7, 255, 4096, "0x7fffffff", "0xffffffff", "n", "(b-a)"]));
  const left = expression(random, depth - 1);
  const right = expression(random, depth - 1);
  const operator = pick(random, ["+", "-", "*", "|", "&", "^", "<", ">", "<=", ">=", "==", "!=", "&&", "||", "^^"]);
  switch (random(6)) {
    case 0:
      return `-${left.startsWith("-") ? `(${left})` : left}`;
    case 1:
      return `~${left}`;
    case 2:
      return `(${left})${pick(random, ["<<", ">>", ">>>"])}(${right}&31)`;
    case 3:
      return `(${left})${pick(random, ["/", "//", "%", "%%"])} ((${right})|1)`;
    case 4:
      return `(${left} ${operator} ${right})`;
    default:
      return `${left} ${operator} ${right}`;
  }
}

function expressions(seed: number): string {
  const random = randomFrom(seed);
  const lines = ["a: db 1, 2, 3", "b:", "n equ 42"];
  for (let i = 0; i < 25; i++) lines.push(`dq ${expression(random, 4)}`);
  return lines.join("\n");
}

/** Labels at random distances and branches between them: what multi-pass sizing has to settle. */
function jumps(seed: number): string {
  const random = randomFrom(seed);
  const labels = 12;
  const lines = [`bits ${pick(random, [16, 32, 64])}`, `org ${pick(random, ["0", "0x7c00", "0x100000"])}`];
  if (lines[0] === "bits 16") lines[1] = "org 0x100";
  for (let i = 0; i < labels; i++) {
    lines.push(`l${i}:`);
    for (let k = random(4); k >= 0; k--)
      lines.push(
        `${pick(random, ["jmp", "jz", "jmp", "call", "jnc", "jmp short_or", "jmp near"]).replace("short_or", "")} l${random(labels)}`,
      );
    lines.push(
      pick(random, [
        "nop",
        `times ${random(70)} nop`,
        "mov ax, l3-l2",
        "add ax, l5-l4",
        "align 16",
        `db ${random(9)}`,
        i > 2 ? "times l2-l1 db 1" : "nop",
      ]),
    );
  }
  return lines.join("\n");
}

function data(seed: number): string {
  const random = randomFrom(seed);
  const lines = ["start:"];
  for (let i = 0; i < 20; i++) {
    const directive = pick(random, ["db", "dw", "dd", "dq"]);
    const items = Array.from({ length: 1 + random(4) }, () =>
      pick(random, [
        String(random(300)),
        `-${random(200)}`,
        `0x${random(1 << 16).toString(16)}`,
        "'x'",
        "'hello'",
        '"a\'b"',
        "`q\\n`",
        "start",
        "$",
        "$-$$",
        "?",
        `${random(5)} dup (${random(9)})`,
      ]),
    );
    lines.push(
      `${random(3) === 0 ? `v${i}: ` : ""}${random(5) === 0 ? `times ${random(4)} ` : ""}${directive} ${items.join(", ")}`,
    );
    if (random(6) === 0) lines.push(`align ${1 << random(5)}, db ${random(9)}`);
    if (random(8) === 0) lines.push(`res${pick(random, ["b", "w", "d"])} ${random(5)}`);
  }
  return lines.join("\n");
}

function floats(seed: number): string {
  const random = randomFrom(seed);
  const lines: string[] = [];
  // NASM rounds quadruple precision inexactly and overflows to NaN, so the exponents stay clear of that.
  const largest: Readonly<Record<string, number>> = { dw: 0, dd: 20, dq: 280, dt: 4000, do: 0 };
  for (let i = 0; i < 25; i++) {
    const directive = pick(random, Object.keys(largest));
    const mantissa = directive === "do" ? `${random(1e9)}.5` : `${random(1e9)}.${random(1e9)}${random(1e9)}`;
    const scale = largest[directive]!;
    const exponent = scale === 0 || random(3) === 0 ? "" : `e${random(2) ? "-" : ""}${random(scale)}`;
    lines.push(`${directive} ${random(3) === 0 ? "-" : ""}${mantissa}${exponent}`);
  }
  return lines.join("\n");
}

/** Conditionals, loops and macros around numbered data. */
function macros(seed: number): string {
  const random = randomFrom(seed);
  const lines = [
    "%define K(x) ((x)*3)",
    "%macro emit 1-3 9, 8",
    "db %1, %2, %3, %0",
    "%%here: dw $-%%here",
    "%endmacro",
    "%assign c 0",
  ];
  for (let i = 0; i < 12; i++) {
    const n = random(5);
    lines.push(
      pick(random, [
        `%if ${n} > 2\ndb ${i}\n%elif ${n} == 1\ndw ${i}\n%else\ndd ${i}\n%endif`,
        `%rep ${n}\ndb c\n%assign c c+1\n%endrep`,
        `emit ${i}`,
        `emit ${i}, K(${n})`,
        `emit K(c), 2, {${n}}`,
        `%define T${i} ${n}\n%ifdef T${random(12)}\ndb ${n}\n%endif`,
        `%assign c (c*5+${n}) % 7\ntimes c db c`,
        `lab${i}:\n.a: db .a-lab${i}, ${n}`,
        `%xdefine C${i} c\ndb C${i}`,
      ]),
    );
  }
  return lines.join("\n");
}

/** Several hundred directive programs: the handwritten ones and five generated families. */
export function* programs(): Generator<readonly [name: string, source: string]> {
  yield* Object.entries(HANDWRITTEN);
  const families = { expressions, jumps, data, floats, macros };
  for (const [family, make] of Object.entries(families)) {
    for (let seed = 1; seed <= 60; seed++) yield [`${family} ${seed}`, make(seed)];
  }
}
