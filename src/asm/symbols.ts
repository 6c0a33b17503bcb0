import { ABSOLUTE, type Value } from "./expression.ts";
import type { Int } from "./integer.ts";
import type { Place } from "./source.ts";

interface Entry {
  value: Int;
  section: number;
  known: boolean;
  /** The pass that defined it last. */
  pass: number;
  readonly place: Place;
}

/** The symbols of a program over all passes. */
export class SymbolTable {
  readonly #symbols = new Map<string, Entry>();
  pass = 0;
  /** Set when a symbol is defined to something else than in the pass before. */
  changed = false;
  /** Set when a symbol was used that no pass has defined yet. */
  missing = false;

  /** The value of a symbol in this pass, or in the last one when it is yet to come; nothing when no pass knows it. */
  lookup(name: string): Value | undefined {
    const symbol = this.#symbols.get(name);
    // One that the last pass did not define any more is gone: a conditional around it turned out otherwise.
    if (symbol && symbol.pass >= this.pass - 1) return symbol;
    this.missing = true;
    return undefined;
  }

  /** True when a symbol is known from an earlier pass only: its definition is still to come. */
  isAhead(name: string): boolean {
    const symbol = this.#symbols.get(name);
    return symbol !== undefined && symbol.pass !== this.pass;
  }

  /**
   * Defines a symbol. Saying the same twice is harmless.
   *
   * @returns the place of an earlier, different definition in the same pass, when there is one.
   */
  define(name: string, { value, section, known }: Value, place: Place): Place | undefined {
    const symbol = this.#symbols.get(name);
    if (!symbol) {
      this.#symbols.set(name, { value, section, known, pass: this.pass, place });
      return undefined;
    }
    if (symbol.pass === this.pass)
      return symbol.value === value && symbol.section === section ? undefined : symbol.place;
    symbol.pass = this.pass;
    if (symbol.value !== value || symbol.section !== section || symbol.known !== known) {
      symbol.value = value;
      symbol.section = section;
      symbol.known = known;
      this.changed = true;
    }
    return undefined;
  }

  get size(): number {
    return this.#symbols.size;
  }

  names(): IterableIterator<string> {
    return this.#symbols.keys();
  }

  /** Every symbol with its final value, unsigned; addresses and plain numbers alike. */
  *entries(): Generator<{ name: string; value: Int; isAddress: boolean }> {
    for (const [name, { value, section, known, pass }] of this.#symbols) {
      if (known && pass === this.pass) yield { name, value, isAddress: section !== ABSOLUTE };
    }
  }
}
