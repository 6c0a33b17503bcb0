import type { Registry } from "./context.ts";

export function createRegistry(): Registry {
  return { codes: new Map(), mnemonics: new Map(), helpers: new Map() };
}
