export { type AssembleOptions, assemble } from "./assemble.ts";
export type { Limits } from "./assembly.ts";
export { ASM_USAGE, type AsmCommandResult, runAsmCommand } from "./command.ts";
export { AsmError, type Diagnostic, formatDiagnostic } from "./diagnostics.ts";
export type { Bits } from "./forms.ts";
export type { Program } from "./program.ts";
export { SourceMap, type SourceRange } from "./sourcemap.ts";
export { type Asm, type AsmTag, asm, DEFAULT_ORIGIN, type Interpolation } from "./template.ts";
