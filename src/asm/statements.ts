import type { DataItem } from "./data.ts";
import type { Expression } from "./expression.ts";
import type { Bits } from "./forms.ts";
import type { InstructionStatement } from "./instruction.ts";
import type { Place } from "./source.ts";

/** Attributes after a section's name. */
export interface SectionAttributes {
  readonly nobits: boolean | undefined;
  readonly align: Expression | undefined;
  readonly start: Expression | undefined;
  readonly vstart: Expression | undefined;
  readonly follows: string | undefined;
  readonly vfollows: string | undefined;
}

/** One thing a line asks for. Every statement is carried out once per pass, in source order. */
export type Statement =
  | InstructionStatement
  | { readonly kind: "label"; readonly name: string; readonly place: Place }
  | { readonly kind: "equ"; readonly name: string; readonly expression: Expression; readonly place: Place }
  | { readonly kind: "data"; readonly size: number; readonly items: readonly DataItem[]; readonly place: Place }
  | { readonly kind: "reserve"; readonly size: number; readonly count: Expression; readonly place: Place }
  | { readonly kind: "times"; readonly count: Expression; readonly body: Statement; readonly place: Place }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array; readonly place: Place }
  | {
      readonly kind: "align";
      readonly boundary: Expression;
      readonly fill: Statement | undefined;
      readonly reserve: boolean;
      readonly place: Place;
    }
  | { readonly kind: "bits"; readonly bits: Bits; readonly place: Place }
  | { readonly kind: "org"; readonly origin: Expression; readonly place: Place }
  | {
      readonly kind: "section";
      readonly name: string;
      readonly attributes: SectionAttributes;
      /** Written in brackets, which leaves __SECT__ alone. */
      readonly primitive: boolean;
      readonly place: Place;
    }
  | { readonly kind: "absolute"; readonly origin: Expression; readonly place: Place }
  | { readonly kind: "default"; readonly relative: boolean; readonly place: Place }
  | { readonly kind: "struc"; readonly name: string; readonly origin: Expression | undefined; readonly place: Place }
  | { readonly kind: "endstruc"; readonly place: Place }
  | { readonly kind: "istruc"; readonly name: string; readonly place: Place }
  | { readonly kind: "at"; readonly field: Expression; readonly place: Place }
  | { readonly kind: "iend"; readonly place: Place };
